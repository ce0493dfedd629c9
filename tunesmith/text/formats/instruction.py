"""Formats for one instruction with its response, and for plain text without markers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from tunesmith.text.formats.format import (
    ALTERNATING,
    SINGLE_TURN,
    Control,
    Format,
    NextRoles,
    ParsedReply,
    Piece,
    Split,
    TextPiece,
    find_order_fault,
    with_context,
)
from tunesmith.text.formats.template_text import write_template
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tree import Message

_TASK = "Below is an instruction that describes a task"
_REQUEST = "Write a response that appropriately completes the request."
_PLAIN_INTRODUCTION = f"{_TASK}. {_REQUEST}\n\n"
_INPUT_INTRODUCTION = f"{_TASK}, paired with an input that provides further context. {_REQUEST}\n\n"


@dataclass(frozen=True, slots=True)
class Dolly(Format):
    """The format of databricks dolly: an introduction, an instruction key, a response key and an end key.

    The response key contains its line break. A response is followed by a blank line and the end key; the tokenizer's
    bos and eos tokens are not used. Source: databrickslabs/dolly, ``training/consts.py``.
    """

    name: ClassVar[str] = "dolly"
    controls: ClassVar[tuple[str, ...]] = ("### End", "### Instruction:", "### Response:\n")
    stops: ClassVar[tuple[str, ...]] = ("### End",)
    next_roles: ClassVar[NextRoles] = SINGLE_TURN
    opening: ClassVar[tuple[Piece, ...]] = (TextPiece(_PLAIN_INTRODUCTION),)

    def find_fault(self, message: Message, before: Sequence[Message]) -> str | None:
        if not message.text and message.role in ("user", "assistant") and not message.tool_calls:
            return "an empty instruction" if message.role == "user" else "an empty response"
        return find_order_fault(self, message, before)

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        if message.role == "assistant":
            return Split((Control("### Response:\n"),), (TextPiece(message.text + "\n\n"), Control("### End")))
        context = f"Input:\n{message.context}\n\n" if message.context else ""
        return Split((*self.opening, Control("### Instruction:"), TextPiece(f"\n{message.text}\n\n{context}")))

    def parse(self, ids: Sequence[int], tokenizer: Tokenizer) -> ParsedReply:
        """Decode as the original pipeline does: up to the first end key, other control tokens by name, stripped."""
        end = tokenizer.control("### End")
        kept = list(ids[: list(ids).index(end)]) if end in ids else ids
        return ParsedReply(tokenizer.decode(kept, skip_controls=False).strip(), stopped=end in ids)

    def chat_template(self) -> str:
        user = (
            f"{{{{ {_PLAIN_INTRODUCTION!r} + '### Instruction:\\n' + message['content'] + '\\n\\n' }}}}"
            "{%- if message['context'] -%}{{ 'Input:\\n' + message['context'] + '\\n\\n' }}{%- endif -%}"
        )
        assistant = "{{ '### Response:\\n' + message['content'] + '\\n\\n### End' }}"
        return write_template(self, _user_or_assistant(user, assistant), generation_prompt="'### Response:\\n'")


@dataclass(frozen=True, slots=True)
class Alpaca(Format):
    """The prompts of Stanford Alpaca, with and without input. The keys are text; a reply ends with the eos token.

    bos: whether a conversation begins with the bos token, if the tokenizer has one.
    """

    bos: bool = True

    name: ClassVar[str] = "alpaca"
    next_roles: ClassVar[NextRoles] = SINGLE_TURN

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        if message.role == "assistant":
            return Split((TextPiece("### Response:"),), (TextPiece(message.text), Control("eos")))
        introduction = _INPUT_INTRODUCTION if message.context else _PLAIN_INTRODUCTION
        passage = f"### Input:\n{message.context}\n\n" if message.context else ""
        return Split((*self.opening, TextPiece(f"{introduction}### Instruction:\n{message.text}\n\n{passage}")))

    def chat_template(self) -> str:
        user = (
            f"{{{{ ({_INPUT_INTRODUCTION!r} if message['context'] else {_PLAIN_INTRODUCTION!r})"
            " + '### Instruction:\\n' + message['content'] + '\\n\\n' }}"
            "{%- if message['context'] -%}{{ '### Input:\\n' + message['context'] + '\\n\\n' }}{%- endif -%}"
        )
        assistant = "{{ '### Response:' + message['content'] + eos_token }}"
        return write_template(self, _user_or_assistant(user, assistant), generation_prompt="'### Response:'")


def _user_or_assistant(user: str, assistant: str) -> str:
    """Return the body of a chat template from the statements for a user's and for an assistant's message."""
    return "{%- if message['role'] == 'user' -%}" + user + "{%- else -%}" + assistant + "{%- endif -%}"


@dataclass(frozen=True, slots=True)
class Plain(Format):
    """Text without markers: messages are lines. A single assistant message is a document to learn.

    A reply ends with the tokenizer's eos token, if there is one. Messages of other roles lose white space at their end
    and end with one line break (with two of them before a reply, many tokenizers encode the prompt differently once the
    reply follows).

    bos: whether a conversation begins with the bos token, if the tokenizer has one.
    context: "keep" if the context passage of a message follows its text after a blank line, "drop" if it is left out.
    """

    bos: bool = True
    context: Literal["keep", "drop"] = "keep"

    name: ClassVar[str] = "plain"
    next_roles: ClassVar[NextRoles] = {**ALTERNATING, None: ("system", "user", "assistant")}

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        opening = () if before else self.opening
        if message.role == "assistant":
            return Split(opening, (TextPiece(message.text), Control("eos", optional=True)))
        return Split((*opening, TextPiece(with_context(message, self.context).rstrip() + "\n")))

    def chat_template(self) -> str:
        body = (
            "{%- if message['role'] == 'assistant' -%}{{ text + (eos_token if eos_token else '') }}"
            "{%- else -%}{{ text.rstrip() + '\\n' }}{%- endif -%}"
        )
        return write_template(self, body, context=self.context)
