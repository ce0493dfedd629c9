"""What the replies of a sampling report look like, for every sampling configuration: values and a table."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, NamedTuple

from tunesmith.report.intervals import GroupedRate
from tunesmith.report.reply_faults import has_control_text, has_loop, words_of

WIDTH = 80
NAME_WIDTH, COLUMN_WIDTH = 17, 7
SEQUENCE_LENGTHS = (1, 2, 3, 4)
"""Words of the sequences that are counted for ``distinct``."""
PRINTED_LENGTH = 4
"""The one of them that is printed."""

NOTE = (
    "Below a share is its 95 % interval. ended: by the model; the others were cut (?: not known). mean, median: length "
    "in {unit}. loops: the same words four times in a row. dist-4: share of sequences of four words that are new in "
    "their reply. leaks: text of control tokens. same: equal to another sample."
)


class SampledText(NamedTuple):
    """One reply.

    text: without end tokens.
    ended: whether the model ended it by itself; None where it is not known.
    tokens: its length; None where it is not known.
    """

    text: str
    ended: bool | None = None
    tokens: int | None = None


Samples = Sequence[Sequence[SampledText]]
"""For every prompt the replies to it."""


@dataclass(frozen=True, slots=True)
class ConfigurationSummary:
    """The replies of one sampling configuration.

    configuration: its name.
    prompts, replies: their numbers; prompts without a reply do not count.
    ended: replies that the model ended by itself; the others were cut. Without trials where it is not known.
    mean, median: length of the replies.
    unit: of the length, ``tokens`` where they are known, otherwise ``characters``.
    loops, control, empty: replies with a loop, with text of control tokens, and without any text.
    same: replies whose text another sample for the prompt has; only prompts with several samples count.
    distinct: number of words n -> of all sequences of n words, the share that occurs for the first time in its reply
        (distinct-n; Li et al. 2016, "A Diversity-Promoting Objective Function", counted within replies as Welleck et
        al. 2020 do). None where no reply has n words.
    """

    configuration: str
    prompts: int
    replies: int
    ended: GroupedRate
    mean: float
    median: float
    unit: str
    loops: GroupedRate
    control: GroupedRate
    empty: GroupedRate
    same: GroupedRate
    distinct: Mapping[int, float | None]

    def as_json(self) -> dict[str, Any]:
        """The summary as plain values: a share with its interval, None where nothing is known."""
        return {
            "configuration": self.configuration,
            "prompts": self.prompts,
            "replies": self.replies,
            "length": {"unit": self.unit, "mean": self.mean, "median": self.median},
            **{name: _rate_json(getattr(self, name)) for name in ("ended", "loops", "control", "empty", "same")},
            "distinct": {str(words): share for words, share in self.distinct.items()},
        }


def summarize_samples(samples: Mapping[str, Samples]) -> list[ConfigurationSummary]:
    """The summary of every sampling configuration that has replies.

    samples: name of a configuration -> for every prompt the replies to it.
    """
    found = {name: [group for group in groups if group] for name, groups in samples.items()}
    return [_summary(name, groups) for name, groups in found.items() if groups]


def sampling_lines(summaries: Sequence[ConfigurationSummary]) -> Iterator[str]:
    """A table of the summaries in 80 columns and a note on how to read it; nothing in them is escaped yet."""
    yield from table_lines(summaries)
    yield ""
    yield from note_lines(summaries)


def table_lines(summaries: Sequence[ConfigurationSummary]) -> Iterator[str]:
    """The table of ``sampling_lines``."""
    headers = ("replies", "ended", "mean", "median", "loops", "dist-4", "empty", "leaks", "same")
    yield _row("", headers)
    for summary in summaries:
        rates = [summary.ended, summary.loops, summary.empty, summary.control, summary.same]
        ended, loops, empty, leaks, same = (_share(rate) for rate in rates)
        numbers = (f"{summary.mean:,.0f}", f"{summary.median:,.0f}")
        distinct = summary.distinct[PRINTED_LENGTH]
        shown = "?" if distinct is None else f"{distinct:.2f}"
        yield _row(summary.configuration, (f"{summary.replies:,}", ended, *numbers, loops, shown, empty, leaks, same))
        ended, loops, empty, leaks, same = (_interval(rate) for rate in rates)
        yield _row("", ("", ended, "", "", loops, "", empty, leaks, same))


def note_lines(summaries: Sequence[ConfigurationSummary]) -> Iterator[str]:
    """The note of ``sampling_lines``."""
    units = dict.fromkeys(summary.unit for summary in summaries)
    yield from textwrap.wrap(NOTE.format(unit=" or ".join(units)), WIDTH)


def _summary(name: str, groups: Samples) -> ConfigurationSummary:
    replies = [reply for group in groups for reply in group]
    tokens = [reply.tokens for reply in replies if reply.tokens is not None]
    lengths = tokens if len(tokens) == len(replies) else [len(reply.text) for reply in replies]
    return ConfigurationSummary(
        configuration=name,
        prompts=len(groups),
        replies=len(replies),
        ended=GroupedRate.of([reply.ended for reply in group if reply.ended is not None] for group in groups),
        mean=fmean(lengths),
        median=float(median(lengths)),
        unit="tokens" if lengths is tokens else "characters",
        loops=_rate(groups, lambda reply: has_loop(reply.text)),
        control=_rate(groups, lambda reply: has_control_text(reply.text)),
        empty=_rate(groups, lambda reply: not reply.text.strip()),
        same=GroupedRate.of(_same(group) for group in groups if len(group) > 1),
        distinct={count: distinct_share([reply.text for reply in replies], count) for count in SEQUENCE_LENGTHS},
    )


def distinct_share(texts: Sequence[str], count: int) -> float | None:
    """Of all sequences of ``count`` words, the share that occurs for the first time in its text; None without any."""
    total = distinct = 0
    for text in texts:
        words = words_of(text)
        sequences = list(zip(*(words[start:] for start in range(count)), strict=False))
        total, distinct = total + len(sequences), distinct + len(set(sequences))
    return distinct / total if total else None


def _rate(groups: Samples, is_true: Callable[[SampledText], bool]) -> GroupedRate:
    return GroupedRate.of([is_true(reply) for reply in group] for group in groups)


def _same(group: Sequence[SampledText]) -> list[bool]:
    """For every reply whether another one has its text."""
    counts = Counter(reply.text.strip() for reply in group)
    return [counts[reply.text.strip()] > 1 for reply in group]


def _rate_json(rate: GroupedRate) -> dict[str, Any] | None:
    low, high = rate.interval()
    return {"share": rate.share, "low": low, "high": high, "count": rate.rate.successes} if rate.groups else None


def _row(name: str, cells: Sequence[str]) -> str:
    shown = name if len(name) < NAME_WIDTH else f"{name[: NAME_WIDTH - 3]}.."
    return (f"{shown:{NAME_WIDTH}}" + "".join(f"{cell:>{COLUMN_WIDTH}}" for cell in cells)).rstrip()


def _share(rate: GroupedRate) -> str:
    if not rate.groups:
        return "?"
    return "<1%" if 0 < rate.share < 0.005 else f"{rate.share:.0%}"


def _interval(rate: GroupedRate) -> str:
    if not rate.groups:
        return ""
    low, high = (round(100 * bound) for bound in rate.interval())
    return f"{low}-{high}"
