"""The replies of a sampling report by configuration, for the summary that is printed after sampling."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.apps.sampling_reports import SampledReplies, SamplingReport
from tunesmith.report.sampling_summary import ConfigurationSummary, SampledText, sampling_lines, summarize_samples
from tunesmith.text.visible import visible


def summarize_report(report: SamplingReport) -> list[ConfigurationSummary]:
    """The summary of every sampling configuration; lengths in characters, since a report has no tokens."""
    names = dict.fromkeys(name for replies in report.prompts for name in replies.outputs)
    known = report.shows_ends
    return summarize_samples({name: [_texts(replies, name, known) for replies in report.prompts] for name in names})


def summary_lines(report: SamplingReport) -> Iterator[str]:
    """The lines to print, with control characters escaped."""
    return map(visible, sampling_lines(summarize_report(report)))


def _texts(replies: SampledReplies, name: str, known: bool) -> list[SampledText]:
    texts, ended = replies.outputs.get(name, ()), replies.ended.get(name, ())
    return [SampledText(text, end if known else None) for text, end in zip(texts, ended, strict=True)]
