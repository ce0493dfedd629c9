"""The prompt formats of Open-Assistant: role tokens, tags that describe the reply that follows, a fixed prefix."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from tunesmith.draws import label_draws
from tunesmith.errors import RecipeError
from tunesmith.text.formats.format import (
    ALTERNATING,
    TEMPLATE_FOOT,
    UNWRITTEN,
    Control,
    Orders,
    Parsed,
    Piece,
    Split,
    Text,
    order_objection,
    read_reply,
    template_head,
    template_text,
    with_context,
)
from tunesmith.text.tokenizer.codec import AS_IT_IS, Codec
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tree import Message

Version = Literal["v2.5", "v2"]

_ROLES: Mapping[Version, Mapping[str, str]] = {
    "v2.5": {"system": "<|system|>", "user": "<|prompter|>", "assistant": "<|assistant|>"},
    "v2": {"system": "<prefix>", "user": "<human>", "assistant": "<bot>"},
}
_ENDS: Mapping[Version, Mapping[str, str]] = {
    "v2.5": {"system": "eos", "user": "eos", "assistant": "eos"},
    "v2": {"system": "</prefix>", "user": "", "assistant": "eos"},
}
_CONTROLS: Mapping[Version, tuple[str, ...]] = {
    "v2.5": ("<|prompter|>", "<|assistant|>", "<|system|>", "<|prefix_begin|>", "<|prefix_end|>"),
    "v2": ("<human>", "<bot>", "<prefix>", "</prefix>"),
}
_LABELS = ("quality", "humor", "creativity")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Oasst:
    """The formats of Open-Assistant: role token, text, end token, and nothing between the turns.

    version: ``v2.5`` writes ``<|prompter|>text<eos><|assistant|>text<eos>``; ``v2`` is the one before it,
    ``<human>text<bot>text<eos>`` with a system message between ``<prefix>`` and ``</prefix>``. (The first scripts wrote no
    eos after a reply either, so nothing taught the model to stop; here it is always there.)
    predict_next_role: after a reply and its eos the model also learns to write the user's role token, as the original did.
    train_system: a system message at the beginning is a target too; the original did so by accident of its mask.
    context: what becomes of a passage that a turn refers to: ``keep`` puts it after the text, behind an empty line;
    ``drop`` is what the original did without tags; ``tag`` puts it into the tag of the reply.

    system_tags: before ``<|assistant|>`` stands ``<|system|>``, one line ``name: value`` for each thing that is known of
    the reply that follows, and eos: its language, quality, humor and creativity (one decimal), with ``add_length`` a
    measure of its length (words // 5 + 1), and the passage, always last. Tags are given, never targets. A prompt has none,
    for nothing is known of its reply yet; the exported chat template writes none.
    property_dropout: the probability that a line is left out; without lines there is no tag. property_order: ``drawn``
    shuffles the lines as the original did, ``fixed`` leaves them in the order above. Both draws are a formula of ``seed``,
    the texts up to the reply and the name of the property, so they are the same in every process and every epoch (the
    original drew anew in each).
    prefix: text of a system message in front of everything; never a target, and truncation leaves it where it is.

    Source: LAION-AI/Open-Assistant, ``custom_datasets/formatting.py`` and ``dialogue_collator.py``. Raises RecipeError
    for options that exclude each other.
    """

    version: Version = "v2.5"
    predict_next_role: bool = True
    train_system: bool = False
    context: Literal["keep", "drop", "tag"] = "keep"
    system_tags: bool = False
    add_length: bool = False
    property_dropout: float = 0.5
    property_order: Literal["drawn", "fixed"] = "drawn"
    seed: int = 0
    prefix: str = ""

    name: ClassVar[str] = "oasst"
    orders: ClassVar[Orders] = ALTERNATING
    multi_turn: ClassVar[bool] = True
    continues: ClassVar[bool] = False
    codec: ClassVar[Codec] = AS_IT_IS

    def __post_init__(self) -> None:
        if self.system_tags and self.version == "v2":
            raise RecipeError("prompt format 'oasst' has no system_tags in version v2", advice="use version: v2.5")
        if self.context == "tag" and not self.system_tags:
            what = "option 'context' of prompt format 'oasst' is 'tag', but there are no tags"
            raise RecipeError(what, advice="set system_tags: true, or context: keep")

    @property
    def controls(self) -> tuple[str, ...]:
        return _CONTROLS[self.version]

    @property
    def stops(self) -> tuple[str, ...]:
        return ("eos", _ROLES[self.version]["user"])

    @property
    def opening(self) -> tuple[Piece, ...]:
        return (self._role("system"), Text(self.prefix), *self._end("system")) if self.prefix else ()

    def objection(self, message: Message, before: Sequence[Message]) -> str | None:
        for name in _LABELS if self.system_tags else ():
            if not 0 <= message.labels.get(name, 0) <= 1:
                return f"a {name} of {message.labels[name]}, not between 0 and 1"
        return order_objection(self.orders, message, before)

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        role = self._role(message.role)
        said = (Text(with_context(message, self.context)), *self._end(message.role))
        opening = () if before else self.opening
        if message.role == "assistant":
            return Split((*opening, *self._tag(message, before), role), said)
        if message.role == "system" and self.train_system:
            return Split((*opening, role), said)
        if message.role == "user" and before:
            predicted_by_previous = self.train_system if before[-1].role == "system" else self.predict_next_role
            return Split((role, *said), predicted_by_previous=int(predicted_by_previous))
        return Split((*opening, role, *said))

    def parse(self, ids: Sequence[int], tokenizer: Tokenizer) -> Parsed:
        return read_reply(ids, tokenizer, self.stops, self.continues)

    def chat_template(self) -> str:
        ends = "".join(f"'{role}': {_template_end(end)}, " for role, end in _ENDS[self.version].items())
        roles = dict(_ROLES[self.version])
        prefix = f"{{{{ {roles['system']!r} + {self.prefix!r} + {_template_end(_ENDS[self.version]['system'])} }}}}"
        return (
            f"{prefix if self.prefix else ''}{template_head(self.orders, self.name)}{template_text(self.context)}"
            f"{{{{ {roles}[message['role']] + text + {{{ends}}}[message['role']] }}}}"
            f"{TEMPLATE_FOOT}"
            f"{{%- if add_generation_prompt -%}}{{{{ {roles['assistant']!r} }}}}{{%- endif -%}}"
        )

    def _role(self, role: str) -> Control:
        return Control(_ROLES[self.version][role])

    def _end(self, role: str) -> tuple[Piece, ...]:
        end = _ENDS[self.version][role]
        return (Control(end),) if end else ()

    def _tag(self, reply: Message, before: Sequence[Message]) -> tuple[Piece, ...]:
        """What is said of a reply in front of it."""
        if not self.system_tags or reply is UNWRITTEN:
            return ()
        known = _known(reply, self.add_length)
        passage = reply.context or (before[-1].context if before else "")
        if self.context == "tag" and passage.strip():
            known["context"] = passage
        draws = label_draws(self.seed, [message.text for message in (*before, reply)], list(known))
        kept = [name for name in known if draws[name][0] >= self.property_dropout]
        if self.property_order == "drawn":
            kept.sort(key=lambda name: (name == "context", draws[name][1]))
        if not kept:
            return ()
        lines = "".join(f"{name}: {known[name]}\n" for name in kept)
        return (self._role("system"), Text(lines), *self._end("system"))


def _known(reply: Message, add_length: bool) -> dict[str, str]:
    """The properties of a reply as they are written, in their fixed order."""
    known = {"lang": reply.lang} if reply.lang else {}
    known |= {name: f"{reply.labels[name]:0.1f}" for name in _LABELS if name in reply.labels}
    if add_length:
        known["length"] = str(len(_WORD.findall(reply.text)) // 5 + 1)
    return known


def _template_end(end: str) -> str:
    """An end token as an expression of a chat template."""
    return "eos_token" if end == "eos" else repr(end)
