"""What became of the data, to the record and to the token.

Records in = used + rejected + duplicates + bad ones; tokens in = trained + context + cut + those of duplicates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any

from tunesmith.errors import InternalError

REPORT_IT = "this is a fault of Tunesmith; please report it with the recipe"


@dataclass(slots=True)
class SourceCounts:
    """Counts of one source.

    records: rows read. used: records in the store. rejected: records by reason. dropped: messages that a filter took out of
    trees that stayed, by reason. tokens: of all records that were rendered. trained: targets. context: tokens that are only
    read. cut: tokens that the length limit took, those of records that it rejected included. duplicates: records dropped
    because they repeat an earlier one. repeated: their tokens. bad: rows that could not be used and were left out.
    """

    records: int = 0
    used: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    trained: int = 0
    context: int = 0
    cut: int = 0
    duplicates: int = 0
    repeated: int = 0
    bad: int = 0

    def add(self, other: SourceCounts) -> None:
        """Add the counts of another part of the same source."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))

    def drop_duplicate(self, trained: int, context: int) -> None:
        """A record that was counted as used, with so many tokens, repeats an earlier one."""
        self.used, self.duplicates = self.used - 1, self.duplicates + 1
        self.trained, self.context = self.trained - trained, self.context - context
        self.repeated += trained + context

    def as_json(self) -> dict[str, Any]:
        """The counts as plain values, without those of what did not happen; ``SourceCounts.of`` reads them back."""
        amounts = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in ("duplicates", "repeated", "bad"):
            if not amounts[name]:
                del amounts[name]
        return amounts | {"rejected": dict(self.rejected), "dropped": dict(self.dropped)}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> SourceCounts:
        """The counts that ``as_json`` wrote."""
        return cls(**{**content, "rejected": Counter(content["rejected"]), "dropped": Counter(content["dropped"])})

    def check(self) -> None:
        """Nothing was lost and nothing counted twice. Raises InternalError."""
        records = self.used + self.rejected.total() + self.duplicates + self.bad
        tokens = self.trained + self.context + self.cut + self.repeated
        for what, given, found in (("records", self.records, records), ("tokens", self.tokens, tokens)):
            if given != found:
                raise InternalError(f"{given:,} {what} came in, {found:,} are accounted for ({self})", advice=REPORT_IT)


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """What training or validation got."""

    records: int
    threads: int
    tokens: int
    targets: int


@dataclass(frozen=True, slots=True)
class DataReport:
    """sources: the counts of every source by its name. duplicates: records that repeat an earlier one, all of them used.
    aside: records that are neither trained nor evaluated, as what is held back beyond a limit."""

    sources: Mapping[str, SourceCounts]
    duplicates: int
    train: SplitCounts
    validation: SplitCounts | None
    aside: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the manifest of a run."""
        sources = {name: tally.as_json() for name, tally in self.sources.items()}
        validation = None if self.validation is None else asdict(self.validation)
        content = {
            "sources": sources,
            "duplicates": self.duplicates,
            "train": asdict(self.train),
            "validation": validation,
        }
        return content | ({"aside": self.aside} if self.aside else {})

    def lines(self, draws: Mapping[str, tuple[int, int]] = MappingProxyType({})) -> list[str]:
        """For the terminal. draws: (trees in an epoch, trees there are) of sources of which not simply all are taken."""
        lines = [line for name, tally in self.sources.items() for line in _source_lines(name, tally, draws.get(name))]
        if self.duplicates:
            verb = "repeats" if self.duplicates == 1 else "repeat"
            lines.append(f"{_number(self.duplicates, 'record')} {verb} an earlier one")
        for name, side in (("train", self.train), ("validation", self.validation)):
            if side is not None:
                shape = f"{_number(side.records, 'record')}, {_number(side.threads, 'thread')}"
                lines.append(f"{name}: {shape}, {side.tokens:,} tokens, {side.targets:,} of them trained")
        if self.aside:
            lines.append(f"set aside, for neither of the two: {_number(self.aside, 'record')}")
        return lines


def _source_lines(name: str, tally: SourceCounts, draw: tuple[int, int] | None) -> list[str]:
    parts = [f"{tally.used:,} used"]
    parts += [f"{tally.rejected.total():,} rejected ({reasons(tally.rejected)})"] if tally.rejected else []
    parts += [_number(tally.duplicates, "duplicate")] if tally.duplicates else []
    parts += [f"{tally.bad:,} quarantined"] if tally.bad else []
    parts += ["none rejected"] if len(parts) == 1 else []
    lines = [f"{name}: {_number(tally.records, 'record')} = {', '.join(parts)}"]
    lines += [f"{name}: every epoch has {_amount(*draw)}"] if draw is not None else []
    if tally.dropped:
        lines.append(f"{name}: {_number(tally.dropped.total(), 'message')} dropped ({reasons(tally.dropped)})")
    amounts = f"{tally.trained:,} trained, {tally.context:,} context, {tally.cut:,} cut"
    amounts += f", {tally.repeated:,} in duplicates" if tally.repeated else ""
    lines.append(f"{name}: {_number(tally.tokens, 'token')} = {amounts}")
    return lines


def _amount(count: int, size: int) -> str:
    """How much of a source an epoch has. size: what there is."""
    if count == size:
        return f"all its {_number(size, 'record')}"
    if count < size:
        return f"{count:,} of its {_number(size, 'record')}, drawn anew"
    return f"each of its {_number(size, 'record')} {count / size:.4g} times"


def reasons(counts: Counter[str]) -> str:
    """``too long: 12, language de: 3``, the most frequent first."""
    return ", ".join(f"{reason}: {count:,}" for reason, count in counts.most_common())


def _number(count: int, word: str) -> str:
    return f"{count:,} {word}" + ("" if count == 1 else "s")
