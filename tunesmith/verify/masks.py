"""Proof of the masks: what is trained is worked out a second time, from the messages, and compared token by token.

Nothing here shares code with the layout of token trees: a thread is compared with the prompt that chat would use and with
the reply that chat would read, so a mistake in either shows as a difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tunesmith.text.formats.format import UNWRITTEN, Control, Piece
from tunesmith.text.targets import chosen_messages
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Message, Tree
from tunesmith.verify.rankings import as_read, find_ranking_faults

Property = Literal["targets", "end", "reply", "prompt", "context", "beginning", "control", "source", "ranking"]
SHOWN = 24  # characters on either side of a difference

PROPERTIES: dict[Property, str] = {
    "targets": "every example has targets",
    "end": "the end of every trained turn is a target",
    "reply": "what is trained reads back as the reply",
    "prompt": "the generation prompt is the beginning of what is trained",
    "context": "nothing but replies is trained",
    "beginning": "no begin token is doubled",
    "control": "no control token comes from content",
    "source": "every target is predicted from the token before it",
    "ranking": "replies are compared as the data rank them",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A property that does not hold. place: of the record. what: the difference."""

    property: Property
    place: str
    what: str


def find_mask_faults(renderer: Renderer, tree: Tree, tokens: TokenTree) -> list[Fault]:
    """What is wrong with ``tokens`` as the rendering of ``tree``; at most one fault of each property."""
    found: dict[Property, str] = {}
    if renderer.targets == "ranked":
        if (what := find_ranking_faults(renderer, tree, tokens)) is not None:
            found["ranking"] = what
        elif not len(tokens.replies):  # nothing to compare: preparation rejects it and says so
            return []
    if not len(tokens.spans):
        found["targets"] = "nothing in it is trained"
    ends = tokens.ends()
    paths = list(tree.threads())
    if len(ends) != len(paths):
        found["reply"] = f"{len(paths)} threads of messages became {len(ends)} threads of tokens"
        ends, paths = [], []
    marks, chosen = _marks(tokens), chosen_messages(tree, renderer.targets)
    for end, path in zip(ends, paths, strict=True):
        messages = [tree.messages[index] for index in path]
        indices = tokens.thread(end)
        ours = [chosen[index] for index in path]
        thread = _Thread(renderer, messages, ours, tokens.ids[indices].tolist(), marks[indices].tolist())
        for name, what in thread.faults():
            found.setdefault(name, what)
        _sources(tokens, indices, found)
    return [Fault(name, tree.place, what) for name, what in found.items()]


def _marks(tokens: TokenTree) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """bool [T]: which tokens are targets."""
    marks = np.zeros(len(tokens.ids), np.bool_)
    for start, end, *_ in tokens.spans.tolist():
        marks[start:end] = True
    return marks


def _sources(
    tokens: TokenTree, indices: np.ndarray[tuple[int], np.dtype[np.int32]], found: dict[Property, str]
) -> None:
    """The source of every span must stand directly before it in the thread."""
    place = {int(index): position for position, index in enumerate(indices.tolist())}
    for start, _, source, *_ in tokens.spans.tolist():
        if start in place and place.get(source, -2) + 1 != place[start]:
            found.setdefault("source", f"target {place[start]} of a thread is predicted from token {place.get(source)}")


@dataclass(frozen=True, slots=True)
class _Thread:
    """One root-to-leaf thread: its messages, which of them are trained, its token ids, and which of these are targets."""

    renderer: Renderer
    messages: Sequence[Message]
    chosen: Sequence[bool]
    ids: list[int]
    trained: list[bool]

    def faults(self) -> Iterator[tuple[Property, str]]:
        yield from self._beginning()
        yield from self._controls()
        explained = [False] * len(self.ids)
        for number, message in enumerate(self.messages):
            if message.role == "assistant" and self.chosen[number]:
                yield from self._turn(number, explained)
        if self.renderer.targets == "all":
            return
        for index, (trained, known) in enumerate(zip(self.trained, explained, strict=True)):
            if trained and not known and not self._foretold(index):
                yield "context", f"{self._show(index)} is trained, but the model is given it"
                return

    def _turn(self, number: int, explained: list[bool]) -> Iterator[tuple[Property, str]]:
        """The turn of assistant message ``number``: its prompt, its targets, its end."""
        prompt = self._prompt(number)
        if self.ids[: len(prompt)] != prompt:
            yield "prompt", self._difference(prompt)
            return
        start = len(prompt)
        stops = set(self.renderer.stop_ids)
        end = next((index for index in range(start, len(self.ids)) if self.ids[index] in stops), None)
        if end is None:
            yield "end", f"no end token after {self._show(len(self.ids) - 1)}"
            return
        explained[start : end + 1] = [True] * (end + 1 - start)
        if not self.trained[end]:
            yield "end", f"the end token after {self._show(end - 1)} is not trained"
        first = max(start, 1)  # nothing stands before the first token of a thread
        missing = next((index for index in range(first, end) if not self.trained[index]), None)
        if missing is not None:
            yield "reply", f"{self._show(missing)} belongs to the reply and is not trained"
        parsed = self.renderer.parse(self.ids[start : end + 1])
        wanted = self.messages[number].text
        same = parsed.text.strip() in (wanted.strip(), as_read(self.renderer, wanted).strip())
        if number and not (same and parsed.stopped):
            yield "reply", f"the reply reads back as {_short(parsed.text)}, not {_short(self.messages[number].text)}"

    def _prompt(self, number: int) -> list[int]:
        """What stands before the reply; a document has only what its format opens with."""
        format, before, reply = self.renderer.format, self.messages[:number], self.messages[number]
        if not number:
            return self._ids(format.split(reply, ()).given)
        prompt = self.renderer.prompt(before)
        header = format.split(UNWRITTEN, before).given
        if format.split(reply, before).given == header:
            return prompt
        # The format describes the reply in front of its header; all before that and the header must be as in chat.
        size = len(self._ids(header))
        described = self.renderer.prompt(before, reply)
        kept = described[: len(prompt) - size] == prompt[:-size] and described[-size:] == prompt[-size:]
        return described if kept else prompt

    def _foretold(self, index: int) -> bool:
        """Whether a trained token stands where a format lets the turn before foretell the next one."""
        before = next((place for place in range(index - 1, -1, -1) if self.ids[place] in self.renderer.stop_ids), None)
        if before is None:
            return False
        run = self.ids[before + 1 : index + 1]
        for number in range(1, len(self.messages)):
            split = self.renderer.format.split(self.messages[number], self.messages[:number])
            predicted_by_previous = self._ids(split.given[: split.predicted_by_previous])
            if split.predicted_by_previous and predicted_by_previous[: len(run)] == run:
                return True
        return False

    def _ids(self, pieces: Iterable[Piece]) -> list[int]:
        tokenizer = self.renderer.tokenizer
        found: list[int] = []
        for piece in pieces:
            if isinstance(piece, Control):
                found += tokenizer.known_ids([piece.name])
            else:
                found += tokenizer.encode(piece.text, continuing=True)
        return found

    def _beginning(self) -> Iterator[tuple[Property, str]]:
        """A begin token that stands anywhere but at the beginning or directly after an end token (Llama 2 chat)."""
        tokenizer = self.renderer.tokenizer
        begin, end = tokenizer.bos_id, tokenizer.eos_id
        if begin is None:
            return
        if begin in (
            end,
            tokenizer.pad_id,
        ):  # it has other meanings, so only a pair at the beginning is sure to be wrong
            doubled = self.ids[:2] == [begin, begin]
        else:
            places = [place for place, token in enumerate(self.ids) if token == begin]
            doubled = any(place and self.ids[place - 1] != end for place in places)
        if doubled:
            yield "beginning", f"the begin token stands {self.ids.count(begin)} times, once more than it should"

    def _controls(self) -> Iterator[tuple[Property, str]]:
        """The control tokens of the thread are those of the format, in its order, and no others."""
        tokenizer, expected = self.renderer.tokenizer, self._expected_controls()
        actual = [token for token in self.ids if not tokenizer.may_come_from_text(token)]
        if actual != expected:
            names = " ".join(tokenizer.decode([token], skip_controls=False) for token in actual)
            yield (
                "control",
                f"the control tokens are {_short(names)}, {len(actual)} where the format gives {len(expected)}",
            )

    def _expected_controls(self) -> list[int]:
        found: list[int] = []
        for number, message in enumerate(self.messages):
            split = self.renderer.format.split(message, self.messages[:number])
            pieces = (*split.given, *split.produced)
            found += self.renderer.tokenizer.known_ids(piece.name for piece in pieces if isinstance(piece, Control))
        return found

    def _difference(self, prompt: list[int]) -> str:
        place = next(
            (i for i, (one, two) in enumerate(zip(self.ids, prompt, strict=False)) if one != two), len(self.ids)
        )
        decode = self.renderer.tokenizer.decode
        trained = decode(self.ids[max(place - 4, 0) : place + 4], skip_controls=False)
        given = decode(prompt[max(place - 4, 0) : place + 4], skip_controls=False)
        return f"at token {place} training reads {_short(trained)} and the prompt {_short(given)}"

    def _show(self, index: int) -> str:
        window = self.ids[max(index - 3, 0) : index + 1]
        return f"token {index}, {_short(self.renderer.tokenizer.decode(window, skip_controls=False))},"


def _short(text: str) -> str:
    return repr(text if len(text) <= 2 * SHOWN else f"{text[:SHOWN]} ... {text[-SHOWN:]}")
