"""Instructions with their one right answer (or set of right answers) in dolly's categories, for training and held out.

What makes a held-out instruction new is the combination: a fact never asked for, a pair of values that never met in a
passage, a list of a length never asked of that group, a thing never classified. `World.reserved` decides, so the two
sides cannot meet whatever is drawn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.evaluate.text_match import ContentCheck, ListOf, OneOf, check_to_json
from tunesmith.playground.documents import remark
from tunesmith.playground.facts import Relation, World
from tunesmith.playground.scenes import Passage, Scenes

COUNTS = {"two": 2, "three": 3}
LIST_WORDINGS = ("Name {count} {phrase}.", "Give me a list of {count} {phrase}.")
SORT_WORDINGS = (
    "Say for each of these what kind of {field} it is: {items}.",
    "Sort these by kind of {field}: {items}.",
    "Classify each of the following as {kinds}: {items}.",
)
SUMMARY_WORDINGS = (
    "Summarise the passage in one sentence.",
    "Give a short summary of the text.",
)
FIELDS = {"animal": "kind of animal", "food": "kind of food"}


@dataclass(frozen=True, slots=True)
class Exercise:
    """One record with dolly's fields, and the check that decides whether a reply is right. mistake: a reply that is wrong
    in one thing."""

    instruction: str
    response: str
    category: str
    check: ContentCheck
    mistake: str
    context: str = ""

    def record(self) -> dict[str, str]:
        """The row of a training file."""
        return {
            "instruction": self.instruction,
            "context": self.context,
            "response": self.response,
            "category": self.category,
        }

    def checked_record(self) -> dict[str, Any]:
        """The row of the held-out file: the record and its check."""
        return {**self.record(), "check": check_to_json(self.check)}


def open_question(scenes: Scenes, rng: random.Random, held_out: bool) -> Exercise:
    """A fact of the world; held out are facts that no training question ever touches, in any wording."""
    world = scenes.world
    facts = [
        (relation, subject)
        for relation in world.relations
        for subject in relation.values
        if _kept(world, relation, subject) == held_out
    ]
    relation, subject = rng.choice(facts)
    value = relation.values[subject]
    answer = world.fill(relation.answer, subject, value)
    question = world.fill(rng.choice(relation.questions), subject, value)
    other = _slip(question).choice(sorted(set(relation.values.values()) - {value}))
    mistake = world.fill(relation.answer, subject, other)
    return Exercise(question, answer, "open_qa", OneOf((answer,)), mistake)


def _slip(*parts: str) -> random.Random:
    """What draws the mistake of an exercise: the exercise alone, so that mistakes change nothing else that is drawn."""
    return random.Random("\n".join(("mistake", *parts)))


def _kept(world: World, relation: Relation, subject: str) -> bool:
    """Whether a fact is kept for held-out questions. Of a subject of which little is known every fact is asked in
    training: who was never spoken of in an instruction at all cannot be answered for."""
    known = sum(other.subjects == relation.subjects for other in world.relations)
    return known >= 3 and world.reserved("fact", relation.name, subject)


def closed_question(scenes: Scenes, rng: random.Random, held_out: bool) -> Exercise:
    """A question whose answer stands in the passage."""
    passage = scenes.draw(rng, rng.choice(scenes.scenes), held_out=held_out)
    question = rng.choice(passage.scene.questions)
    return _about(scenes, passage, rng.choice(question.wordings), question.answer, "closed_qa")


def _about(scenes: Scenes, passage: Passage, wording: str, template: str, category: str) -> Exercise:
    """An instruction about a passage with the answer that a template gives. A list may be given in any order."""
    asked, answer = passage.fill(wording), passage.fill(template)
    mistake = scenes.misread(_slip(asked, passage.text), passage, template)
    lines = tuple(line[2:] for line in answer.split("\n") if line.startswith("- "))
    check: ContentCheck = ListOf(len(lines), lines) if lines else OneOf((answer,))
    return Exercise(asked, answer, category, check, mistake, passage.text)


def extraction(scenes: Scenes, rng: random.Random, held_out: bool) -> Exercise:
    """Names, goods or dates out of a passage, in a fixed layout."""
    passage = scenes.draw(rng, rng.choice([scene for scene in scenes.scenes if scene.extractions]), held_out=held_out)
    wanted = rng.choice(passage.scene.extractions)
    return _about(scenes, passage, rng.choice(wanted.wordings), wanted.answer, "information_extraction")


def summary(scenes: Scenes, rng: random.Random, held_out: bool) -> Exercise:
    """The main points of a passage in one sentence."""
    passage = scenes.draw(rng, rng.choice(scenes.scenes), held_out=held_out)
    return _about(scenes, passage, rng.choice(SUMMARY_WORDINGS), passage.scene.summary, "summarization")


def brainstorm(scenes: Scenes, rng: random.Random, held_out: bool) -> Exercise:
    """So many members of a group; held out are wordings with a length and a group that never met in training."""
    world = scenes.world
    asked = [
        (group, word, wording)
        for group in world.groups
        for word, count in COUNTS.items()
        for wording in LIST_WORDINGS
        if count <= len(group.members) and world.reserved("list", group.phrase, word, wording) == held_out
    ]
    group, word, wording = rng.choice(asked)
    members = rng.sample(group.members, COUNTS[word])
    instruction = wording.format(count=word, phrase=group.phrase)
    slip = _slip(instruction, *members)
    stranger = slip.choice(group.strangers)
    mistaken = [stranger, *slip.sample(members, len(members) - 1)]
    slip.shuffle(mistaken)
    return Exercise(instruction, _list(members), "brainstorming", ListOf(COUNTS[word], group.members), _list(mistaken))


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def classification(scenes: Scenes, rng: random.Random, held_out: bool) -> Exercise:
    """The kind of a remark, or the kinds of two things."""
    return rng.choice((_mood, _sorting))(scenes, rng, held_out)


def _mood(scenes: Scenes, rng: random.Random, held_out: bool) -> Exercise:
    mood = rng.choice(tuple(scenes.remarks.answers))
    text = remark(scenes, rng, mood, held_out=held_out)
    answers = scenes.remarks.answers
    answer, other = answers[mood], _slip(text).choice([each for name, each in answers.items() if name != mood])
    return Exercise(rng.choice(scenes.remarks.wordings), answer, "classification", OneOf((answer,)), other, text)


def _sorting(scenes: Scenes, rng: random.Random, held_out: bool) -> Exercise:
    """Things of one field with their kinds; held out are pairs of things that never meet in training."""
    field = rng.choice(tuple(FIELDS))
    kind_of = scenes.world.relation(FIELDS[field]).values
    things = rng.sample(tuple(kind_of), 2)
    while scenes.world.reserved("sort", *sorted(things)) != held_out:
        things = rng.sample(tuple(kind_of), 2)
    answer = _list([f"{thing}: {kind_of[thing]}" for thing in things])
    kinds = sorted(set(kind_of.values()))
    instruction = rng.choice(SORT_WORDINGS).format(field=field, items=" and ".join(things), kinds=" or ".join(kinds))
    slip = _slip(instruction)
    wrong = slip.choice(things)
    told = {**kind_of, wrong: slip.choice([kind for kind in kinds if kind != kind_of[wrong]])}
    mistake = _list([f"{thing}: {told[thing]}" for thing in things])
    return Exercise(instruction, answer, "classification", OneOf((answer,)), mistake)


MAKERS: dict[str, Callable[[Scenes, random.Random, bool], Exercise]] = {
    "open_qa": open_question,
    "closed_qa": closed_question,
    "classification": classification,
    "information_extraction": extraction,
    "summarization": summary,
    "brainstorming": brainstorm,
}


def write_exercises(scenes: Scenes, rng: random.Random, counts: dict[str, int], *, held_out: bool) -> list[Exercise]:
    """``counts`` different exercises of each category, in random order; instruction and context never occur twice."""
    found: dict[tuple[str, ...], Exercise] = {}
    for category, count in counts.items():
        wanted = len(found) + count
        tries = 0
        while len(found) < wanted and tries < 20 * count:
            exercise = MAKERS[category](scenes, rng, held_out)
            reply = "" if held_out else exercise.response  # training may show several lists for one instruction
            found.setdefault((exercise.instruction, exercise.context, reply), exercise)
            tries += 1
    exercises = list(found.values())
    rng.shuffle(exercises)
    return exercises
