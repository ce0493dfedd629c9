"""Checks of what became of the rows: columns that were not read, and filters that match nothing."""

from __future__ import annotations

from tunesmith.data.dataset.report import DataReport, unread_words
from tunesmith.report.check import Check

SHOWN_NAMES = 12  # of the columns and keys of one source


def unread_check(report: DataReport) -> Check:
    """Every column and message key that holds something and that its reader does not read, with its count."""
    sources = {name: counts.unread for name, counts in report.sources.items() if counts.unread}
    if not sources:
        return Check("unread columns", "pass", "every column and key that holds something was read")
    named = [f"{name}: {unread_words(unread, SHOWN_NAMES)}" for name, unread in sources.items()]
    return Check("unread columns", "pass", f"not read: {'. '.join(named)}")


def unmatched_checks(report: DataReport) -> list[Check]:
    """A warning about entries of filters that occur in no record that is used; empty where there are no entries."""
    entries = [(name, entry) for name, counts in report.sources.items() for entry in counts.matched]
    if not entries:
        return []
    missed = [(name, entry) for name, entry in entries if not report.sources[name].matched[entry]]
    if not missed:
        return [Check("filters", "pass", f"each of their {len(entries):,} entries occurs in the data")]
    summary = f"{len(missed):,} of {len(entries):,} entries of filters occur in no record that is used"
    places = tuple((name, entry) for name, entry in missed)
    return [Check("filters", "warn", summary, "data.sources", "correct these entries, or remove them", places)]
