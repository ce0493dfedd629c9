"""What a chat template writes around the contents of messages, found by rendering marks in their place.

The text around contents depends on the roles of the messages alone (where it does not, the rendering of the true
contents shows it), so it is found once for every order of roles and kept in a tree of roles.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tunesmith.errors import DataError
from tunesmith.text.formats.format import Control, Piece, Text
from tunesmith.text.formats.template_engine import ChatTemplate
from tunesmith.text.tree import Role

_SPACE = "\u2005"  # white space that no template writes: what becomes of it shows whether contents are stripped
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARK = re.compile(f"({_SPACE}?){_OPEN}([0-9]+){_CLOSE}({_SPACE}?)")
# What a token takes that takes the white space behind it: Unicode's white space, without four separators that Python adds.
_TAKEN = "".join(
    character for character in map(chr, range(0x3001)) if character.isspace() and character not in "\x1c\x1d\x1e\x1f"
)
_SEEN = 30  # characters shown on either side of a difference


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of the content of message ``message``. left, right: whether white space is taken off that end."""

    message: int
    left: bool
    right: bool

    def fill(self, contents: Sequence[str]) -> str:
        text = contents[self.message]
        text = text.lstrip() if self.left else text
        return text.rstrip() if self.right else text


Part: TypeAlias = Control | Text | Slot


@dataclass(frozen=True, slots=True)
class Scaffold:
    """The last message of a path of roles, as the template writes it.

    given, produced: as in ``Split``. tail: what the template writes after the end token of a reply, or at the end of a
    conversation; it is part of what the next message is given, where it stays. length: characters of the marked rendering up to the end of ``produced``.
    swallowing: whether the message begins after a token that takes the white space behind it.
    """

    given: tuple[Part, ...] = ()
    produced: tuple[Part, ...] = ()
    tail: tuple[Part, ...] = ()
    length: int = 0
    swallowing: bool = False


@dataclass(slots=True)
class Node:
    """A path of roles, its scaffold or what is wrong with it, and the paths that are one message longer."""

    parent: Node | None
    roles: tuple[Role, ...]
    found: Scaffold | str
    children: dict[Role, Node] = field(default_factory=dict)


class Scaffolds:
    """The scaffolds of a template, by roles. controls: names of control tokens; swallowing: those that take white space."""

    def __init__(self, template: ChatTemplate, controls: Sequence[str], swallowing: Sequence[str] = ()) -> None:
        self._template = template
        names = sorted(controls, key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._swallowing = frozenset(swallowing)
        self._root = Node(None, (), Scaffold())

    def node(self, roles: Sequence[Role]) -> Node:
        """The node of a path; the last one that exists where the template refuses an earlier message."""
        node = self._root
        for role in roles:
            if isinstance(node.found, str):
                return node
            if role not in node.children:
                node.children[role] = Node(node, (*node.roles, role), self._scaffold(node, role))
            node = node.children[role]
        return node

    def difference(self, node: Node, contents: Sequence[str]) -> str | None:
        """What the template makes of the true contents beyond putting them in their places, or None."""
        assert isinstance(node.found, Scaffold)
        if not node.found.length:
            return None  # a system message that is written together with the question
        messages = [{"role": role, "content": text} for role, text in zip(node.roles, contents, strict=True)]
        replies = node.roles[-1] == "assistant"
        try:
            written = self._template.render(messages)
            prompt = self._template.render(messages[:-1], generation=True) if replies else ""
        except DataError as error:
            return error.what
        chain: list[Scaffold] = []
        step: Node | None = node
        while step is not None:
            assert isinstance(step.found, Scaffold)
            chain.append(step.found)
            step = step.parent
        parts = [part for found in reversed(chain) for part in (*found.given, *found.produced)] + list(node.found.tail)
        expected = "".join(_written(part, contents) for part in parts)
        if written != expected:
            return f"the chat template changes contents: {first_difference(written, expected)}"
        if not written.startswith(prompt):
            return f"the chat template's prompt depends on contents: {first_difference(prompt, written)}"
        return None

    def pieces(
        self, parts: Sequence[Part], contents: Sequence[str], swallowing: bool
    ) -> tuple[tuple[Piece, ...], bool]:
        """The parts with their contents; and whether what follows begins after a token that takes white space."""
        found: list[Piece] = []
        for part in parts:
            if isinstance(part, Control):
                found.append(part)
                swallowing = part.name in self._swallowing
                continue
            text = part.fill(contents) if isinstance(part, Slot) else part.text
            text = text.lstrip(_TAKEN) if swallowing else text
            swallowing = swallowing and not text
            found += [Text(text)] if text else []
        return tuple(found), swallowing

    def _scaffold(self, node: Node, role: Role) -> Scaffold | str:
        """The scaffold of the message of ``role`` after the path ``node``, or what is wrong with it."""
        roles = (*node.roles, role)
        assert isinstance(node.found, Scaffold)
        try:
            full = self._system(roles) if role == "system" else self._render(roles)
            before = self._render(node.roles)[: node.found.length] if node.found.length else ""
            prompt = self._render(node.roles, generation=True) if role == "assistant" else before
        except DataError as error:
            return error.what
        number = len(roles)
        if not prompt.startswith(before):
            return f"the chat template's prompt does not go on from the turns before (turn {number}): {first_difference(before, prompt)}"
        if not full.startswith(prompt):
            what = (
                "prompt is not how its reply begins"
                if role == "assistant"
                else "earlier turns change when one is added"
            )
            return f"the chat template's {what} (turn {number}): {first_difference(prompt, full)}"
        return self._cut(roles, full, len(before), len(prompt), node.found)

    def _cut(self, roles: tuple[Role, ...], full: str, start: int, middle: int, before: Scaffold) -> Scaffold | str:
        """The parts of ``full``: given from ``start`` to ``middle``, produced up to the end token; or what is wrong."""
        marks = [(int(mark.group(2)), mark) for mark in _MARK.finditer(full)]
        if not full and roles[-1] == "system":
            return Scaffold()
        if sorted(number for number, _ in marks) != list(range(len(roles))):
            return f"the chat template does not write every turn exactly once ({len(roles)} turns): {show(full)!r}"
        end = len(full)
        if roles[-1] == "assistant":
            mark = next(mark for number, mark in marks if number == len(roles) - 1)
            close = self._controls.search(full, mark.end())
            if mark.start() < middle or close is None:
                what = (
                    "the reply stands before the end of the prompt"
                    if close
                    else "no token of the vocabulary ends a reply"
                )
                return f"the chat template cannot be trained on, {what}: {show(full)!r}"
            end = close.end()
        else:
            middle = end = self._goes_on(roles, full, max(mark.end() for _, mark in marks))
        if any(match.start() < cut < match.end() for match in self._controls.finditer(full) for cut in (start, middle)):
            return f"the chat template ends a turn within a token of the vocabulary: {show(full)!r}"
        given, produced = self._parts(full[start:middle]), self._parts(full[middle:end])
        swallowing = before.length > 0 and self._ends_swallowing(before)
        return Scaffold(given, produced, self._parts(full[end:]), end, swallowing)

    def _goes_on(self, roles: tuple[Role, ...], full: str, least: int) -> int:
        """How much of a rendering stays when a reply is asked for; some templates close a conversation that ends here."""
        try:
            prompt = self._render(roles, generation=True)
        except DataError:
            return len(full)
        common = _shared_length(full, prompt)
        if common in (len(full), 0):
            return len(full)
        ends = [control.end() for control in self._controls.finditer(full) if least <= control.end() <= common]
        return max(ends, default=len(full))

    def _ends_swallowing(self, before: Scaffold) -> bool:
        parts = (*before.given, *before.produced)
        last = max((index for index, part in enumerate(parts) if not isinstance(part, Text)), default=None)
        if last is None or not isinstance(control := parts[last], Control) or control.name not in self._swallowing:
            return False
        return all(isinstance(part, Text) and not part.text.strip() for part in parts[last + 1 :])

    def _system(self, roles: tuple[Role, ...]) -> str:
        """A system message by itself, or nothing if the template writes it only together with the question.

        Raises DataError if it takes none.
        """
        asked = self._render((*roles, "user"))
        try:
            alone = self._render(roles)
        except DataError:
            return ""
        return alone if _MARK.search(alone) and asked.startswith(alone) else ""

    def _render(self, roles: Sequence[Role], *, generation: bool = False) -> str:
        messages = [
            {"role": role, "content": f"{_SPACE}{_OPEN}{index}{_CLOSE}{_SPACE}"} for index, role in enumerate(roles)
        ]
        return self._template.render(messages, generation=generation)

    def _parts(self, text: str) -> tuple[Part, ...]:
        """A stretch of a marked rendering as parts."""
        found: list[Part] = []
        position = 0
        for mark in [*_MARK.finditer(text), None]:
            end = mark.start() if mark else len(text)
            for control in self._controls.finditer(text, position, end):
                found += [Text(text[position : control.start()]), Control(control.group())]
                position = control.end()
            found.append(Text(text[position:end]))
            if mark:
                found.append(Slot(int(mark.group(2)), left=not mark.group(1), right=not mark.group(3)))
                position = mark.end()
        return tuple(part for part in found if not isinstance(part, Text) or part.text)


def _written(part: Part, contents: Sequence[str]) -> str:
    if isinstance(part, Slot):
        return part.fill(contents)
    return part.text if isinstance(part, Text) else part.name


def _shared_length(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    pairs = zip(one, other, strict=False)
    return next((index for index, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))


def show(text: str) -> str:
    """A marked rendering for people."""
    return _MARK.sub(lambda mark: f"«turn {int(mark.group(2)) + 1}»", text)


def first_difference(one: str, other: str) -> str:
    """Both sides of the first place where two texts part, with some characters around it."""
    one, other = show(one), show(other)
    place = _shared_length(one, other)
    window = slice(max(place - _SEEN, 0), place + _SEEN)
    return f"{one[window]!r} against {other[window]!r}"
