"""The order of training: every example once an epoch, and every step whoever asks for it when."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.dataset import plan as plan_module
from tunesmith.data.dataset.plan import Draw, Plan, PlannedStep, share_of, step_ends
from tunesmith.draws import permutation

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
    assert step_ends(np.full(count, cost), batch_size).tolist() == ends


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


def drawn(sizes: list[int], counts: list[int], names: str = "abcdefgh") -> list[Draw]:
    """Draws from sources whose examples follow one another."""
    starts = np.cumsum([0, *sizes])
    return [
        Draw(names[index], np.arange(start, start + size), count)
        for index, (start, size, count) in enumerate(zip(starts, sizes, counts, strict=False))
    ]


def epoch_of(plan: Plan, epoch: int) -> list[int]:
    return [example for step in steps_of(plan) if step.epoch == epoch for example in step.examples]


mixes = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 40)), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(mixes, st.integers(1, 30), st.integers(0, 2**63 - 1))
def test_every_epoch_holds_of_each_source_what_was_asked_for(
    mix: list[tuple[int, int]], batch_size: int, seed: int
) -> None:
    sizes, counts = [size for size, _ in mix], [count for _, count in mix]
    plan = Plan([1] * sum(sizes), batch_size, 3, None, seed, drawn(sizes, counts))
    assert plan.total_steps == 3 * math.ceil(sum(counts) / batch_size)
    for epoch in range(3):
        held = np.bincount(epoch_of(plan, epoch), minlength=sum(sizes))
        for source, (size, count) in enumerate(mix):
            own = held[sum(sizes[:source]) :][:size]
            assert own.sum() == count
            assert own.max() - own.min() <= 1  # without replacement, and before any comes again all have come


@settings(max_examples=100, deadline=None)
@given(mixes, st.integers(1, 60), st.integers(0, 99), st.data())
def test_a_mixed_step_is_the_same_in_whatever_order_steps_are_asked_for(
    mix: list[tuple[int, int]], batch_size: int, seed: int, data: st.DataObject
) -> None:
    sizes, counts = [size for size, _ in mix], [count for _, count in mix]
    costs = data.draw(st.lists(st.integers(1, 9), min_size=sum(sizes), max_size=sum(sizes)))
    expected = steps_of(Plan(costs, batch_size, 2.5, None, seed, drawn(sizes, counts)))
    for step in data.draw(st.lists(st.integers(0, len(expected) - 1), max_size=8)):
        assert Plan(costs, batch_size, None, len(expected), seed, drawn(sizes, counts)).step(step) == expected[step]
    for step in expected:
        total = sum(costs[example] for example in step.examples)
        last = step is expected[-1] or expected[step.step + 1].epoch > step.epoch
        assert last or total >= batch_size > total - costs[step.examples[-1]]


def test_a_draw_depends_on_seed_epoch_and_the_name_of_its_source_alone() -> None:
    alone = Plan([1] * 50, 7, 3, None, 5, drawn([50], [20]))
    beside = Plan([1] * 90, 7, 3, None, 5, drawn([50, 40], [20, 15]))
    for epoch in range(3):
        assert sorted(epoch_of(alone, epoch)) == sorted(example for example in epoch_of(beside, epoch) if example < 50)
    draws = [sorted(epoch_of(alone, epoch)) for epoch in range(3)]
    draws.append(sorted(epoch_of(Plan([1] * 50, 7, 1, None, 6, drawn([50], [20])), 0)))
    draws.append(sorted(epoch_of(Plan([1] * 50, 7, 1, None, 5, drawn([50], [20], names="x")), 0)))
    assert len({tuple(draw) for draw in draws}) == 5


def test_whole_sources_are_planned_as_without_draws() -> None:
    mixed = steps_of(Plan([1] * 30, 7, 2, None, 3, drawn([10, 20], [10, 20])))
    assert [step.examples for step in mixed] == [step.examples for step in steps_of(Plan([1] * 30, 7, 2, None, 3))]
    assert all(set(step.copies) == {0} for step in mixed)


@settings(max_examples=50, deadline=None)
@given(mixes, st.integers(0, 99))
def test_every_copy_of_an_example_has_a_number_of_its_own(mix: list[tuple[int, int]], seed: int) -> None:
    sizes, counts = [size for size, _ in mix], [count for _, count in mix]
    plan = Plan([1] * sum(sizes), 5, 1, None, seed, drawn(sizes, counts))
    copies: dict[int, set[int]] = {}
    for step in steps_of(plan):
        for example, copy in zip(step.examples, step.copies, strict=True):
            assert copy not in copies.setdefault(example, set())
            copies[example].add(copy)
    assert all(found == set(range(len(found))) for found in copies.values())


def test_draws_never_change() -> None:
    """Written down once: a run that is resumed with another version of this program must see the same examples."""
    assert epoch_of(Plan([1] * 15, 4, 1, None, 0, drawn([10, 5], [4, 7])), 0) == [
        11,
        2,
        12,
        11,
        7,
        14,
        4,
        10,
        8,
        12,
        13,
    ]


@pytest.mark.parametrize(
    ("count", "amount", "expected"),
    [
        (11, 0.5, 5),
        (100, 0.29, 29),
        (3, 0.1, 1),
        (10, 1.0, 10),
        (10, 2.3, 23),
        (7, 1 / 3, 2),
        (0, 0.5, 0),
        (5, 1e-9, 1),
    ],
)
def test_shares_are_rounded_down_to_at_least_one(count: int, amount: float, expected: int) -> None:
    assert share_of(count, amount) == expected


@pytest.mark.parametrize(("size", "count"), [(0, 1), (3, 0)])
def test_empty_draws_are_refused(size: int, count: int) -> None:
    with pytest.raises(ValueError, match="a draw has no examples"):
        Plan([1] * 3, 1, 1, None, 0, [Draw("a", np.arange(size), count)])


def test_epochs_hold_as_many_of_each_source_as_in_the_original(golden: Callable[[str], dict[str, Any]]) -> None:
    """The original says how many; which they are depends on its generator and is not repeated here."""
    cases = [case for case in golden("extras")["cases"] if case["kind"] == "sampler"]
    assert cases
    for case in cases:
        sizes, counts = case["input"]["dataset_sizes"], case["input"]["dataset_size_per_epoch"]
        planned = epoch_of(Plan([1] * sum(sizes), 4, 1, None, 0, drawn(sizes, counts)), 0)
        owner = np.repeat(np.arange(len(sizes)), sizes)
        assert np.bincount(owner[planned], minlength=len(sizes)).tolist() == counts
        assert len(set(planned)) == len(planned)
        if case["settings"]["world_size"] == 1:
            assert np.bincount(owner[case["expected"]["indices"]], minlength=len(sizes)).tolist() == counts


def test_shares_are_those_of_the_original(golden: Callable[[str], dict[str, Any]]) -> None:
    """A share above 1 or of 0, which the original caps or refuses, is refused by the recipe."""
    cases = [case for case in golden("extras")["cases"] if case["kind"] == "sampler_fractions"]
    for case in cases:
        for entry, size, expected in zip(
            case["input"]["datasets"], case["input"]["sizes"], case["expected"].get("sizes_per_epoch", ()), strict=False
        ):
            keys = next(iter(entry.values())) if isinstance(entry, dict) else {}
            found = keys["size"] if "size" in keys else share_of(size, min(1.0, keys.get("fraction", 1.0)))
            assert found == expected


def _with_replacement(draw: Draw, seed: int, epoch: int) -> Any:
    numbers = np.random.default_rng(seed).choice(draw.examples, draw.count)
    return np.stack([numbers, np.zeros_like(numbers)])


def _always_the_first(draw: Draw, seed: int, epoch: int) -> Any:
    return np.stack([np.resize(draw.examples, draw.count), np.zeros(draw.count, dtype=np.int64)])


def test_planted_faults_in_draws_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = drawn([50], [40])
    monkeypatch.setattr(plan_module, "_drawn", _with_replacement)
    assert len(set(epoch_of(Plan([1] * 50, 7, 1, None, 0, draws), 0))) < 40
    monkeypatch.setattr(plan_module, "_drawn", _always_the_first)
    plan = Plan([1] * 50, 7, 2, None, 0, draws)
    assert set(epoch_of(plan, 0)) == set(epoch_of(plan, 1))
