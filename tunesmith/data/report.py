"""What became of the data, to the record and to the token: records in = used + rejected, tokens in = trained + context + cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class Tally:
    """Counts of one source.

    records: rows read. used: records in the store. rejected: records by reason. dropped: messages that a filter took out of
    trees that stayed, by reason. tokens: of all records that were rendered. trained: targets. context: tokens that are only
    read. cut: tokens that the length limit took, those of records that it rejected included.
    """

    records: int = 0
    used: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    trained: int = 0
    context: int = 0
    cut: int = 0

    def add(self, other: Tally) -> None:
        """Add the counts of another part of the same source."""
        self.records, self.used = self.records + other.records, self.used + other.used
        self.rejected, self.dropped = self.rejected + other.rejected, self.dropped + other.dropped
        self.tokens, self.trained = self.tokens + other.tokens, self.trained + other.trained
        self.context, self.cut = self.context + other.context, self.cut + other.cut

    def as_json(self) -> dict[str, Any]:
        """The counts as plain values; ``Tally.of`` reads them back."""
        amounts = {item.name: getattr(self, item.name) for item in fields(self)}
        return amounts | {"rejected": dict(self.rejected), "dropped": dict(self.dropped)}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Tally:
        """The counts that ``as_json`` wrote."""
        return cls(**{**content, "rejected": Counter(content["rejected"]), "dropped": Counter(content["dropped"])})

    def check(self) -> None:
        """Nothing was lost and nothing counted twice."""
        assert self.records == self.used + self.rejected.total(), self
        assert self.tokens == self.trained + self.context + self.cut, self


@dataclass(frozen=True, slots=True)
class Side:
    """What training or validation got."""

    records: int
    threads: int
    tokens: int
    targets: int


@dataclass(frozen=True, slots=True)
class DataReport:
    """sources: the counts of every source by its name. duplicates: records that repeat an earlier one, all of them used."""

    sources: Mapping[str, Tally]
    duplicates: int
    train: Side
    validation: Side | None

    def as_json(self) -> dict[str, Any]:
        """For the manifest of a run."""
        sources = {name: tally.as_json() for name, tally in self.sources.items()}
        validation = None if self.validation is None else asdict(self.validation)
        return {
            "sources": sources,
            "duplicates": self.duplicates,
            "train": asdict(self.train),
            "validation": validation,
        }

    def lines(self) -> list[str]:
        """For the terminal."""
        lines = [line for name, tally in self.sources.items() for line in _source_lines(name, tally)]
        if self.duplicates:
            verb = "repeats" if self.duplicates == 1 else "repeat"
            lines.append(f"{_number(self.duplicates, 'record')} {verb} an earlier one")
        for name, side in (("train", self.train), ("validation", self.validation)):
            if side is not None:
                shape = f"{_number(side.records, 'record')}, {_number(side.threads, 'thread')}"
                lines.append(f"{name}: {shape}, {side.tokens:,} tokens, {side.targets:,} of them trained")
        return lines


def _source_lines(name: str, tally: Tally) -> list[str]:
    rejected = f", {tally.rejected.total():,} rejected ({reasons(tally.rejected)})" if tally.rejected else ""
    lines = [f"{name}: {_number(tally.records, 'record')} = {tally.used:,} used{rejected or ', none rejected'}"]
    if tally.dropped:
        lines.append(f"{name}: {_number(tally.dropped.total(), 'message')} dropped ({reasons(tally.dropped)})")
    amounts = f"{tally.trained:,} trained, {tally.context:,} context, {tally.cut:,} cut"
    lines.append(f"{name}: {_number(tally.tokens, 'token')} = {amounts}")
    return lines


def reasons(counts: Counter[str]) -> str:
    """``too long: 12, language de: 3``, the most frequent first."""
    return ", ".join(f"{reason}: {count:,}" for reason, count in counts.most_common())


def _number(count: int, word: str) -> str:
    return f"{count:,} {word}" + ("" if count == 1 else "s")
