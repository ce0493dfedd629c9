"""Finds what a chat template writes around the contents of messages, by rendering it with markers as contents.

The text around the contents is assumed to depend only on the shapes of the messages, so it is found once for every
sequence of shapes and kept in a tree of shapes. ``TemplateSplitter.find_difference`` renders the true contents to
detect a template for which that is not so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field

from tunesmith.errors import DataError
from tunesmith.text.formats.format import Control, Piece, TextPiece
from tunesmith.text.formats.template_engine import ChatTemplate
from tunesmith.text.formats.template_faults import (
    describe_difference,
    find_marker_fault,
    shared_prefix_length,
    shorten_rendering,
)
from tunesmith.text.formats.template_messages import (
    MARKER,
    SPACE,
    Contents,
    ContentSlot,
    MessageForm,
    Part,
    Shape,
    Shield,
    Stripped,
    TemplatePiece,
    marker,
    tools_of,
    unshield,
)
from tunesmith.text.formats.template_source import free_variables

# What a token with the flag ``rstrip`` strips: Unicode's white space, without four separators that Python adds.
_STRIPPED = "".join(
    character for character in map(chr, range(0x3001)) if character.isspace() and character not in "\x1c\x1d\x1e\x1f"
)
_CHANGES_BREAKS = re.compile(r"strip\(\s*['\"](\\n|\n)['\"]\s*\)|tojson")
_ENDS: Mapping[str, Stripped] = {"\n": "", "": "breaks", "\\n": "json"}
"""What is left of a line break at the end of a content -> what the template does to that end."""
_MAX_NODES = 50_000  # tool calls make most shapes unique, so the tree is emptied when it has that many
_KEPT: tuple[Stripped, Stripped] = ("", "")
USER, REPLY = Shape("user"), Shape("assistant")


@dataclass(frozen=True, slots=True)
class TurnTemplate:
    """What the template writes for the last message of a sequence of shapes.

    given: as in ``Split``.
    reasoning, produced: what a reply produces, the part up to the end of its reasoning and the rest.
    tail: what the template writes after the end token of a reply, or at the end of a conversation; if it is still there
        when a message is added, it is part of what that message is given.
    length: characters of the rendering with markers up to the end of ``produced``.
    stripped: whether the message begins after a token that strips the white space after it.
    """

    given: tuple[TemplatePiece, ...] = ()
    reasoning: tuple[TemplatePiece, ...] = ()
    produced: tuple[TemplatePiece, ...] = ()
    tail: tuple[TemplatePiece, ...] = ()
    length: int = 0
    stripped: bool = False


@dataclass(slots=True)
class ShapeNode:
    """A sequence of shapes in the tree of all sequences.

    parent: the sequence without its last shape; None for the empty one.
    shapes: the sequence.
    turn: what the template writes for the last message, or why the template cannot be used for it.
    children: the sequences with one more shape.
    """

    parent: ShapeNode | None
    shapes: tuple[Shape, ...]
    turn: TurnTemplate | str
    children: dict[Shape, ShapeNode] = field(default_factory=dict)


class TemplateSplitter:
    """The turn templates of a chat template, by shapes.

    template: the compiled chat template.
    source: its text.
    controls: the names of control tokens.
    rstrip: the names of those that strip the white space after them.
    form: how the template wants its messages.
    """

    def __init__(
        self, template: ChatTemplate, source: str, controls: Sequence[str], rstrip: Sequence[str], form: MessageForm
    ) -> None:
        self._template = template
        self._form = form
        self._shield = Shield(controls)
        self._controls = self._shield.pattern
        self._rstrip = frozenset(rstrip)
        self._changes_breaks = bool(_CHANGES_BREAKS.search(source))
        self._root = ShapeNode(None, (), TurnTemplate())
        self._nodes = 0

    def node(self, shapes: Sequence[Shape]) -> ShapeNode:
        """Return the node of a sequence of shapes, or of the first prefix of it that the template refuses."""
        if self._nodes > _MAX_NODES:
            self._root.children.clear()
            self._nodes = 0
        node = self._root
        for shape in shapes:
            if isinstance(node.turn, str):
                return node
            if shape not in node.children:
                node.children[shape] = ShapeNode(node, (*node.shapes, shape), self._find_turn(node, shape))
                self._nodes += 1
            node = node.children[shape]
        return node

    def with_variable(self, name: str, value: bool) -> TemplateSplitter:
        """Return a splitter of the same template with a value for one of its variables."""
        found = copy(self)
        found._template = self._template.with_variable(name, value)
        found._root, found._nodes = ShapeNode(None, (), TurnTemplate()), 0
        return found

    def free_variables(self) -> list[str]:
        """Return the names of the variables that a recipe may give the template."""
        return free_variables(self._template)

    def find_difference(
        self, node: ShapeNode, contents: Sequence[Contents], originals: Sequence[tuple[Shape, Contents]]
    ) -> str | None:
        """Return how the rendering of the true messages differs from the contents in their slots, or None.

        originals: the messages as they are, whose shapes may be others than those of the node.
        """
        assert isinstance(node.turn, TurnTemplate)
        if not node.turn.length:
            return None  # a system message that is written together with the question
        messages = [self._form.write(shape, found) for shape, found in originals]
        tools = tools_of([shape for shape, _ in originals])
        replies = node.shapes[-1].role == "assistant"
        try:
            written = self._template.render(messages, tools=tools)
            prompt = self._template.render(messages[:-1], tools=tools, generation=True) if replies else ""
        except DataError as error:
            return error.what
        turns: list[TurnTemplate] = []
        ancestor: ShapeNode | None = node
        while ancestor is not None:
            assert isinstance(ancestor.turn, TurnTemplate)
            turns.append(ancestor.turn)
            ancestor = ancestor.parent
        parts = [part for turn in reversed(turns) for part in (*turn.given, *turn.reasoning, *turn.produced)]
        expected = "".join(_written(part, contents) for part in (*parts, *node.turn.tail))
        if written != expected:
            return f"the chat template changes contents: {describe_difference(written, expected)}"
        if not written.startswith(prompt):
            return f"the chat template's prompt depends on contents: {describe_difference(prompt, written)}"
        return None

    def fill(
        self, parts: Sequence[TemplatePiece], contents: Sequence[Contents], stripped: bool
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

    def _find_turn(self, node: ShapeNode, shape: Shape) -> TurnTemplate | str:
        """Return the turn template of a message of ``shape`` after ``node``, or why there is none."""
        shapes = (*node.shapes, shape)
        assert isinstance(node.turn, TurnTemplate)
        if shape.reasoning and self._form.reasoning is None:
            return "the chat template has no place for reasoning"
        try:
            full = self._render_system(shapes) if shape.role == "system" else self._render(shapes)
            before = self._render(node.shapes)[: node.turn.length] if node.turn.length else ""
            prompt = self._render(node.shapes, generation=True) if shape.role == "assistant" else before
        except DataError as error:
            return error.what
        turn = f"(turn {len(shapes)})"
        if not prompt.startswith(before):
            difference = describe_difference(before, prompt)
            return f"the chat template's prompt does not continue the turns before it {turn}: {difference}"
        if not full.startswith(prompt):
            reply = shape.role == "assistant" and full.startswith(before)
            what = "prompt is not how its reply begins" if reply else "earlier turns change when one is added"
            return f"the chat template's {what} {turn}: {describe_difference(prompt, full)}"
        return self._split_turn(shapes, full, len(before), len(prompt), node.turn)

    def _split_turn(
        self, shapes: tuple[Shape, ...], full: str, start: int, middle: int, before: TurnTemplate
    ) -> TurnTemplate | str:
        """Split the rendering ``full``: given from ``start`` to ``middle``, produced up to the end token.

        Returns why that is impossible if it is.
        """
        last = shapes[-1]
        if not full and last.role == "system":
            return TurnTemplate()
        places = {int(found.group(2)): found for found in MARKER.finditer(full)}
        if fault := find_marker_fault(shapes, full):
            return fault
        reasoning = middle
        if last.role == "assistant":
            end = self._find_reply_end(shapes, full, middle, places)
            if end is None:
                return f"no token of the vocabulary ends a reply of the chat template: {shorten_rendering(full)}"
            if any(found.start() < middle for key, found in places.items() if key // 2 == len(shapes) - 1):
                return f"the chat template's reply is not after the end of the prompt: {shorten_rendering(full)}"
            if last.reasoning:
                reasoning = self._find_reasoning_end(shapes, full, places)
        else:
            least = max((found.end() for found in places.values()), default=0)
            middle = reasoning = end = self._find_end(shapes, full, least)
        controls = list(self._controls.finditer(full))
        if any(found.start() < cut < found.end() for found in controls for cut in (start, middle, reasoning)):
            return f"the chat template ends a turn within a token of the vocabulary: {shorten_rendering(full)}"
        strips = self._find_break_strips(shapes, full)
        given, thought, produced, tail = (
            self._parse(full[one:other], strips)
            for one, other in ((start, middle), (middle, reasoning), (reasoning, end), (end, len(full)))
        )
        stripped = before.length > 0 and self._ends_stripping(before)
        return TurnTemplate(given, thought, produced, tail, end, stripped)

    def _find_reply_end(
        self, shapes: tuple[Shape, ...], full: str, middle: int, places: dict[int, re.Match[str]]
    ) -> int | None:
        """Return the end of the token that ends a reply, or None.

        It is the first control token after the last content. After tool calls, which may contain control tokens, it is
        the last one that is still there when a result of the tool follows.
        """
        last = shapes[-1]
        if not last.tool_calls:
            written = [found.end() for key, found in places.items() if key // 2 == len(shapes) - 1]
            close = self._controls.search(full, max(written, default=middle))
            return None if close is None else close.end()
        call = last.tool_calls[-1]
        try:
            extended = self._render((*shapes, Shape("tool", name=call.name, tool_call_id=call.id)))
        except DataError:
            extended = full
        common = shared_prefix_length(full, extended)
        ends = [close.end() for close in self._controls.finditer(full, middle)]
        return max((end for end in ends if end <= common), default=max(ends, default=None))

    def _find_reasoning_end(self, shapes: tuple[Shape, ...], full: str, places: dict[int, re.Match[str]]) -> int:
        """Return the end of what the template writes after the reasoning of the last message and before the rest."""
        number = 2 * len(shapes) - 2
        if shapes[-1].text:
            return places[number].start()
        try:
            other = self._render((*shapes[:-1], Shape("assistant", reasoning=True, tools=shapes[-1].tools)))
        except DataError:
            return places[number + 1].end()
        found = {int(place.group(2)): place for place in MARKER.finditer(other)}
        if number not in found or number + 1 not in found:
            return places[number + 1].end()
        start, between = places[number + 1].end(), other[found[number + 1].end() : found[number].start()]
        return start + shared_prefix_length(full[start:], between)

    def _find_end(self, shapes: tuple[Shape, ...], full: str, least: int) -> int:
        """Return how many characters of a rendering stay when a reply or a result of a tool follows.

        Some templates write an end of the conversation, which a longer conversation does not have there.
        least: the end of the last content.
        """
        common = len(full)
        tool = shapes[-1].role == "tool"
        for added, generation in (((), True), ((shapes[-1],), False))[: 2 if tool else 1]:
            try:
                longer = self._render((*shapes, *added), generation=generation)
            except DataError:
                continue
            common = min(common, shared_prefix_length(full, longer))
        if common in (len(full), 0):
            return len(full)
        controls = list(self._controls.finditer(full))
        if tool and common >= least:
            return min((found.start() for found in controls if found.start() < common < found.end()), default=common)
        ends = [found.end() for found in controls if least <= found.end() <= common]
        return max(ends, default=len(full))

    def _ends_stripping(self, before: TurnTemplate) -> bool:
        """Whether only white space follows the last control token of a turn, and that token strips it."""
        for part in reversed((*before.given, *before.reasoning, *before.produced)):
            if isinstance(part, Control):
                return part.name in self._rstrip
            if isinstance(part, ContentSlot) or part.text.strip():
                return False
        return False

    def _render_system(self, shapes: tuple[Shape, ...]) -> str:
        """Render a system message alone; '' if the template writes it only together with the question.

        Raises DataError if the template accepts no system message.
        """
        asked = self._render((*shapes, USER))
        try:
            alone = self._render(shapes)
        except DataError:
            return ""
        return alone if MARKER.search(alone) and asked.startswith(alone) else ""

    def _render(self, shapes: Sequence[Shape], *, generation: bool = False, around: str = SPACE) -> str:
        """Render messages with these shapes whose contents are markers."""
        change = self._shield.protect
        messages = [
            self._form.write(shape, Contents(marker(index, "text", around), marker(index, "reasoning", around)), change)
            for index, shape in enumerate(shapes)
        ]
        return self._template.render(messages, tools=tools_of(shapes, change), generation=generation)

    def _find_break_strips(self, shapes: Sequence[Shape], full: str) -> dict[int, tuple[Stripped, Stripped]]:
        """Return for the number of every marker what the template does to line breaks at its ends."""
        if not self._changes_breaks:
            return {}
        broken = self._render(shapes, around="\n")
        first, second = (MARKER.sub("\ue003", text).split("\ue003") for text in (full, broken))
        numbers = [int(found.group(2)) for found in MARKER.finditer(full)]
        if len(first) != len(second):
            return {}
        sides: dict[tuple[int, int], Stripped] = {}
        for place, (text, other) in enumerate(zip(first, second, strict=True)):
            found = ((one, two) for one in _ENDS for two in _ENDS if one + text + two == other)
            one, two = next(found, ("\n", "\n"))
            if place:
                sides[numbers[place - 1], 1] = _ENDS[one]
            if place < len(numbers):
                sides[numbers[place], 0] = _ENDS[two]
        return {number: (sides[number, 0], sides[number, 1]) for number in numbers}

    def _parse(self, text: str, strips: dict[int, tuple[Stripped, Stripped]]) -> tuple[TemplatePiece, ...]:
        """Parse a part of a rendering with markers. strips: as ``_find_break_strips`` returns it."""
        found: list[TemplatePiece] = []
        position = 0
        for place in [*MARKER.finditer(text), None]:
            end = place.start() if place else len(text)
            for control in self._controls.finditer(text, position, end):
                found += [TextPiece(unshield(text[position : control.start()])), Control(control.group())]
                position = control.end()
            found.append(TextPiece(unshield(text[position:end])))
            if place:
                number = int(place.group(2))
                left, right = strips.get(number, _KEPT)
                left = left if place.group(1) else "all"
                right = right if place.group(3) else "all"
                part: Part = "reasoning" if number % 2 else "text"
                found.append(ContentSlot(number // 2, part, left, right))
                position = place.end()
        return tuple(part for part in found if not isinstance(part, TextPiece) or part.text)


def _written(part: TemplatePiece, contents: Sequence[Contents]) -> str:
    if isinstance(part, ContentSlot):
        return part.fill(contents)
    return part.text if isinstance(part, TextPiece) else part.name
