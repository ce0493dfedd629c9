"""Formats for conversations with many turns: Tulu, ChatML, Vicuna, Llama 2 and Zephyr.

In all of them the option ``context`` is "keep" if the context passage of a message follows its text after a blank line,
and "drop" if it is left out; ``bos`` is whether a conversation begins with the bos token, if the tokenizer has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from tunesmith.text.formats.format import BEGIN, Control, Format, NextRoles, Piece, Split, TextPiece, with_context
from tunesmith.text.formats.template_text import write_template
from tunesmith.text.tree import Message

_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True, slots=True)
class Tulu(Format):
    """The format of Tulu: role lines in plain text; a reply ends with eos and a line break.

    The line break after eos is given with the next turn, so a conversation does not end with one. Users and assistants
    may follow each other in any order. A role line is never a target.

    bos, context: see the module.
    strip: whether white space is removed from both ends of contents (EasyLM does that, open-instruct does not).
    predict_line_break: whether the line break between a reply and the next turn is a target (in EasyLM it is, in
        open-instruct it is not).

    Source: hamishivi/EasyLM, ``data.py``.
    """

    bos: bool = True
    strip: bool = True
    predict_line_break: bool = False
    context: Literal["keep", "drop"] = "keep"

    name: ClassVar[str] = "tulu"
    next_roles: ClassVar[NextRoles] = {
        None: ("system", "user", "assistant"),
        "system": ("user", "assistant"),
        "user": ("user", "assistant"),
        "assistant": ("user", "assistant"),
    }

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        content = with_context(message, self.context)
        content = content.strip() if self.strip else content
        after_reply = bool(before) and before[-1].role == "assistant"
        start: tuple[Piece, ...] = self.opening if not before else (TextPiece("\n"),) if after_reply else ()
        predicted = int(after_reply and self.predict_line_break)
        if message.role == "assistant":
            return Split((*start, TextPiece("<|assistant|>\n")), (TextPiece(content), Control("eos")), predicted)
        return Split((*start, TextPiece(f"<|{message.role}|>\n{content}\n")), (), predicted)

    def chat_template(self) -> str:
        body = (
            "{{ ('\\n' if state.previous == 'assistant' else '') + '<|' + message['role'] + '|>\\n' }}"
            f"{{{{ {'text | trim' if self.strip else 'text'} }}}}"
            "{{ eos_token if message['role'] == 'assistant' else '\\n' }}"
        )
        prompt = "('\\n' if state.previous == 'assistant' else '') + '<|assistant|>\\n'"
        return write_template(self, body, context=self.context, generation_prompt=prompt)


@dataclass(frozen=True, slots=True)
class Chatml(Format):
    """ChatML: ``<|im_start|>role``, line break, text, ``<|im_end|>``, and a line break between turns.

    bos, context: see the module.
    """

    bos: bool = False
    context: Literal["keep", "drop"] = "keep"

    name: ClassVar[str] = "chatml"
    controls: ClassVar[tuple[str, ...]] = ("<|im_start|>", "<|im_end|>")
    stops: ClassVar[tuple[str, ...]] = ("<|im_end|>",)

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        start: tuple[Piece, ...] = (TextPiece("\n"),) if before else self.opening
        content = with_context(message, self.context)
        header = (*start, Control("<|im_start|>"))
        end = Control("<|im_end|>")
        if message.role == "assistant":
            return Split((*header, TextPiece("assistant\n")), (TextPiece(content), end))
        return Split((*header, TextPiece(f"{message.role}\n{content}"), end))

    def chat_template(self) -> str:
        body = (
            "{{ ('\\n' if state.previous else '') + '<|im_start|>' + message['role'] + '\\n' + text + '<|im_end|>' }}"
        )
        prompt = "('\\n' if state.previous else '') + '<|im_start|>assistant\\n'"
        return write_template(self, body, context=self.context, generation_prompt=prompt)


@dataclass(frozen=True, slots=True)
class Vicuna(Format):
    """Vicuna v1.1: one line of text, ``SYSTEM USER: question ASSISTANT: reply``, eos, ``USER: ...``.

    A conversation without a system message begins with the system sentence of the original. The space before a reply is
    produced with the reply.

    bos, context: see the module.

    Source: lm-sys/FastChat, ``conversation.py``, template ``vicuna_v1.1``.
    """

    bos: bool = True
    context: Literal["keep", "drop"] = "keep"

    name: ClassVar[str] = "vicuna"

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        content = with_context(message, self.context)
        if message.role == "assistant":
            return Split((TextPiece("ASSISTANT:"),), (TextPiece(f" {content}"), Control("eos")))
        if message.role == "system":
            return Split((*self.opening, TextPiece(f"{content} ")))
        if before:
            return Split((TextPiece(f"USER: {content} "),))
        return Split((*self.opening, TextPiece(f"{_VICUNA_SYSTEM} USER: {content} ")))

    def clean_reply(self, text: str) -> str:
        return text.removeprefix(" ")

    def chat_template(self) -> str:
        body = (
            "{%- if not state.previous and message['role'] == 'user' -%}"
            f"{{{{ {_VICUNA_SYSTEM + ' '!r} }}}}{{%- endif -%}}"
            "{%- if message['role'] == 'system' -%}{{ text + ' ' }}"
            "{%- elif message['role'] == 'user' -%}{{ 'USER: ' + text + ' ' }}"
            "{%- else -%}{{ 'ASSISTANT: ' + text + eos_token }}{%- endif -%}"
        )
        return write_template(self, body, context=self.context, generation_prompt="'ASSISTANT:'")


@dataclass(frozen=True, slots=True)
class Llama2(Format):
    """Llama 2 chat: every question between ``[INST]`` and ``[/INST]`` after a bos token, then the reply and eos.

    A system message is part of the first question, between ``<<SYS>>`` and ``<</SYS>>``. Contents lose the white space
    at both ends. A reply has one space before and one after it, which are produced with it.

    context: see the module.

    Source: facebookresearch/llama, ``generation.py``, ``chat_completion``.
    """

    context: Literal["keep", "drop"] = "keep"

    name: ClassVar[str] = "llama-2"
    opening: ClassVar[tuple[Piece, ...]] = (BEGIN,)

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        """Split a message. A system message has no pieces; they are given with the question after it."""
        content = with_context(message, self.context)
        if message.role == "system":
            return Split(())
        if message.role == "assistant":
            return Split((), (TextPiece(f" {content.strip()} "), Control("eos")))
        if before and before[-1].role == "system":
            content = f"<<SYS>>\n{with_context(before[-1], self.context)}\n<</SYS>>\n\n{content}"
        return Split((BEGIN, TextPiece(f"[INST] {content.strip()} [/INST]")))

    def clean_reply(self, text: str) -> str:
        return text.strip()

    def chat_template(self) -> str:
        body = (
            "{%- if message['role'] == 'system' -%}"
            "{%- set state.system = '<<SYS>>\\n' + text + '\\n<</SYS>>\\n\\n' -%}"
            "{%- elif message['role'] == 'user' -%}"
            "{%- set folded = state.system if state.previous == 'system' else '' -%}"
            "{{ (bos_token if bos_token else '') + '[INST] ' + (folded + text).strip() + ' [/INST]' }}"
            "{%- else -%}{{ ' ' + text.strip() + ' ' + eos_token }}{%- endif -%}"
        )
        return write_template(self, body, context=self.context)


@dataclass(frozen=True, slots=True)
class Zephyr(Format):
    """Zephyr: role lines in plain text; every turn ends with eos and a line break.

    The line break after eos is given with the next turn, so a conversation does not end with one.

    bos, context: see the module.

    Source: the chat template of HuggingFaceH4/zephyr-7b-beta.
    """

    bos: bool = False
    context: Literal["keep", "drop"] = "keep"

    name: ClassVar[str] = "zephyr"

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        start: tuple[Piece, ...] = (TextPiece("\n"),) if before else self.opening
        header = (*start, TextPiece(f"<|{message.role}|>\n"))
        turn = (TextPiece(with_context(message, self.context)), Control("eos"))
        return Split(header, turn) if message.role == "assistant" else Split((*header, *turn))

    def chat_template(self) -> str:
        body = "{{ ('\\n' if state.previous else '') + '<|' + message['role'] + '|>\\n' + text + eos_token }}"
        prompt = "('\\n' if state.previous else '') + '<|assistant|>\\n'"
        return write_template(self, body, context=self.context, generation_prompt=prompt)
