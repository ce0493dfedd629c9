"""What a sampling configuration adds to every prompt: its ``pre_text`` and the profile of the reply.

Replies answer both, so they are part of the conversations that are scored and trained on. A report of ours names them
in ``args.prompt_additions``: {configuration: {"pre_text": ..., "system_profile": {...}}}. A published report does not,
and nothing is added there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.generate.prompt_modes import PROFILE_MODES
from tunesmith.generate.sampling_configurations import PROFILE_KEYS, PROFILE_LABELS, SamplingConfiguration
from tunesmith.text.tree import Message

FIELD = "prompt_additions"
"""The key of a report's ``args``."""


@dataclass(frozen=True, slots=True)
class PromptAddition:
    """What a configuration gives to the model in addition to a prompt.

    pre_text: the system message; empty for none.
    profile: (property, value) of the reply: lang, length, and quality, humor, creativity from 0 to 1.
    """

    pre_text: str = ""
    profile: tuple[tuple[str, str | float], ...] = ()

    @classmethod
    def of(cls, configuration: SamplingConfiguration, mode: str | None) -> PromptAddition:
        """That of a configuration. mode: of the prompts; None for the prompt format of the model."""
        profile = configuration.system_profile if mode in PROFILE_MODES else {}
        return cls(configuration.pre_text, tuple(profile.items()))

    def messages(self, asked: Sequence[Message]) -> tuple[Message, ...]:
        """The conversation that a reply answers. asked: the messages of the prompt."""
        if not self.pre_text:
            return tuple(asked)
        first, *others = asked  # the root of a conversation has its tools
        return (Message("system", self.pre_text, tools=first.tools), replace(first, tools=""), *others)

    def reply(self, text: str, rank: int | None = None, score: float | None = None) -> Message:
        """A reply with the properties that were asked for; its length is that of its text."""
        values = dict(self.profile)
        lang, labels = values.get("lang"), {name: float(values[name]) for name in PROFILE_LABELS if name in values}
        return Message(
            "assistant", text, rank=rank, score=score, lang=lang if isinstance(lang, str) else None, labels=labels
        )

    def as_json(self) -> dict[str, Any]:
        """What is written of it, without empty values."""
        values = {"pre_text": self.pre_text, "system_profile": dict(self.profile)}
        return {name: value for name, value in values.items() if value}


NO_ADDITION = PromptAddition()


def addition_fields(additions: Mapping[str, PromptAddition]) -> dict[str, Any]:
    """The entry of a report's ``args``; none if nothing is added.

    additions: name of a configuration -> its addition.
    """
    found = {name: each.as_json() for name, each in additions.items() if each != NO_ADDITION}
    return {FIELD: found} if found else {}


def read_additions(args: Any) -> dict[str, PromptAddition]:
    """Name of a configuration -> what it adds to every prompt, where the ``args`` of a report say it."""
    named = args.get(FIELD) if isinstance(args, dict) else None
    entries = named.items() if isinstance(named, dict) else ()
    return {name: _parse(value) for name, value in entries if isinstance(value, dict)}


def _parse(value: Mapping[str, Any]) -> PromptAddition:
    text, profile = value.get("pre_text"), value.get("system_profile")
    found = profile if isinstance(profile, dict) else {}
    kept = tuple((name, found[name]) for name in PROFILE_KEYS if name in found and _is_value(name, found[name]))
    return PromptAddition(text if isinstance(text, str) else "", kept)


def _is_value(name: str, value: Any) -> bool:
    if name == "lang":
        return isinstance(value, str)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and (value > 0 if name == "length" else 0 <= value <= 1)
