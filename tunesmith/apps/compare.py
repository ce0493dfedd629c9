"""`tunesmith compare`: sampling reports next to each other, as a page for the browser or as numbers in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from tunesmith.apps.report_rewards import ReportRewards, assign_rewards, read_rewards
from tunesmith.apps.sampling_reports import SamplingReport, prompt_digest, read_report, report_key
from tunesmith.errors import DataError, UsageError
from tunesmith.files import check_no_input, write_file
from tunesmith.report.compare_page import compare_page
from tunesmith.report.compare_statistics import compare_columns, summarize
from tunesmith.report.compare_terminal import comparison_lines
from tunesmith.report.compared import ComparedModel, ComparedPrompt, ComparedReply, Comparison, unique_labels
from tunesmith.text.visible import visible


def run(
    reports: Sequence[str],
    *,
    output: Path | None = None,
    text: bool = False,
    scores: Sequence[str] = (),
    seed: int = 0,
    target: TextIO | None = None,
) -> None:
    """Compare the reports.

    Args:
        reports: files with sampling reports.
        output: the page to write, if any.
        text: print the summary; without ``output`` it is always printed.
        scores: files that `tunesmith score` wrote for the reports.
        seed: decides which reply is left and which is right in blind votes.
        target: where is printed (standard output).

    Raises MissingInputError, DataError, UsageError, StorageError.
    """
    paths = [Path(name).expanduser() for name in reports]
    if output is not None:
        _check_output(output, [*paths, *map(Path, scores)])
    comparison = read_comparison(paths, [Path(name) for name in scores])
    screen = target or sys.stdout
    summaries, differences = summarize(comparison), compare_columns(comparison)
    if text or output is None:
        for line in comparison_lines(comparison, summaries, differences):
            print(visible(line), file=screen)
    if output is not None:
        page = compare_page(comparison, summaries, differences, seed).encode()
        verb = "replaced" if output.exists() else "wrote"
        write_file(output, page)
        replies = sum(len(prompt.replies) for prompt in comparison.prompts)
        what = f"prompts: {len(comparison.prompts):,}, replies: {replies:,}, {len(page) / 1e6:.1f} MB"
        print(visible(f"{verb} {output} ({what}); open it in a browser"), file=screen)


def _check_output(output: Path, inputs: Sequence[Path]) -> None:
    """Raises UsageError for a page that would replace a report, or whose name no browser opens as a page."""
    check_no_input(output, inputs)
    if output.suffix not in (".html", ".htm"):
        raise UsageError(f"{str(output)!r} is not the name of a page", advice=f"let it end in .html: -o {output}.html")


def read_comparison(reports: Sequence[Path], scores: Sequence[Path] = ()) -> Comparison:
    """The comparison of the reports in these files. Raises MissingInputError, DataError, UsageError."""
    _check_distinct(reports)
    found = [open_report(path) for path in reports]
    rewards = assign_rewards([each for path in scores for each in read_rewards(path)], found)
    files = [report.name for report in found]
    if len(set(files)) < len(files):
        files = [str(path) for path in reports]
    labels = unique_labels([(report.model, file) for report, file in zip(found, files, strict=True)])
    models = tuple(_model(report, label) for report, label in zip(found, labels, strict=True))
    texts: dict[str, str] = {}
    prompts: dict[str, list[ComparedReply]] = {}
    for number, (report, values) in enumerate(zip(found, rewards, strict=True)):
        known = report.shows_ends
        for key, places in places_of_prompts(report).items():
            texts.setdefault(key, report.prompts[places[0]].prompt)
            prompts.setdefault(key, []).extend(_replies(number, report, places, values, known))
    configurations = dict.fromkeys(name for report in found for replies in report.prompts for name in replies.outputs)
    return Comparison(
        models,
        tuple(configurations),
        tuple(ComparedPrompt(texts[key], key, tuple(replies)) for key, replies in prompts.items()),
        next((each.reward_model for each in rewards if each is not None), ""),
    )


def _check_distinct(reports: Sequence[Path]) -> None:
    """Raises UsageError for a report that is given twice."""
    seen = set[Path]()
    for path in reports:
        if path.resolve() in seen:
            raise UsageError("this report is given twice", where=path, advice="give it once")
        seen.add(path.resolve())


def open_report(path: Path) -> SamplingReport:
    """The sampling report in a file. Raises MissingInputError, and DataError for any other file."""
    report = read_report(path)
    if report is None:
        advice = "write one: tunesmith sample MODEL"
        raise DataError("this is not a sampling report", where=path, advice=advice)
    return report


def places_of_prompts(report: SamplingReport) -> dict[str, list[int]]:
    """The digest of every prompt of a report -> the places in ``report.prompts`` that have it; usually there is one."""
    found: dict[str, list[int]] = {}
    for place, replies in enumerate(report.prompts):
        found.setdefault(prompt_digest(replies), []).append(place)
    return found


def samples_of(report: SamplingReport, places: Sequence[int], configuration: str) -> Iterator[tuple[int, int]]:
    """(place in ``report.prompts``, index) of the replies to one prompt; votes refer to them by their number here."""
    for place in places:
        for index in range(len(report.prompts[place].outputs.get(configuration, ()))):
            yield place, index


def _model(report: SamplingReport, label: str) -> ComparedModel:
    parameters = {name: _one_line(values) for name, values in report.parameters.items()}
    repeated = len(report.prompts) - len(places_of_prompts(report))
    return ComparedModel(label, report.model, report.name, report.date, report_key(report), parameters, repeated)


def _one_line(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in parameters.items())


def _replies(
    model: int, report: SamplingReport, places: Sequence[int], rewards: ReportRewards | None, known: bool
) -> Iterator[ComparedReply]:
    """The replies of one model to one prompt.

    known: whether the report shows which replies ended by themselves: any of its replies has an end token.
    """
    names = dict.fromkeys(name for place in places for name in report.prompts[place].outputs)
    for name in names:
        for sample, (place, index) in enumerate(samples_of(report, places, name)):
            replies = report.prompts[place]
            ended = replies.ended[name][index] if known else None
            reward = rewards.scores[place][name][index] if rewards else None
            yield ComparedReply.of(model, name, sample, replies.outputs[name][index], ended, reward)
