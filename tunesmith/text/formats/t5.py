"""The format of FLAN-T5-Dolly: an instruction for the encoder, a response for the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from tunesmith.text.formats.format import (
    SINGLE_TURN,
    TEMPLATE_FOOT,
    Control,
    Orders,
    Parsed,
    Piece,
    Split,
    Text,
    read_reply,
    template_head,
)
from tunesmith.text.formats.instruction import single_turn_objection
from tunesmith.text.tokenizer.codec import Codec, WhiteSpaceMarks
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tree import Message


@dataclass(frozen=True, slots=True)
class T5Dolly:
    """The encoder reads an instruction and its end token, the decoder writes the response and its end token.

    The codec (``WhiteSpaceMarks``) and the end tokens are those of flant5-dolly-xxl. How the original joined instruction
    and context is written down nowhere; here the encoder reads, before the codec,

        INSTRUCTION                                            without a context
        INSTRUCTION, an empty line, CONTEXT                    with one
        INSTRUCTION, an empty line, LABEL, line break, CONTEXT with one and the option ``label``

    so instruction and passage are parted by two ``<_LB_>``. The token that the decoder starts with is none of the format's.
    Only an instruction without a word is refused; a reply may be empty.

    context: whether a passage is read at all. label: a line in front of it, such as ``Context:``.
    stray_spaces: whether spaces that the codec's decoding leaves beside line breaks stay, as in the original.
    """

    context: Literal["keep", "drop"] = "keep"
    label: str = ""
    stray_spaces: Literal["keep", "drop"] = "keep"

    name: ClassVar[str] = "t5-dolly"
    controls: ClassVar[tuple[str, ...]] = ()
    stops: ClassVar[tuple[str, ...]] = ("eos",)
    orders: ClassVar[Orders] = SINGLE_TURN
    multi_turn: ClassVar[bool] = False
    continues: ClassVar[bool] = False
    opening: ClassVar[tuple[Piece, ...]] = ()

    @property
    def codec(self) -> Codec:
        return WhiteSpaceMarks(self.stray_spaces)

    def objection(self, message: Message, before: Sequence[Message]) -> str | None:
        if message.role == "user" and not self.codec.encode(self._input(message)):
            return "an empty instruction"
        return single_turn_objection(self.name, message, before)

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        if message.role == "assistant":
            return Split((), (Text(self.codec.encode(message.text)), Control("eos")))
        return Split((Text(self.codec.encode(self._input(message))), Control("eos")))

    def _input(self, message: Message) -> str:
        if not message.context or self.context == "drop":
            return message.text
        return f"{message.text}\n\n{self._label()}{message.context}"

    def _label(self) -> str:
        return f"{self.label}\n" if self.label else ""

    def parse(self, ids: Sequence[int], tokenizer: Tokenizer) -> Parsed:
        """The unknown token leaves no trace, and spaces stand as the tokenizer gives them before the codec reads them."""
        found = read_reply(ids, tokenizer, self.stops, self.continues)
        return Parsed(self.codec.decode(found.text), found.stopped)

    def chat_template(self) -> str:
        """It writes what the encoder reads, codec included; a reply would follow behind the end token.

        It cannot undo the codec: whoever generates with other tools gets ``_LB_>`` and has to read it back. Nor can it keep
        an ``</s>`` in a content from ending the input.
        """
        lead = f"\n\n{self._label()}"
        passage = f"+ ({lead!r} + message['context'] if message['context'] else '')"
        marked = "text.replace('\\n', ' <_LB_> ').replace('\\t', ' <_T_> ').split()"
        return (
            f"{template_head(SINGLE_TURN, self.name)}"
            "{%- set text = message['content'] -%}"
            "{%- if message['role'] == 'user' -%}"
            f"{{%- set text = text {passage if self.context == 'keep' else ''} -%}}"
            "{%- endif -%}"
            f"{{{{ {marked} | join(' ') + eos_token }}}}"
            f"{TEMPLATE_FOOT}"
        )
