"""The choice of the best checkpoint: the rule, what is kept for it, and that the records alone give the same choice."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tunesmith.errors import RecipeError
from tunesmith.train.loop import StepResult
from tunesmith.train.optim.optimizers import AdamW
from tunesmith.train.run import checkpoint, selection
from tunesmith.train.run.callbacks import Checkpointer, EvaluationCallback, MetricsRecorder, TrackerCallback
from tunesmith.train.run.metrics import JsonLines, read_records
from tunesmith.train.run.selection import CheckpointSelection, SelectionMetric, SelectionRule, ranks, select_checkpoint
from tunesmith.train.run.view import PlainView

BALANCE = SelectionRule((SelectionMetric("validation/loss", "min"), SelectionMetric("validation/bleu", "max")), keep=3)
TOTAL = 12


def loss(step: int) -> float:
    """Best early: falls until step 3, then rises."""
    return 2.0 + 0.1 * abs(step - 3)


def bleu(step: int) -> float:
    """Best late: rises steeply until step 6, then falls back a little until the very end."""
    return 4.0 * step if step <= 6 else 25.0 if step == TOTAL else 23.0


def result(done: int) -> StepResult:
    return StepResult(done, TOTAL, 0, (done,), {"loss": 1.0}, 1e-3, 1.0, 1.0, 1, 1, 0.1)


def train_with_planted_curves(
    directory: Path, rule: SelectionRule, *, start: int = 0, end: int = TOTAL
) -> Checkpointer:
    """A run without a model: planted evaluations, real records, real checkpoints and their rotation (``keep`` 1)."""
    lines = [JsonLines(directory / f"{name}.jsonl") for name in ("metrics", "consumed", "timing", "shown")]
    recorder, chosen = MetricsRecorder(*lines[:3]), CheckpointSelection(rule)
    model, view = torch.nn.Linear(1, 1, bias=False), PlainView(Console(file=io.StringIO()), (), None)
    optimizer = AdamW(dict(model.named_parameters()))
    checkpointer = Checkpointer(
        directory / "checkpoints", {"model": model}, optimizer, {}, 2, 1, recorder, chosen, view
    )
    found = checkpoint.newest(directory / "checkpoints", pytest.fail)
    checkpointer.restore(found) if found else recorder.clear()
    now = [start]
    evaluation = EvaluationCallback(
        lambda: {"all": {"loss": loss(now[0]), "accuracy": 0.5, "targets": 10}},
        1,
        2,
        lines[0],
        lines[3],
        chosen,
        view,
        TrackerCallback([]),
        checkpointer.check,
        lambda step: {"bleu": bleu(step), "rouge_l": 0.5},
    )
    if start == 0:
        evaluation.run(0)
    for step in range(start + 1, end + 1):
        now[0] = step
        torch.nn.init.constant_(model.weight, step)
        for callback in (recorder, evaluation, checkpointer):
            callback(result(step))
    for each in lines:
        each.close()
    return checkpointer


def there(directory: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in (directory / "checkpoints").iterdir())


@pytest.mark.parametrize(("save_wins", "early", "balance"), [(False, 2, 6), (True, 3, 6)])
def test_between_loss_best_early_and_bleu_best_late_the_balance_is_chosen(
    tmp_path: Path, save_wins: bool, early: int, balance: int
) -> None:
    """Without unplanned checkpoints the lowest loss, that of step 3, cannot be chosen."""
    alone = {
        "validation/loss": SelectionRule((SelectionMetric("validation/loss", "min"),), save_wins),
        "validation/bleu": SelectionRule((SelectionMetric("validation/bleu", "max"),), save_wins),
        "both": replace(BALANCE, save_wins=save_wins),
    }
    best = {name: train_with_planted_curves(tmp_path / name, rule).selection.best for name, rule in alone.items()}
    assert best == {"validation/loss": early, "validation/bleu": 12, "both": balance}


def test_the_chosen_checkpoint_equals_a_recomputation_from_the_record(tmp_path: Path) -> None:
    online = train_with_planted_curves(tmp_path, BALANCE).selection
    offline = select_checkpoint(read_records(tmp_path / "metrics.jsonl"), BALANCE)
    assert (offline.best, offline.kept, offline.ranking()) == (online.best, online.kept, online.ranking())
    assert there(tmp_path) == sorted({*online.kept, TOTAL})
    chosen = checkpoint.of_step(tmp_path / "checkpoints", online.best, pytest.fail)
    assert chosen is not None
    assert chosen.load("model")["weight"].tolist() == [[6.0]]


@pytest.mark.parametrize("stop", range(1, TOTAL))
def test_a_run_stopped_at_any_step_chooses_and_keeps_the_same(tmp_path: Path, stop: int) -> None:
    whole = train_with_planted_curves(tmp_path / "whole", BALANCE).selection
    train_with_planted_curves(tmp_path / "two", BALANCE, end=stop)
    resumed = checkpoint.newest(tmp_path / "two" / "checkpoints", pytest.fail)
    again = train_with_planted_curves(tmp_path / "two", BALANCE, start=resumed.step if resumed else 0).selection
    assert (again.best, again.kept) == (whole.best, whole.kept)
    assert there(tmp_path / "two") == there(tmp_path / "whole")
    assert (tmp_path / "two" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("ranks", lambda values, mode: [1.0] * len(values)),
        ("_cost", lambda value, mode: value),
        ("_cost", lambda value, mode: -value),
    ],
)
def test_a_planted_fault_in_the_rule_is_seen(
    tmp_path: Path, name: str, planted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, name, planted)
    assert train_with_planted_curves(tmp_path, BALANCE).selection.best != 6


def test_a_step_that_becomes_the_best_later_is_still_there() -> None:
    """Ranks are relative: step 2 is behind step 1 until steps come between them."""
    curve = {1: (1.0, 10.0), 2: (1.5, 30.0), 3: (1.6, 12.0), 4: (1.7, 11.0)}
    chosen = CheckpointSelection(
        SelectionRule((SelectionMetric("validation/loss", "min", 1.5), BALANCE.metrics[1]), keep=2)
    )
    seen = []
    for step, (loss, bleu) in curve.items():
        chosen.add(step, {"all": {"loss": loss, "bleu": bleu}}, saved=True)
        seen.append(chosen.best)
    assert seen == [1, 1, 2, 2]
    forgetful = CheckpointSelection(replace(chosen.rule, keep=1))
    for step, (loss, bleu) in curve.items():
        forgetful.add(step, {"all": {"loss": loss, "bleu": bleu}}, saved=True)
    assert forgetful.best == 1, "with keep 1 the choice stays among what is there"


values = st.sampled_from([0.0, 1.0, 2.0, 3.0, math.nan, math.inf])
curves = st.lists(st.tuples(values, values, st.booleans()), min_size=1, max_size=25)


def feed(rule: SelectionRule, curve: list[tuple[float, float, bool]]) -> Iterator[CheckpointSelection]:
    chosen = CheckpointSelection(rule)
    for step, (loss, bleu, saved) in enumerate(curve, 1):
        chosen.add(step, {"all": {"loss": loss, "bleu": bleu}}, saved=saved)
        yield chosen


@settings(max_examples=150, deadline=None)
@given(curve=curves, weight=st.sampled_from([0.5, 1.0, 3.0]))
def test_without_a_limit_the_choice_is_the_lowest_mean_rank_of_all_saved_steps(
    curve: list[tuple[float, float, bool]], weight: float
) -> None:
    """A dominated step never wins: the choice among what is kept is the choice among everything."""
    rule = SelectionRule(
        (SelectionMetric("validation/loss", "min", weight), SelectionMetric("validation/bleu", "max")), keep=1000
    )
    for done, chosen in enumerate(feed(rule, curve), 1):
        saved = [step for step, (_, _, each) in enumerate(curve[:done], 1) if each]
        mean_ranks = {ranked.step: ranked.mean_rank for ranked in chosen.ranking()}
        assert chosen.best == min(saved, key=lambda step: (mean_ranks[step], step), default=0)


@settings(max_examples=100, deadline=None)
@given(curve=curves, keep=st.integers(1, 4))
def test_only_saved_steps_are_kept_and_never_more_than_asked_for(
    curve: list[tuple[float, float, bool]], keep: int
) -> None:
    before: tuple[int, ...] = ()
    for done, chosen in enumerate(feed(replace(BALANCE, keep=keep), curve), 1):
        assert len(chosen.kept) <= keep
        assert set(chosen.kept) <= {*before, done}, "a step that was dropped does not come back"
        assert all(curve[step - 1][2] for step in chosen.kept)
        before = chosen.kept


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert ranks([3.0, 1.0, 3.0, 2.0], "min") == [3.5, 1.0, 3.5, 2.0]
    assert ranks([3.0, 1.0, 3.0, 2.0], "max") == [1.5, 4.0, 1.5, 3.0]
    assert ranks([math.nan, 1.0, -math.inf], "max") == [2.5, 1.0, 2.5]


def test_by_default_the_lowest_validation_loss_is_the_best_and_the_earlier_of_equals() -> None:
    chosen = CheckpointSelection(SelectionRule())
    for step, loss in ((1, 2.0), (2, 1.0), (3, 1.0), (4, 1.5)):
        chosen.add(step, {"all": {"loss": loss}}, saved=True)
        assert len(chosen.kept) == 1
    assert chosen.best == 2


@pytest.mark.parametrize(("weight", "mean_ranks", "best"), [(1.0, [1.5, 1.5], 1), (3.0, [1.75, 1.25], 2)])
def test_weights_decide_between_two_metrics_and_the_earlier_step_where_they_do_not(
    weight: float, mean_ranks: list[float], best: int
) -> None:
    metrics = (SelectionMetric("validation/loss"), SelectionMetric("validation/other", weight=weight))
    chosen = CheckpointSelection(SelectionRule(metrics, keep=2))
    chosen.add(1, {"all": {"loss": 1.0, "other": 2.0}}, saved=True)
    chosen.add(2, {"all": {"loss": 2.0, "other": 1.0}}, saved=True)
    assert [each.mean_rank for each in chosen.ranking()] == mean_ranks
    assert (chosen.best, chosen.kept) == (best, (best, 3 - best))


def test_a_metric_of_one_source_can_be_named() -> None:
    chosen = CheckpointSelection(SelectionRule((SelectionMetric("validation/dolly/loss"),)))
    chosen.add(1, {"all": {"loss": 1.0}, "dolly": {"loss": 3.0}}, saved=True)
    chosen.add(2, {"all": {"loss": 2.0}, "dolly": {"loss": 2.0}}, saved=True)
    assert chosen.best == 2


def test_a_metric_that_is_not_evaluated_is_named_with_those_that_are() -> None:
    with pytest.raises(RecipeError, match="no metric 'validation/blue'; there are validation/loss, validation/x/loss"):
        CheckpointSelection(SelectionRule((SelectionMetric("validation/blue"),))).add(
            0, {"all": {"loss": 1.0}, "x": {"loss": 1.0}}, saved=False
        )


def test_numbers_that_are_not_finite_come_back_from_the_record_as_the_worst() -> None:
    lines = [
        {"step": step, "checkpoint": True, "validation": {"all": {"loss": loss}}}
        for step, loss in ((1, "NaN"), (2, 5.0))
    ]
    assert select_checkpoint([*lines, {"step": 3, "loss": 1.0}], SelectionRule()).best == 2
