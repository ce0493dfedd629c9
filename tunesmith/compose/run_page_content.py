"""What is on the page of a run: texts and numbers from its records, its manifest and its recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.errors import TunesmithError
from tunesmith.files import read_object
from tunesmith.report.run_charts import (
    Chart,
    EvaluationPoint,
    StepCurve,
    build_charts,
    chart_data,
    evenly,
    joined_repetitions,
)
from tunesmith.report.run_page import PageTable, RepliesOverTime, RunPageContent, ShownReply, clipped
from tunesmith.train.run.curves import Curves
from tunesmith.train.run.directory import MANIFEST
from tunesmith.train.run.history import SPEED, RunHistory
from tunesmith.train.run.journal import JOURNAL
from tunesmith.train.run.recorded_recipe import RecordedRecipe
from tunesmith.train.run.shown import SHARE, ShownMetric, ShownText
from tunesmith.train.run.status import RunStatus
from tunesmith.train.run.validation import ALL
from tunesmith.train.run.view import format_duration

MOST_EVALUATIONS = 100
"""Largest number of rows in the table of evaluations; the others are in metrics.jsonl."""
MOST_TEXTS = 40
"""Largest number of evaluations whose replies are compared."""
MOST_LABELS = 7
"""Largest number of evaluations whose labels of the same reply are next to each other."""
MOST_PROMPTS = 20
LONGEST_RECIPE = 200_000
LARGEST_MANIFEST = 1 << 24
DEEPEST = 20
"""Levels of the manifest that are shown as keys."""
PROMPT = "prompt"
LARGEST_AMOUNT = 1e15
"""Whole numbers below it are written with all their digits."""


def page_content(history: RunHistory, status: RunStatus, shown: Sequence[ShownMetric]) -> RunPageContent:
    """The content of the page. shown: the metrics that the method shows. Raises DataError, MissingInputError."""
    recipe = RecordedRecipe.read(history.directory)
    manifest = _read_manifest(history.directory)
    best = history.selection.best
    step = status.step or int(history.last.get("step", 0))
    return RunPageContent(
        name=history.directory.name,
        facts=_facts(recipe),
        state=status.state,
        progress=_progress(status, step, history.last),
        reason=status.reason,
        updated=status.updated,
        step=step,
        steps=status.steps,
        tiles=list(_tiles(history, shown)),
        charts=_charts(history, shown),
        values=_values(history.curves),
        evaluations=_evaluations(history, shown, best),
        replies=list(_replies(history.texts, best)),
        data=list(_data(manifest)),
        checks=status.checks,
        manifest=[(key, value) for key, value in _leaves(_identity(manifest)) if not key.startswith("data.report.")],
        recipe=recipe.text[:LONGEST_RECIPE],
    )


def _read_manifest(directory: Path) -> dict[str, Any]:
    try:
        return read_object(directory / MANIFEST, largest=LARGEST_MANIFEST)
    except TunesmithError:
        return {}


def _identity(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the result of the run: not the recipe, which has another place on the page, nor the starts."""
    return {key: value for key, value in manifest.items() if key not in JOURNAL}


def _facts(recipe: RecordedRecipe) -> str:
    name, about = recipe.find("name"), recipe.find("about")
    parts = [f"method {recipe.method}", f"model {recipe.model}", f"recipe {name}" if name else "", str(about or "")]
    return "; ".join(part for part in parts if part)


def _progress(status: RunStatus, step: int, last: Mapping[str, Any]) -> str:
    parts = [f"step {step:,}"]
    if status.steps:
        parts = [f"step {step:,} of {status.steps:,} ({step / status.steps:.0%})"]
    if type(epoch := last.get("epoch")) is int:
        parts.append(f"epoch {epoch + 1}")
    if status.remaining is not None:
        parts.append(f"{format_duration(status.remaining)} left")
    return ", ".join(parts)


def _tiles(history: RunHistory, shown: Sequence[ShownMetric]) -> Iterator[tuple[str, str]]:
    """The shown metrics of the last step, and of the last and the chosen evaluation."""
    numbers = history.curves.numbers()
    for metric in shown:
        buckets = history.curves.metrics.get(metric.name, {})
        if numbers and buckets:
            yield metric.label, f"{buckets[max(buckets)].mean:{metric.form}}"
    if history.evaluations:
        found = history.evaluations[-1]
        for metric in shown[:1]:
            if (value := found.metrics.get(ALL, {}).get(metric.name)) is not None:
                yield f"validation {metric.label}", f"{value:{metric.form}}"
    if history.selection.best:
        yield "chosen checkpoint", f"step {history.selection.best:,}"
    if history.seconds:
        yield "time of all steps", format_duration(history.seconds)
    if speeds := history.curves.metrics.get(SPEED):
        yield (
            "tokens/s",
            f"{sum(each.total for each in speeds.values()) / sum(each.count for each in speeds.values()):,.0f}",
        )


def _charts(history: RunHistory, shown: Sequence[ShownMetric]) -> dict[str, Any]:
    curves, points = history.curves, [EvaluationPoint(each.step, each.metrics) for each in history.evaluations]
    named = [Chart(each.label, (each.name,), "share" if each.form == SHARE else "number") for each in shown]
    validation = dict.fromkeys(name for point in points for name in point.metrics.get(ALL, {}))
    charts = build_charts(named, list(curves.metrics), list(validation))
    numbers = curves.numbers()
    last = int(history.last.get("step", 0))
    steps = [min(curves.last_step(number), last) if last else curves.last_step(number) for number in numbers]
    return chart_data(
        charts, steps, {name: _curve(curves, name, numbers) for name in curves.metrics}, points, history.selection.best
    )


def _curve(curves: Curves, name: str, numbers: Sequence[int]) -> StepCurve:
    buckets = [curves.metrics[name].get(number) for number in numbers]
    mean = [None if each is None else each.mean for each in buckets]
    if curves.width == 1:
        return StepCurve(mean)
    return StepCurve(
        mean,
        [None if each is None else each.low for each in buckets],
        [None if each is None else each.high for each in buckets],
    )


def _values(curves: Curves) -> PageTable:
    rows = []
    for name, buckets in curves.metrics.items():
        ordered = [buckets[number] for number in sorted(buckets)]
        numbers = (
            ordered[0].mean,
            min(each.low for each in ordered),
            max(each.high for each in ordered),
            ordered[-1].mean,
        )
        rows.append([name, *(f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}" for value in numbers)])
    note = f"First and last are means of {curves.width:,} steps." if curves.width > 1 else ""
    return PageTable(("metric", "first", "lowest", "highest", "last"), rows, note=note)


def _evaluations(history: RunHistory, shown: Sequence[ShownMetric], best: int) -> PageTable | None:
    """Step, the shown metrics first, then the others, and how each step ranks."""
    if not history.evaluations:
        return None
    forms = {each.name: each for each in shown}
    there = dict.fromkeys(name for each in history.evaluations for name in each.metrics.get(ALL, {}))
    names = [*(name for name in forms if name in there), *(name for name in there if name not in forms)]
    kept = evenly(history.evaluations, MOST_EVALUATIONS)
    chosen = [each for each in history.evaluations if each.step == best and each not in kept]
    kept = sorted([*kept, *chosen], key=lambda each: each.step)
    rows = []
    for each in kept:
        values = each.metrics.get(ALL, {})
        cells = [_cell(values.get(name), forms[name].form if name in forms else None) for name in names]
        mark = "chosen" if each.step == best else "checkpoint" if each.saved and each.step else ""
        rows.append([f"{each.step:,}", *cells, mark])
    marked = [index for index, each in enumerate(kept) if each.step == best != 0]
    metrics = history.selection.rule.metrics
    rule = ", ".join(f"{each.name} ({'lowest' if each.mode == 'min' else 'highest'})" for each in metrics)
    omitted = len(history.evaluations) - len(kept)
    more = f" {omitted:,} further evaluations are in metrics.jsonl." if omitted else ""
    note = f"The checkpoint is chosen by {rule}.{more}" if best else f"No checkpoint has been evaluated yet.{more}"
    headers = ["step", *(forms[name].label if name in forms else name for name in names), ""]
    return PageTable(headers, rows, texts=(len(headers) - 1,), marked=marked, note=note)


def _cell(value: float | None, form: str | None) -> str:
    """A value as its method writes it, otherwise with four digits; an amount has all its digits."""
    if value is None:
        return ""
    if form is None:
        form = ",.0f" if float(value).is_integer() and abs(value) < LARGEST_AMOUNT else ".4g"
    return f"{value:{form}}"


def _replies(texts: Mapping[int, Sequence[ShownText]], best: int) -> Iterator[RepliesOverTime]:
    """The replies to each prompt at the evaluations. A reply has the place that it has among those to its prompt."""
    steps = evenly(sorted(texts), MOST_TEXTS)
    steps = sorted({*steps, *([best] if best in texts else [])})
    found: dict[tuple[str, int], dict[int, list[tuple[int, ShownText]]]] = {}
    for step in steps:
        key, place = ("", 0), 0
        seen: dict[str, int] = {}
        for text in texts[step]:
            if text.label == PROMPT:
                number = seen[text.text] = seen.get(text.text, -1) + 1
                key, place = (text.text, number), 0
                found.setdefault(key, {})
            else:
                found.setdefault(key, {}).setdefault(place, []).append((step, text))
                place += 1
    for (prompt, _), places in list(found.items())[:MOST_PROMPTS]:
        rows = [row for _, row in sorted(places.items())]
        if all(_only_label_changes(row) for row in rows) and rows:
            yield RepliesOverTime(clipped(prompt), (), _labels(rows, best))
            continue
        yield RepliesOverTime(
            clipped(prompt), sorted((each for row in rows for each in _joined(row, best)), key=_first)
        )


def _only_label_changes(row: Sequence[tuple[int, ShownText]]) -> bool:
    """Whether a reply is the same at all evaluations, as those of the data are, and has different labels."""
    return len({text.text for _, text in row}) == 1 < len({text.label for _, text in row})


def _labels(rows: Sequence[Sequence[tuple[int, ShownText]]], best: int) -> PageTable:
    """Every reply once, with its label at some of the evaluations, the chosen one among them."""
    steps = sorted({step for row in rows for step, _ in row})
    kept = sorted({*evenly(steps, MOST_LABELS), *([best] if best in steps else [])})
    cells = []
    for row in rows:
        labels = {step: text.label.rpartition(" ") for step, text in row}  # "+0.50", " ", "chosen"
        kinds = {kind for _, _, kind in labels.values()}
        same = len(kinds) == 1
        shown = {step: value if same else f"{value} {kind}".strip() for step, (value, _, kind) in labels.items()}
        cells.append([clipped(row[0][1].text), kinds.pop() if same else "", *(shown.get(step, "") for step in kept)])
    headers = ["reply", "", *(f"step {step:,}" + (" (chosen)" if step == best != 0 else "") for step in kept)]
    return PageTable(headers, cells, texts=(0, 1))


def _first(reply: ShownReply) -> int:
    return reply.first


def _joined(row: Sequence[tuple[int, ShownText]], best: int) -> Iterator[ShownReply]:
    """The replies with the same place; equal ones in a row are one."""
    labels = {step: text.label for step, text in row}
    texts = {step: text.text for step, text in row}
    merged = joined_repetitions([(step, f"{labels[step]}\0{texts[step]}") for step in texts])
    for first, last, _ in merged:
        yield ShownReply(first, last, labels[first], clipped(texts[first]), first <= best <= last and best > 0)


def _data(manifest: Mapping[str, Any]) -> Iterator[PageTable]:
    """The counts of every source, and of the two parts."""
    report = _mapping(_mapping(manifest.get("data")).get("report"))
    sources = {name: _mapping(counts) for name, counts in _mapping(report.get("sources")).items()}
    rows = [
        [name, _count(counts, "records"), _count(counts, "used"), _left_out(counts)]
        + [_count(counts, each) for each in ("tokens", "trained", "context", "cut")]
        for name, counts in sources.items()
    ]
    headers = ("source", "records", "used", "left out", "tokens", "trained", "only read", "cut")
    if rows:
        yield PageTable(headers, rows, texts=(0, 3))
    parts = [
        [name, *(_count(_mapping(report[name]), key) for key in ("records", "threads", "tokens", "targets"))]
        for name in ("train", "validation")
        if report.get(name)
    ]
    if parts:
        repeated = report.get("duplicates")
        note = f"{_repetitions(repeated)} kept." if type(repeated) is int and repeated else ""
        yield PageTable(("part", "records", "threads", "tokens", "targets"), parts, note=note)


def _repetitions(count: int) -> str:
    """``2 records repeat an earlier one and are``."""
    return (
        "1 record repeats an earlier one and is" if count == 1 else f"{count:,} records repeat an earlier one and are"
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    """The value, or nothing if it is no mapping: a manifest may have been edited."""
    return value if isinstance(value, dict) else {}


def _count(counts: Mapping[str, Any], name: str) -> str:
    value = counts.get(name, 0)
    return f"{value:,}" if type(value) is int else ""


def _left_out(counts: Mapping[str, Any]) -> str:
    """``12 too long, 3 duplicates``."""
    amounts = {
        **_mapping(counts.get("rejected")),
        "duplicate" if counts.get("duplicates") == 1 else "duplicates": counts.get("duplicates"),
        "quarantined": counts.get("bad"),
        **{f"messages dropped ({reason})": count for reason, count in _mapping(counts.get("dropped")).items()},
    }
    found = [f"{count:,} {reason}" for reason, count in amounts.items() if count and type(count) is int]
    return ", ".join(found) or "none"


def _leaves(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """(dotted key, text) of every value of nested mappings and lists."""
    if isinstance(value, dict | list) and value and depth < DEEPEST:
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(child, f"{path}.{key}" if path else str(key), depth + 1)
    elif path:
        yield path, "" if value is None else clipped(str(value))
