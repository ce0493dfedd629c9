"""The prompt formats of Open-Assistant: role tokens, tags that describe the reply that follows, a fixed prefix."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from tunesmith.draws import label_draws
from tunesmith.errors import RecipeError
from tunesmith.text.formats.format import (
    UNWRITTEN_REPLY,
    Control,
    Format,
    Piece,
    Split,
    TextPiece,
    find_order_fault,
    with_context,
)
from tunesmith.text.formats.template_text import write_template
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
class Oasst(Format):
    """The formats of Open-Assistant: role token, text, end token, and nothing between the turns.

    version: ``v2.5`` writes ``<|prompter|>text<eos><|assistant|>text<eos>``; ``v2`` is the one before it,
        ``<human>text<bot>text<eos>`` with a system message between ``<prefix>`` and ``</prefix>``. (The first scripts
        wrote no eos after a reply, so the model never learned to stop; here it is always written.)
    predict_next_role: whether, after a reply and its eos, the user's role token is a target too, as in the original.
    train_system: whether a system message at the beginning is a target too, as in the original by an accident of its
        mask.
    context: "keep" if the context passage of a message follows its text after a blank line; "drop" if it is left out,
        as in the original without tags; "tag" if it is a line of the tag of the reply.
    system_tags: whether ``<|system|>``, the known properties of the reply, and eos are written before
        ``<|assistant|>``. Each property is a line ``name: value``: language, quality, humor and creativity (one
        decimal), with ``add_length`` the length (words // 5 + 1), and the passage, always last. Tags are given, never
        targets. A prompt has no tag, because the properties of its reply are not known yet; nor has the exported chat
        template.
    add_length: see ``system_tags``.
    property_dropout: the probability that a line is left out; without lines there is no tag.
    property_order: ``drawn`` shuffles the lines as the original did, ``fixed`` leaves them in the order above. Both
        draws are a function of ``seed``, the texts up to the reply and the name of the property, so they are the same
        in every process and every epoch (the original drew again in each epoch).
    seed: of these draws.
    prefix: the text of a system message before everything else; never a target, and kept by truncation.

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
        return (self._role("system"), TextPiece(self.prefix), *self._end("system")) if self.prefix else ()

    def find_fault(self, message: Message, before: Sequence[Message]) -> str | None:
        for name in _LABELS if self.system_tags else ():
            if not 0 <= message.labels.get(name, 0) <= 1:
                return f"a {name} of {message.labels[name]}, not between 0 and 1"
        return find_order_fault(self, message, before)

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        role = self._role(message.role)
        content = (TextPiece(with_context(message, self.context)), *self._end(message.role))
        opening = () if before else self.opening
        if message.role == "assistant":
            return Split((*opening, *self._tag(message, before), role), content)
        if message.role == "system" and self.train_system:
            return Split((*opening, role), content)
        if message.role == "user" and before:
            predicted = self.train_system if before[-1].role == "system" else self.predict_next_role
            return Split((role, *content), predicted_by_previous=int(predicted))
        return Split((*opening, role, *content))

    def chat_template(self) -> str:
        roles, ends = dict(_ROLES[self.version]), _ENDS[self.version]
        prefix = f"{{{{ {roles['system']!r} + {self.prefix!r} + {_end_expression(ends['system'])} }}}}"
        table = "".join(f"'{role}': {_end_expression(end)}, " for role, end in ends.items())
        return write_template(
            self,
            f"{{{{ {roles}[message['role']] + text + {{{table}}}[message['role']] }}}}",
            context=self.context,
            opening=prefix if self.prefix else "",
            generation_prompt=repr(roles["assistant"]),
        )

    def _role(self, role: str) -> Control:
        return Control(_ROLES[self.version][role])

    def _end(self, role: str) -> tuple[Piece, ...]:
        end = _ENDS[self.version][role]
        return (Control(end),) if end else ()

    def _tag(self, reply: Message, before: Sequence[Message]) -> tuple[Piece, ...]:
        """Return the pieces of the tag with the properties of a reply."""
        if not self.system_tags or reply is UNWRITTEN_REPLY:
            return ()
        properties = _properties(reply, self.add_length)
        passage = reply.context or (before[-1].context if before else "")
        if self.context == "tag" and passage.strip():
            properties["context"] = passage
        draws = label_draws(self.seed, [message.text for message in (*before, reply)], list(properties))
        kept = [name for name in properties if draws[name][0] >= self.property_dropout]
        if self.property_order == "drawn":
            kept.sort(key=lambda name: (name == "context", draws[name][1]))
        if not kept:
            return ()
        lines = "".join(f"{name}: {properties[name]}\n" for name in kept)
        return (self._role("system"), TextPiece(lines), *self._end("system"))


def _properties(reply: Message, add_length: bool) -> dict[str, str]:
    """Return the known properties of a reply as the tag writes them, in their fixed order."""
    found = {"lang": reply.lang} if reply.lang else {}
    found |= {name: f"{reply.labels[name]:0.1f}" for name in _LABELS if name in reply.labels}
    if add_length:
        found["length"] = str(len(_WORD.findall(reply.text)) // 5 + 1)
    return found


def _end_expression(end: str) -> str:
    """Return an end token as an expression of a chat template."""
    return "eos_token" if end == "eos" else repr(end)
