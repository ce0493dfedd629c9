"""What became of every record and every token of the data.

records = used + rejected + duplicates + bad; tokens = trained + context + cut + repeated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any

from tunesmith.data.dataset.faults import one_line
from tunesmith.data.sources.directories import shown_names
from tunesmith.errors import InternalError

MOST_NAMES = 100  # of what was not read; keys of a row may be data themselves
OTHER_NAMES = "other names"
SHOWN_NAMES = 5
REPORT_IT = "this is a bug of Tunesmith; please report it with the recipe"


@dataclass(slots=True)
class SourceCounts:
    """Counts of one source.

    records: rows, or groups of rows, that were read.
    used: records in the store.
    rejected: records that were filtered, by reason.
    dropped: messages that were dropped from trees that are used, by reason.
    tokens: of all records that were rendered.
    trained: tokens that are targets.
    context: tokens that are only read.
    cut: tokens that the length limit removed, including those of records that it rejected.
    duplicates: records that were dropped because they repeat an earlier one.
    repeated: tokens of these duplicates.
    bad: rows that cannot be used and were left out.
    unread: how often a column or message key holds something that its reader did not read, by its full name.
    matched: in how many used records an entry of a filter occurs, by key and entry; 0 for those that match nothing.
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
    unread: Counter[str] = field(default_factory=Counter)
    matched: Counter[str] = field(default_factory=Counter)

    def add(self, other: SourceCounts) -> None:
        """Add the counts of another part of the same source."""
        for item in fields(self):
            mine, others = getattr(self, item.name), getattr(other, item.name)
            if isinstance(mine, Counter):
                mine.update(others)  # unlike a sum it keeps counts of 0
            else:
                setattr(self, item.name, mine + others)
        if len(self.unread) > MOST_NAMES:
            kept = Counter(dict(self.unread.most_common(MOST_NAMES - 1)))
            self.unread = kept + Counter({OTHER_NAMES: self.unread.total() - kept.total()})

    def use(self, trained: int, context: int) -> None:
        """Count a record that is used, with its tokens."""
        self.used += 1
        self.trained, self.context = self.trained + trained, self.context + context

    def drop_duplicate(self, trained: int, context: int) -> None:
        """Count a record that was counted as used, with its tokens, as a duplicate instead."""
        self.used, self.duplicates = self.used - 1, self.duplicates + 1
        self.trained, self.context = self.trained - trained, self.context - context
        self.repeated += trained + context

    def as_json(self) -> dict[str, Any]:
        """The counts as plain values, without those of what did not happen; ``from_json`` reads them back."""
        amounts = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in ("duplicates", "repeated", "bad", "unread", "matched"):
            if not amounts[name]:
                del amounts[name]
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in amounts.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SourceCounts:
        """The counts that ``as_json`` wrote."""
        counters = {name: Counter(value) for name, value in content.items() if isinstance(value, dict)}
        return cls(**{**content, **counters})

    def check(self) -> None:
        """Raises InternalError if a record or token was lost or counted twice."""
        records = self.used + self.rejected.total() + self.duplicates + self.bad
        tokens = self.trained + self.context + self.cut + self.repeated
        for what, given, found in (("records", self.records, records), ("tokens", self.tokens, tokens)):
            if given != found:
                raise InternalError(
                    f"{given:,} {what} were read, but {found:,} are accounted for ({self})", advice=REPORT_IT
                )


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """Counts of the training or validation part.

    records: trees.
    threads: root-to-leaf paths.
    tokens: that are laid out.
    targets: tokens that are trained.
    """

    records: int
    threads: int
    tokens: int
    targets: int


@dataclass(frozen=True, slots=True)
class DataReport:
    """The counts of a whole dataset.

    sources: the counts of every source by its name.
    duplicates: records that repeat an earlier one where duplicates are kept.
    train, validation: counts of the two parts; None without validation.
    aside: records for neither part, such as those that are held out beyond a limit.
    left_out: by the name of the source, the names in its directory that are not read.
    """

    sources: Mapping[str, SourceCounts]
    duplicates: int
    train: SplitCounts
    validation: SplitCounts | None
    aside: int = 0
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The report for the manifest of a run."""
        content = {
            "sources": {name: counts.as_json() for name, counts in self.sources.items()},
            "duplicates": self.duplicates,
            "train": asdict(self.train),
            "validation": None if self.validation is None else asdict(self.validation),
        }
        content |= {"left_out": {name: [*names] for name, names in self.left_out.items()}} if self.left_out else {}
        return content | ({"aside": self.aside} if self.aside else {})

    def lines(
        self, draws: Mapping[str, tuple[int, int]] = MappingProxyType({}), *, only_prompts: bool = False
    ) -> list[str]:
        """The report for the terminal.

        draws: (trees in an epoch, trees of the source) for the sources that an epoch does not have exactly once.
        only_prompts: whether replies are written in training, so that no token of the data is trained.
        """
        lines = [f"{name}: files not read: {one_line(shown_names(names))}" for name, names in self.left_out.items()]
        for name, counts in self.sources.items():
            lines += [*_source_lines(name, counts, draws.get(name)), *([] if only_prompts else [_tokens(name, counts)])]
        if self.duplicates:
            verb = "repeats" if self.duplicates == 1 else "repeat"
            lines.append(f"{_number(self.duplicates, 'record')} {verb} an earlier one and {_are(self.duplicates)} kept")
        for name, part in (("train", self.train), ("validation", self.validation)):
            if part is not None:
                lines.append(f"{name}: {_size(part, only_prompts=only_prompts)}")
        if self.aside:
            lines.append(f"{_number(self.aside, 'record')} {_are(self.aside)} used for neither training nor validation")
        return lines


def _source_lines(name: str, counts: SourceCounts, draw: tuple[int, int] | None) -> list[str]:
    parts = [f"{counts.used:,} {_are(counts.used)} used"]
    if rejected := counts.rejected.total():
        parts.append(f"{rejected:,} {_are(rejected)} rejected ({reasons(counts.rejected)})")
    if counts.duplicates:
        parts.append(f"{counts.duplicates:,} " + ("is a duplicate" if counts.duplicates == 1 else "are duplicates"))
    if counts.bad:
        parts.append(f"{counts.bad:,} {_are(counts.bad)} quarantined")
    records = f"{_number(counts.records, 'record')} {'was' if counts.records == 1 else 'were'} read"
    lines = [f"{name}: {records}: {', '.join(parts)}" if len(parts) > 1 else f"{name}: {records} and {parts[0]}"]
    lines += [f"{name}: every epoch has {_amount(*draw)}"] if draw is not None else []
    if dropped := counts.dropped.total():
        verb = "was" if dropped == 1 else "were"
        lines.append(f"{name}: {_number(dropped, 'message')} {verb} dropped ({reasons(counts.dropped)})")
    if counts.unread:
        lines.append(f"{name}: columns that are not read: {unread_words(counts.unread, SHOWN_NAMES)}")
    if missed := [entry for entry, count in counts.matched.items() if not count]:
        others = f"; and {len(missed) - SHOWN_NAMES:,} more" if len(missed) > SHOWN_NAMES else ""
        lines.append(f"{name}: warning: nothing in the data matches {'; '.join(missed[:SHOWN_NAMES])}{others}")
    return lines


def _tokens(name: str, counts: SourceCounts) -> str:
    """What became of the tokens of a source."""
    amounts = f"{counts.trained:,} are trained, {counts.context:,} are only read"
    amounts += f", {counts.cut:,} are cut or dropped" if counts.cut else ""
    amounts += f", {counts.repeated:,} are in duplicates" if counts.repeated else ""
    return f"{name}: of {_number(counts.tokens, 'token')}, {amounts}"


def _size(part: SplitCounts, *, only_prompts: bool) -> str:
    """How large a part of the data is. Threads are counted where conversations have branches."""
    size = _number(part.records, "record")
    if only_prompts:
        return f"{size} with {_number(part.threads, 'prompt')}"
    size += f" with {_number(part.threads, 'thread')}" if part.threads != part.records else ""
    return f"{size}; {part.targets:,} of {_number(part.tokens, 'token')} are trained"


def _amount(count: int, size: int) -> str:
    """How much of a source an epoch has. size: of the source."""
    if count == size:
        return f"all its {_number(size, 'record')}"
    if count < size:
        return f"{count:,} of its {_number(size, 'record')}, drawn again for each epoch"
    return f"each of its {_number(size, 'record')} {count / size:.4g} times"


def unread_words(unread: Counter[str], most: int | None = None) -> str:
    """``category 15,011; messages[].id 400``, the most frequent first. most: names that are listed; None for all."""
    named = [f"{name} {count:,}" for name, count in unread.most_common(most)]
    others = len(unread) - len(named)
    return "; ".join(named) + (f"; and {others:,} more" if others else "")


def reasons(counts: Counter[str]) -> str:
    """``too long: 12, language de: 3``, the most frequent first."""
    return ", ".join(f"{reason}: {count:,}" for reason, count in counts.most_common())


def _number(count: int, word: str) -> str:
    return f"{count:,} {word}" + ("" if count == 1 else "s")


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
