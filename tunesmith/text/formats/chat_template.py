"""The format ``tokenizer``: the chat template of a tokenizer as a prompt format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, ClassVar, Literal

from tunesmith.errors import DataError, RecipeError
from tunesmith.text.formats.format import (
    UNWRITTEN_REPLY,
    Control,
    Format,
    NextRoles,
    ParsedReply,
    Piece,
    Split,
    TextPiece,
    decode_reply,
    with_context,
)
from tunesmith.text.formats.template_engine import ChatTemplate, TemplateLimitError
from tunesmith.text.formats.template_messages import (
    REASONING_KEYS,
    Contents,
    ContentSlot,
    MessageForm,
    Shape,
    shape_of,
)
from tunesmith.text.formats.template_source import find_family, read_named
from tunesmith.text.formats.template_split import REPLY, USER, ShapeNode, TemplateSplitter, TurnTemplate
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tree import Message, Role, ToolCall

_ROLES: tuple[Role, ...] = ("system", "user", "assistant")
_SYSTEM, _THINKING = Shape("system"), Shape("assistant", reasoning=True)
_CALL = ToolCall("probe_tool", '{"probe_key": "probe_value"}', "a1b2c3d4e")
_TOOLS = json.dumps(
    [{"type": "function", "function": {"name": _CALL.name, "description": "?", "parameters": {"type": "object"}}}]
)
_CALLING = Shape("assistant", text=False, tool_calls=(_CALL,))
_RESULT = Shape("tool", name=_CALL.name, tool_call_id=_CALL.id)
_SHORTEST: Mapping[Role | None, tuple[Shape, ...]] = {
    None: (),
    "system": (_SYSTEM,),
    "user": (USER,),
    "assistant": (USER, REPLY),
}
"""The shortest conversation without tools that ends with a role; the key None means the beginning."""
_THINK_START, _THINK_END = "<think>", "</think>"
_ADVICE = "choose another prompt format; with this template the prompt of generation would differ from that of training"


@dataclass(frozen=True, slots=True)
class TokenizerTemplate(Format):
    """The Jinja chat template of a tokenizer. Contents stay text, whatever they contain.

    A template is accepted if its prompt is the beginning of its training text and if it writes earlier turns unchanged
    when turns are added. A reply ends with the first control token after it; what follows that is given with the next
    turn.

    template: the text of the template.
    tokens: JSON with the texts of ``bos_token``, ``eos_token``, ..., with the names of all control tokens
        (``controls``), of those that are not special in the tokenizer (``added``) and of those that strip the white
        space after them (``swallowing``). ``template_options`` reads it from a directory.
    context: "keep" if the context passage of a message follows its text after a blank line, "drop" if it is left out.
    train_reasoning: whether the reasoning of a reply is a target; otherwise it is given.
    train_tool_calls: whether replies that call tools are targets; otherwise they are given.

    Raises RecipeError for a template that is not accepted.
    """

    template: str
    tokens: str = "{}"
    context: Literal["keep", "drop"] = "keep"
    train_reasoning: bool = True
    train_tool_calls: bool = True
    stops: tuple[str, ...] = field(init=False, repr=False, compare=False)
    controls: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _splitter: TemplateSplitter = field(init=False, repr=False, compare=False)
    _reply: Shape = field(init=False, repr=False, compare=False)
    _ways: dict[tuple[Shape, ...], str] = field(init=False, repr=False, compare=False, default_factory=dict)

    name: ClassVar[str] = "tokenizer"

    def __post_init__(self) -> None:
        splitter = _open_splitter(self.template, self.tokens)
        object.__setattr__(self, "_splitter", splitter)
        object.__setattr__(self, "controls", tuple(read_tokens(self.tokens).get("added", ())))
        turns = {reply: splitter.node((USER, reply)).turn for reply in (REPLY, _THINKING)}
        usable = [reply for reply, turn in turns.items() if isinstance(turn, TurnTemplate)]
        if not usable:
            fault = turns[REPLY]
            assert isinstance(fault, str)
            raise RecipeError(fault + self._way_on(fault), where="text.format", advice=_ADVICE)
        object.__setattr__(self, "_reply", usable[0])
        object.__setattr__(self, "stops", tuple(self._find_stops()))

    @property
    def next_roles(self) -> NextRoles:
        """Which role may follow which, according to the template for the shortest conversations without tools."""
        return {
            previous: tuple(role for role in _ROLES if self._accepts((*shapes, Shape(role))))
            for previous, shapes in _SHORTEST.items()
            if self._accepts(shapes)
        }

    @property
    def multi_turn(self) -> bool:
        return self._accepts((*self._one_turn, *self._one_turn))

    @property
    def fault_advice(self) -> str:
        return "give another chat template (text.options.template or template_file), or choose another prompt format"

    @property
    def reply_continues_text(self) -> bool:
        contents = (Contents(""), Contents("?", "?"))
        reply = self._split(self._one_turn, contents)
        prompt = (*self._split((USER,), (Contents(""),)).given, *reply.given)
        return bool(prompt) and isinstance(prompt[-1], TextPiece) and isinstance(reply.produced[0], TextPiece)

    def find_fault(self, message: Message, before: Sequence[Message]) -> str | None:
        messages = (*before, message)
        shapes, contents = self._read(messages)
        node = self._splitter.node(shapes)
        if isinstance(node.turn, str):
            return node.turn + self._way_on(node.turn, shapes)
        return self._find_difference(node, contents, messages) or self._find_end_fault(node)

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        shapes, contents = self._read((*before, message))
        found = self._split(shapes, contents)
        if message.tool_calls and not self.train_tool_calls:
            return Split((*found.given, *found.produced))
        return found

    def is_given(self, message: Message) -> bool:
        return bool(message.tool_calls) and not self.train_tool_calls

    def reply_text(self, message: Message, before: Sequence[Message]) -> str:
        shapes, contents = self._read((*before, message))
        split = self._split(shapes, contents)
        return self._clean(_text(split.produced), stopped=True)

    def parse(self, ids: Sequence[int], tokenizer: Tokenizer) -> ParsedReply:
        """Decode a reply without the text that the template writes before and after it."""
        raw = decode_reply(self, ids, tokenizer)
        return ParsedReply(self._clean(raw.text, raw.stopped), raw.stopped)

    def chat_template(self) -> str:
        return self.template

    @property
    def _one_turn(self) -> tuple[Shape, ...]:
        return (USER, self._reply)

    def _clean(self, text: str, stopped: bool) -> str:
        """Return the text of a reply without what the template writes before and after the content of a plain one."""
        turn, contents = self._turn(self._one_turn), (Contents(""), Contents("", ""))
        parts = (*turn.reasoning, *turn.produced)
        slots = [index for index, part in enumerate(parts) if isinstance(part, ContentSlot)]
        first, last = parts[slots[0]], parts[slots[-1]]
        assert isinstance(first, ContentSlot)
        assert isinstance(last, ContentSlot)
        _, stripped = self._splitter.fill(turn.given, contents, turn.stripped)
        before, stripped = self._splitter.fill(parts[: slots[0]], contents, stripped)
        after, _ = self._splitter.fill(parts[slots[-1] + 1 :], contents, False)
        text = text.removeprefix(_text(before))
        if stopped:
            text = text.removesuffix(_text(after))
        text = text.lstrip() if first.left == "all" or stripped else text
        return text.rstrip() if last.right == "all" else text

    def _read(self, messages: Sequence[Message]) -> tuple[list[Shape], list[Contents]]:
        """Return shapes and contents of messages.

        A reply whose text holds its reasoning between marks has the shape of one with reasoning, if the template reads
        it that way.
        """
        shapes: list[Shape] = []
        contents: list[Contents] = []
        for number, message in enumerate(messages):
            shape, found = self._original(message)
            thinking = _find_thinking(message, found.text) if message.role == "assistant" else None
            if thinking is not None and not message.reasoning:
                plain = self._splitter.node((*shapes, shape))
                if isinstance(plain.turn, str) or self._find_difference(
                    plain, (*contents, found), messages[: number + 1]
                ):
                    other = Shape("assistant", bool(thinking.text), True, *_extras(message))
                    node = self._splitter.node((*shapes, other))
                    if isinstance(node.turn, TurnTemplate) and not self._find_difference(
                        node, (*contents, thinking), messages[: number + 1]
                    ):
                        shape, found = other, thinking
            shapes.append(shape)
            contents.append(found)
        return shapes, contents

    def _original(self, message: Message) -> tuple[Shape, Contents]:
        if message is UNWRITTEN_REPLY:
            return self._reply, Contents("?", "?")
        return shape_of(message), Contents(with_context(message, self.context), message.reasoning)

    def _find_difference(
        self, node: ShapeNode, contents: Sequence[Contents], messages: Sequence[Message]
    ) -> str | None:
        return self._splitter.find_difference(node, contents, [self._original(each) for each in messages])

    def _find_end_fault(self, node: ShapeNode) -> str | None:
        turn = node.turn
        if node.shapes[-1].role != "assistant" or not isinstance(turn, TurnTemplate):
            return None
        end = turn.produced[-1]
        assert isinstance(end, Control)
        if end.name in self.stops:
            return None
        return f"a reply that ends with {end.name!r}, which the chat template also writes inside of replies"

    def _find_stops(self) -> Iterator[str]:
        """Yield the tokens that end a reply and are in no reply."""
        calling = (USER, _CALLING)
        probes = (
            self._one_turn,
            (USER, _THINKING),
            (_SYSTEM, *self._one_turn),
            (*self._one_turn, *self._one_turn),
            calling,
            (*calling, _RESULT, self._reply),
        )
        turns = [turn for turn in (self._splitter.node(probe).turn for probe in probes) if not isinstance(turn, str)]
        replies = [(*turn.reasoning, *turn.produced) for turn in turns if turn.produced]
        inside = {part.name for reply in replies for part in reply[:-1] if isinstance(part, Control)}
        ends = dict.fromkeys(reply[-1].name for reply in replies if isinstance(reply[-1], Control))
        yield from (name for name in ends if name not in inside)

    def _way_on(self, fault: str, shapes: Sequence[Shape] = ()) -> str:
        """Return how a conversation can be used that the template refuses, as the end of a sentence."""
        if shapes and shapes[0].role == "system" and fault.startswith("the chat template raises"):
            rest = shapes[1:] or (USER,)
            if rest[0].role == "user" and self._accepts(rest):
                # A template that raises for system messages accepts them inside of the question.
                return "; text.options.system: first_user writes the system message before the first question"
        shapes = tuple(map(_outline, shapes)) or (USER, REPLY)
        if shapes not in self._ways:
            self._ways[shapes] = self._find_way(shapes)
        return self._ways[shapes]

    def _find_way(self, shapes: tuple[Shape, ...]) -> str:
        """Return which variable or which template of the family writes such conversations."""
        for name in self._splitter.free_variables():
            for value in (False, True):
                if isinstance(self._splitter.with_variable(name, value).node(shapes).turn, TurnTemplate):
                    return f"; text.options.variables: {{{name}: {str(value).lower()}}} lets the template write it"
        family = find_family(self.template)
        if family is not None:
            splitter = _open_splitter(read_named(family), self.tokens)
            if isinstance(splitter.node(shapes).turn, TurnTemplate):
                return f"; text.options.template: {family} is a template of this family that writes every turn alike"
        return ""

    def _accepts(self, shapes: Sequence[Shape]) -> bool:
        return isinstance(self._splitter.node(shapes).turn, TurnTemplate)

    def _turn(self, shapes: Sequence[Shape]) -> TurnTemplate:
        turn = self._splitter.node(shapes).turn
        assert isinstance(turn, TurnTemplate), turn
        return turn

    def _split(self, shapes: Sequence[Shape], contents: Sequence[Contents]) -> Split:
        turn = self._turn(shapes)
        given, stripped = self._splitter.fill(turn.given, contents, turn.stripped)
        reasoning, stripped = self._splitter.fill(turn.reasoning, contents, stripped)
        produced, _ = self._splitter.fill(turn.produced, contents, stripped)
        if self.train_reasoning:
            return Split(given, (*reasoning, *produced))
        return Split((*given, *reasoning), produced)


def _outline(shape: Shape) -> Shape:
    """Return a shape with the tools of a probe, so that few different ones are tried."""
    calls, tools = (_CALL,) * len(shape.tool_calls), _TOOLS if shape.tools else ""
    name, number = (_CALL.name if shape.name else ""), (_CALL.id if shape.tool_call_id else "")
    return replace(shape, tool_calls=calls, name=name, tool_call_id=number, tools=tools)


def _open_splitter(source: str, tokens: str) -> TemplateSplitter:
    """Compile a template. Raises RecipeError."""
    known = read_tokens(tokens)
    template = ChatTemplate(source, {key: value for key, value in known.items() if isinstance(value, str)})
    try:
        form = _find_form(template, source)
    except TemplateLimitError as error:  # found with the first messages, so it is not tried with others
        raise RecipeError(error.what, where="text.format", advice=_ADVICE) from error
    return TemplateSplitter(template, source, known.get("controls", ()), known.get("swallowing", ()), form)


def _find_thinking(message: Message, text: str) -> Contents | None:
    """Return the text of a reply without the reasoning between marks that it begins with, and that reasoning."""
    before, mark, after = text.partition(_THINK_END)
    start, _, reasoning = before.rpartition(_THINK_START)
    if not mark or start.strip() or _THINK_END in after:
        return None
    return Contents(after.lstrip("\n"), reasoning.strip("\n"))


def _extras(message: Message) -> tuple[tuple[ToolCall, ...], str, str, str]:
    return message.tool_calls, message.name, message.tool_call_id, message.tools


def _find_form(template: ChatTemplate, source: str) -> MessageForm:
    """Return the form of messages that a template reads, the most usual one if several are possible."""
    reasoning = next((key for key in REASONING_KEYS if _reads_key(source, key)), None)
    text, plain = Contents("probe_text"), MessageForm(reasoning)
    forms = (plain, replace(plain, parts=True))
    usual = next((form for form in forms if _writes(template, form, (USER,), text, ("probe_text",))), plain)
    wanted = ("probe_tool", "probe_key", "probe_value")
    for objects, empty in product((True, False), ("", None)):
        form = replace(usual, empty=empty, objects=objects)
        if _writes(template, form, (USER, _CALLING, _RESULT), text, wanted):
            return form
    return usual


def _writes(
    template: ChatTemplate, form: MessageForm, shapes: Sequence[Shape], contents: Contents, wanted: Sequence[str]
) -> bool:
    """Whether a template writes all texts that are wanted for messages in a form. Raises TemplateLimitError."""
    try:
        written = template.render([form.write(shape, contents) for shape in shapes])
    except TemplateLimitError:
        raise
    except DataError:
        return False
    return all(text in written for text in wanted)


def _reads_key(source: str, key: str) -> bool:
    return any(f"{mark}{key}{end}" in source for mark, end in (("'", "'"), ('"', '"'))) or any(
        f".{key}{end}" in source for end in " )}]|%.,\n-"
    )


def read_tokens(text: str) -> dict[str, Any]:
    """Parse the option ``tokens``. Raises RecipeError."""
    advice = "leave it out; it is taken from the tokenizer"
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"not JSON: {error}", where="text.options.tokens", advice=advice) from error
    keys = ("controls", "swallowing", "added")
    lists = [found.get(key, []) for key in keys] if isinstance(found, dict) else [None]
    if not all(isinstance(names, list) and all(isinstance(name, str) and name for name in names) for names in lists):
        raise RecipeError("not an object with names of tokens", where="text.options.tokens", advice=advice)
    return dict(found)


def _text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
