"""The formats of three well-known families of chat models: Vicuna, Llama 2 and Zephyr."""

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

_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True, slots=True)
class Vicuna:
    """Vicuna v1.1: one line of text, ``SYSTEM USER: question ASSISTANT: reply``, eos, ``USER: ...``.

    A conversation without a system message begins with the sentence of the original. The space in front of a reply
    belongs to the reply. bos: begin with the tokenizer's bos token, where it has one. context: what becomes of a passage
    that a turn refers to (``keep``: after the text, behind an empty line).
    Source: lm-sys/FastChat, ``conversation.py``, template ``vicuna_v1.1``.
    """

    bos: bool = True
    context: Literal["keep", "drop"] = "keep"

    name: ClassVar[str] = "vicuna"
    controls: ClassVar[tuple[str, ...]] = ()
    stops: ClassVar[tuple[str, ...]] = ("eos",)
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
        said = with_context(message, self.context)
        if message.role == "assistant":
            return Split((Text("ASSISTANT:"),), (Text(f" {said}"), Control("eos")))
        if message.role == "system":
            return Split((*self.opening, Text(f"{said} ")))
        if before:
            return Split((Text(f"USER: {said} "),))
        return Split((*self.opening, Text(f"{_VICUNA_SYSTEM} USER: {said} ")))

    def parse(self, ids: Sequence[int], tokenizer: Tokenizer) -> Parsed:
        """The reply without the space in front of it."""
        found = read_reply(ids, tokenizer, self.stops, self.continues)
        return Parsed(found.text.removeprefix(" "), found.stopped)

    def chat_template(self) -> str:
        return (
            f"{template_opening(self.bos)}{template_head(self.orders, self.name)}{template_text(self.context)}"
            f"{{%- if not state.previous and message['role'] == 'user' -%}}{{{{ {_VICUNA_SYSTEM + ' '!r} }}}}{{%- endif -%}}"
            "{%- if message['role'] == 'system' -%}{{ text + ' ' }}"
            "{%- elif message['role'] == 'user' -%}{{ 'USER: ' + text + ' ' }}"
            "{%- else -%}{{ 'ASSISTANT: ' + text + eos_token }}{%- endif -%}"
            f"{TEMPLATE_FOOT}"
            "{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"
        )


@dataclass(frozen=True, slots=True)
class Llama2:
    """Llama 2 chat: every question between ``[INST]`` and ``[/INST]`` behind a bos token of its own, the reply, eos.

    A system message stands inside the first question, between ``<<SYS>>`` and ``<</SYS>>``. Contents lose the white space
    at both ends; a reply has one space before and one after it, which belong to it. context: as in ``Vicuna``.
    Source: facebookresearch/llama, ``generation.py``, ``chat_completion``.
    """

    context: Literal["keep", "drop"] = "keep"

    name: ClassVar[str] = "llama-2"
    controls: ClassVar[tuple[str, ...]] = ()
    stops: ClassVar[tuple[str, ...]] = ("eos",)
    orders: ClassVar[Orders] = ALTERNATING
    multi_turn: ClassVar[bool] = True
    continues: ClassVar[bool] = True
    codec: ClassVar[Codec] = AS_IT_IS

    @property
    def opening(self) -> tuple[Piece, ...]:
        return opening_token(True)

    def objection(self, message: Message, before: Sequence[Message]) -> str | None:
        return order_objection(self.orders, message, before)

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        """A system message has no tokens of its own: they are given with the question that follows it."""
        said = with_context(message, self.context)
        if message.role == "system":
            return Split(())
        if message.role == "assistant":
            return Split((), (Text(f" {said.strip()} "), Control("eos")))
        if before and before[-1].role == "system":
            said = f"<<SYS>>\n{with_context(before[-1], self.context)}\n<</SYS>>\n\n{said}"
        return Split((*self.opening, Text(f"[INST] {said.strip()} [/INST]")))

    def parse(self, ids: Sequence[int], tokenizer: Tokenizer) -> Parsed:
        """The reply without white space at its ends."""
        found = read_reply(ids, tokenizer, self.stops, self.continues)
        return Parsed(found.text.strip(), found.stopped)

    def chat_template(self) -> str:
        return (
            f"{template_head(self.orders, self.name)}{template_text(self.context)}"
            "{%- if message['role'] == 'system' -%}"
            "{%- set state.system = '<<SYS>>\\n' + text + '\\n<</SYS>>\\n\\n' -%}"
            "{%- elif message['role'] == 'user' -%}"
            "{%- set folded = state.system if state.previous == 'system' else '' -%}"
            "{{ (bos_token if bos_token else '') + '[INST] ' + (folded + text).strip() + ' [/INST]' }}"
            "{%- else -%}{{ ' ' + text.strip() + ' ' + eos_token }}{%- endif -%}"
            f"{TEMPLATE_FOOT}"
        )


@dataclass(frozen=True, slots=True)
class Zephyr:
    """Zephyr: role lines in plain text, and eos and a line break after every turn.

    The line break after eos belongs to the turn that follows, so there is none at the end of a conversation.
    bos: begin with the tokenizer's bos token, where it has one. context: as in ``Vicuna``.
    Source: the chat template of HuggingFaceH4/zephyr-7b-beta.
    """

    bos: bool = False
    context: Literal["keep", "drop"] = "keep"

    name: ClassVar[str] = "zephyr"
    controls: ClassVar[tuple[str, ...]] = ()
    stops: ClassVar[tuple[str, ...]] = ("eos",)
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
        said = (Text(with_context(message, self.context)), Control("eos"))
        header = (*start, Text(f"<|{message.role}|>\n"))
        return Split(header, said) if message.role == "assistant" else Split((*header, *said))

    def parse(self, ids: Sequence[int], tokenizer: Tokenizer) -> Parsed:
        return read_reply(ids, tokenizer, self.stops, self.continues)

    def chat_template(self) -> str:
        return (
            f"{template_opening(self.bos)}{template_head(self.orders, self.name)}{template_text(self.context)}"
            "{{ ('\\n' if state.previous else '') + '<|' + message['role'] + '|>\\n' + text + eos_token }}"
            f"{TEMPLATE_FOOT}"
            "{%- if add_generation_prompt -%}{{ ('\\n' if state.previous else '') + '<|assistant|>\\n' }}{%- endif -%}"
        )
