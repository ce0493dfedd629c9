"""Renders messages as tokens: one implementation for training, evaluation, generation and chat."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tunesmith.errors import DataError
from tunesmith.text.formats.format import UNWRITTEN_REPLY, Control, Format, ParsedReply, Piece, Split
from tunesmith.text.targets import Targets, ranked_replies, target_mask
from tunesmith.text.tokenizer.codec import IDENTITY
from tunesmith.text.tokenizer.stream import StreamDecoder
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.ranking import reply_table
from tunesmith.text.tokens.runs import OpenRun, RunCollector, Unit, join_ids
from tunesmith.text.tokens.segments import MessageTokens, assemble_tree
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Message, Tree

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class _MessageUnits:
    """The units of one message.

    given, produced: as in ``Split``.
    predicted_by_previous: how many units of ``given`` are targets of the message before.
    """

    given: list[Unit]
    produced: list[Unit]
    predicted_by_previous: int


class Renderer:
    """A prompt format with the tokenizer that it is used with.

    Text between control tokens is encoded as one string, except that it is split between what a message is given and
    what it produces, and both parts are encoded separately. So a generation prompt is a prefix of the training tokens,
    and the threads of a tree have the ids that they have when they are rendered alone.

    format, tokenizer: what splits messages and encodes text.
    targets: which messages are trained; see ``target_mask``.
    stop_ids: the ids of the tokens that end a reply.
    opening: how many tokens are before the first message (bos, prefix), up to the last control token among them;
        truncation keeps them.

    Raises DataError if the tokenizer lacks a token of the format.
    """

    def __init__(self, format: Format, tokenizer: Tokenizer, targets: Targets = "assistant") -> None:
        self.format = format
        self.tokenizer = tokenizer
        self.targets = targets
        self.stop_ids = frozenset(tokenizer.find_ids(format.stops))
        self._controls: dict[Control, int | None] = {}
        question, reply = Message("user", "?"), Message("assistant", "!")
        if format.find_fault(reply, (question,)) is not None:
            reply = UNWRITTEN_REPLY  # every reply must have reasoning
        for split in (format.split(question, ()), format.split(reply, (question,))):
            for piece in (*split.given, *split.produced):
                if isinstance(piece, Control):
                    self._control_id(piece)
                else:
                    self._check_no_controls(piece.text)
        self._check_white_space()
        self.opening = self._count_opening()

    def render(self, tree: Tree) -> TokenTree:
        """Return the tokens of one tree. Raises DataError."""
        (found,) = self.render_many([tree])
        if isinstance(found, DataError):
            raise found
        return found

    def render_many(self, trees: Sequence[Tree]) -> list[TokenTree | DataError]:
        """Return the tokens of many trees with few calls of the tokenizer.

        Returns for every tree its tokens, or a DataError if it cannot be rendered.
        """
        runs = RunCollector(self.tokenizer)
        plans = [self._plan(tree, runs) for tree in trees]
        runs.encode()
        return [
            plan if isinstance(plan, DataError) else self._assemble(tree, plan)
            for tree, plan in zip(trees, plans, strict=True)
        ]

    def prompt(self, messages: Sequence[Message], reply: Message = UNWRITTEN_REPLY) -> list[int]:
        """Return the tokens after which the model writes the assistant's answer to ``messages``.

        messages: the conversation.
        reply: the answer, for a format that writes properties of a reply before it; its text is not used otherwise.

        Raises DataError.
        """
        runs = RunCollector(self.tokenizer)
        plan = self._plan(Tree.path([*messages, reply], place="prompt"), runs)
        if isinstance(plan, DataError):
            raise plan
        runs.encode()
        *before, last = plan
        return join_ids([unit for each in before for unit in (*each.given, *each.produced)] + last.given)

    def parse(self, ids: Sequence[int]) -> ParsedReply:
        """Decode the tokens that were generated after a prompt."""
        return self.format.parse(ids, self.tokenizer)

    def stream(self) -> StreamDecoder:
        """Return a decoder for a reply that is generated token by token."""
        return StreamDecoder(self.tokenizer, continuing=self.format.reply_continues_text, codec=self.format.codec)

    def _plan(self, tree: Tree, runs: RunCollector) -> list[_MessageUnits] | DataError:
        """Return the units of every message, or why a message has none. Text runs are added to ``runs``."""
        answered = set(tree.parents)
        plan: list[_MessageUnits] = []
        path: list[int] = []  # from the root to the message before
        before: list[Message] = []
        open_runs: list[OpenRun] = []
        for index, (message, parent) in enumerate(zip(tree.messages, tree.parents, strict=True)):
            while path and path[-1] != parent:
                path.pop()
                before.pop()
            fault = _find_surrogate(message) or self.format.find_fault(message, before)
            if fault:
                return DataError(fault, where=tree.place or f"message {index + 1}", advice=self.format.fault_advice)
            run = open_runs[parent].branch() if parent >= 0 else OpenRun(runs)
            plan.append(self._lay_out(self.format.split(message, before), run, last=index not in answered))
            open_runs.append(run)
            path.append(index)
            before.append(message)
        return plan

    def _lay_out(self, split: Split, run: OpenRun, *, last: bool) -> _MessageUnits:
        """Return the units of the pieces of one message after the open run of its parent.

        Text at the end of what is given stays open for the replies, unless the message is the last of its thread.
        """
        given: list[Unit] = []
        produced: list[Unit] = []
        self._append(split.given[: split.predicted_by_previous], run, given)
        if split.predicted_by_previous:
            run.close(given)
        predicted_by_previous = len(given)
        self._append(split.given[split.predicted_by_previous :], run, given)
        if split.produced or last:
            run.close(given)
        self._append(split.produced, run, produced)
        if split.produced:
            run.close(produced)
        return _MessageUnits(given, produced, predicted_by_previous)

    def _append(self, pieces: Sequence[Piece], run: OpenRun, units: list[Unit]) -> None:
        """Extend the open run by text, and close it before every control token."""
        for piece in pieces:
            if not isinstance(piece, Control):
                run.text += piece.text
            elif (control := self._control_id(piece)) is not None:
                run.close_before_control(units, control)

    def _assemble(self, tree: Tree, plan: Sequence[_MessageUnits]) -> TokenTree | DataError:
        """Join the encoded units of a tree."""
        mask = target_mask(tree, self.targets)
        tokens = [
            self._message_tokens(units, trained, first=index == 0)
            for index, (units, trained) in enumerate(zip(plan, mask, strict=True))
        ]
        rendered = assemble_tree(tree, tokens)
        if rendered is None:
            return DataError("a message that leaves no tokens", where=tree.place, advice="drop the record")
        if self.targets != "ranked":
            return rendered
        replies, scores = reply_table(ranked_replies(tree))
        return replace(rendered, replies=replies, scores=scores)

    def _message_tokens(self, units: _MessageUnits, trained: bool, *, first: bool) -> MessageTokens:
        # A ranked reply is compared by its own tokens only, without those of the next turn that it predicts.
        predicted = [] if self.targets == "ranked" else units.given[: units.predicted_by_previous]
        return MessageTokens(
            given=join_ids(units.given),
            produced=join_ids(units.produced),
            predicted_by_previous=len(join_ids(predicted)),
            trained=trained,
            train_given=self.targets == "all",
            opening=self.opening if first else 0,
        )

    def _count_opening(self) -> int:
        pieces = list(self.format.opening)
        while pieces and not isinstance(pieces[-1], Control):
            pieces.pop()
        runs, units = RunCollector(self.tokenizer), list[Unit]()
        self._append(pieces, OpenRun(runs), units)
        runs.encode()
        return len(join_ids(units))

    def _control_id(self, piece: Control) -> int | None:
        """Return the id of a control token; None for an optional one that the tokenizer lacks. Raises DataError."""
        if piece not in self._controls:
            known = self.tokenizer.find_ids([piece.name])
            self._controls[piece] = None if piece.optional and not known else self.tokenizer.control(piece.name)
        return self._controls[piece]

    def _check_no_controls(self, text: str) -> None:
        """Raise DataError if text of the format contains a control token of this vocabulary.

        It would stay text here, but other tools would encode the exported template differently.
        """
        found = self.tokenizer.control_in(text)
        if found is not None:
            what = f"prompt format {self.format.name!r} writes {found!r} as text, but it is a token of the vocabulary"
            raise DataError(what, advice="choose a format that uses this token, or another tokenizer")

    def _check_white_space(self) -> None:
        """Raise DataError if the vocabulary cannot spell the codec's marks, so that line breaks and tabs are lost."""
        codec, tokenizer = self.format.codec, self.tokenizer
        if codec is IDENTITY:
            return
        read = codec.decode(tokenizer.decode(tokenizer.encode(codec.encode("\n\t"))))
        if read.replace(" ", "") != "\n\t":
            what = (
                f"prompt format {self.format.name!r} writes line breaks and tabs as marks "
                "that this vocabulary cannot spell"
            )
            raise DataError(what, advice="use the tokenizer of T5, or another prompt format")


def _find_surrogate(message: Message) -> str | None:
    for text in (message.text, message.context, message.lang or "", *message.extra_texts()):
        if not text.isascii() and _SURROGATE.search(text):
            return "text with half a character (a lone surrogate)"
    return None
