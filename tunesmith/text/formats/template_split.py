"""Finds what a chat template writes around the contents of messages, by rendering it with markers as contents.

The text around the contents is assumed to depend only on the roles of the messages, so it is found once for every
sequence of roles and kept in a tree of roles. ``TemplateSplitter.find_difference`` renders the true contents to detect
a template for which that is not so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tunesmith.errors import DataError
from tunesmith.text.formats.format import Control, Piece, TextPiece
from tunesmith.text.formats.template_engine import ChatTemplate
from tunesmith.text.tree import Role

_SPACE = "\u2005"  # white space that no template writes: whether it is kept shows whether contents are stripped
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARKER = re.compile(f"({_SPACE}?){_OPEN}([0-9]+){_CLOSE}({_SPACE}?)")
# What a token with the flag ``rstrip`` strips: Unicode's white space, without four separators that Python adds.
_STRIPPED = "".join(
    character for character in map(chr, range(0x3001)) if character.isspace() and character not in "\x1c\x1d\x1e\x1f"
)
_QUOTED = 30  # characters that are quoted on either side of a difference


@dataclass(frozen=True, slots=True)
class ContentSlot:
    """The position of the content of a message.

    message: the index of the message in the conversation.
    lstrip, rstrip: whether the template strips white space at that end of the content.
    """

    message: int
    lstrip: bool
    rstrip: bool

    def fill(self, contents: Sequence[str]) -> str:
        """Return the content as the template writes it. contents: of all messages."""
        text = contents[self.message]
        text = text.lstrip() if self.lstrip else text
        return text.rstrip() if self.rstrip else text


TemplatePiece: TypeAlias = Control | TextPiece | ContentSlot


@dataclass(frozen=True, slots=True)
class TurnTemplate:
    """What the template writes for the last message of a sequence of roles.

    given, produced: as in ``Split``.
    tail: what the template writes after the end token of a reply, or at the end of a conversation; if it is still there
        when a message is added, it is part of what that message is given.
    length: characters of the rendering with markers up to the end of ``produced``.
    stripped: whether the message begins after a token that strips the white space after it.
    """

    given: tuple[TemplatePiece, ...] = ()
    produced: tuple[TemplatePiece, ...] = ()
    tail: tuple[TemplatePiece, ...] = ()
    length: int = 0
    stripped: bool = False


@dataclass(slots=True)
class RoleNode:
    """A sequence of roles in the tree of all sequences.

    parent: the sequence without its last role; None for the empty one.
    roles: the sequence.
    turn: what the template writes for the last message, or why the template cannot be used for it.
    children: the sequences with one more role.
    """

    parent: RoleNode | None
    roles: tuple[Role, ...]
    turn: TurnTemplate | str
    children: dict[Role, RoleNode] = field(default_factory=dict)


class TemplateSplitter:
    """The turn templates of a chat template, by roles.

    template: the compiled chat template.
    controls: the names of control tokens.
    rstrip: the names of those that strip the white space after them.
    """

    def __init__(self, template: ChatTemplate, controls: Sequence[str], rstrip: Sequence[str] = ()) -> None:
        self._template = template
        names = sorted(controls, key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._rstrip = frozenset(rstrip)
        self._root = RoleNode(None, (), TurnTemplate())

    def node(self, roles: Sequence[Role]) -> RoleNode:
        """Return the node of a sequence of roles, or of the first prefix of it that the template refuses."""
        node = self._root
        for role in roles:
            if isinstance(node.turn, str):
                return node
            if role not in node.children:
                node.children[role] = RoleNode(node, (*node.roles, role), self._find_turn(node, role))
            node = node.children[role]
        return node

    def find_difference(self, node: RoleNode, contents: Sequence[str]) -> str | None:
        """Return how the rendering of the true contents differs from the contents in their slots, or None."""
        assert isinstance(node.turn, TurnTemplate)
        if not node.turn.length:
            return None  # a system message that is written together with the question
        messages = [{"role": role, "content": text} for role, text in zip(node.roles, contents, strict=True)]
        replies = node.roles[-1] == "assistant"
        try:
            written = self._template.render(messages)
            prompt = self._template.render(messages[:-1], generation=True) if replies else ""
        except DataError as error:
            return error.what
        turns: list[TurnTemplate] = []
        ancestor: RoleNode | None = node
        while ancestor is not None:
            assert isinstance(ancestor.turn, TurnTemplate)
            turns.append(ancestor.turn)
            ancestor = ancestor.parent
        parts = [part for turn in reversed(turns) for part in (*turn.given, *turn.produced)]
        expected = "".join(_written(part, contents) for part in (*parts, *node.turn.tail))
        if written != expected:
            return f"the chat template changes contents: {describe_difference(written, expected)}"
        if not written.startswith(prompt):
            return f"the chat template's prompt depends on contents: {describe_difference(prompt, written)}"
        return None

    def fill(
        self, parts: Sequence[TemplatePiece], contents: Sequence[str], stripped: bool
    ) -> tuple[tuple[Piece, ...], bool]:
        """Replace the content slots of ``parts`` by contents.

        stripped: whether the first part follows a token that strips the white space after it.

        Returns the pieces, and ``stripped`` for what follows them.
        """
        found: list[Piece] = []
        for part in parts:
            if isinstance(part, Control):
                found.append(part)
                stripped = part.name in self._rstrip
                continue
            text = part.fill(contents) if isinstance(part, ContentSlot) else part.text
            text = text.lstrip(_STRIPPED) if stripped else text
            stripped = stripped and not text
            if text:
                found.append(TextPiece(text))
        return tuple(found), stripped

    def _find_turn(self, node: RoleNode, role: Role) -> TurnTemplate | str:
        """Return the turn template of a message of ``role`` after ``node``, or why there is none."""
        roles = (*node.roles, role)
        assert isinstance(node.turn, TurnTemplate)
        try:
            full = self._render_system(roles) if role == "system" else self._render(roles)
            before = self._render(node.roles)[: node.turn.length] if node.turn.length else ""
            prompt = self._render(node.roles, generation=True) if role == "assistant" else before
        except DataError as error:
            return error.what
        turn = f"(turn {len(roles)})"
        if not prompt.startswith(before):
            difference = describe_difference(before, prompt)
            return f"the chat template's prompt does not continue the turns before it {turn}: {difference}"
        if not full.startswith(prompt):
            reply = role == "assistant"
            what = "prompt is not how its reply begins" if reply else "earlier turns change when one is added"
            return f"the chat template's {what} {turn}: {describe_difference(prompt, full)}"
        return self._split_turn(roles, full, len(before), len(prompt), node.turn)

    def _split_turn(
        self, roles: tuple[Role, ...], full: str, start: int, middle: int, before: TurnTemplate
    ) -> TurnTemplate | str:
        """Split the rendering ``full``: given from ``start`` to ``middle``, produced up to the end token.

        Returns why that is impossible if it is.
        """
        if not full and roles[-1] == "system":
            return TurnTemplate()
        found = list(_MARKER.finditer(full))
        markers = {int(marker.group(2)): marker for marker in found}
        if len(found) != len(roles) or markers.keys() != set(range(len(roles))):
            return f"the chat template does not write every turn exactly once ({len(roles)} turns): {show(full)!r}"
        if roles[-1] == "assistant":
            reply = markers[len(roles) - 1]
            close = self._controls.search(full, reply.end())
            if close is None:
                return f"no token of the vocabulary ends a reply of the chat template: {show(full)!r}"
            if reply.start() < middle:
                return f"the chat template's reply is not after the end of the prompt: {show(full)!r}"
            end = close.end()
        else:
            middle = end = self._find_end(roles, full, max(marker.end() for marker in markers.values()))
        if any(match.start() < cut < match.end() for match in self._controls.finditer(full) for cut in (start, middle)):
            return f"the chat template ends a turn within a token of the vocabulary: {show(full)!r}"
        given, produced = self._parse(full[start:middle]), self._parse(full[middle:end])
        stripped = before.length > 0 and self._ends_stripping(before)
        return TurnTemplate(given, produced, self._parse(full[end:]), end, stripped)

    def _find_end(self, roles: tuple[Role, ...], full: str, least: int) -> int:
        """Return how many characters of a rendering stay when a reply is asked for.

        Some templates write an end of the conversation, which a longer conversation does not have there.
        least: the end of the last content.
        """
        try:
            prompt = self._render(roles, generation=True)
        except DataError:
            return len(full)
        common = _shared_prefix_length(full, prompt)
        if common in (len(full), 0):
            return len(full)
        ends = [control.end() for control in self._controls.finditer(full) if least <= control.end() <= common]
        return max(ends, default=len(full))

    def _ends_stripping(self, before: TurnTemplate) -> bool:
        """Whether only white space follows the last control token of a turn, and that token strips it."""
        for part in reversed((*before.given, *before.produced)):
            if isinstance(part, Control):
                return part.name in self._rstrip
            if isinstance(part, ContentSlot) or part.text.strip():
                return False
        return False

    def _render_system(self, roles: tuple[Role, ...]) -> str:
        """Render a system message alone; '' if the template writes it only together with the question.

        Raises DataError if the template accepts no system message.
        """
        asked = self._render((*roles, "user"))
        try:
            alone = self._render(roles)
        except DataError:
            return ""
        return alone if _MARKER.search(alone) and asked.startswith(alone) else ""

    def _render(self, roles: Sequence[Role], *, generation: bool = False) -> str:
        """Render messages with these roles whose contents are markers."""
        messages = [
            {"role": role, "content": f"{_SPACE}{_OPEN}{index}{_CLOSE}{_SPACE}"} for index, role in enumerate(roles)
        ]
        return self._template.render(messages, generation=generation)

    def _parse(self, text: str) -> tuple[TemplatePiece, ...]:
        """Parse a part of a rendering with markers."""
        found: list[TemplatePiece] = []
        position = 0
        for marker in [*_MARKER.finditer(text), None]:
            end = marker.start() if marker else len(text)
            for control in self._controls.finditer(text, position, end):
                found += [TextPiece(text[position : control.start()]), Control(control.group())]
                position = control.end()
            found.append(TextPiece(text[position:end]))
            if marker:
                found.append(ContentSlot(int(marker.group(2)), lstrip=not marker.group(1), rstrip=not marker.group(3)))
                position = marker.end()
        return tuple(part for part in found if not isinstance(part, TextPiece) or part.text)


def _written(part: TemplatePiece, contents: Sequence[str]) -> str:
    if isinstance(part, ContentSlot):
        return part.fill(contents)
    return part.text if isinstance(part, TextPiece) else part.name


def _shared_prefix_length(one: str, other: str) -> int:
    """Return the length of the longest common prefix of two texts."""
    pairs = zip(one, other, strict=False)
    return next((index for index, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))


def show(text: str) -> str:
    """Return a rendering with readable markers, for messages."""
    return _MARKER.sub(lambda marker: f"«turn {int(marker.group(2)) + 1}»", text)


def describe_difference(one: str, other: str) -> str:
    """Quote both texts around the first position where they differ."""
    one, other = show(one), show(other)
    place = _shared_prefix_length(one, other)
    window = slice(max(place - _QUOTED, 0), place + _QUOTED)
    return f"{one[window]!r} against {other[window]!r}"
