"""Answers instructions from the prose and the passages only, by patterns, without any table of facts.

It uses the templates of statements, questions and sentences; every value in an answer comes from text that the model is
trained on as well.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from tunesmith.playground.exercises import COUNTS, FIELDS, LIST_WORDINGS, SORT_WORDINGS
from tunesmith.playground.facts import DemoWorld, Relation, SubjectGroup
from tunesmith.playground.passages import PassageGenerator, PassageKind

BLANK = re.compile(r"\{(\w+)\}")
WORD = r"[A-Za-z]+"
PRONOUN = r"(?:[Ss]he|[Hh]e)"


def pattern(template: str, **kinds: str) -> re.Pattern[str]:
    """A template as a regular expression: blanks become named groups, and a repeated blank must say the same again.

    kinds: the expression of a blank, where it is not a single word.
    """
    parts, seen, at = [], set[str](), 0
    for blank in BLANK.finditer(template):
        parts.append(re.escape(template[at : blank.start()]))
        at = blank.end()
        name = blank.group(1)
        article = r"(?:[Aa]n? )?" if name.startswith("a_") else ""
        name = name.removeprefix("a_")
        if name.endswith("_pronoun"):
            parts.append(PRONOUN)
        elif name in seen:
            parts.append(f"{article}(?P={name})")
        else:
            seen.add(name)
            parts.append(f"{article}(?P<{name}>{kinds.get(name, WORD)})")
    parts.append(re.escape(template[at:]))
    text = "".join(parts)
    if text[0].islower():
        text = f"[{text[0].upper()}{text[0]}]{text[1:]}"
    return re.compile(text)


def sentences(text: str) -> list[str]:
    """A text cut after full stops, question marks and line ends."""
    return [part for part in re.split(r"(?<=[.?!]) |\n+", text) if part]


def words_of(listed: str) -> list[str]:
    """``the owl, a pear and Ada`` -> the three words."""
    return [re.sub(r"^(?:the|an?) ", "", item, flags=re.IGNORECASE) for item in re.split(r", | and ", listed)]


class Reader:
    """The facts and groups that the prose states.

    facts: (relation, subject) -> values.
    members: phrase of a group -> members.
    """

    def __init__(self, passages: PassageGenerator, prose: Iterable[str]) -> None:
        self.passages, self.world = passages, passages.world
        self.facts: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.members: dict[str, set[str]] = defaultdict(set)
        self._statements = [(each, pattern(t)) for each in self.world.relations for t in _statements(each)]
        self._rosters = [
            (group, pattern(_roster(group, t), list=".+?")) for group in self.world.groups for t in group.rosters
        ]
        for line in {line for text in prose for line in sentences(text)}:
            self._take_in(line)

    def _take_in(self, line: str) -> None:
        for relation, form in self._statements:
            if (found := form.fullmatch(line)) and (subject := _known(self.world, relation, found["subject"])):
                self.facts[relation.name, subject].add(found["value"])
        for group, form in self._rosters:
            if found := form.fullmatch(line):
                self.members[group.phrase] |= {self._as_inside(word) for word in words_of(found["list"])}

    def _as_inside(self, word: str) -> str:
        """A word as it reads inside a sentence: a capital stays only where it belongs to the word."""
        names = {name for pool in self.world.pools.values() for name in pool}
        return word if word in names else word.lower()

    def answer(self, instruction: str, context: str) -> str:
        """The reply; AssertionError if there is none or more than one."""
        found = set(self._passage(instruction, context) if context else self._knowledge(instruction))
        assert len(found) == 1, (instruction, context, found)
        return found.pop()

    def _knowledge(self, instruction: str) -> Iterator[str]:
        for relation in self.world.relations:
            for template in relation.questions:
                found = pattern(template).fullmatch(instruction)
                if found and (subject := _known(self.world, relation, found["subject"])):
                    for value in self.facts[relation.name, subject]:
                        yield self.world.fill(relation.answer, subject, value)
        for group in self.world.groups:
            for wording in LIST_WORDINGS:
                if found := pattern(wording.replace("{phrase}", group.phrase)).fullmatch(instruction):
                    yield "\n".join(
                        f"- {each}" for each in sorted(self.members[group.phrase])[: COUNTS[found["count"]]]
                    )
        yield from self._sorting(instruction)

    def _sorting(self, instruction: str) -> Iterator[str]:
        for wording in SORT_WORDINGS:
            if not (found := pattern(wording, items=".+", kinds=".+").fullmatch(instruction)):
                continue
            things = words_of(found["items"])
            for name in FIELDS.values():
                kinds = [self.facts.get((name, thing), set()) for thing in things]
                if all(len(kind) == 1 for kind in kinds):
                    yield "\n".join(f"- {thing}: {min(kind)}" for thing, kind in zip(things, kinds, strict=True))

    def _passage(self, instruction: str, context: str) -> Iterator[str]:
        remarks = self.passages.remarks
        if instruction in remarks.wordings:
            yield remarks.answers[self._mood(context)]
        for kind, slots in self.read(context):
            filled = {**slots, **{f"a_{name}": self.world.article(value) for name, value in slots.items()}}
            for question in (*kind.questions, *kind.extractions):
                if instruction in {_capital(wording.format(**filled)) for wording in question.wordings}:
                    yield _capital(question.answer.format(**filled))
            if not _asks_for_a_point(kind, filled, instruction):
                yield _capital(kind.summary.format(**filled))

    def _mood(self, remark: str) -> str:
        for mood, words in self.passages.remarks.words.items():
            if any(remark.endswith(f" {word}.") for word in words):
                return mood
        return "request"

    def read(self, text: str) -> Iterator[tuple[PassageKind, dict[str, str]]]:
        """Every kind of passage whose sentences all occur in the text, with the values of its slots."""
        lines = sentences(text)
        for kind in self.passages.kinds:
            slots: dict[str, str] = {}
            for wordings in kind.sentences:
                found = [match for w in wordings for line in lines if (match := pattern(w).fullmatch(line))]
                if len(found) != 1:
                    break
                for name, value in found[0].groupdict().items():
                    assert slots.setdefault(name, value) == value, (text, name)
            else:
                yield kind, slots


def _statements(relation: Relation) -> list[str]:
    """Statement templates with the subject spelt out."""
    return [each.replace("{whose}", "{subject}'s").replace("{who}", "{subject}") for each in relation.statements]


def _roster(group: SubjectGroup, template: str) -> str:
    return template.replace("{phrase}", group.phrase).replace("{value}", group.value)


def _known(world: DemoWorld, relation: Relation, word: str) -> str | None:
    """The subject of that relation meant by a word, which may begin a sentence; pronouns are nobody."""
    subjects = world.pools[relation.subjects]
    return next((each for each in (word, word.lower()) if each in subjects), None)


def _asks_for_a_point(kind: PassageKind, filled: dict[str, str], instruction: str) -> bool:
    points = (*kind.questions, *kind.extractions)
    return any(instruction == _capital(w.format(**filled)) for point in points for w in point.wordings)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
