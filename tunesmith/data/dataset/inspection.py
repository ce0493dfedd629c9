"""Problems in the texts of records: control tokens, endless repetition, another language than declared."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tree import Message, Tree

SHOWN_PLACES = 20  # of every kind of finding
REPETITION_RATIO = 8.0  # a text that compresses to less than an eighth repeats itself; prose compresses to a half
REPETITION_BYTES = 400  # shorter texts compress well or badly by chance
LANGUAGE_LETTERS = 80  # the language of shorter texts is uncertain
LANGUAGE_PROBABILITY = 0.99

LanguageDetector = Callable[[str], tuple[str, float]]


@dataclass(slots=True)
class Finding:
    """One kind of problem.

    records: how many have it.
    places: of the first of them, each with a description.
    """

    records: int = 0
    places: list[tuple[str, str]] = field(default_factory=list)

    def add(self, place: str, what: str) -> None:
        """Count a record. what: a description."""
        self.records += 1
        if len(self.places) < SHOWN_PLACES:
            self.places.append((place, what))


@dataclass(slots=True)
class TextFindings:
    """What was found in the texts of some records.

    records: that were inspected.
    control: records in which a control token is written out.
    repeated: records with a text that repeats itself without end.
    blank: records with a text of white space or control characters only.
    language: records with a message in another language than it declares.
    roles: messages by role.
    characters: of all messages.
    """

    records: int = 0
    control: Finding = field(default_factory=Finding)
    repeated: Finding = field(default_factory=Finding)
    blank: Finding = field(default_factory=Finding)
    language: Finding = field(default_factory=Finding)
    roles: Counter[str] = field(default_factory=Counter)
    characters: int = 0


def inspect_texts(trees: Iterable[Tree], tokenizer: Tokenizer, language: LanguageDetector, found: TextFindings) -> None:
    """Inspect the texts of ``trees`` and add the findings to ``found``; each record counts once for every kind."""
    for tree in trees:
        found.records += 1
        kinds: dict[str, str] = {}
        for message in tree.messages:
            found.roles[message.role] += 1
            texts = (message.text, message.context, *message.extra_texts())
            found.characters += sum(map(len, texts))
            for text in texts:
                if text:
                    _inspect(text, tokenizer, kinds)
            if what := _other_language(message, language):
                kinds.setdefault("language", what)
        for kind, what in kinds.items():
            finding: Finding = getattr(found, kind)
            finding.add(tree.place, what)


def _inspect(text: str, tokenizer: Tokenizer, kinds: dict[str, str]) -> None:
    if name := tokenizer.control_in(text):
        kinds.setdefault("control", f"{name!r} is written out; it stays text")
    if not any(character.isprintable() and not character.isspace() for character in text):
        kinds.setdefault("blank", "a text without a visible character")
    size = len(data := text.encode("utf-8", "replace"))
    if size >= REPETITION_BYTES and (ratio := size / len(zlib.compress(data, 1))) >= REPETITION_RATIO:
        kinds.setdefault("repeated", f"{size:,} bytes that compress to {1 / ratio:.0%}")


def _other_language(message: Message, language: LanguageDetector) -> str | None:
    """A description of a message whose text is very probably in another language than it declares, or None."""
    if message.lang is None or sum(map(str.isalpha, message.text)) < LANGUAGE_LETTERS:
        return None
    declared = message.lang.lower().split("-")[0].split("_")[0]
    detected, probability = language(message.text)
    if probability < LANGUAGE_PROBABILITY or detected == declared or {detected, declared} in SIMILAR_LANGUAGES:
        return None
    return f"declared {message.lang}, detected {detected}"


SIMILAR_LANGUAGES = (
    {"uk", "be"},
    {"hr", "sr"},
    {"hr", "bs"},
    {"sr", "bs"},
    {"nb", "no"},
    {"nn", "no"},
    {"nb", "nn"},
    {"id", "ms"},
)
"""Languages that a detector cannot distinguish, or that have two codes."""


@cache
def _language_model() -> LanguageIdentifier:
    """Read at the first text that declares a language, since unpacking it takes half a second."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language_detector() -> LanguageDetector:
    """(language code, probability) of a text by py3langid's model of 97 languages, which is part of that package."""

    def detect(text: str) -> tuple[str, float]:
        code, probability = _language_model().classify(text)
        return str(code), float(probability)

    return detect
