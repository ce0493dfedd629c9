"""What a prompt format is made of: pieces, the split of a message into given and produced, and the format's contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

from tunesmith.text.tokenizer.codec import Codec
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tree import Message, Role


@dataclass(frozen=True, slots=True)
class Control:
    """A token that enters by its id.

    name: its text in the vocabulary, or ``bos``, ``eos``, ``pad`` for whatever the tokenizer calls so.
    optional: left out where the tokenizer has no such token, instead of being an error.
    """

    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """A stretch of text; neighbouring stretches are encoded as one string."""

    text: str


Piece: TypeAlias = Control | Text


@dataclass(frozen=True, slots=True)
class Split:
    """A message as the model meets it.

    given: what it reads. produced: what it must write after that, the end token included.
    foretold: how many leading pieces of ``given`` the message before is trained to predict.
    """

    given: tuple[Piece, ...]
    produced: tuple[Piece, ...] = ()
    predicted_by_previous: int = 0


@dataclass(frozen=True, slots=True)
class Parsed:
    """A reply read back from tokens. stopped: whether an end token closed it, or it just ran out."""

    text: str
    stopped: bool


Orders: TypeAlias = Mapping[Role | None, tuple[Role, ...]]  # which role may follow which; None: the beginning

SINGLE_TURN: Orders = {None: ("user",), "user": ("assistant",), "assistant": ()}
ALTERNATING: Orders = {None: ("system", "user"), "system": ("user",), "user": ("assistant",), "assistant": ("user",)}


UNWRITTEN = Message("assistant", "?", trained=True)
"""The reply that a prompt asks for: a format knows it by identity, and nothing of what it will be. Marked, so that the
targets ``marked`` are the unwritten replies of a tree of prompts."""


class Format(Protocol):
    """A prompt format.

    name: its key in ``FORMATS``. controls: tokens it adds to the vocabulary, in the order of their ids.
    stops: controls that end a reply. orders: which role may follow which. multi_turn: whether a reply can be answered.
    continues: whether a reply goes on in the middle of a text run (its header is text, not a control token).
    codec: how contents are rewritten around the tokenizer; ``split`` encodes, ``parse`` and streams decode.
    """

    name: ClassVar[str]

    @property
    def orders(self) -> Orders: ...

    @property
    def multi_turn(self) -> bool: ...

    @property
    def continues(self) -> bool: ...

    @property
    def codec(self) -> Codec: ...

    @property
    def controls(self) -> tuple[str, ...]: ...

    @property
    def stops(self) -> tuple[str, ...]: ...

    @property
    def opening(self) -> tuple[Piece, ...]:
        """What stands before the first message; part of what that message is given."""
        ...

    def objection(self, message: Message, before: Sequence[Message]) -> str | None:
        """Why ``message`` cannot follow ``before`` in this format, or None."""
        ...

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        """The pieces of ``message`` after its ancestors ``before``; asked only where there is no objection."""
        ...

    def parse(self, ids: Sequence[int], tokenizer: Tokenizer) -> Parsed:
        """Read the tokens that were generated after a prompt."""
        ...

    def chat_template(self) -> str:
        """The same prompt as a Jinja template for other tools; contents cannot be made inert there."""
        ...


def order_objection(orders: Orders, message: Message, before: Sequence[Message]) -> str | None:
    """What is wrong with the place of ``message`` after ``before``, or None."""
    previous = before[-1].role if before else None
    if message.role in orders.get(previous, ()):
        return None
    if previous is None:
        return f"a conversation that begins with a message of the {message.role}"
    if message.role == "system":
        return "a system message that is not the first message"
    return f"a message of the {message.role} after one of the {previous}"


def with_context(message: Message, context: str) -> str:
    """The text of a message, its passage after a blank line unless ``context`` is "drop"."""
    return f"{message.text}\n\n{message.context}" if message.context and context == "keep" else message.text


def opening_token(bos: bool) -> tuple[Piece, ...]:
    """The begin token, where it is wanted and the tokenizer has one."""
    return (Control("bos", optional=True),) if bos else ()


def read_reply(ids: Sequence[int], tokenizer: Tokenizer, stops: Sequence[str], continues: bool) -> Parsed:
    """The text up to the first of the controls ``stops``; control tokens inside it leave no trace."""
    ends = tokenizer.known_ids(stops)
    end = next((position for position, token in enumerate(ids) if token in ends), len(ids))
    return Parsed(tokenizer.decode(ids[:end], continuing=continues), stopped=end < len(ids))


def template_head(orders: Orders, name: str) -> str:
    """The beginning of the loop over messages of every chat template: it refuses what ``order_objection`` refuses."""
    table = ", ".join(f"'{before or ''}': {list(after)}" for before, after in orders.items())
    return (
        "{%- set follows = {" + table + "} -%}"
        "{%- set state = namespace(previous='') -%}"
        "{%- for message in messages -%}"
        "{%- if message['role'] not in follows[state.previous] -%}"
        "{{ raise_exception('prompt format " + name + ": a message of the ' + message['role'] + "
        "(' after one of the ' + state.previous if state.previous else ' at the beginning')) }}"
        "{%- endif -%}"
    )


def template_opening(bos: bool) -> str:
    """What ``opening_token`` gives, in a chat template."""
    return "{{ bos_token if bos_token else '' }}" if bos else ""


def template_text(context: str) -> str:
    """What ``with_context`` gives, as the variable ``text`` of a chat template."""
    return TEMPLATE_TEXT if context == "keep" else TEMPLATE_TEXT_WITHOUT_CONTEXT


TEMPLATE_TEXT = "{%- set text = message['content'] + ('\\n\\n' + message['context'] if message['context'] else '') -%}"
TEMPLATE_TEXT_WITHOUT_CONTEXT = "{%- set text = message['content'] -%}"
TEMPLATE_FOOT = "{%- set state.previous = message['role'] -%}{%- endfor -%}"
