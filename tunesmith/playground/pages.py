"""The pages at the end of the demo: one of every run, and one with the replies of all models next to each other."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tunesmith.apps.compare import run as compare_reports
from tunesmith.apps.report_writing import ConfigurationOutputs, PromptOutputs, report_text
from tunesmith.apps.sampling_reports import END_TOKENS
from tunesmith.files import write_file
from tunesmith.playground.answers import HeldOutReplies
from tunesmith.playground.exercises import Exercise
from tunesmith.train.run.directory import PAGE

REPORTS, COMPARISON = "reports", "compare.html"
CONFIGURATION, PARAMETERS = "greedy", {"do_sample": False}


def write_comparison(directory: Path, exercises: Sequence[Exercise], answers: Mapping[str, HeldOutReplies]) -> Path:
    """Write a sampling report of every model, and the page that compares them; returns the path of the page.

    directory: of the demo.
    exercises, answers: model -> its replies to the exercises.
    Raises StorageError.
    """
    reports = []
    for model, found in answers.items():
        path = directory / REPORTS / f"{model}.json"
        write_file(path, sampling_report(model, exercises, found))
        reports.append(str(path))
    page = directory / COMPARISON
    compare_reports(reports, output=page, target=io.StringIO())
    return page


def sampling_report(model: str, exercises: Sequence[Exercise], answers: HeldOutReplies) -> str:
    """The text of a report as Open-Assistant publishes them. Replies that the model ended have an end token."""
    prompts = [
        PromptOutputs(
            {"prompt": f"{exercise.instruction}\n\n{exercise.context}" if exercise.context else exercise.instruction},
            [ConfigurationOutputs(CONFIGURATION, PARAMETERS, [reply.text + (END_TOKENS[0] if reply.stopped else "")])],
        )
        for exercise, reply in zip(exercises, answers.replies, strict=True)
    ]
    date = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    return report_text(model, date, {}, prompts)


def describe_pages(directory: Path, models: Sequence[str], comparison: Path) -> Iterator[str]:
    """The last lines of the demo. models: whose runs have pages, in the order of their training."""
    yield "Open in a browser: the curves and replies of every run, and all models compared"
    for path in (*(directory / name / PAGE for name in models), comparison):
        yield f"  {path}"
