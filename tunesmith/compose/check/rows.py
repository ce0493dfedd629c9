"""Checks of what became of the rows: columns that were not read, and filters that match nothing."""

from __future__ import annotations

from collections import Counter

from tunesmith.data.dataset.report import DataReport, unread_words
from tunesmith.data.readers.columns import is_named_like_a_turn
from tunesmith.data.sources.directories import shown_names
from tunesmith.report.check import Check

UNREAD = "unread columns"
SHOWN_NAMES = 12  # of the columns and keys of one source


def records_check(report: DataReport) -> Check:
    """How many records are used, and why the others are not."""
    tallies = list(report.sources.values())
    records, used = sum(tally.records for tally in tallies), sum(tally.used for tally in tallies)
    rejected = sum((tally.rejected for tally in tallies), Counter[str]())
    parts = [f"{count:,} {reason}" for reason, count in rejected.most_common()]
    repeated, bad = sum(tally.duplicates for tally in tallies), sum(tally.bad for tally in tallies)
    parts += [f"{repeated:,} duplicates"] if repeated else []
    parts += [f"{bad:,} that cannot be read"] if bad else []
    left_out = f"; left out are {', '.join(parts)}" if parts else ""
    return Check("records", "pass", f"{used:,} of {records:,} records are used{left_out}")


def unread_check(report: DataReport) -> Check:
    """Every column and message key that holds something and that its reader does not read, with its count."""
    sources = {name: counts.unread for name, counts in report.sources.items() if counts.unread}
    if not sources:
        return Check(UNREAD, "pass", "0 columns and keys that hold something are not read")
    named = [f"{name}: {unread_words(unread, SHOWN_NAMES)}" for name, unread in sources.items()]
    count = sum(len(unread) for unread in sources.values())
    subject = "1 column or key is" if count == 1 else f"{count:,} columns and keys are"
    summary = f"{subject} not read: {'. '.join(named)}"
    doubtful = {column for unread in sources.values() for column in unread if is_named_like_a_turn(column)}
    if not doubtful:
        return Check(UNREAD, "pass", summary)
    shown = ", ".join(sorted(doubtful))
    advice = f"name what holds a part of the conversation ({shown}) under fields of its source, or list it under ignore"
    return Check(UNREAD, "warn", summary, "data.sources", advice)


def left_out_checks(report: DataReport) -> list[Check]:
    """The files of directories that are not read; empty where there are none."""
    if not report.left_out:
        return []
    count = sum(map(len, report.left_out.values()))
    subject = "1 file of a directory is" if count == 1 else f"{count:,} files of directories are"
    named = [f"{name}: {shown_names(names)}" for name, names in report.left_out.items()]
    return [Check("files", "pass", f"{subject} not read: {'. '.join(named)}")]


def unmatched_checks(report: DataReport) -> list[Check]:
    """A warning about entries of filters that occur in no record that is used; empty where there are no entries."""
    entries = [(name, entry) for name, counts in report.sources.items() for entry in counts.matched]
    if not entries:
        return []
    missed = [(name, entry) for name, entry in entries if not report.sources[name].matched[entry]]
    summary = f"{len(missed):,} of {len(entries):,} entries of filters occur in no record that is used"
    if not missed:
        return [Check("filters", "pass", summary)]
    places = tuple((name, entry) for name, entry in missed)
    return [Check("filters", "warn", summary, "data.sources", "correct these entries, or remove them", places)]
