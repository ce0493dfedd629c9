"""The order of training: every example once an epoch, and every step whoever asks for it when."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data import plan as plan_module
from tunesmith.data.plan import Plan, PlannedStep, cut, permutation

costs_lists = st.lists(st.integers(1, 50), min_size=1, max_size=40) | st.integers(1, 40).map(lambda count: [1] * count)


def steps_of(plan: Plan) -> list[PlannedStep]:
    return [plan.step(step) for step in range(plan.total_steps)]


@settings(max_examples=200, deadline=None)
@given(costs_lists, st.integers(1, 80), st.integers(1, 4), st.integers(0, 2**63 - 1))
def test_every_epoch_uses_every_example_once(costs: list[int], batch_size: int, epochs: int, seed: int) -> None:
    planned = steps_of(Plan(costs, batch_size, epochs, None, seed))
    for epoch in range(epochs):
        used = [example for step in planned if step.epoch == epoch for example in step.examples]
        assert sorted(used) == list(range(len(costs)))
    assert [step.step for step in planned] == list(range(len(planned)))
    assert [step.epoch for step in planned] == sorted(step.epoch for step in planned)


@settings(max_examples=200, deadline=None)
@given(costs_lists, st.integers(1, 80), st.integers(0, 99))
def test_a_step_ends_when_its_costs_reach_the_batch_size(costs: list[int], batch_size: int, seed: int) -> None:
    plan = Plan(costs, batch_size, 1, None, seed)
    for step in steps_of(plan):
        total = sum(costs[example] for example in step.examples)
        assert total - costs[step.examples[-1]] < batch_size
        assert total >= batch_size or step.step == plan.total_steps - 1


@settings(max_examples=100, deadline=None)
@given(costs_lists, st.integers(1, 60), st.integers(1, 120), st.integers(0, 99), st.data())
def test_a_step_is_the_same_in_whatever_order_steps_are_asked_for(
    costs: list[int], batch_size: int, steps: int, seed: int, data: st.DataObject
) -> None:
    expected = steps_of(Plan(costs, batch_size, None, steps, seed))
    assert len(expected) == steps
    plan = Plan(np.array(costs), batch_size, None, steps, seed)
    for step in data.draw(st.lists(st.integers(0, steps - 1), max_size=12)):
        assert plan.step(step) == expected[step]
        assert Plan(costs, batch_size, None, steps, seed).step(step) == expected[step]


@settings(max_examples=100, deadline=None)
@given(costs_lists, st.integers(1, 60), st.integers(1, 60), st.integers(0, 99))
def test_epochs_and_steps_plan_the_same(costs: list[int], batch_size: int, steps: int, seed: int) -> None:
    by_epochs, by_steps = Plan(costs, batch_size, 3, None, seed), Plan(costs, batch_size, None, steps, seed)
    for step in range(min(steps, by_epochs.total_steps)):
        assert by_epochs.step(step) == by_steps.step(step)


@settings(max_examples=100, deadline=None)
@given(costs_lists, st.integers(1, 60), st.floats(0.01, 4.0), st.integers(0, 99))
def test_a_part_of_an_epoch_is_its_first_steps(costs: list[int], batch_size: int, epochs: float, seed: int) -> None:
    part, whole = Plan(costs, batch_size, epochs, None, seed), Plan(costs, batch_size, math.ceil(epochs), None, seed)
    before = Plan(costs, batch_size, math.floor(epochs), None, seed).total_steps if epochs >= 1 else 0
    assert before <= part.total_steps <= whole.total_steps
    last = whole.total_steps - before
    assert abs((part.total_steps - before) - (epochs - math.floor(epochs)) * last) <= 1 or epochs == math.floor(epochs)
    assert steps_of(part) == steps_of(whole)[: part.total_steps]


@pytest.mark.parametrize(
    ("examples", "batch_size", "epochs", "total"),
    [
        (10, 5, 1, 2),
        (10, 4, 1, 3),
        (10, 4, 2, 6),
        (100, 10, 0.7, 7),
        (100, 10, 2.5, 25),
        (100, 10, 1.1, 11),
        (100, 10, 0.001, 1),
        (3, 9, 2, 2),
    ],
)
def test_steps_are_counted(examples: int, batch_size: int, epochs: float, total: int) -> None:
    assert Plan([1] * examples, batch_size, epochs, None, 0).total_steps == total


def test_an_example_larger_than_a_batch_is_a_step() -> None:
    planned = steps_of(Plan([100, 100, 100], 7, 1, None, 0))
    assert [len(step.examples) for step in planned] == [1, 1, 1]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(permutation(50, seed, epoch).tolist()) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100
    first = np.bincount([permutation(4, seed, 0)[0] for seed in range(4000)], minlength=4)
    assert first.min() > 900


def test_the_order_never_changes() -> None:
    """Written down once: a run that is resumed with another version of numpy must see the same order."""
    assert permutation(10, 0, 0).tolist() == [9, 0, 5, 2, 8, 1, 4, 3, 6, 7]
    assert permutation(10, 0, 1).tolist() == [1, 4, 8, 3, 6, 9, 5, 7, 0, 2]
    assert permutation(10, 2**62, 0).tolist() == [5, 4, 9, 6, 7, 2, 0, 1, 8, 3]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.integers(1, 60), st.integers(1, 100))
def test_equal_costs_are_cut_as_any_others(cost: int, count: int, batch_size: int) -> None:
    ends, total = [], 0
    for index in range(count):
        total += cost
        if total >= batch_size or index == count - 1:
            ends.append(index + 1)
            total = 0
    assert cut(np.full(count, cost), batch_size).tolist() == ends


@pytest.mark.parametrize(
    ("costs", "batch_size", "epochs", "steps"),
    [
        ([], 1, 1, None),
        ([0, 1], 1, 1, None),
        ([[1]], 1, 1, None),
        ([1], 0, 1, None),
        ([1], 1, None, None),
        ([1], 1, 1, 1),
        ([1], 1, 0, None),
        ([1], 1, math.inf, None),
        ([1], 1, math.nan, None),
        ([1], 1, None, 0),
    ],
)
def test_impossible_plans_are_refused(
    costs: list[int], batch_size: int, epochs: float | None, steps: int | None
) -> None:
    with pytest.raises(ValueError, match=r"costs|epochs"):
        Plan(costs, batch_size, epochs, steps, 0)


@pytest.mark.parametrize("step", [-1, 4, 10**9])
def test_there_is_no_step_outside_the_run(step: int) -> None:
    with pytest.raises(IndexError):
        Plan([1] * 4, 1, 1, None, 0).step(step)


def test_planted_faults_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "permutation", lambda count, seed, epoch: np.zeros(count, dtype=np.int64))
    used = [example for step in steps_of(Plan([1] * 5, 2, 1, None, 0)) for example in step.examples]
    assert sorted(used) != list(range(5))
