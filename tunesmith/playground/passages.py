"""Generates short passages about a day of somebody's life from ``scenes.yaml``, with their questions and summaries."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.playground.facts import DemoWorld, fill_sentence, read_table


@dataclass(frozen=True, slots=True)
class PassageSlot:
    """A placeholder of a passage.

    name: its name in templates.
    pool: the words from which its value is drawn.
    tied_to: another slot; one in four pairs of the two values occurs in held-out passages only. None for any pair.
    """

    name: str
    pool: str
    tied_to: str | None


@dataclass(frozen=True, slots=True)
class PassageQuestion:
    """A question about a passage.

    wordings: templates that ask the same question.
    answer: the template of its only answer.
    """

    wordings: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class PassageKind:
    """A kind of passage.

    name: its name in ``scenes.yaml``.
    slots: its placeholders, in the order in which they are filled.
    sentences: for each sentence, templates of the same content.
    extra: sentences that may be inserted.
    questions: what can be asked about it.
    extractions: what can be extracted from it.
    summary: the template of its summary.
    """

    name: str
    slots: tuple[PassageSlot, ...]
    sentences: tuple[tuple[str, ...], ...]
    extra: tuple[str, ...]
    questions: tuple[PassageQuestion, ...]
    extractions: tuple[PassageQuestion, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class RemarkTemplates:
    """Messages of one sentence: praise, complaints and requests.

    things: what a remark is about.
    words: praise or complaint -> the words that express it.
    forms: opinion or request -> templates.
    wordings: instructions that ask which of the three a remark is.
    answers: praise, complaint or request -> the answer to these instructions.
    """

    things: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]
    forms: Mapping[str, tuple[str, ...]]
    wordings: tuple[str, ...]
    answers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Passage:
    """A generated passage.

    kind: its kind.
    text: its text.
    filled: placeholder, also with article or as pronoun -> its value.
    """

    kind: PassageKind
    text: str
    filled: Mapping[str, str]

    def fill(self, template: str) -> str:
        """A question, answer or summary about this passage."""
        return fill_sentence(template, **self.filled)


@dataclass(frozen=True, slots=True)
class PassageGenerator:
    """Generates passages of all kinds.

    world: decides which combinations are held out.
    pools: the name of a pool -> its words.
    kinds: the kinds of passages.
    remarks: templates of remarks.
    """

    world: DemoWorld
    pools: Mapping[str, tuple[str, ...]]
    kinds: tuple[PassageKind, ...]
    remarks: RemarkTemplates

    def draw(self, rng: random.Random, kind: PassageKind, *, held_out: bool) -> Passage:
        """A random passage in which either all tied pairs of values are held out, or none of them."""
        filled: dict[str, str] = {}
        while not self._fill_slots(rng, kind, held_out, filled):
            filled.clear()  # not every name has a held-out pair that fits, so start again
        for slot in kind.slots:
            value = filled[slot.name]
            filled[f"a_{slot.name}"] = self.world.article(value)
            if slot.pool == "people":
                filled[f"{slot.name}_pronoun"] = "she" if value in self.pools["women"] else "he"
        sentences = [fill_sentence(rng.choice(wordings), **filled) for wordings in kind.sentences]
        for extra in rng.sample(kind.extra, rng.randrange(2)):
            sentences.insert(rng.randrange(1, len(sentences) + 1), extra)
        return Passage(kind, " ".join(sentences), filled)

    def _fill_slots(self, rng: random.Random, kind: PassageKind, held_out: bool, filled: dict[str, str]) -> bool:
        """Draw a value for every slot in order; False if no value is possible for one of them."""
        for slot in kind.slots:
            free = [word for word in self.pools[slot.pool] if word not in filled.values()]
            if slot.tied_to:
                owner = filled[slot.tied_to]
                free = [word for word in free if self.is_held_out(slot, owner, word) == held_out]
            if not free:
                return False
            filled[slot.name] = rng.choice(free)
        return True

    def misread(self, rng: random.Random, passage: Passage, template: str) -> str:
        """A template filled with one wrong word, which does not occur in the passage."""
        used = [slot for slot in passage.kind.slots if f"{slot.name}}}" in template]
        slot = rng.choice(used)
        word = rng.choice([word for word in self.pools[slot.pool] if word not in passage.filled.values()])
        article = self.world.article(word)
        return fill_sentence(template, **{**passage.filled, slot.name: word, f"a_{slot.name}": article})

    def is_held_out(self, slot: PassageSlot, owner: str, word: str) -> bool:
        """Whether a pair of values occurs in held-out passages only."""
        return self.world.is_held_out(slot.pool, owner, word)


def load_passages(world: DemoWorld) -> PassageGenerator:
    """The generator with the kinds of passages of ``scenes.yaml``."""
    table = read_table("scenes.yaml")
    remarks = table["remarks"]
    return PassageGenerator(
        world,
        table["pools"],
        tuple(_passage_kind(entry) for entry in table["scenes"]),
        RemarkTemplates(
            tuple(remarks["things"]),
            {mood: tuple(remarks[mood]) for mood in ("praise", "complaint")},
            {form: tuple(templates) for form, templates in remarks["forms"].items()},
            tuple(remarks["ask"]),
            remarks["answers"],
        ),
    )


def _passage_kind(entry: Mapping[str, Any]) -> PassageKind:
    slots = tuple(
        PassageSlot(name, pool["pool"], pool["with"]) if isinstance(pool, dict) else PassageSlot(name, pool, None)
        for name, pool in entry["slots"].items()
    )
    return PassageKind(
        entry["name"],
        slots,
        tuple(tuple(wordings) for wordings in entry["passage"]),
        tuple(entry["extra"]),
        _questions(entry["questions"]),
        _questions(entry.get("extract", ())),
        entry["summary"],
    )


def _questions(entries: Sequence[Mapping[str, str]]) -> tuple[PassageQuestion, ...]:
    return tuple(PassageQuestion(tuple(entry["ask"].split(" / ")), entry["answer"]) for entry in entries)
