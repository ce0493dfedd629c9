"""Verification of loss masks: what must be trained is computed again, from the messages, and compared with a tree.

Nothing here shares code with the layout of token trees. A thread is compared with the prompt that chat would use and
with the reply that chat would decode, so a mistake in either is found as a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tunesmith.text.formats.format import UNWRITTEN_REPLY, Control, Piece
from tunesmith.text.targets import target_mask
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import Integers, TokenTree
from tunesmith.text.tree import Message, Tree
from tunesmith.verify.rankings import find_ranking_faults, round_trip, shorten

Property = Literal["targets", "end", "reply", "prompt", "context", "beginning", "control", "source", "ranking"]

PROPERTIES: dict[Property, str] = {
    "targets": "every example has targets",
    "end": "every trained turn ends with an end token that is a target",
    "reply": "the trained tokens decode to the reply",
    "prompt": "the training tokens begin with the generation prompt",
    "context": "only replies are trained",
    "beginning": "the bos token is not doubled",
    "control": "no content becomes a control token",
    "source": "every target is predicted from the token before it",
    "ranking": "replies are compared as the data rank them",
}


_THINK_END = "</think>"
_MOST_MARKS = 60  # characters that a template writes around reasoning


@dataclass(frozen=True, slots=True)
class MaskFault:
    """A property that does not hold.

    property: a key of ``PROPERTIES``.
    place: of the record, as ``Tree.place``.
    what: the difference.
    """

    property: Property
    place: str
    what: str


def _squeeze(text: str) -> str:
    """Return a text without white space."""
    return "".join(text.split())


def _find_lost_part(message: Message, reply: str, decode_prompt: Callable[[], str]) -> str | None:
    """Return a text of a message with reasoning or tool calls that is neither in its reply nor in its prompt, or None.

    The text of a plain message is compared as a whole elsewhere. decode_prompt: gives the text of the prompt, which
    takes time in long conversations.
    """
    if not message.reasoning and not message.tool_calls:
        return None
    written = _squeeze(reply)
    names = [call.name for call in message.tool_calls]
    lost = [part for part in (message.text, *names) if _squeeze(part) not in written]
    reasoning = _squeeze(message.reasoning)
    if reasoning not in written and reasoning not in _squeeze(decode_prompt()):
        lost.append(message.reasoning)
    return lost[0] if lost else None


def find_mask_faults(renderer: Renderer, tree: Tree, tokens: TokenTree) -> list[MaskFault]:
    """Return the properties that ``tokens``, the rendering of ``tree``, does not have; at most one fault of each."""
    found: dict[Property, str] = {}
    if renderer.targets == "ranked":
        if (what := find_ranking_faults(renderer, tree, tokens)) is not None:
            found["ranking"] = what
        elif not len(tokens.replies):  # preparation counts and drops a tree without rankings
            return []
    if not len(tokens.spans):
        found["targets"] = "no token of it is trained"
    ends = tokens.ends()
    paths = list(tree.threads())
    if len(ends) != len(paths):
        found["reply"] = f"{len(paths)} threads of messages became {len(ends)} threads of tokens"
        ends, paths = [], []
    targets = np.zeros(len(tokens.ids), np.bool_)
    for start, end, *_ in tokens.spans.tolist():
        targets[start:end] = True  # wrong spans may exceed the tokens, so no indexing
    mask = target_mask(tree, renderer.targets)
    for end, path in zip(ends, paths, strict=True):
        indices = tokens.thread(end)
        thread = _Thread(
            renderer,
            messages=[tree.messages[index] for index in path],
            mask=[mask[index] for index in path],
            ids=tokens.ids[indices].tolist(),
            targets=targets[indices].tolist(),
        )
        for name, what in (*thread.faults(), *_source_faults(tokens, indices)):
            found.setdefault(name, what)
    return [MaskFault(name, tree.place, what) for name, what in found.items()]


def _source_faults(tokens: TokenTree, indices: Integers) -> Iterator[tuple[Property, str]]:
    """Check that the source of every span is directly before it in the thread. indices: int32 [L], its tokens."""
    position = {int(index): place for place, index in enumerate(indices.tolist())}
    for start, _, source, *_ in tokens.spans.tolist():
        if start in position and (source not in position or position[source] + 1 != position[start]):
            yield "source", f"target {position[start]} of a thread is predicted from token {position.get(source)}"


@dataclass(frozen=True, slots=True)
class _Thread:
    """One root-to-leaf thread.

    messages: from the root to the leaf.
    mask: for every message whether it is trained.
    ids: the token ids.
    targets: for every token whether it is a target.
    """

    renderer: Renderer
    messages: Sequence[Message]
    mask: Sequence[bool]
    ids: list[int]
    targets: list[bool]

    def faults(self) -> Iterator[tuple[Property, str]]:
        yield from self._doubled_bos()
        yield from self._wrong_controls()
        explained = [False] * len(self.ids)  # tokens of trained replies
        for number, message in enumerate(self.messages):
            if message.role == "assistant" and self.mask[number]:
                yield from self._wrong_turn(number, explained)
        if self.renderer.targets == "all":
            return
        for index, (target, known) in enumerate(zip(self.targets, explained, strict=True)):
            if target and not known and not self._is_predicted_by_previous(index):
                yield "context", f"{self._quote(index)} is trained, but the model is given it"
                return

    def _wrong_turn(self, number: int, explained: list[bool]) -> Iterator[tuple[Property, str]]:
        """Check prompt, targets and end of the assistant message ``number``, and mark its tokens in ``explained``."""
        message, before = self.messages[number], self.messages[:number]
        if self.renderer.format.is_given(message):
            return  # its tokens are not explained, so a target among them is found
        prompt = self._prompt(number)
        if self.ids[: len(prompt)] != prompt:
            yield "prompt", self._describe_difference(prompt)
            return
        start = len(prompt)
        stops = self.renderer.stop_ids
        end = next((index for index in range(start, len(self.ids)) if self.ids[index] in stops), None)
        if end is None:
            yield "end", f"there is no end token after {self._quote(len(self.ids) - 1)}"
            return
        for index in range(start, end + 1):
            explained[index] = True
        if not self.targets[end]:
            yield "end", f"the end token after {self._quote(end - 1)} is not trained"
        first = max(start, 1)  # the first token of a thread has no predecessor, so it cannot be a target
        missing = next((index for index in range(first, end) if not self.targets[index]), None)
        if missing is not None:
            yield "reply", f"{self._quote(missing)} belongs to the reply and is not trained"
        parsed = self.renderer.parse(self.ids[start : end + 1])
        wanted = self.renderer.format.reply_text(message, before)
        lost = _find_lost_part(message, wanted, lambda: self.renderer.tokenizer.decode(prompt))
        if lost is not None:
            yield "reply", f"the reply does not hold {shorten(lost)}"
        same = parsed.text.strip() in (wanted.strip(), round_trip(self.renderer, wanted).strip())
        if number and not (same and parsed.stopped):
            yield "reply", f"the reply decodes to {shorten(parsed.text)}, not to {shorten(wanted)}"

    def _prompt(self, number: int) -> list[int]:
        """Return the tokens before the reply; before a document only the opening of the format."""
        format, before, reply = self.renderer.format, self.messages[:number], self.messages[number]
        if not number:
            return self._encode(format.split(reply, ()).given)
        prompt = self.renderer.prompt(before)
        header = format.split(UNWRITTEN_REPLY, before).given
        if format.split(reply, before).given == header:
            return prompt
        # The format writes properties of the reply before its header. The header, and everything before the properties,
        # must be as in the prompt of chat.
        size = len(self._encode(header))
        described = self.renderer.prompt(before, reply)
        if described[: len(prompt)] == prompt and self._gives_reasoning(reply, described[len(prompt) :]):
            return described
        kept = described[: len(prompt) - size] == prompt[:-size] and described[-size:] == prompt[-size:]
        return described if kept else prompt

    def _gives_reasoning(self, reply: Message, given: list[int]) -> bool:
        """Whether tokens after a prompt are the reasoning of a reply and marks of the template."""
        text = _squeeze(self.renderer.tokenizer.decode(given))
        inline = reply.text.partition(_THINK_END)[0].removeprefix("<think>")
        reasoning = _squeeze(reply.reasoning or inline)
        return bool(reasoning) and reasoning in text and len(text) - len(reasoning) <= _MOST_MARKS

    def _is_predicted_by_previous(self, index: int) -> bool:
        """Whether a target is among the tokens of a turn that the format lets the turn before predict."""
        stops = self.renderer.stop_ids
        before = next((place for place in range(index - 1, -1, -1) if self.ids[place] in stops), None)
        if before is None:
            return False
        run = self.ids[before + 1 : index + 1]
        for number in range(1, len(self.messages)):
            split = self.renderer.format.split(self.messages[number], self.messages[:number])
            predicted = self._encode(split.given[: split.predicted_by_previous])
            if split.predicted_by_previous and predicted[: len(run)] == run:
                return True
        return False

    def _encode(self, pieces: Iterable[Piece]) -> list[int]:
        tokenizer = self.renderer.tokenizer
        found: list[int] = []
        for piece in pieces:
            if isinstance(piece, Control):
                found += tokenizer.find_ids([piece.name])
            else:
                found += tokenizer.encode(piece.text, continuing=True)
        return found

    def _doubled_bos(self) -> Iterator[tuple[Property, str]]:
        """Find a bos token that is neither at the beginning nor directly after an end token (as in Llama 2 chat)."""
        tokenizer = self.renderer.tokenizer
        bos, eos = tokenizer.bos_id, tokenizer.eos_id
        if bos is None:
            return
        if bos in (eos, tokenizer.pad_id):  # it has other meanings, so only two of them at the beginning are a fault
            doubled = self.ids[:2] == [bos, bos]
        else:
            places = [place for place, token in enumerate(self.ids) if token == bos]
            doubled = any(place and self.ids[place - 1] != eos for place in places)
        if doubled:
            yield "beginning", f"the bos token occurs {self.ids.count(bos)} times, once more than it should"

    def _wrong_controls(self) -> Iterator[tuple[Property, str]]:
        """Check that the control tokens of the thread are exactly those of the format, in its order."""
        tokenizer, expected = self.renderer.tokenizer, self._expected_controls()
        actual = [token for token in self.ids if not tokenizer.may_come_from_text(token)]
        if actual != expected:
            names = " ".join(tokenizer.decode([token], skip_controls=False) for token in actual)
            what = f"the control tokens are {shorten(names)}, {len(actual)} where the format writes {len(expected)}"
            yield "control", what

    def _expected_controls(self) -> list[int]:
        found: list[int] = []
        for number, message in enumerate(self.messages):
            split = self.renderer.format.split(message, self.messages[:number])
            pieces = (*split.given, *split.produced)
            found += self.renderer.tokenizer.find_ids(piece.name for piece in pieces if isinstance(piece, Control))
        return found

    def _describe_difference(self, prompt: list[int]) -> str:
        """Quote both texts around the first token where the thread differs from a prompt."""
        pairs = enumerate(zip(self.ids, prompt, strict=False))
        place = next((index for index, (one, two) in pairs if one != two), len(self.ids))
        decode = self.renderer.tokenizer.decode
        trained = decode(self.ids[max(place - 4, 0) : place + 4], skip_controls=False)
        given = decode(prompt[max(place - 4, 0) : place + 4], skip_controls=False)
        return f"at token {place} the training text is {shorten(trained)} and the prompt {shorten(given)}"

    def _quote(self, index: int) -> str:
        """Return a token with the text of it and the three tokens before it."""
        window = self.ids[max(index - 3, 0) : index + 1]
        return f"token {index}, {shorten(self.renderer.tokenizer.decode(window, skip_controls=False))},"
