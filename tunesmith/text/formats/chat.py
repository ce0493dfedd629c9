"""Formats for conversations with many turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from tunesmith.text.formats.format import (
    ALTERNATING,
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


@dataclass(frozen=True, slots=True)
class Tulu:
    """The format of Tulu: role lines in plain text, a reply ends with eos and a line break.

    The line break after eos belongs to the turn that follows, so there is none at the end of a conversation. Every order
    of users and assistants is allowed. A role line is never a target.
    bos: begin with the tokenizer's bos token, where it has one.
    strip: take white space off both ends of contents (EasyLM does, open-instruct does not).
    foretell_line_break: after a reply that is followed by another turn, the line break is a target (EasyLM trains it,
    open-instruct does not). context: as in ``Oasst``.
    Source: hamishivi/EasyLM, ``data.py``.
    """

    bos: bool = True
    strip: bool = True
    foretell_line_break: bool = False
    context: Literal["keep", "drop"] = "keep"

    name: ClassVar[str] = "tulu"
    controls: ClassVar[tuple[str, ...]] = ()
    stops: ClassVar[tuple[str, ...]] = ("eos",)
    orders: ClassVar[Orders] = {
        None: ("system", "user", "assistant"),
        "system": ("user", "assistant"),
        "user": ("user", "assistant"),
        "assistant": ("user", "assistant"),
    }
    multi_turn: ClassVar[bool] = True
    continues: ClassVar[bool] = True
    codec: ClassVar[Codec] = AS_IT_IS

    @property
    def opening(self) -> tuple[Piece, ...]:
        return opening_token(self.bos)

    def objection(self, message: Message, before: Sequence[Message]) -> str | None:
        return order_objection(self.orders, message, before)

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        said = with_context(message, self.context)
        said = said.strip() if self.strip else said
        after_reply = bool(before) and before[-1].role == "assistant"
        start: tuple[Piece, ...] = self.opening if not before else (Text("\n"),) if after_reply else ()
        predicted_by_previous = int(after_reply and self.foretell_line_break)
        if message.role == "assistant":
            return Split((*start, Text("<|assistant|>\n")), (Text(said), Control("eos")), predicted_by_previous)
        return Split((*start, Text(f"<|{message.role}|>\n{said}\n")), (), predicted_by_previous)

    def parse(self, ids: Sequence[int], tokenizer: Tokenizer) -> Parsed:
        return read_reply(ids, tokenizer, self.stops, self.continues)

    def chat_template(self) -> str:
        return (
            f"{template_opening(self.bos)}{template_head(self.orders, self.name)}{template_text(self.context)}"
            "{{ ('\\n' if state.previous == 'assistant' else '') + '<|' + message['role'] + '|>\\n' }}"
            f"{{{{ {'text | trim' if self.strip else 'text'} }}}}"
            "{{ eos_token if message['role'] == 'assistant' else '\\n' }}"
            f"{TEMPLATE_FOOT}"
            "{%- if add_generation_prompt -%}"
            "{{ ('\\n' if state.previous == 'assistant' else '') + '<|assistant|>\\n' }}"
            "{%- endif -%}"
        )


@dataclass(frozen=True, slots=True)
class Chatml:
    """ChatML: ``<|im_start|>role``, line break, text, ``<|im_end|>``, and a line break between turns.

    bos: begin with the tokenizer's bos token, where it has one. context: as in ``Oasst``.
    """

    bos: bool = False
    context: Literal["keep", "drop"] = "keep"

    name: ClassVar[str] = "chatml"
    controls: ClassVar[tuple[str, ...]] = ("<|im_start|>", "<|im_end|>")
    stops: ClassVar[tuple[str, ...]] = ("<|im_end|>",)
    orders: ClassVar[Orders] = ALTERNATING
    multi_turn: ClassVar[bool] = True
    continues: ClassVar[bool] = True
    codec: ClassVar[Codec] = AS_IT_IS

    @property
    def opening(self) -> tuple[Piece, ...]:
        return opening_token(self.bos)

    def objection(self, message: Message, before: Sequence[Message]) -> str | None:
        return order_objection(self.orders, message, before)

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        start: tuple[Piece, ...] = (Text("\n"),) if before else self.opening
        said = with_context(message, self.context)
        if message.role == "assistant":
            return Split((*start, Control("<|im_start|>"), Text("assistant\n")), (Text(said), Control("<|im_end|>")))
        return Split((*start, Control("<|im_start|>"), Text(f"{message.role}\n{said}"), Control("<|im_end|>")))

    def parse(self, ids: Sequence[int], tokenizer: Tokenizer) -> Parsed:
        return read_reply(ids, tokenizer, self.stops, self.continues)

    def chat_template(self) -> str:
        return (
            f"{template_opening(self.bos)}{template_head(self.orders, self.name)}{template_text(self.context)}"
            "{{ ('\\n' if state.previous else '') + '<|im_start|>' + message['role'] + '\\n' + text + '<|im_end|>' }}"
            f"{TEMPLATE_FOOT}"
            "{%- if add_generation_prompt -%}"
            "{{ ('\\n' if state.previous else '') + '<|im_start|>assistant\\n' }}"
            "{%- endif -%}"
        )
