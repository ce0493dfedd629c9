"""The prose that the base model reads: facts of the world in many wordings, and stories. It never holds an instruction."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tunesmith.playground.facts import Group, World, listed, sentence
from tunesmith.playground.scenes import Scenes

INVENTORIES = (
    "on the list there were {items}. Once more: {items}.",
    "the letter spoke of {items}. Yes, of {items}.",
    "somebody called out {items}. Somebody else wrote down {items}.",
    "first came {items}. In the same order, {items} went home.",
)


def write_documents(scenes: Scenes, rng: random.Random, count: int) -> Iterator[str]:
    """``count`` documents: portraits of people, of everything else, lists, and stories that end in a restatement."""
    world = scenes.world
    pools = sorted({relation.subjects for relation in world.relations} - {"people"})
    others = [pool for pool in pools for _ in world.pools[pool]]
    for _ in range(count):
        kind = rng.random()
        if kind < 0.38:
            yield portrait(world, rng, "people", rng.choice(world.pools["people"]))
        elif kind < 0.63:
            pool = rng.choice(others)
            yield portrait(world, rng, pool, rng.choice(world.pools[pool]))
        elif kind < 0.68:
            yield roster(rng, rng.choice(world.groups))
        elif kind < 0.92:
            yield story(scenes, rng)
        elif kind < 0.97:
            yield inventory(scenes, rng)
        else:
            yield chatter(scenes, rng)


def portrait(world: World, rng: random.Random, pool: str, subject: str) -> str:
    """Some facts of one subject in any order; people are now and then called by pronoun after the first sentence."""
    relations = [relation for relation in world.relations if relation.subjects == pool]
    told = rng.sample(relations, min(len(relations), rng.randrange(2, 5)))
    who, whose = {"she": ("she", "her"), "he": ("he", "his")}[world.pronoun(subject)] if pool == "people" else ("", "")
    sentences = []
    for index, relation in enumerate(told):
        by_pronoun = index > 0 and pool == "people" and rng.random() < 0.5
        template = rng.choice(relation.statements)
        names = (who, whose) if by_pronoun else ("", "")
        sentences.append(world.fill(template, subject, relation.values[subject], *names))
    return " ".join(sentences)


def roster(rng: random.Random, group: Group) -> str:
    """Some members of a group in any order."""
    members = rng.sample(group.members, rng.randrange(2, min(5, len(group.members)) + 1))
    named = listed([group.named[member] for member in members])
    return sentence(rng.choice(group.rosters), list=named, phrase=group.phrase, value=group.value)


def story(scenes: Scenes, rng: random.Random) -> str:
    """A passage of the training side and, after it, one or two of its points told again."""
    passage = scenes.draw(rng, rng.choice(scenes.scenes), held_out=False)
    points = rng.sample(passage.scene.questions, rng.randrange(2, len(passage.scene.questions)))
    told = dict.fromkeys(passage.fill(point.answer) for point in points)
    return "\n".join((passage.text, " ".join(told)))


def inventory(scenes: Scenes, rng: random.Random) -> str:
    """Words of any sort, read out twice: whatever there is in the world can be said again, so a reply can name it."""
    words = [word for pools in (scenes.world.pools, scenes.pools) for pool in sorted(pools) for word in pools[pool]]
    return sentence(rng.choice(INVENTORIES), items=listed(rng.sample(words, rng.randrange(2, 7))))


def chatter(scenes: Scenes, rng: random.Random) -> str:
    """Remarks of one mood in a row."""
    remarks = scenes.remarks
    mood = rng.choice(tuple(remarks.answers))
    return " ".join(remark(scenes, rng, mood, held_out=False) for _ in range(rng.randrange(2, 5)))


def remark(scenes: Scenes, rng: random.Random, mood: str, *, held_out: bool) -> str:
    """One remark; its pair of thing and wording is reserved for held-out use or not, as asked."""
    remarks = scenes.remarks
    forms = remarks.forms["request" if mood == "request" else "opinion"]
    pairs = [
        (thing, word)
        for thing in remarks.things
        for word in remarks.words.get(mood, forms)
        if scenes.world.reserved("remark", thing, word) == held_out
    ]
    thing, word = rng.choice(pairs)
    return sentence(word if mood == "request" else rng.choice(forms), thing=thing, word=word)
