"""Runs prepared tasks with a language model through lm-evaluation-harness and reads its results."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate

from tunesmith.benchmark.language_model import TaskWork
from tunesmith.benchmark.results import ItemResult, TaskScore
from tunesmith.benchmark.suites import METRICS
from tunesmith.benchmark.tasks import FEWSHOT_SEED, PreparedTasks
from tunesmith.errors import InternalError


def evaluate_tasks(
    language_model: LM,
    prepared: PreparedTasks,
    *,
    limit: int | None = None,
    chat: bool = False,
    multi_turn: bool = True,
    work: Mapping[str, TaskWork] | None = None,
) -> tuple[TaskScore, ...]:
    """The scores of all tasks.

    limit: only the first items of every task.
    chat: prompts are messages, which the language model renders.
    multi_turn: examples are turns of the conversation; otherwise they are in one message.
    work: task -> what it took; filled by the language model meanwhile.
    """
    for task in prepared.tasks.values():
        task.set_fewshot_seed(seed=FEWSHOT_SEED)  # every model gets the same examples
    with _unsearched_objects():
        found = evaluate(
            language_model,
            {"tasks": dict(prepared.tasks)},
            limit=limit,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=chat,
            fewshot_as_multiturn=multi_turn,
        )
    return tuple(_score(name, prepared, found, (work or {}).get(name)) for name in prepared.tasks)


@contextmanager
def _unsearched_objects() -> Iterator[None]:
    """The garbage collector leaves what exists now out of its searches; the libraries have a million objects."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _score(name: str, prepared: PreparedTasks, found: Mapping[str, Any], work: TaskWork | None) -> TaskScore:
    results = {
        key: float(value)
        for key, value in found["results"][name].items()
        if "," in key and "_stderr" not in key and isinstance(value, int | float) and not math.isnan(value)
    }
    key = _shown_metric(results, prepared.metrics[name])
    metric, _, filter_name = key.partition(",")
    samples = [sample for sample in found["samples"][name] if sample["filter"] == filter_name]
    items = tuple(_item(sample, metric) for sample in sorted(samples, key=lambda sample: sample["doc_id"]))
    others = {_short(other): value for other, value in results.items() if other != key}
    return TaskScore(
        task=name,
        version=str(found["versions"].get(name, "")),
        metric=_short(key),
        score=results[key],
        others=others,
        items=items,
        data=prepared.data[name],
        shots=int(found["n-shot"].get(name) or 0),
        work=work,
    )


def _shown_metric(results: Mapping[str, float], wanted: str | None) -> str:
    """The key of the metric that the table shows: ``name,filter``."""
    names = METRICS if wanted is None else (wanted,)
    for name in names:
        for key in results:
            if key == name or key.partition(",")[0] == name:
                return key
    if not results:
        raise InternalError("lm-evaluation-harness returned no metric")
    return next(iter(results))


def _short(key: str) -> str:
    return key.removesuffix(",none")


def _item(sample: Mapping[str, Any], metric: str) -> ItemResult:
    metrics = {name: plain(sample[name]) for name in sample["metrics"]}
    value = metrics[metric]
    number = float(value) if isinstance(value, int | float) else math.nan
    responses = tuple(plain(response[0]) for response in sample["resps"])
    return ItemResult(sample["doc_id"], sample["doc_hash"], number, metrics, responses, plain(sample["target"]))


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numbers of numpy become those of Python, tuples lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(each) for each in value]
    if hasattr(value, "item"):
        return value.item()
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def item_lines(scores: Sequence[TaskScore]) -> Iterator[dict[str, Any]]:
    """One JSON object for every item."""
    for score in scores:
        for item in score.items:
            yield {
                "task": score.task,
                "document": item.document,
                "sha256": item.digest,
                **item.metrics,
                "target": item.target,
                "responses": list(item.responses),
            }
