"""Generates instructions with checkable answers in the categories of dolly, for training and held out.

A held-out instruction is a new combination: a fact that no training instruction asks for, a pair of values that occurs
in no training passage, a list of new length for a group, or a new pair of things to classify. `DemoWorld.is_held_out`
decides by a hash, so the two sides never overlap.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.evaluate.text_match import ContentCheck, ListOf, OneOf, check_to_json
from tunesmith.playground.documents import write_remark
from tunesmith.playground.facts import DemoWorld, Relation, SubjectGroup
from tunesmith.playground.passages import Passage, PassageGenerator, PassageKind

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
    """A record with the fields of dolly and the check of a reply.

    instruction, response, category, context: the fields of dolly.
    check: decides whether the content of a reply is correct.
    mistake: a reply that is wrong in one detail.
    """

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
        """The row of a held-out file: the record and its check."""
        return {**self.record(), "check": check_to_json(self.check)}


@dataclass(frozen=True, slots=True)
class ExerciseTopics:
    """What the exercises of training, or the held-out ones, may be about.

    passages: the generator of passages.
    held_out: whether the exercises are held out.
    facts: (relation, subject) of every fact that may be asked for.
    lists: (group, word for the length, wording) of every list that may be asked for.
    """

    passages: PassageGenerator
    held_out: bool
    facts: tuple[tuple[Relation, str], ...]
    lists: tuple[tuple[SubjectGroup, str, str], ...]

    def passage(self, rng: random.Random, kinds: Sequence[PassageKind]) -> Passage:
        """A random passage of one of these kinds."""
        return self.passages.draw(rng, rng.choice(kinds), held_out=self.held_out)


def find_topics(passages: PassageGenerator, *, held_out: bool) -> ExerciseTopics:
    """All topics of one side. They are found once, because a hundred thousand exercises are drawn from them."""
    world = passages.world
    facts = tuple(
        (relation, subject)
        for relation in world.relations
        for subject in relation.values
        if _is_held_out_fact(world, relation, subject) == held_out
    )
    lists = tuple(
        (group, word, wording)
        for group in world.groups
        for word, count in COUNTS.items()
        for wording in LIST_WORDINGS
        if count <= len(group.members) and world.is_held_out("list", group.phrase, word, wording) == held_out
    )
    return ExerciseTopics(passages, held_out, facts, lists)


def open_question(topics: ExerciseTopics, rng: random.Random) -> Exercise:
    """A question for a fact; a held-out fact is not asked for in any wording of a training question."""
    world = topics.passages.world
    relation, subject = rng.choice(topics.facts)
    value = relation.values[subject]
    answer = world.fill(relation.answer, subject, value)
    question = world.fill(rng.choice(relation.questions), subject, value)
    other = _mistake_rng(question).choice(sorted(set(relation.values.values()) - {value}))
    mistake = world.fill(relation.answer, subject, other)
    return Exercise(question, answer, "open_qa", OneOf((answer,)), mistake)


def _mistake_rng(*parts: str) -> random.Random:
    """The generator for the mistake of an exercise. It depends on the exercise only, so other draws do not change."""
    return random.Random("\n".join(("mistake", *parts)))


def _is_held_out_fact(world: DemoWorld, relation: Relation, subject: str) -> bool:
    """Whether a fact is asked for in held-out questions only.

    All facts of subjects with few relations are asked for in training, so that every subject occurs in instructions.
    """
    known = sum(other.subjects == relation.subjects for other in world.relations)
    return known >= 3 and world.is_held_out("fact", relation.name, subject)


def closed_question(topics: ExerciseTopics, rng: random.Random) -> Exercise:
    """A question with the answer in the passage."""
    passage = topics.passage(rng, topics.passages.kinds)
    question = rng.choice(passage.kind.questions)
    return _about(topics.passages, passage, rng.choice(question.wordings), question.answer, "closed_qa")


def _about(passages: PassageGenerator, passage: Passage, wording: str, template: str, category: str) -> Exercise:
    """An instruction about a passage with the answer of a template; the items of a list may have any order."""
    asked, answer = passage.fill(wording), passage.fill(template)
    mistake = passages.misread(_mistake_rng(asked, passage.text), passage, template)
    lines = tuple(line[2:] for line in answer.split("\n") if line.startswith("- "))
    check: ContentCheck = ListOf(len(lines), lines) if lines else OneOf((answer,))
    return Exercise(asked, answer, category, check, mistake, passage.text)


def extraction(topics: ExerciseTopics, rng: random.Random) -> Exercise:
    """Names, goods or dates from a passage, in a fixed layout."""
    passage = topics.passage(rng, [kind for kind in topics.passages.kinds if kind.extractions])
    wanted = rng.choice(passage.kind.extractions)
    return _about(topics.passages, passage, rng.choice(wanted.wordings), wanted.answer, "information_extraction")


def summary(topics: ExerciseTopics, rng: random.Random) -> Exercise:
    """The main points of a passage in one sentence."""
    passage = topics.passage(rng, topics.passages.kinds)
    return _about(topics.passages, passage, rng.choice(SUMMARY_WORDINGS), passage.kind.summary, "summarization")


def brainstorm(topics: ExerciseTopics, rng: random.Random) -> Exercise:
    """A list of some members of a group; held out are combinations of wording, length and group."""
    group, word, wording = rng.choice(topics.lists)
    members = rng.sample(group.members, COUNTS[word])
    instruction = wording.format(count=word, phrase=group.phrase)
    mistake_rng = _mistake_rng(instruction, *members)
    other = mistake_rng.choice(group.others)
    mistaken = [other, *mistake_rng.sample(members, len(members) - 1)]
    mistake_rng.shuffle(mistaken)
    return Exercise(instruction, _list(members), "brainstorming", ListOf(COUNTS[word], group.members), _list(mistaken))


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def classification(topics: ExerciseTopics, rng: random.Random) -> Exercise:
    """The kind of a remark, or the kinds of two things."""
    return rng.choice((_classify_remark, _classify_things))(topics, rng)


def _classify_remark(topics: ExerciseTopics, rng: random.Random) -> Exercise:
    passages, held_out = topics.passages, topics.held_out
    mood = rng.choice(tuple(passages.remarks.answers))
    text = write_remark(passages, rng, mood, held_out=held_out)
    answers = passages.remarks.answers
    answer, other = answers[mood], _mistake_rng(text).choice([each for name, each in answers.items() if name != mood])
    return Exercise(rng.choice(passages.remarks.wordings), answer, "classification", OneOf((answer,)), other, text)


def _classify_things(topics: ExerciseTopics, rng: random.Random) -> Exercise:
    """The kinds of two things of one field; held out are pairs of things."""
    passages, held_out = topics.passages, topics.held_out
    field = rng.choice(tuple(FIELDS))
    kind_of = passages.world.relation(FIELDS[field]).values
    things = rng.sample(tuple(kind_of), 2)
    while passages.world.is_held_out("sort", *sorted(things)) != held_out:
        things = rng.sample(tuple(kind_of), 2)
    answer = _list([f"{thing}: {kind_of[thing]}" for thing in things])
    kinds = sorted(set(kind_of.values()))
    instruction = rng.choice(SORT_WORDINGS).format(field=field, items=" and ".join(things), kinds=" or ".join(kinds))
    mistake_rng = _mistake_rng(instruction)
    wrong = mistake_rng.choice(things)
    mistaken = {**kind_of, wrong: mistake_rng.choice([kind for kind in kinds if kind != kind_of[wrong]])}
    mistake = _list([f"{thing}: {mistaken[thing]}" for thing in things])
    return Exercise(instruction, answer, "classification", OneOf((answer,)), mistake)


MAKERS: dict[str, Callable[[ExerciseTopics, random.Random], Exercise]] = {
    "open_qa": open_question,
    "closed_qa": closed_question,
    "classification": classification,
    "information_extraction": extraction,
    "summarization": summary,
    "brainstorming": brainstorm,
}


def write_exercises(
    passages: PassageGenerator, rng: random.Random, counts: dict[str, int], *, held_out: bool
) -> list[Exercise]:
    """Different exercises in random order.

    counts: category -> number of exercises.
    held_out: whether instructions are held out; then instruction and context occur only once.
    """
    topics = find_topics(passages, held_out=held_out)
    found: dict[tuple[str, ...], Exercise] = {}
    for category, count in counts.items():
        wanted = len(found) + count
        tries = 0
        while len(found) < wanted and tries < 20 * count:
            exercise = MAKERS[category](topics, rng)
            reply = "" if held_out else exercise.response  # in training, an instruction may have several lists
            found.setdefault((exercise.instruction, exercise.context, reply), exercise)
            tries += 1
    exercises = list(found.values())
    rng.shuffle(exercises)
    return exercises
