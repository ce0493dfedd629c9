"""The format of FLAN-T5-Dolly: an instruction for the encoder, a response for the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from tunesmith.text.formats.format import (
    SINGLE_TURN,
    Control,
    Format,
    NextRoles,
    Split,
    TextPiece,
    find_order_fault,
)
from tunesmith.text.formats.template_text import write_template
from tunesmith.text.tokenizer.codec import Codec, WhiteSpaceMarks
from tunesmith.text.tree import Message


@dataclass(frozen=True, slots=True)
class T5Dolly(Format):
    """The encoder reads an instruction and an end token, the decoder writes the response and an end token.

    The codec (``WhiteSpaceMarks``) and the end tokens are those of flant5-dolly-xxl. It is not documented how the
    original joins instruction and context; here the encoder reads, before the codec,

        INSTRUCTION                                            without a context
        INSTRUCTION, an empty line, CONTEXT                    with one
        INSTRUCTION, an empty line, LABEL, line break, CONTEXT with one and the option ``label``

    so two ``<_LB_>`` separate instruction and passage. The token that the decoder starts with is not part of the
    format. An instruction without a word is refused; a reply may be empty.

    context: "keep" if the encoder reads the context passage, "drop" if it is left out.
    label: a line before the passage, such as ``Context:``.
    stray_spaces: "keep" if spaces that decoding leaves next to line breaks stay, as in the original.
    """

    context: Literal["keep", "drop"] = "keep"
    label: str = ""
    stray_spaces: Literal["keep", "drop"] = "keep"

    name: ClassVar[str] = "t5-dolly"
    next_roles: ClassVar[NextRoles] = SINGLE_TURN

    @property
    def codec(self) -> Codec:
        return WhiteSpaceMarks(self.stray_spaces)

    def find_fault(self, message: Message, before: Sequence[Message]) -> str | None:
        if message.role == "user" and not self.codec.encode(self._input(message)):
            return "an empty instruction"
        return find_order_fault(self, message, before)

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        if message.role == "assistant":
            return Split((), (TextPiece(self.codec.encode(message.text)), Control("eos")))
        return Split((TextPiece(self.codec.encode(self._input(message))), Control("eos")))

    def _input(self, message: Message) -> str:
        if not message.context or self.context == "drop":
            return message.text
        return f"{message.text}{self._separator()}{message.context}"

    def _separator(self) -> str:
        """Return what is between an instruction and its context passage."""
        return f"\n\n{self.label}\n" if self.label else "\n\n"

    def chat_template(self) -> str:
        """Return a template that writes what the encoder reads, codec included; a reply would follow the end token.

        It cannot invert the codec: other tools that generate with it get ``_LB_>`` and have to decode it. It cannot
        keep an ``</s>`` in a content from ending the input either.
        """
        passage = f"+ ({self._separator()!r} + message['context'] if message['context'] else '')"
        marked = "text.replace('\\n', ' <_LB_> ').replace('\\t', ' <_T_> ').split()"
        body = (
            "{%- if message['role'] == 'user' -%}"
            f"{{%- set text = text {passage if self.context == 'keep' else ''} -%}}"
            "{%- endif -%}"
            f"{{{{ {marked} | join(' ') + eos_token }}}}"
        )
        return write_template(self, body, context="drop")
