"""The closed world: who and what there is, and what is true of it, drawn from one seed out of ``facts.yaml``."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Relation:
    """One attribute of one pool of subjects; ``values`` are its facts, templates are explained in ``facts.yaml``."""

    name: str
    subjects: str
    values: Mapping[str, str]
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Group:
    """Subjects that share a value. ``phrase`` completes "Name three ..."; ``named`` is how a member reads in a sentence;
    ``strangers`` have another value."""

    phrase: str
    members: tuple[str, ...]
    strangers: tuple[str, ...]
    named: Mapping[str, str]
    rosters: tuple[str, ...]
    value: str


@dataclass(frozen=True, slots=True)
class World:
    """All facts. ``mass`` words take no article; ``women`` are called she, other people he."""

    seed: int
    pools: Mapping[str, tuple[str, ...]]
    relations: tuple[Relation, ...]
    groups: tuple[Group, ...]

    def article(self, noun: str) -> str:
        """The noun with its indefinite article, if it takes one."""
        if noun in self.pools["mass"]:
            return noun
        return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"

    def pronoun(self, person: str) -> str:
        """``she`` or ``he``."""
        return "she" if person in self.pools["women"] else "he"

    def relation(self, name: str) -> Relation:
        """The relation of that name."""
        return next(relation for relation in self.relations if relation.name == name)

    def reserved(self, *parts: str, share: int = 4) -> bool:
        """Whether a combination is kept for held-out instructions: one in ``share``, whatever else is generated."""
        digest = hashlib.sha256("\n".join((str(self.seed), *parts)).encode()).digest()
        return int.from_bytes(digest[:8], "big") % share == 0

    def fill(self, template: str, subject: str, value: str, who: str = "", whose: str = "") -> str:
        """A sentence from a template of a relation; ``who`` and ``whose`` are pronouns or nothing for the subject itself."""
        return sentence(
            template,
            who=who or subject,
            whose=whose or f"{subject}'s",
            subject=subject,
            a_subject=self.article(subject),
            value=value,
            a_value=self.article(value),
        )


def sentence(template: str, **slots: str) -> str:
    """Fill a template and begin it with a capital letter."""
    text = template.format(**slots)
    return text[0].upper() + text[1:]


def listed(items: Sequence[str]) -> str:
    """Items as they stand in a sentence: ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))


def read_table(name: str) -> dict[str, Any]:
    """A bundled YAML file; its pools become tuples of words (a text is split at blanks, a list taken as it is)."""
    table: dict[str, Any] = yaml.safe_load((HERE / name).read_text(encoding="utf-8"))
    words = {pool: tuple(value.split() if isinstance(value, str) else value) for pool, value in table["pools"].items()}
    words["people"] = words["women"] + words["men"]
    return table | {"pools": words}


def build_world(seed: int) -> World:
    """Draw the facts. The same seed gives the same world on every machine."""
    table = read_table("facts.yaml")
    pools = table["pools"]
    relations, groups = [], []
    for entry in table["relations"]:
        values = _facts(entry, pools, random.Random(f"{seed} {entry['name']}"))
        relation = Relation(
            entry["name"],
            entry["subjects"],
            values,
            tuple(entry["statements"]),
            tuple(entry["questions"]),
            entry["answer"],
        )
        relations.append(relation)
        groups.append((relation, entry.get("group")))
    world = World(seed, pools, tuple(relations), ())
    found = tuple(group for relation, entry in groups if entry for group in _groups(world, relation, entry))
    return World(seed, pools, world.relations, found)


def _facts(entry: Mapping[str, Any], pools: Mapping[str, Sequence[str]], rng: random.Random) -> dict[str, str]:
    """Fixed facts as they are; drawn ones so that all values are used about equally often."""
    subjects = pools[entry["subjects"]]
    if "facts" in entry:
        fixed = {subject: value for value, names in entry["facts"].items() for subject in names.split()}
        assert set(fixed) == set(subjects), f"{entry['name']}: the table names other subjects than the pool"
        return {subject: fixed[subject] for subject in subjects}
    values = pools[entry["from"]]
    drawn = [values[index % len(values)] for index in range(len(subjects))]
    rng.shuffle(drawn)
    return dict(zip(subjects, drawn, strict=True))


def _groups(world: World, relation: Relation, entry: Mapping[str, Any]) -> list[Group]:
    """One group for every value of the relation."""
    found = []
    for value in sorted(set(relation.values.values())):
        phrase = entry["phrase"]
        phrase = phrase[value] if isinstance(phrase, dict) else phrase.format(value=value)
        members = tuple(subject for subject, held in relation.values.items() if held == value)
        strangers = tuple(subject for subject, held in relation.values.items() if held != value)
        named = {member: entry["item"].format(subject=member, a_subject=world.article(member)) for member in members}
        found.append(Group(phrase, members, strangers, named, tuple(entry["roster"]), value))
    return found
