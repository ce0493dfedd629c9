"""The facts of the demo: people, things and their attributes, generated from ``facts.yaml`` and a seed."""

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
    """An attribute of all subjects of a pool. The templates are explained in ``facts.yaml``.

    name: its name.
    subjects: the name of the pool.
    values: subject -> value; these pairs are the facts.
    statements: templates that state a fact.
    questions: templates that ask for a fact.
    answer: the template of the answer.
    """

    name: str
    subjects: str
    values: Mapping[str, str]
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class SubjectGroup:
    """The subjects that have the same value of a relation.

    phrase: completes "Name three ...".
    members: the subjects of the group.
    others: the subjects that have another value.
    named: member -> how it is written in a sentence.
    rosters: templates that list members.
    value: the value of the relation.
    """

    phrase: str
    members: tuple[str, ...]
    others: tuple[str, ...]
    named: Mapping[str, str]
    rosters: tuple[str, ...]
    value: str


@dataclass(frozen=True, slots=True)
class DemoWorld:
    """All facts, and which combinations are held out.

    seed: the seed of the facts.
    pools: the name of a pool -> its words; the words of ``mass`` have no article, people in ``women`` are called she.
    relations: the relations with their facts.
    groups: the groups that can be listed.
    """

    seed: int
    pools: Mapping[str, tuple[str, ...]]
    relations: tuple[Relation, ...]
    groups: tuple[SubjectGroup, ...]

    def article(self, noun: str) -> str:
        """The noun with its indefinite article, if it has one."""
        if noun in self.pools["mass"]:
            return noun
        return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"

    def pronoun(self, person: str) -> str:
        """``she`` or ``he``."""
        return "she" if person in self.pools["women"] else "he"

    def relation(self, name: str) -> Relation:
        """The relation of that name."""
        return next(relation for relation in self.relations if relation.name == name)

    def is_held_out(self, *parts: str, share: int = 4) -> bool:
        """Whether a combination occurs in held-out instructions only: one in ``share``, decided by a hash."""
        digest = hashlib.sha256("\n".join((str(self.seed), *parts)).encode()).digest()
        return int.from_bytes(digest[:8], "big") % share == 0

    def fill(self, template: str, subject: str, value: str, who: str = "", whose: str = "") -> str:
        """Fill a template of a relation; ``who`` and ``whose`` are pronouns, or empty to name the subject."""
        return fill_sentence(
            template,
            who=who or subject,
            whose=whose or f"{subject}'s",
            subject=subject,
            a_subject=self.article(subject),
            value=value,
            a_value=self.article(value),
        )


def fill_sentence(template: str, **slots: str) -> str:
    """Fill a template and capitalise its first letter."""
    text = template.format(**slots)
    return text[0].upper() + text[1:]


def join_words(words: Sequence[str]) -> str:
    """Words as a list in a sentence: ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def read_table(name: str) -> dict[str, Any]:
    """A YAML file of this package; its pools become tuples of words (text is split at spaces, a list is kept)."""
    table: dict[str, Any] = yaml.safe_load((HERE / name).read_text(encoding="utf-8"))
    words = {pool: tuple(value.split() if isinstance(value, str) else value) for pool, value in table["pools"].items()}
    words["people"] = words["women"] + words["men"]
    return table | {"pools": words}


def build_world(seed: int) -> DemoWorld:
    """Generate the facts. The same seed gives the same facts on every machine."""
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
    world = DemoWorld(seed, pools, tuple(relations), ())
    found = tuple(group for relation, entry in groups if entry for group in _groups(world, relation, entry))
    return DemoWorld(seed, pools, world.relations, found)


def _facts(entry: Mapping[str, Any], pools: Mapping[str, Sequence[str]], rng: random.Random) -> dict[str, str]:
    """Subject -> value: fixed facts as in the table, random ones with all values about equally often."""
    subjects = pools[entry["subjects"]]
    if "facts" in entry:
        fixed = {subject: value for value, names in entry["facts"].items() for subject in names.split()}
        assert set(fixed) == set(subjects), f"{entry['name']}: the table does not have the subjects of the pool"
        return {subject: fixed[subject] for subject in subjects}
    values = pools[entry["from"]]
    drawn = [values[index % len(values)] for index in range(len(subjects))]
    rng.shuffle(drawn)
    return dict(zip(subjects, drawn, strict=True))


def _groups(world: DemoWorld, relation: Relation, entry: Mapping[str, Any]) -> list[SubjectGroup]:
    """One group for every value of the relation."""
    found = []
    for value in sorted(set(relation.values.values())):
        phrase = entry["phrase"]
        phrase = phrase[value] if isinstance(phrase, dict) else phrase.format(value=value)
        members = tuple(subject for subject, held in relation.values.items() if held == value)
        others = tuple(subject for subject, held in relation.values.items() if held != value)
        named = {member: entry["item"].format(subject=member, a_subject=world.article(member)) for member in members}
        found.append(SubjectGroup(phrase, members, others, named, tuple(entry["roster"]), value))
    return found
