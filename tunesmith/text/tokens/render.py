"""From messages to tokens: one way for training, evaluation, sampling and chat."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tunesmith.errors import DataError
from tunesmith.text.formats.format import UNWRITTEN, Control, Format, Parsed, Piece, Split
from tunesmith.text.targets import Targets, chosen_messages, ranked_replies
from tunesmith.text.tokenizer.codec import AS_IT_IS
from tunesmith.text.tokenizer.stream import StreamDecoder
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.ranking import reply_table
from tunesmith.text.tokens.segments import MessageTokens, assemble_tree
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Message, Tree

__all__ = ["Renderer", "TokenTree"]

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class _Units:
    """The units of one message: a control token by its id, a text run as ~n for the n-th text of ``_Runs``.

    foretold: how many units of ``given`` the message before is trained to predict.
    """

    given: list[int]
    produced: list[int]
    predicted_by_previous: int


@dataclass(slots=True)
class _Runs:
    """The distinct text runs of many trees. alike: whether a run reads the same where it goes on after other text."""

    alike: bool
    numbers: dict[tuple[str, bool], int] = field(default_factory=dict)

    def number(self, text: str, inside: bool) -> int:
        key = (text, inside and not self.alike)
        return ~self.numbers.setdefault(key, len(self.numbers))

    def encode(self, tokenizer: Tokenizer) -> list[list[int]]:
        """The ids of every run, by number."""
        found: list[list[int]] = [[] for _ in self.numbers]
        for continuing in (False, True):
            chosen = [(text, number) for (text, inside), number in self.numbers.items() if inside is continuing]
            if chosen:
                ids = tokenizer.encode_many([text for text, _ in chosen], continuing=continuing)
                for (_, number), run in zip(chosen, ids, strict=True):
                    found[number] = run
        return found


class Renderer:
    """A prompt format with the tokenizer it is used with.

    Text between control tokens is encoded as one string. Where what is given meets what must be produced the string is
    cut, and both parts are encoded by themselves; so a generation prompt is a prefix of the training tokens, and the
    threads of a tree have the ids that they have alone.

    targets: which messages are trained on; see ``chosen_messages``. stop_ids: tokens that end a reply. opening: how many
    tokens stand before the first message (begin token, prefix), up to the last control token among them; truncation leaves
    them in front. Raises DataError if the tokenizer lacks a token of the format.
    """

    def __init__(self, format: Format, tokenizer: Tokenizer, targets: Targets = "assistant") -> None:
        self.format = format
        self.tokenizer = tokenizer
        self.targets = targets
        self.stop_ids = frozenset(tokenizer.known_ids(format.stops))
        self._controls: dict[Control, int | None] = {}
        question, reply = Message("user", "?"), Message("assistant", "!")
        for split in (format.split(question, ()), format.split(reply, (question,))):
            for piece in (*split.given, *split.produced):
                if isinstance(piece, Control):
                    self._control(piece)
                else:
                    self._refuse_controls_in(piece.text)
        self._refuse_lost_white_space()
        self.opening = self._opening()

    def render(self, tree: Tree) -> TokenTree:
        """The tokens of one tree. Raises DataError."""
        (found,) = self.render_many([tree])
        if isinstance(found, DataError):
            raise found
        return found

    def render_many(self, trees: Sequence[Tree]) -> list[TokenTree | DataError]:
        """The tokens of many trees in one pass of the tokenizer; for a tree that cannot be rendered, the error."""
        runs = _Runs(self.tokenizer.continues_alike)
        plans = [self._plan(tree, runs) for tree in trees]
        ids = runs.encode(self.tokenizer)
        found: list[TokenTree | DataError] = []
        for tree, plan in zip(trees, plans, strict=True):
            if isinstance(plan, DataError):
                found.append(plan)
                continue
            chosen = chosen_messages(tree, self.targets)
            tokens = [
                self._tokens(*each, ids, first=not index) for index, each in enumerate(zip(plan, chosen, strict=True))
            ]
            rendered = assemble_tree(tree, tokens)
            error = DataError("a message that leaves no tokens", where=tree.place, advice="drop the record")
            found.append(error if rendered is None else self._with_replies(tree, rendered))
        return found

    def _with_replies(self, tree: Tree, rendered: TokenTree) -> TokenTree:
        if self.targets != "ranked":
            return rendered
        replies, scores = reply_table(ranked_replies(tree))
        return replace(rendered, replies=replies, scores=scores)

    def _tokens(self, units: _Units, trained: bool, ids: Sequence[Sequence[int]], *, first: bool) -> MessageTokens:
        # A ranked reply is compared by what it says; what comes after it is no part of that.
        foretells = units.predicted_by_previous and self.targets != "ranked"
        predicted_by_previous = len(_join(units.given[: units.predicted_by_previous], ids)) if foretells else 0
        given, produced = _join(units.given, ids), _join(units.produced, ids)
        whole = self.targets == "all"
        return MessageTokens(
            given, produced, predicted_by_previous, trained, whole, opening=self.opening if first else 0
        )

    def prompt(self, messages: Sequence[Message], reply: Message = UNWRITTEN) -> list[int]:
        """The tokens after which the model writes the assistant's answer to ``messages``. Raises DataError.

        reply: the answer, for a format that describes it in front of it; nothing else of it matters.
        """
        tree = Tree.path([*messages, reply], place="prompt")
        runs = _Runs(self.tokenizer.continues_alike)
        plan = self._plan(tree, runs)
        if isinstance(plan, DataError):
            raise plan
        plan[-1].produced.clear()
        return _join([unit for units in plan for unit in (*units.given, *units.produced)], runs.encode(self.tokenizer))

    def parse(self, ids: Sequence[int]) -> Parsed:
        """Read what was generated after a prompt."""
        return self.format.parse(ids, self.tokenizer)

    def stream(self) -> StreamDecoder:
        """A decoder for a reply that arrives token by token."""
        return StreamDecoder(self.tokenizer, continuing=self.format.continues, codec=self.format.codec)

    def _opening(self) -> int:
        pieces = list(self.format.opening)
        while pieces and not isinstance(pieces[-1], Control):
            pieces.pop()
        runs, units = _Runs(self.tokenizer.continues_alike), list[int]()
        self._add(pieces, _Run(runs, "", False), units)
        return len(_join(units, runs.encode(self.tokenizer)))

    def _refuse_controls_in(self, text: str) -> None:
        """A mark that the format writes as text must not be a control token of this vocabulary.

        It would stay text here, but other tools would read the exported template differently.
        """
        found = self.tokenizer.control_in(text)
        if found is not None:
            what = f"prompt format {self.format.name!r} writes {found!r} as text, but it is a token of the vocabulary"
            raise DataError(what, advice="choose a format that uses this token, or another tokenizer")

    def _refuse_lost_white_space(self) -> None:
        """Line breaks and tabs must come back; where a vocabulary lacks the characters of their marks, all would be lost."""
        codec, tokenizer = self.format.codec, self.tokenizer
        if codec is AS_IT_IS:
            return
        read = codec.decode(tokenizer.decode(tokenizer.encode(codec.encode("\n\t"))))
        if read.replace(" ", "") != "\n\t":
            what = f"prompt format {self.format.name!r} writes line breaks and tabs as marks that this vocabulary cannot spell"
            raise DataError(what, advice="use the tokenizer of T5, or another prompt format")

    def _control(self, piece: Control) -> int | None:
        """The id of a control token; None for an optional one that the tokenizer lacks. Raises DataError."""
        if piece not in self._controls:
            known = self.tokenizer.known_ids([piece.name])
            self._controls[piece] = None if piece.optional and not known else self.tokenizer.control(piece.name)
        return self._controls[piece]

    def _plan(self, tree: Tree, runs: _Runs) -> list[_Units] | DataError:
        """The units of every message, or why there are none. Texts that the tokenizer must encode go into ``runs``."""
        replies = [0] * len(tree.messages)
        for parent in tree.parents[1:]:
            replies[parent] += 1
        plan: list[_Units] = []
        path: list[int] = []  # from the root to the message before
        before: list[Message] = []
        open_runs: list[_Run] = []
        for index, (message, parent) in enumerate(zip(tree.messages, tree.parents, strict=True)):
            while path and path[-1] != parent:
                path.pop()
                before.pop()
            objection = _unreadable(message) or self.format.objection(message, before)
            if objection:
                advice = f"change or drop the record, or choose another prompt format than {self.format.name!r}"
                return DataError(objection, where=tree.place or f"message {index + 1}", advice=advice)
            run = _Run(runs, *((open_runs[parent].text, open_runs[parent].inside) if parent >= 0 else ("", False)))
            plan.append(self._units(self.format.split(message, before), run, last=not replies[index]))
            open_runs.append(run)
            path.append(index)
            before.append(message)
        return plan

    def _units(self, split: Split, run: _Run, *, last: bool) -> _Units:
        """Lay out the pieces of one message after the open run of its parent.

        Text at the end of what is given stays open for the replies, unless the message is the last of its thread.
        """
        given: list[int] = []
        produced: list[int] = []
        self._add(split.given[: split.predicted_by_previous], run, given)
        if split.predicted_by_previous:
            run.cut(given)
        predicted_by_previous = len(given)
        self._add(split.given[split.predicted_by_previous :], run, given)
        if split.produced or last:
            run.cut(given)
        self._add(split.produced, run, produced)
        if split.produced:
            run.cut(produced)
        return _Units(given, produced, predicted_by_previous)

    def _add(self, pieces: Sequence[Piece], run: _Run, units: list[int]) -> None:
        for piece in pieces:
            if not isinstance(piece, Control):
                run.text += piece.text
                continue
            number = self._control(piece)
            if number is not None:
                run.cut(units)
                run.inside = False
                units.append(number)


@dataclass(slots=True)
class _Run:
    """Text that is not yet closed. inside: whether it goes on after text that was cut off before."""

    runs: _Runs
    text: str
    inside: bool

    def cut(self, units: list[int]) -> None:
        """Close the text so far; what follows goes on in the middle of a run."""
        if self.text:
            units.append(self.runs.number(self.text, self.inside))
            self.text, self.inside = "", True


def _unreadable(message: Message) -> str | None:
    for text in (message.text, message.context, message.lang or ""):
        if not text.isascii() and _HALF_CHARACTER.search(text):
            return "text with half a character (a lone surrogate)"
    return None


def _join(units: Sequence[int], runs: Sequence[Sequence[int]]) -> list[int]:
    found: list[int] = []
    for unit in units:
        if unit < 0:
            found.extend(runs[~unit])
        else:
            found.append(unit)
    return found
