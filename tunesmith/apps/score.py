"""`tunesmith score`: the scores that a reward model gives to conversations, ranked replies and sampling reports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import transformers

from tunesmith.apps.printed_commands import command_lines
from tunesmith.apps.rejection_files import ScoredReports, check_keep, output_files, write_rejections
from tunesmith.apps.sampling_reports import SamplingReport, read_report
from tunesmith.apps.score_report import report_curves, report_scores
from tunesmith.apps.shared_command import SharedCommand, shared_command
from tunesmith.compose.progress import show_progress
from tunesmith.data.readers.pipeline import read_source
from tunesmith.data.readers.reader import ReadTree
from tunesmith.data.readers.recognition import NotRecognised, first_rows, recognise
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.sources.setting_words import COMMAND_LINE
from tunesmith.errors import DataError, MissingInputError, UsageError
from tunesmith.evaluate.ranking import ranking_metrics
from tunesmith.evaluate.reward_scorer import RewardScorer, TreeScores, open_reward_scorer
from tunesmith.files import check_no_input, write_file
from tunesmith.report.best_of import curve_lines, curve_note
from tunesmith.text.formats.format import with_context
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Tree
from tunesmith.text.visible import visible

SCORES = "scores"
"""What is written unless the user says it."""
PRINTED_METRICS = ("accuracy", "accuracy/pairs", "margin", "kendall_tau")
"""The metrics of ranked replies that are printed."""


@dataclass(frozen=True, slots=True)
class ReaderChoice:
    """How files of records are read.

    reader: the name of the reader.
    fields: field of the reader -> the name that the field has in the files.
    options: options of the reader by name.
    ignore: columns and message keys that are left out on purpose.
    """

    reader: str = "messages"
    fields: Mapping[str, str] | None = None
    options: Mapping[str, Any] | None = None
    ignore: tuple[str, ...] = ()


def run(
    model: str,
    inputs: Sequence[str],
    *,
    output: Path | None = None,
    reading: ReaderChoice | None = None,
    format: str | None = None,
    skip: bool = False,
    kind: str = SCORES,
    keep: int | None = None,
    target: TextIO | None = None,
    errors: TextIO | None = None,
) -> list[dict[str, Any]]:
    """Score the inputs and write the scores, or the replies that they choose; returns what is written as scores.

    Several processes share the work, and the first one prints and writes.

    Args:
        model: a run or an export.
        inputs: files of records, or sampling reports.
        output: the file to write, for a selection the directory; None writes scores to ``target``.
        reading: how files of records are read; if it is given, every input is one.
        format: the prompt format of a model that does not declare one.
        skip: leave out what cannot be scored and print its reason, instead of raising.
        kind: what is written: SCORES or a key of REJECTION_KINDS, which need sampling reports and ``output``.
        keep: how many replies to a prompt a kind has; None for its default.
        target: where scores are written without ``output`` (standard output).
        errors: where progress and summary are printed (standard error).

    Raises MissingInputError, DataError, UsageError, RecipeError, StorageError.
    """
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with shared_command(target, errors) as command:
        with command.preparation():
            for path in _output_files(kind, output, keep):
                check_no_input(path, map(Path, inputs))
            reports = [] if reading else _read_reports(inputs)
            for name in inputs if kind != SCORES and not reports else ():
                if not Path(name).exists():
                    raise MissingInputError("there is no such file", where=name, advice="check the path")
            if kind != SCORES and not reports:
                what = f"--write {kind} needs sampling reports, and there are none"
                raise UsageError(what, where=inputs[0], advice="`tunesmith preferences` converts other files to pairs")
            scorer = open_reward_scorer(model, format)
        found = score_reports(scorer, reports, skip, command)
        scores = found if reports else _score_records(scorer, inputs, reading, skip, command)
        text = _reports_text(found) if reports else _records_text(scores)
        if not command.world.is_first:
            return scores
        if kind != SCORES:
            assert output is not None, "it was checked"
            scored = ScoredReports.of(reports, [each["scores"] for each in found], scorer.name)
            command.note(*write_rejections(kind, scored, output, keep))
        elif output is not None:
            command.note(*_write_scores(text, inputs if reports else (), output))
        else:
            command.screen.write(text)
        return scores


def _read_reports(inputs: Sequence[str]) -> list[SamplingReport]:
    """The sampling reports; none where the inputs are files of records. Raises UsageError for inputs of both kinds."""
    reports = [report for report in map(_read_report, inputs) if report is not None]
    if reports and len(reports) < len(inputs):
        raise UsageError("some inputs are sampling reports, others are not", advice="score them one kind at a time")
    return reports


def _reports_text(found: Sequence[dict[str, Any]]) -> str:
    return json.dumps(found[0] if len(found) == 1 else found, indent=2, ensure_ascii=False) + "\n"


def _records_text(lines: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _write_scores(text: str, reports: Sequence[str], output: Path) -> list[str]:
    """Write the scores; returns the lines to print, with the next command where they are of reports."""
    wrote = f"{'replaced' if output.exists() else 'wrote'} {output}"
    write_file(output, text)
    if not reports:
        return [wrote]
    compare = command_lines(["tunesmith", "compare", *reports, ("--scores", output), ("-o", "page.html")])
    return [wrote, "compare the replies with their scores:", *compare]


def _output_files(kind: str, output: Path | None, keep: int | None) -> list[Path]:
    """The files that will be written. Raises UsageError for arguments that do not belong together."""
    if kind == SCORES:
        if keep is not None:
            raise UsageError("--keep has no effect on scores", advice="name what is chosen: --write report")
        return [] if output is None else [output]
    if output is None:
        raise UsageError(f"--write {kind} needs a name for what it writes", advice="append it: --output NAME")
    check_keep(kind, keep)
    return output_files(kind, output)


def _read_report(path: str) -> SamplingReport | None:
    """The sampling report in a file; None where the file is missing or holds something else."""
    return read_report(Path(path).expanduser()) if Path(path).expanduser().is_file() else None


def score_reports(
    scorer: RewardScorer, reports: Sequence[SamplingReport], skip: bool, command: SharedCommand
) -> list[dict[str, Any]]:
    """Score sampling reports and print their summaries, with one note; returns the JSON object to write of each."""
    found = [_score_report(scorer, report, skip, command) for report in reports]
    if any(each["best_of"] for each in found):
        print("\n".join((*curve_note(), "")), file=command.log)
    return found


def _score_report(scorer: RewardScorer, report: SamplingReport, skip: bool, command: SharedCommand) -> dict[str, Any]:
    """Score a sampling report and print its summary; returns the JSON object to write."""
    world, log = command.world, command.log
    with show_progress(f"scoring {report.name}", shown=world.is_first) as progress:
        found = report_scores(scorer, report, skip, lambda done, total: progress(done, total, "prompts"), world)
    print(visible(f"{report.name}, replies of {report.model}:"), file=log)
    for name, mean in found["results"].items():
        print(f"  {mean:9.4f}  {visible(name)}", file=log)
    skipped = f"; {found['unscored']} replies were skipped" if found["unscored"] else ""
    summary = f"mean of all replies; mean of the best reply to each prompt {found['RM_score']:.4f}{skipped}"
    print(f"  {found['mean_reward']:9.4f}  {summary}", file=log)
    if curves := report_curves(found["scores"]):
        for line in ("", *curve_lines(curves), ""):
            print(visible(line), file=log)
    return found


def _score_records(
    scorer: RewardScorer, inputs: Sequence[str], reading: ReaderChoice | None, skip: bool, command: SharedCommand
) -> list[dict[str, Any]]:
    """Score files of records and print the summary; returns the lines of JSON to write."""
    world, log = command.world, command.log
    trees: list[Tree] = []
    faults: list[DataError] = []
    for path in inputs:
        found = list(_read_records(path, reading or ReaderChoice()))
        trees += (each for each in found if isinstance(each, Tree))
        wrong = [each for each in found if isinstance(each, DataError)]
        advice = _reader_advice(path) if wrong and reading is None and not skip else None
        faults += wrong if advice is None else [DataError(each.what, where=each.where, advice=advice) for each in wrong]
    kept: list[tuple[Tree, TokenTree]] = []
    for tree, tokens in zip(trees, scorer.render(trees), strict=True):
        if isinstance(tokens, DataError):
            faults.append(tokens)
        else:
            kept.append((tree, tokens))
    _raise_or_print(faults, skip, log)
    if not kept:
        raise MissingInputError("there is nothing to score", where=", ".join(inputs), advice="check the files")
    with show_progress("scoring", shown=world.is_first) as progress:
        rendered = [tokens for _, tokens in kept]
        scored = scorer.scores(rendered, lambda done, total: progress(done, total, "records"), world)
    lines = [line for (tree, _), scores in zip(kept, scored, strict=True) for line in _lines(tree, scores)]
    _print_summary(rendered, scored, log)
    return lines


def _read_records(path: str, settings: ReaderChoice) -> Iterator[Tree | DataError]:
    fields, options = settings.fields or {}, settings.options or {}
    source = SourceConfig(path, path, settings.reader, fields=fields, options=options, ignore=settings.ignore)
    for result in read_source(source):
        if isinstance(result, DataError):
            yield result
        elif isinstance(result, ReadTree):
            yield result.tree


def _reader_advice(path: str) -> str | None:
    """The options for the reader that a file needs; None where the rows are of the default reader, or of no other."""
    try:
        found = recognise(first_rows(path, key=COMMAND_LINE), key=COMMAND_LINE)
    except DataError:
        return None  # no row can be parsed, which the reader has said
    if isinstance(found, NotRecognised) or found.reading.reader == ReaderChoice().reader:
        return None
    return f"name the reader: {found.reading.words(COMMAND_LINE)}"


def _raise_or_print(faults: Sequence[DataError], skip: bool, log: TextIO) -> None:
    """Raises the first fault, or with ``skip`` prints all of them."""
    if faults and not skip:
        first, more = faults[0], f" (and {len(faults) - 1} more)" if faults[1:] else ""
        advice = f"{first.advice}; --skip leaves such records out" if first.advice else "--skip leaves it out"
        raise DataError(f"{first.what}{more}", where=first.where, advice=advice)
    for fault in faults:
        print(visible(f"not scored: {fault}"), file=log)


def _lines(tree: Tree, scores: TreeScores) -> Iterator[dict[str, Any]]:
    """One JSON object for each thread: its messages and its score."""
    for thread, score in zip(tree.threads(), scores.threads, strict=True):
        path = [tree.messages[index] for index in thread]
        messages = [message.as_dict(with_context(message, "keep")) for message in path]
        rank = tree.messages[thread[-1]].rank
        ranked = {} if rank is None else {"rank": rank}
        tools = {"tools": json.loads(path[0].tools)} if path[0].tools else {}
        yield {"place": tree.place, **tools, "messages": messages, "score": score, **ranked}


def _print_summary(trees: Sequence[TokenTree], scored: Sequence[TreeScores], log: TextIO) -> None:
    """Print the mean score, and the metrics of the ranked replies if there are any."""
    threads = [score for scores in scored for score in scores.threads]
    mean = sum(threads) / len(threads)
    print(f"{len(threads):,} threads of {len(trees):,} records, mean score {mean:.4f}", file=log)
    replies = [score for scores in scored for score in scores.replies]
    if not replies:
        return
    groups: dict[tuple[int, int], int] = {}
    group = [
        groups.setdefault((number, parent), len(groups))
        for number, tree in enumerate(trees)
        for parent in tree.replies[:, 1].tolist()
    ]
    metrics = ranking_metrics(replies, group, [rank for tree in trees for rank in tree.replies[:, 2].tolist()])
    values = ", ".join(f"{name} {metrics[name]:.4f}" for name in PRINTED_METRICS)
    print(f"{int(metrics['groups']):,} rankings, {int(metrics['pairs']):,} pairs: {values}", file=log)
