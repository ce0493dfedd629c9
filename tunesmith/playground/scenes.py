"""Short passages about days that happened to somebody: drawn from ``scenes.yaml``, with their questions and summaries."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.playground.facts import World, read_table, sentence


@dataclass(frozen=True, slots=True)
class Slot:
    """A blank of a passage. Its value is tied to the value of another slot: one pair in four is kept for held-out use."""

    name: str
    pool: str
    tied_to: str | None


@dataclass(frozen=True, slots=True)
class Question:
    """Several wordings of one question about a passage and its one answer, all templates over the slots."""

    wordings: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Scene:
    """A kind of passage: sentences (each in several wordings) and what can be asked."""

    name: str
    slots: tuple[Slot, ...]
    sentences: tuple[tuple[str, ...], ...]
    extra: tuple[str, ...]
    questions: tuple[Question, ...]
    extractions: tuple[Question, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class Remarks:
    """One-sentence messages of three kinds, and how to ask for the kind."""

    things: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]
    forms: Mapping[str, tuple[str, ...]]
    wordings: tuple[str, ...]
    answers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Passage:
    """One drawn passage: its text and the filled slots (also with article and pronoun), ready for every template."""

    scene: Scene
    text: str
    filled: Mapping[str, str]

    def fill(self, template: str) -> str:
        """A question, answer or summary about this passage."""
        return sentence(template, **self.filled)


@dataclass(frozen=True, slots=True)
class Scenes:
    """All kinds of passages over their word pools."""

    world: World
    pools: Mapping[str, tuple[str, ...]]
    scenes: tuple[Scene, ...]
    remarks: Remarks

    def draw(self, rng: random.Random, scene: Scene, *, held_out: bool) -> Passage:
        """A passage whose tied pairs are all reserved (held_out) or none of them (training)."""
        filled: dict[str, str] = {}
        while not self._fill(rng, scene, held_out, filled):
            filled.clear()  # a reserved pair that fits does not exist for every name: begin again
        for slot in scene.slots:
            value = filled[slot.name]
            filled[f"a_{slot.name}"] = self.world.article(value)
            if slot.pool == "people":
                filled[f"{slot.name}_pronoun"] = "she" if value in self.pools["women"] else "he"
        sentences = [sentence(rng.choice(wordings), **filled) for wordings in scene.sentences]
        for extra in rng.sample(scene.extra, rng.randrange(2)):
            sentences.insert(rng.randrange(1, len(sentences) + 1), extra)
        return Passage(scene, " ".join(sentences), filled)

    def _fill(self, rng: random.Random, scene: Scene, held_out: bool, filled: dict[str, str]) -> bool:
        """Draw every slot in order; False if nothing is left to draw for one of them."""
        for slot in scene.slots:
            free = [word for word in self.pools[slot.pool] if word not in filled.values()]
            if slot.tied_to:
                owner = filled[slot.tied_to]
                free = [word for word in free if self.reserved(slot, owner, word) == held_out]
            if not free:
                return False
            filled[slot.name] = rng.choice(free)
        return True

    def misread(self, rng: random.Random, passage: Passage, template: str) -> str:
        """A template filled with one word that is not in the passage, in place of a word that is."""
        told = [slot for slot in passage.scene.slots if f"{slot.name}}}" in template]
        slot = rng.choice(told)
        word = rng.choice([word for word in self.pools[slot.pool] if word not in passage.filled.values()])
        return sentence(template, **{**passage.filled, slot.name: word, f"a_{slot.name}": self.world.article(word)})

    def reserved(self, slot: Slot, owner: str, word: str) -> bool:
        """Whether a pair of values is kept for held-out passages."""
        return self.world.reserved(slot.pool, owner, word)


def load_scenes(world: World) -> Scenes:
    """The kinds of passages of ``scenes.yaml``."""
    table = read_table("scenes.yaml")
    remarks = table["remarks"]
    return Scenes(
        world,
        table["pools"],
        tuple(_scene(entry) for entry in table["scenes"]),
        Remarks(
            tuple(remarks["things"]),
            {mood: tuple(remarks[mood]) for mood in ("praise", "complaint")},
            {form: tuple(templates) for form, templates in remarks["forms"].items()},
            tuple(remarks["ask"]),
            remarks["answers"],
        ),
    )


def _scene(entry: Mapping[str, Any]) -> Scene:
    slots = tuple(
        Slot(name, pool["pool"], pool["with"]) if isinstance(pool, dict) else Slot(name, pool, None)
        for name, pool in entry["slots"].items()
    )
    return Scene(
        entry["name"],
        slots,
        tuple(tuple(wordings) for wordings in entry["passage"]),
        tuple(entry["extra"]),
        _questions(entry["questions"]),
        _questions(entry.get("extract", ())),
        entry["summary"],
    )


def _questions(entries: Sequence[Mapping[str, str]]) -> tuple[Question, ...]:
    return tuple(Question(tuple(entry["ask"].split(" / ")), entry["answer"]) for entry in entries)
