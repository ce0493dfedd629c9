"""Formats for one instruction with its response, and for text without any marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from tunesmith.text.formats.format import (
    ALTERNATING,
    SINGLE_TURN,
    TEMPLATE_FOOT,
    Control,
    Orders,
    Parsed,
    Piece,
    Split,
    Text,
    opening_token,
    order_objection,
    read_reply,
    template_head,
    template_opening,
    template_text,
    with_context,
)
from tunesmith.text.tokenizer.codec import AS_IT_IS, Codec
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tree import Message

_TASK = "Below is an instruction that describes a task"
_REQUEST = "Write a response that appropriately completes the request."
_PLAIN_INTRODUCTION = f"{_TASK}. {_REQUEST}\n\n"
_INPUT_INTRODUCTION = f"{_TASK}, paired with an input that provides further context. {_REQUEST}\n\n"


def single_turn_objection(name: str, message: Message, before: Sequence[Message]) -> str | None:
    """What is wrong with the place of ``message`` in a format that holds one instruction with its response, or None."""
    if message.role == "user" and before and before[-1].role == "assistant":
        return f"a second instruction, but format {name!r} holds one instruction with its response"
    if message.role == "system":
        return f"a system message, but format {name!r} has no place for one"
    return order_objection(SINGLE_TURN, message, before)


@dataclass(frozen=True, slots=True)
class Dolly:
    """The format of databricks dolly: an introduction, an instruction key, a response key and an end key.

    The response key contains its line break. A response is followed by an empty line and the end key; there is no
    begin or end token of the tokenizer. Source: databrickslabs/dolly, ``training/consts.py``.
    """

    name: ClassVar[str] = "dolly"
    controls: ClassVar[tuple[str, ...]] = ("### End", "### Instruction:", "### Response:\n")
    stops: ClassVar[tuple[str, ...]] = ("### End",)
    orders: ClassVar[Orders] = SINGLE_TURN
    multi_turn: ClassVar[bool] = False
    continues: ClassVar[bool] = False
    codec: ClassVar[Codec] = AS_IT_IS

    @property
    def opening(self) -> tuple[Piece, ...]:
        return (Text(_PLAIN_INTRODUCTION),)

    def objection(self, message: Message, before: Sequence[Message]) -> str | None:
        if not message.text and message.role != "system":
            return "an empty instruction" if message.role == "user" else "an empty response"
        return single_turn_objection(self.name, message, before)

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        if message.role == "assistant":
            produced = (Text(message.text + "\n\n"), Control("### End"))
            return Split((Control("### Response:\n"),), produced)
        context = f"Input:\n{message.context}\n\n" if message.context else ""
        return Split((*self.opening, Control("### Instruction:"), Text(f"\n{message.text}\n\n{context}")))

    def parse(self, ids: Sequence[int], tokenizer: Tokenizer) -> Parsed:
        """As the original pipeline: up to the first end key, other control tokens by name, stripped."""
        end = tokenizer.control("### End")
        kept = list(ids[: list(ids).index(end)]) if end in ids else ids
        return Parsed(tokenizer.decode(kept, skip_controls=False).strip(), stopped=end in ids)

    def chat_template(self) -> str:
        user = (
            f"{{{{ {_PLAIN_INTRODUCTION!r} + '### Instruction:\\n' + message['content'] + '\\n\\n' }}}}"
            "{%- if message['context'] -%}{{ 'Input:\\n' + message['context'] + '\\n\\n' }}{%- endif -%}"
        )
        assistant = "{{ '### Response:\\n' + message['content'] + '\\n\\n### End' }}"
        return _two_roles(self.name, user, assistant, "{{ '### Response:\\n' }}")


@dataclass(frozen=True, slots=True)
class Alpaca:
    """The prompts of Stanford Alpaca, with and without input; the keys are text and the reply ends with the eos token.

    bos: begin with the tokenizer's bos token, where it has one.
    """

    bos: bool = True

    name: ClassVar[str] = "alpaca"
    controls: ClassVar[tuple[str, ...]] = ()
    stops: ClassVar[tuple[str, ...]] = ("eos",)
    orders: ClassVar[Orders] = SINGLE_TURN
    multi_turn: ClassVar[bool] = False
    continues: ClassVar[bool] = True
    codec: ClassVar[Codec] = AS_IT_IS

    @property
    def opening(self) -> tuple[Piece, ...]:
        return opening_token(self.bos)

    def objection(self, message: Message, before: Sequence[Message]) -> str | None:
        return single_turn_objection(self.name, message, before)

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        if message.role == "assistant":
            return Split((Text("### Response:"),), (Text(message.text), Control("eos")))
        introduction = _INPUT_INTRODUCTION if message.context else _PLAIN_INTRODUCTION
        passage = f"### Input:\n{message.context}\n\n" if message.context else ""
        return Split((*self.opening, Text(f"{introduction}### Instruction:\n{message.text}\n\n{passage}")))

    def parse(self, ids: Sequence[int], tokenizer: Tokenizer) -> Parsed:
        return read_reply(ids, tokenizer, self.stops, self.continues)

    def chat_template(self) -> str:
        user = (
            f"{{{{ ({_INPUT_INTRODUCTION!r} if message['context'] else {_PLAIN_INTRODUCTION!r})"
            " + '### Instruction:\\n' + message['content'] + '\\n\\n' }}"
            "{%- if message['context'] -%}{{ '### Input:\\n' + message['context'] + '\\n\\n' }}{%- endif -%}"
        )
        assistant = "{{ '### Response:' + message['content'] + eos_token }}"
        return template_opening(self.bos) + _two_roles(self.name, user, assistant, "{{ '### Response:' }}")


def _two_roles(name: str, user: str, assistant: str, generation: str) -> str:
    return (
        f"{template_head(SINGLE_TURN, name)}"
        "{%- if message['role'] == 'user' -%}" + user + "{%- else -%}" + assistant + "{%- endif -%}"
        f"{TEMPLATE_FOOT}"
        "{%- if add_generation_prompt -%}" + generation + "{%- endif -%}"
    )


@dataclass(frozen=True, slots=True)
class Plain:
    """No marks: messages are lines. A conversation that is a single assistant message is a document to learn.

    A reply ends with the tokenizer's eos token, where it has one; what others say loses white space at its end and ends
    with one line break (two of them before a reply read differently to many tokenizers once the reply is there).
    bos: begin with the bos token, where there is one. context: what becomes of a passage (``keep``: after an empty line).
    """

    bos: bool = True
    context: Literal["keep", "drop"] = "keep"

    name: ClassVar[str] = "plain"
    controls: ClassVar[tuple[str, ...]] = ()
    stops: ClassVar[tuple[str, ...]] = ("eos",)
    orders: ClassVar[Orders] = {**ALTERNATING, None: ("system", "user", "assistant")}
    multi_turn: ClassVar[bool] = True
    continues: ClassVar[bool] = True
    codec: ClassVar[Codec] = AS_IT_IS

    @property
    def opening(self) -> tuple[Piece, ...]:
        return opening_token(self.bos)

    def objection(self, message: Message, before: Sequence[Message]) -> str | None:
        return order_objection(self.orders, message, before)

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        opening = () if before else self.opening
        if message.role == "assistant":
            return Split(opening, (Text(message.text), Control("eos", optional=True)))
        return Split((*opening, Text(with_context(message, self.context).rstrip() + "\n")))

    def parse(self, ids: Sequence[int], tokenizer: Tokenizer) -> Parsed:
        return read_reply(ids, tokenizer, self.stops, self.continues)

    def chat_template(self) -> str:
        return (
            f"{template_opening(self.bos)}{template_head(self.orders, self.name)}{template_text(self.context)}"
            "{%- if message['role'] == 'assistant' -%}{{ text + (eos_token if eos_token else '') }}"
            "{%- else -%}{{ text.rstrip() + '\\n' }}{%- endif -%}"
            f"{TEMPLATE_FOOT}"
        )
