"""What the texts of the records look like: marks of control tokens, endless repetition, another language than declared."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tree import Message, Tree

SHOWN = 20  # places that are kept for every kind of finding
REPEATED = 8.0  # a text that packs to less than an eighth says the same again and again; prose packs to a half
LONG_ENOUGH = 400  # bytes; shorter texts pack well or badly by chance
LANGUAGE_LETTERS = 80  # shorter texts are too little to tell a language
LANGUAGE_SURE = 0.99

Language = Callable[[str], tuple[str, float]]


@dataclass(slots=True)
class Finding:
    """How many records have it, and the places of the first of them with what was found there."""

    records: int = 0
    places: list[tuple[str, str]] = field(default_factory=list)

    def add(self, place: str, what: str) -> None:
        self.records += 1
        if len(self.places) < SHOWN:
            self.places.append((place, what))


@dataclass(slots=True)
class Texts:
    """What was found in the texts of some records.

    control: records that write out a control token. repeated: one of whose texts repeats itself without end. blank: with a
    text of white space or control characters only. language: a message in another language than it declares.
    roles: messages by role. characters: of all messages.
    """

    records: int = 0
    control: Finding = field(default_factory=Finding)
    repeated: Finding = field(default_factory=Finding)
    blank: Finding = field(default_factory=Finding)
    language: Finding = field(default_factory=Finding)
    roles: Counter[str] = field(default_factory=Counter)
    characters: int = 0


def inspect_texts(trees: Iterable[Tree], tokenizer: Tokenizer, language: Language, found: Texts) -> None:
    """Add what the texts of ``trees`` show to ``found``; each record counts once for every kind."""
    for tree in trees:
        found.records += 1
        kinds: dict[str, str] = {}
        for message in tree.messages:
            found.roles[message.role] += 1
            found.characters += len(message.text) + len(message.context)
            for text in (message.text, message.context):
                if text:
                    _inspect(text, tokenizer, kinds)
            if said := _other_language(message, language):
                kinds.setdefault("language", said)
        for kind, what in kinds.items():
            finding: Finding = getattr(found, kind)
            finding.add(tree.place, what)


def _inspect(text: str, tokenizer: Tokenizer, kinds: dict[str, str]) -> None:
    if name := tokenizer.control_in(text):
        kinds.setdefault("control", f"{name!r} is written out; it stays text")
    if not any(character.isprintable() and not character.isspace() for character in text):
        kinds.setdefault("blank", "a text without a visible character")
    size = len(data := text.encode("utf-8", "replace"))
    if size >= LONG_ENOUGH and (ratio := size / len(zlib.compress(data, 1))) >= REPEATED:
        kinds.setdefault("repeated", f"{size:,} bytes that pack to {1 / ratio:.0%}")


def _other_language(message: Message, language: Language) -> str | None:
    """What to say of a message whose text is surely in another language than it declares, or None."""
    if message.lang is None or sum(map(str.isalpha, message.text)) < LANGUAGE_LETTERS:
        return None
    declared = message.lang.lower().split("-")[0].split("_")[0]
    detected, probability = language(message.text)
    if probability < LANGUAGE_SURE or detected == declared or {detected, declared} in ALIKE:
        return None
    return f"declared {message.lang}, looks like {detected}"


ALIKE = ({"uk", "be"}, {"hr", "sr"}, {"hr", "bs"}, {"sr", "bs"}, {"nb", "no"}, {"nn", "no"}, {"nb", "nn"}, {"id", "ms"})
"""Languages that a detector cannot tell apart, or that have two codes."""


@cache
def _language_model() -> LanguageIdentifier:
    """Read at the first text that declares a language, since unpacking it takes half a second."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language_detector() -> Language:
    """(language code, probability) of a text by py3langid's model of 97 languages, which is part of that package."""

    def detect(text: str) -> tuple[str, float]:
        code, probability = _language_model().classify(text)
        return str(code), float(probability)

    return detect
