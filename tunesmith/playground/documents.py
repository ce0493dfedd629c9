"""Generates the prose that the base model is trained on: facts in many wordings, and stories, but no instructions."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tunesmith.playground.facts import DemoWorld, SubjectGroup, fill_sentence, join_words
from tunesmith.playground.passages import PassageGenerator

INVENTORIES = (
    "on the list there were {items}. Once more: {items}.",
    "the letter spoke of {items}. Yes, of {items}.",
    "somebody called out {items}. Somebody else wrote down {items}.",
    "first came {items}. In the same order, {items} went home.",
)


def write_documents(passages: PassageGenerator, rng: random.Random, count: int) -> Iterator[str]:
    """``count`` documents: facts of people and of other subjects, lists, and stories with a restatement at the end."""
    world = passages.world
    pools = sorted({relation.subjects for relation in world.relations} - {"people"})
    others = [pool for pool in pools for _ in world.pools[pool]]
    for _ in range(count):
        kind = rng.random()
        if kind < 0.38:
            yield write_portrait(world, rng, "people", rng.choice(world.pools["people"]))
        elif kind < 0.63:
            pool = rng.choice(others)
            yield write_portrait(world, rng, pool, rng.choice(world.pools[pool]))
        elif kind < 0.68:
            yield write_roster(rng, rng.choice(world.groups))
        elif kind < 0.92:
            yield write_story(passages, rng)
        elif kind < 0.97:
            yield write_inventory(passages, rng)
        else:
            yield write_remarks(passages, rng)


def write_portrait(world: DemoWorld, rng: random.Random, pool: str, subject: str) -> str:
    """Some facts of one subject in random order; after the first sentence, people are sometimes named by pronoun."""
    relations = [relation for relation in world.relations if relation.subjects == pool]
    chosen = rng.sample(relations, min(len(relations), rng.randrange(2, 5)))
    who, whose = {"she": ("she", "her"), "he": ("he", "his")}[world.pronoun(subject)] if pool == "people" else ("", "")
    sentences = []
    for index, relation in enumerate(chosen):
        by_pronoun = index > 0 and pool == "people" and rng.random() < 0.5
        template = rng.choice(relation.statements)
        names = (who, whose) if by_pronoun else ("", "")
        sentences.append(world.fill(template, subject, relation.values[subject], *names))
    return " ".join(sentences)


def write_roster(rng: random.Random, group: SubjectGroup) -> str:
    """Some members of a group in random order."""
    members = rng.sample(group.members, rng.randrange(2, min(5, len(group.members)) + 1))
    named = join_words([group.named[member] for member in members])
    return fill_sentence(rng.choice(group.rosters), list=named, phrase=group.phrase, value=group.value)


def write_story(passages: PassageGenerator, rng: random.Random) -> str:
    """A training passage followed by answers to some of its questions."""
    passage = passages.draw(rng, rng.choice(passages.kinds), held_out=False)
    points = rng.sample(passage.kind.questions, rng.randrange(2, len(passage.kind.questions)))
    answers = dict.fromkeys(passage.fill(point.answer) for point in points)
    return "\n".join((passage.text, " ".join(answers)))


def write_inventory(passages: PassageGenerator, rng: random.Random) -> str:
    """Words of any pool, listed twice, so that the model learns to repeat every word."""
    words = [word for pools in (passages.world.pools, passages.pools) for pool in sorted(pools) for word in pools[pool]]
    return fill_sentence(rng.choice(INVENTORIES), items=join_words(rng.sample(words, rng.randrange(2, 7))))


def write_remarks(passages: PassageGenerator, rng: random.Random) -> str:
    """Several remarks of the same kind."""
    remarks = passages.remarks
    mood = rng.choice(tuple(remarks.answers))
    return " ".join(write_remark(passages, rng, mood, held_out=False) for _ in range(rng.randrange(2, 5)))


def write_remark(passages: PassageGenerator, rng: random.Random, mood: str, *, held_out: bool) -> str:
    """One remark; its pair of thing and wording is held out or not, as ``held_out`` demands."""
    remarks = passages.remarks
    forms = remarks.forms["request" if mood == "request" else "opinion"]
    pairs = [
        (thing, word)
        for thing in remarks.things
        for word in remarks.words.get(mood, forms)
        if passages.world.is_held_out("remark", thing, word) == held_out
    ]
    thing, word = rng.choice(pairs)
    return fill_sentence(word if mood == "request" else rng.choice(forms), thing=thing, word=word)
