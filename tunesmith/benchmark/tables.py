"""The results of a benchmark as a table in 80 columns, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tunesmith.benchmark.differences import TaskDifference
from tunesmith.benchmark.published import ITEMS
from tunesmith.benchmark.results import ModelScores, TaskScore, geometric_mean
from tunesmith.benchmark.suites import DOLLY
from tunesmith.text.visible import visible

WIDTH = 80
COLUMN = 7
NAME = WIDTH - COLUMN * (len(DOLLY) + 1)
HEADS = (
    *(("open-", "bookqa"), ("arc_", "easy"), ("wino-", "grande"), ("hella-", "swag"), ("arc_", "chall.")),
    *(("", "piqa"), ("", "boolq"), ("", "gmean")),
)
"""The columns of the card in two lines, with the geometric mean."""
SHOWN = "95 % of all differences of two models together; one is shown only if McNemar's exact test shows it too"


class CardRow(NamedTuple):
    """A row of the table of the card.

    model: its name.
    values: one for each task that is shown, in the order of the card.
    published: whether it is a printed row of the card.
    """

    model: str
    values: tuple[float, ...]
    published: bool = False

    @property
    def mean(self) -> float:
        """The geometric mean of the values, by which the table is sorted; it is the card's if these are all seven."""
        return geometric_mean(self.values)


@dataclass(frozen=True, slots=True)
class BenchmarkResults:
    """Everything that is printed and written.

    models: the scores of every model.
    differences: (first, second) label -> differences, the second less the first.
    published: rows of the card that are shown as well.
    versions: package -> version.
    limit: how many items of every task were used; None for all.
    """

    models: tuple[ModelScores, ...]
    differences: Mapping[tuple[str, str], Sequence[TaskDifference]]
    published: Mapping[str, Mapping[str, float]]
    versions: Mapping[str, str]
    limit: int | None

    def card_tasks(self) -> tuple[str, ...]:
        """The columns of the table: all tasks of the card, or with the published rows those that were evaluated."""
        found = tuple(name for name in DOLLY if self.models[0].find(name) is not None)
        return found if self.published or len(found) == len(DOLLY) else ()

    def card_rows(self) -> list[CardRow]:
        """The rows of the table, by ascending geometric mean; empty without columns."""
        tasks = self.card_tasks()
        own = [
            CardRow(model.label, tuple(score.score for name in tasks if (score := model.find(name)) is not None))
            for model in self.models
        ]
        others = [CardRow(name, tuple(row[task] for task in tasks), True) for name, row in self.published.items()]
        return sort_rows([*own, *others]) if tasks else []

    def remarks(self) -> list[str]:
        """What a reader of the numbers should know, one sentence each."""
        found = dict.fromkeys(note for model in self.models for note in model.notes)
        for score in self.models[0].tasks:
            if score.data.split != score.data.expected:
                own, usual = score.data.split, score.data.expected
                found[f"{score.task}: the {own} split was used; published tables have the {usual} split."] = None
        if self.limit is not None:
            found[f"Only the first {self.limit:,} items of each task: not comparable with other results."] = None
        elif self.published and (other := self._other_sizes()):
            found[f"Not the items of the card: {', '.join(other)}."] = None
        if self.published and (missing := [name for name in DOLLY if name not in self.card_tasks()]):
            found[f"Without {', '.join(missing)} there is no geometric mean as in the card."] = None
        for model in self.models:
            for score in model.tasks:
                if score.work is not None and score.work.truncated:
                    cut = f"{score.work.truncated:,} of {len(score.items):,} items are too long for the model"
                    found[f"{score.task}: {cut}; their beginning is not read ({model.label})."] = None
        return list(found)

    def _other_sizes(self) -> list[str]:
        sizes = {score.task: len(score.items) for score in self.models[0].tasks}
        shown = [task for task in self.card_tasks() if sizes[task] != ITEMS[task]]
        return [f"{task} has {sizes[task]:,} of {ITEMS[task]:,}" for task in shown]


def sort_rows(rows: Sequence[CardRow]) -> list[CardRow]:
    """By ascending geometric mean, as the card has them."""
    return sorted(rows, key=lambda row: row.mean)


def terminal_lines(results: BenchmarkResults) -> Iterator[str]:
    """The lines to print; nothing in them is escaped yet."""
    yield from _card_lines(results)
    for model in results.models:
        yield ""
        yield _cut(f"{model.label}: {describe_prompts(model)}, {model.dtype}", WIDTH)
        yield f"  {'task':20}{'metric':12}{'split':11}{'items':>7}{'score':>8}   95 % interval"
        yield from (_score_line(score) for score in model.tasks)
        if (rate := model.subjects) is not None:
            low, high = rate.interval()
            yield f"  {'mmlu, all subjects':43}{rate.total:7,}{rate.share:8.3f}   {low:.3f} to {high:.3f}"
    for (first, second), differences in results.differences.items():
        yield ""
        yield _cut(f"{second} less {first}, on the same items:", WIDTH)
        yield from (_difference_line(difference, second) for difference in differences)
    if results.differences:
        yield from textwrap.wrap(f"Intervals: {SHOWN}.", WIDTH)
    yield ""
    for remark in results.remarks():
        yield from textwrap.wrap(remark, WIDTH)


def _card_lines(results: BenchmarkResults) -> Iterator[str]:
    """The table of the card; without all of its tasks it has no geometric mean."""
    tasks = results.card_tasks()
    heads = HEADS if len(tasks) == len(DOLLY) else [HEADS[DOLLY.index(task)] for task in tasks]
    rows = results.card_rows()
    for level in range(2 if rows else 0):
        title = "model" if level else ""
        yield f"{title:{NAME}}" + "".join(f"{head[level]:>{COLUMN}}" for head in heads)
    for row in rows:
        name = f"({row.model.rpartition('/')[2]})" if row.published else row.model
        yield f"{_cut(name, NAME - 1):{NAME}}" + "".join(f"{value:{COLUMN}.3f}" for value in _shown(row))
    if rows and results.published:
        yield from textwrap.wrap("(in brackets: as printed in the card of dolly-v2-7b)", WIDTH)


def _shown(row: CardRow) -> tuple[float, ...]:
    """The values of a row, followed by the geometric mean where it is that of the card."""
    return (*row.values, row.mean) if len(row.values) == len(DOLLY) else row.values


def markdown(results: BenchmarkResults) -> str:
    """The same as Markdown, with six decimals as in the card."""
    lines: list[str] = []
    if rows := results.card_rows():
        heads = [*results.card_tasks(), "gmean"][: len(_shown(rows[0]))]
        lines += [*_markdown_row(["model", *heads]), "|---" + "|---:" * len(heads) + "|"]
        for row in rows:
            name = f"{row.model} (published)" if row.published else row.model
            lines += _markdown_row([name, *map(six_decimals, _shown(row))])
        lines.append("")
    lines += _markdown_row(["model", "task", "metric", "split", "shots", "items", "score", "95 % interval"])
    lines.append("|---|---|---|---|---:|---:|---:|---|")
    for model in results.models:
        for score in model.tasks:
            low, high = score.interval()
            cells = [f"{model.label} ({describe_prompts(model)})", score.task, score.metric, score.data.split]
            cells += [str(score.shots), str(len(score.items)), six_decimals(score.score), f"{low:.4f} to {high:.4f}"]
            lines += _markdown_row(cells)
    for (first, second), differences in results.differences.items():
        lines += ["", *_markdown_row([f"{second} less {first}", "difference", "interval", "p", "verdict"])]
        lines.append("|---|---:|---|---:|---|")
        for each in differences:
            p_value = "" if each.p_value is None else f"{each.p_value:.3g}"
            interval = f"{each.low:+.4f} to {each.high:+.4f}"
            lines += _markdown_row([each.task, f"{each.mean:+.4f}", interval, p_value, verdict(each, second)])
    if results.differences:
        lines += ["", f"Intervals: {SHOWN}."]
    lines += ["", *_markdown_row(["task", "version", "data", "SHA-256"]), "|---|---|---|---|"]
    for score in results.models[0].tasks:
        for data, digest in _digests(score):
            lines += _markdown_row([score.task, score.version, data, digest])
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return "\n".join([*lines, "", *(f"* {remark}" for remark in results.remarks()), f"* {versions}", ""])


def _digests(score: TaskScore) -> Iterator[tuple[str, str]]:
    """(what, SHA-256) of the data of a task: its files, and the items that were used."""
    yield from score.data.files.items()
    revision = f", revision {score.data.revision}" if score.data.revision else ""
    yield f"the {len(score.items):,} items{revision}", score.items_digest


def csv_table(results: BenchmarkResults) -> str:
    """One line for every model and task."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["model", "prompts", "engine", "task", "version", "metric", "split", "shots", "items", "correct"]
    writer.writerow([*head, "score", "low", "high", "truncated", "items_sha256", "revision", "lm_eval"])
    for model in results.models:
        for score in model.tasks:
            rate, (low, high) = score.rate, score.interval()
            row = [_safe_cell(model.label), model.prompts, model.engine, score.task, score.version, score.metric]
            row += [score.data.split, str(score.shots), str(len(score.items)), str(rate.successes) if rate else ""]
            row += [repr(score.score), repr(low), repr(high), str(score.work.truncated) if score.work else ""]
            row += [score.items_digest, score.data.revision, results.versions.get("lm_eval", "")]
            writer.writerow(row)
    return text.getvalue()


def as_json(results: BenchmarkResults) -> dict[str, Any]:
    """Everything as JSON, without wall-clock times: equal calls give equal bytes."""
    return {
        "versions": dict(results.versions),
        "limit": results.limit,
        "models": [_model_json(model) for model in results.models],
        "published": {name: dict(row) for name, row in results.published.items()},
        "differences": [
            {"first": first, "second": second, "tasks": [_difference_json(each) for each in differences]}
            for (first, second), differences in results.differences.items()
        ],
        "remarks": results.remarks(),
    }


def describe_prompts(model: ModelScores) -> str:
    """How the prompts were written, and by which engine."""
    prompts = "prompts without a chat format" if model.prompts == "plain" else f"prompts as a {model.prompts}"
    return f"{prompts}, engine {model.engine}" if model.engine != "tree" else prompts


def verdict(difference: TaskDifference, second: str) -> str:
    """What is said about a difference."""
    if math.isinf(difference.low):
        return "too few items"
    if not difference.is_shown:
        return "no difference shown"
    return f"{second} is {'better' if difference.mean > 0 else 'worse'}"


def six_decimals(value: float) -> str:
    """A value as the card prints it: six decimals, without zeros at the end."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _score_line(score: TaskScore) -> str:
    low, high = score.interval()
    metric = score.metric.partition(",")[0]
    start = f"  {_cut(score.task, 19):20}{_cut(metric, 11):12}{_cut(score.data.split, 10):11}"
    return f"{start}{len(score.items):7,}{score.score:8.3f}   {low:.3f} to {high:.3f}"


def _difference_line(difference: TaskDifference, second: str) -> str:
    interval = "" if math.isinf(difference.low) else f"({difference.low:+.3f} to {difference.high:+.3f})"
    start = f"  {_cut(difference.task, 19):20}{difference.mean:+8.3f}  {interval:20}"
    return f"{start}  {_cut(verdict(difference, second), WIDTH - len(start) - 2)}"


def _model_json(model: ModelScores) -> dict[str, Any]:
    values, rate = model.card_values, model.subjects
    return {
        "model": model.label,
        "path": model.path,
        "prompts": model.prompts,
        "engine": model.engine,
        "dtype": model.dtype,
        "fingerprint": model.fingerprint,
        "notes": list(model.notes),
        "gmean": None if values is None else geometric_mean([values[name] for name in DOLLY]),
        "tasks": {score.task: _task_json(score) for score in model.tasks},
        "mmlu": None if rate is None else {"correct": rate.successes, "items": rate.total, "score": rate.share},
    }


def _task_json(score: TaskScore) -> dict[str, Any]:
    low, high = score.interval()
    work = score.work
    return {
        "version": score.version,
        "metric": score.metric,
        "score": score.score,
        "correct": score.rate.successes if score.rate else None,
        "items": len(score.items),
        "low": _finite(low),
        "high": _finite(high),
        "metrics": dict(score.others),
        "shots": score.shots,
        "split": score.data.split,
        "published_split": score.data.expected,
        "data_sha256": dict(score.data.files),
        "items_sha256": score.items_digest,
        "revision": score.data.revision or None,
        "truncated": None if work is None else work.truncated,
        "tokens": {"computed": work.computed, "naive": work.naive} if work and work.computed else None,
    }


def _difference_json(difference: TaskDifference) -> dict[str, Any]:
    return {
        "task": difference.task,
        "items": difference.items,
        "difference": difference.mean,
        "low": _finite(difference.low),
        "high": _finite(difference.high),
        "p_value": difference.p_value,
        "shown": difference.is_shown,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _markdown_row(cells: Sequence[str]) -> list[str]:
    escaped = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
    return [f"| {' | '.join(escaped)} |"]


def _safe_cell(text: str) -> str:
    """A text that a spreadsheet does not take for a formula.

    It leaves out a tab or CR before it looks for one; a CR would also end the row, because csv does not quote it.
    """
    before = "'" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else ""
    return before + visible(text)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
