"""The base class of all prompt formats, and the pieces into which a format splits a message."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from tunesmith.text.tokenizer.codec import IDENTITY, Codec
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tree import Message, Role


@dataclass(frozen=True, slots=True)
class Control:
    """A control token, which enters by its id.

    name: its text in the vocabulary, or ``bos``, ``eos``, ``pad`` for the token that the tokenizer calls so.
    optional: whether it is left out where the tokenizer has no such token; otherwise its absence is an error.
    """

    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of text. Adjacent pieces of text are encoded as one string.

    text: the characters.
    """

    text: str


Piece: TypeAlias = Control | TextPiece


@dataclass(frozen=True, slots=True)
class Split:
    """One message, split into what the model reads and what it writes.

    given: the pieces that are input of the model.
    produced: the pieces that the model must write after ``given``, including the end token; empty for most roles.
    predicted_by_previous: how many leading pieces of ``given`` are targets of the message before.
    """

    given: tuple[Piece, ...]
    produced: tuple[Piece, ...] = ()
    predicted_by_previous: int = 0


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """A reply, decoded from generated tokens.

    text: the reply without end token and without what the format writes around it.
    stopped: whether it ended with an end token; False if generation reached its length limit.
    """

    text: str
    stopped: bool


NextRoles: TypeAlias = Mapping[Role | None, tuple[Role, ...]]
"""The roles that may follow a role; the key None means the beginning of a conversation."""

SINGLE_TURN: NextRoles = {None: ("user",), "user": ("assistant",), "assistant": ()}
ALTERNATING: NextRoles = {None: ("system", "user"), "system": ("user",), "user": ("assistant",), "assistant": ("user",)}

UNWRITTEN_REPLY = Message("assistant", "?", trained=True)
"""The reply that a prompt asks for. Formats recognize it by identity and must not use its text. ``trained`` is True so
that in a tree of prompts the targets ``marked`` are exactly the unwritten replies."""


@dataclass(frozen=True, slots=True)
class Format(ABC):
    """A prompt format: a name, the split of a message, and the same prompt as a chat template.

    A subclass is a frozen dataclass. Its fields are the options that a recipe may give. It overrides the properties
    below, with a property or a class attribute, where the default does not hold.

    name: its key in ``FORMATS``.
    """

    name: ClassVar[str]

    @property
    def controls(self) -> tuple[str, ...]:
        """The tokens that the format adds to the vocabulary, in the order of their ids."""
        return ()

    @property
    def stops(self) -> tuple[str, ...]:
        """The names of the control tokens that end a reply."""
        return ("eos",)

    @property
    def next_roles(self) -> NextRoles:
        """Which roles may follow which."""
        return ALTERNATING

    @property
    def multi_turn(self) -> bool:
        """Whether a user may answer a reply."""
        return "user" in self.next_roles.get("assistant", ())

    @property
    def codec(self) -> Codec:
        """How contents are rewritten before encoding: ``split`` encodes with it, ``parse`` and streams decode."""
        return IDENTITY

    @property
    def bos(self) -> bool:
        """Whether a conversation begins with the bos token, if the tokenizer has one."""
        return False

    @property
    def opening(self) -> tuple[Piece, ...]:
        """The pieces before the first message. They are part of what the first message is given."""
        return (BEGIN,) if self.bos else ()

    @property
    def reply_continues_text(self) -> bool:
        """Whether a prompt ends with text, so that a reply is the continuation of a text and not its beginning."""
        question = Message("user", "?")
        prompt = (*self.split(question, ()).given, *self.split(UNWRITTEN_REPLY, (question,)).given)
        return bool(prompt) and isinstance(prompt[-1], TextPiece)

    @property
    def fault_advice(self) -> str:
        """What to do about a fault that ``find_fault`` finds."""
        return f"correct the record, or choose another prompt format than {self.name!r}"

    def find_fault(self, message: Message, before: Sequence[Message]) -> str | None:
        """Return why ``message`` cannot follow its ancestors ``before`` in this format, or None."""
        return find_order_fault(self, message, before)

    @abstractmethod
    def split(self, message: Message, before: Sequence[Message]) -> Split:
        """Split ``message`` after its ancestors ``before``. It is called only where ``find_fault`` returns None."""

    def is_given(self, message: Message) -> bool:
        """Whether options of the format leave a reply untrained that is trained otherwise."""
        return False

    def reply_text(self, message: Message, before: Sequence[Message]) -> str:
        """Return what ``parse`` returns for the trained tokens of a reply, except for what tokens cannot represent."""
        return message.text

    def parse(self, ids: Sequence[int], tokenizer: Tokenizer) -> ParsedReply:
        """Decode the tokens that were generated after a prompt."""
        raw = decode_reply(self, ids, tokenizer)
        return ParsedReply(self.clean_reply(self.codec.decode(raw.text)), raw.stopped)

    def clean_reply(self, text: str) -> str:
        """Return the decoded text of a reply without what ``split`` writes around it."""
        return text

    @abstractmethod
    def chat_template(self) -> str:
        """Return the format as a Jinja chat template for other tools, which cannot keep contents from becoming
        control tokens."""


BEGIN = Control("bos", optional=True)


def find_order_fault(format: Format, message: Message, before: Sequence[Message]) -> str | None:
    """Return what is wrong with the role of ``message`` after ``before``, or what has no place in it, or None.

    It is for formats without a place for tools and reasoning.
    """
    extra = (
        "a message of a tool"
        if message.role == "tool"
        else "definitions of tools"
        if message.tools
        else "tool calls"
        if message.tool_calls
        else "reasoning"
        if message.reasoning
        else None
    )
    if extra is not None:
        way_on = "text.format: tokenizer uses the chat template of a tokenizer, which may have one"
        return f"{extra}, but format {format.name!r} has no place for that; {way_on}"
    previous = before[-1].role if before else None
    if message.role in format.next_roles.get(previous, ()):
        return None
    if not format.multi_turn and message.role == "system":
        return f"a system message, but format {format.name!r} has no place for one"
    if not format.multi_turn and message.role == "user" and previous == "assistant":
        return f"a second instruction, but format {format.name!r} holds one instruction with its response"
    if previous is None:
        return f"a conversation that begins with a message of the {message.role}"
    if message.role == "system":
        return "a system message that is not the first message"
    joined = "; the option same_role: merge of the readers messages and sharegpt joins them"
    return f"a message of the {message.role} after one of the {previous}{joined if message.role == previous else ''}"


def with_context(message: Message, context: str) -> str:
    """Return the text of a message, followed by its context passage after a blank line if ``context`` is "keep"."""
    return f"{message.text}\n\n{message.context}" if message.context and context == "keep" else message.text


def decode_reply(format: Format, ids: Sequence[int], tokenizer: Tokenizer) -> ParsedReply:
    """Decode ``ids`` up to the first stop token, before codec and cleaning; other control tokens are left out."""
    ends = tokenizer.find_ids(format.stops)
    end = next((position for position, token in enumerate(ids) if token in ends), len(ids))
    text = tokenizer.decode(ids[:end], continuing=format.reply_continues_text)
    return ParsedReply(text, stopped=end < len(ids))
