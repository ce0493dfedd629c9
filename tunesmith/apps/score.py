"""`tunesmith score`: what a reward model says of conversations, of ranked replies, and of the replies in sampling reports."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import transformers

from tunesmith.apps.sampling_reports import SamplingReport, read_report
from tunesmith.apps.score_report import report_scores
from tunesmith.compose.progress import show_progress
from tunesmith.data.readers.pipeline import outcomes
from tunesmith.data.readers.reader import Rejected
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.errors import DataError, MissingInputError, UsageError
from tunesmith.evaluate.ranking import ranking_metrics
from tunesmith.evaluate.reward_scorer import RewardScorer, Scored, open_reward_scorer
from tunesmith.files import write_file
from tunesmith.text.formats.format import with_context
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Tree
from tunesmith.text.visible import visible

TOLD = ("accuracy", "accuracy/pairs", "margin", "kendall_tau")
"""Measures of ranked replies that are printed."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How files of records are read: the reader, its fields and its options."""

    reader: str = "messages"
    fields: Mapping[str, str] | None = None
    options: Mapping[str, Any] | None = None


def run(
    model: str,
    inputs: Sequence[str],
    *,
    output: Path | None = None,
    reading: Reading | None = None,
    format: str | None = None,
    skip: bool = False,
    target: TextIO | None = None,
    errors: TextIO | None = None,
) -> None:
    """Score the inputs and write what was found to ``output``, or to ``target`` (standard output).

    model: a run or an export. inputs: files of records, or sampling reports. reading: of records; with one given, every
    input holds records. format: the prompt format of a model that does not carry one. skip: leave out what cannot be
    scored, with its reason, instead of stopping. errors: where progress and summary go (standard error).
    Raises MissingInputError, DataError, UsageError, RecipeError, StorageError.
    """
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    told = errors or sys.stderr
    reports = [] if reading else [report for report in map(_report, inputs) if report is not None]
    if reports and len(reports) < len(inputs):
        raise UsageError("some inputs are sampling reports, others are not", advice="score them one kind at a time")
    judge = open_reward_scorer(model, format)
    if reports:
        found = [_of_report(judge, report, skip, told) for report in reports]
        text = json.dumps(found[0] if len(found) == 1 else found, indent=2, ensure_ascii=False) + "\n"
    else:
        text = _of_records(judge, inputs, reading or Reading(), skip, told)
    if output is None:
        (target or sys.stdout).write(text)
    else:
        write_file(output, text)


def _report(path: str) -> SamplingReport | None:
    return read_report(Path(path).expanduser()) if Path(path).expanduser().is_file() else None


def _of_report(judge: RewardScorer, report: SamplingReport, skip: bool, told: TextIO) -> dict[str, Any]:
    with show_progress(f"scoring {report.name}") as progress:
        found = report_scores(judge, report, skip, lambda done, total: progress(done, total, "prompts"))
    print(visible(f"{report.name}, replies of {report.model}:"), file=told)
    for name, mean in found["results"].items():
        print(f"  {mean:9.4f}  {visible(name)}", file=told)
    skipped = f", {found['unscored']} not scored" if found["unscored"] else ""
    print(
        f"  {found['mean_reward']:9.4f}  mean of all, best of each prompt {found['RM_score']:.4f}{skipped}", file=told
    )
    return found


def _of_records(judge: RewardScorer, inputs: Sequence[str], reading: Reading, skip: bool, told: TextIO) -> str:
    trees: list[Tree] = []
    faults: list[DataError] = []
    for outcome in _outcomes(inputs, reading):
        (faults if isinstance(outcome, DataError) else trees).append(outcome)  # type: ignore[arg-type]
    kept: list[tuple[Tree, TokenTree]] = []
    for tree, tokens in zip(trees, judge.render(trees), strict=True):
        if isinstance(tokens, DataError):
            faults.append(tokens)
        else:
            kept.append((tree, tokens))
    _refuse(faults, skip, told)
    if not kept:
        raise MissingInputError("there is nothing to score", where=", ".join(inputs), advice="check the files")
    with show_progress("scoring") as progress:
        scored = judge.scores([tokens for _, tokens in kept], lambda done, total: progress(done, total, "records"))
    lines = [line for (tree, _), scores in zip(kept, scored, strict=True) for line in _lines(tree, scores)]
    _tell([tokens for _, tokens in kept], scored, told)
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _outcomes(inputs: Sequence[str], reading: Reading) -> Iterator[Tree | DataError]:
    for path in inputs:
        spec = SourceConfig(path, path, reading.reader, fields=reading.fields or {}, options=reading.options or {})
        yield from (outcome for outcome in outcomes(spec) if not isinstance(outcome, Rejected))


def _refuse(faults: Sequence[DataError], skip: bool, told: TextIO) -> None:
    """Raises the first fault, unless they are to be skipped; then they are told."""
    if faults and not skip:
        first, more = faults[0], f" (and {len(faults) - 1} more)" if faults[1:] else ""
        advice = f"{first.advice}; --skip leaves such records out" if first.advice else "--skip leaves it out"
        raise DataError(f"{first.what}{more}", where=first.where, advice=advice)
    for fault in faults:
        print(visible(f"not scored: {fault}"), file=told)


def _lines(tree: Tree, scores: Scored) -> Iterator[dict[str, Any]]:
    """One record a thread, its messages with their score."""
    for thread, score in zip(tree.threads(), scores.threads, strict=True):
        messages = [
            {"role": tree.messages[index].role, "content": with_context(tree.messages[index], "keep")}
            for index in thread
        ]
        rank = tree.messages[thread[-1]].rank
        ranked = {} if rank is None else {"rank": rank}
        yield {"place": tree.place, "messages": messages, "score": score, **ranked}


def _tell(trees: Sequence[TokenTree], scored: Sequence[Scored], told: TextIO) -> None:
    threads = [score for scores in scored for score in scores.threads]
    print(
        f"{len(threads):,} threads of {len(trees):,} records, mean score {sum(threads) / len(threads):.4f}", file=told
    )
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
    words = ", ".join(f"{name} {metrics[name]:.4f}" for name in TOLD)
    print(f"{int(metrics['groups']):,} rankings, {int(metrics['pairs']):,} pairs: {words}", file=told)
