"""Steps of rollouts: formulas decide what a step holds, the record decides whether an iteration ends early."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.small_rollouts import PROMPTS, actor_critic, maker
from tunesmith.batch.columns import ADVANTAGE, OLD_LOG_PROBABILITY
from tunesmith.data.dataset.plan import Plan, PlannedStep
from tunesmith.errors import StorageError
from tunesmith.objectives.advantages import whiten
from tunesmith.objectives.proximal import ProximalPolicy
from tunesmith.train.loop import StepResult, train
from tunesmith.train.optim.optimizers import AdamW
from tunesmith.train.rollout.generator import AdvantageSettings, RolloutGenerator
from tunesmith.train.rollout.plan import Place, RolloutPlan
from tunesmith.train.rollout.rollouts import Floats, Rollouts
from tunesmith.train.rollout.steps import RolloutSteps
from tunesmith.train.world import SingleProcess


def plan(prompts: int = 12, iteration: int = 5, batch: int = 2, passes: int = 2, **length: Any) -> RolloutPlan:
    steps = length.pop("steps", None)
    length = length or ({"epochs": None, "steps": steps} if steps else {"epochs": 2.0, "steps": None})
    return RolloutPlan(Plan(np.ones(prompts), iteration, seed=4, **length), batch, passes, steps)


def test_every_pass_of_an_iteration_trains_on_each_of_its_prompts_once() -> None:
    ours = plan()
    assert ours.total_steps == 2 * (6 + 6 + 2)  # 5 + 5 + 2 prompts an epoch, in two passes of steps of 2
    found: dict[tuple[int, int], list[int]] = {}
    for step in range(ours.total_steps):
        place = ours.place(step)
        count = len(ours.iteration(place.iteration).examples)
        chosen = ours.batch(place)
        assert 1 <= len(chosen) <= 2
        found.setdefault((place.iteration, place.position // -(-count // 2)), []).extend(chosen)
    assert len(found) == 12
    for (iteration, _), indices in found.items():
        assert sorted(indices) == list(range(len(ours.iteration(iteration).examples)))
    assert found[0, 0] != found[0, 1]


@pytest.mark.parametrize("steps", [1, 5, 6, 7, 13, 14, 15, 40])
def test_a_run_of_so_many_steps_has_so_many(steps: int) -> None:
    ours = plan(steps=steps)
    assert ours.total_steps == steps
    places = [ours.place(step) for step in range(steps)]
    assert places[0] == Place(0, 0)
    assert all(
        later == Place(place.iteration, place.position + 1)
        or (later.position == 0 and later.iteration == place.iteration + 1)
        for place, later in pairwise(places)
    )
    with pytest.raises(IndexError):
        ours.place(steps)


@dataclass
class Counting:
    """A maker that counts."""

    make: RolloutGenerator
    calls: list[tuple[int, float]] = field(default_factory=list)

    def __call__(self, iteration: int, planned: PlannedStep, coefficient: float) -> Rollouts:
        self.calls.append((iteration, coefficient))
        return self.make(iteration, planned, coefficient)


def whitened(values: Floats) -> Floats:
    return np.asarray(whiten(torch.from_numpy(values).double()).numpy(), np.float32)


def steps_of(directory: Path, make: Any = None, kept: Callable[[], list[int]] = list, **given: Any) -> RolloutSteps:
    make = make or Counting(maker(actor_critic(), samples=2))
    words = lambda ids: " ".join(map(str, ids))  # noqa: E731
    return RolloutSteps(given.pop("plan", plan()), make, directory, 0.1, 200, kept, words, **given)


def result(number: int, metrics: Mapping[str, float], units: float = 3.0) -> StepResult:
    return StepResult(number + 1, 28, 0, (), dict(metrics), 0.1, 1.0, units, 1, 1, 0.1)


def test_replies_are_written_once_an_iteration_and_read_back_in_its_middle(tmp_path: Path) -> None:
    one = steps_of(tmp_path)
    first = [one[number] for number in range(7)]
    assert [call[0] for call in one.make.calls] == [0, 1]
    other = steps_of(tmp_path)
    assert first[6].examples == other[6].examples
    for number in (1, 5):
        again = steps_of(tmp_path)
        found = again[number]
        assert not again.make.calls
        assert found.examples == first[number].examples
        for batch, expected in zip(found.batches, first[number].batches, strict=True):
            assert torch.equal(batch.ids, expected.ids)
            assert all(torch.equal(batch.columns[name], expected.columns[name]) for name in batch.columns)


def test_the_measures_of_an_iteration_are_told_with_its_first_step(tmp_path: Path) -> None:
    ours = steps_of(tmp_path)
    told = [ours[number].metrics for number in range(7)]
    assert [bool(each) for each in told] == [True, *[False] * 5, True]
    assert {"rewards/mean", "rewards/finished", "replies/length", "kl_coefficient"} <= told[0].keys()


def test_the_replies_of_an_iteration_can_be_read(tmp_path: Path) -> None:
    ours = steps_of(tmp_path)
    ours[0]
    lines = [json.loads(line) for line in (tmp_path / "iteration-000000" / "replies.jsonl").read_text().splitlines()]
    rollouts = ours.rollouts(Place(0, 0))
    assert len(lines) == len(rollouts.rewards) == 10
    first, reply = rollouts.answered[0], rollouts.answered[0].replies[1]
    assert lines[1] == {
        "prompt": first.number,
        "asked": " ".join(map(str, first.prompt)),
        "reply": " ".join(map(str, reply.ids)),
        "finished": reply.stopped,
        "tokens": len(reply.ids),
        "reward": float(rollouts.rewards[1]),
    }


def test_rollouts_of_other_prompts_are_refused(tmp_path: Path) -> None:
    steps_of(tmp_path)[0]
    with pytest.raises(StorageError, match="answer other prompts"):
        steps_of(tmp_path, plan=RolloutPlan(Plan(np.ones(12), 5, epochs=2, steps=None, seed=5), 2, 2))[1]


def test_lost_rollouts_stop_a_run_that_goes_on_in_their_middle(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="put it back"):
        steps_of(tmp_path)[1]


def test_advantages_are_whitened_over_the_step_and_zero_while_the_value_function_warms_up(tmp_path: Path) -> None:
    ours = steps_of(tmp_path, warmup=2, whitened=whitened)
    for number in range(4):
        values = torch.cat([batch.columns[ADVANTAGE] for batch in ours[number].batches])
        if number < 2:
            assert not values.any()
        else:
            assert float(values.mean()) == pytest.approx(0.0, abs=1e-5)
            assert float(values.std()) == pytest.approx(1.0, abs=1e-3)


def test_a_step_with_too_much_kl_ends_its_iteration_and_no_other(tmp_path: Path) -> None:
    ours = steps_of(tmp_path, stop=0.5)
    sizes = []
    for number in range(12):
        sizes.append(len(ours[number].batches))
        ours.observe(
            result(number, {"kl": 0.6 if number == 2 else 0.4} if sizes[-1] else {}, 3.0 if sizes[-1] else 0.0)
        )
    assert [bool(size) for size in sizes] == [True] * 3 + [False] * 3 + [True] * 6
    again = steps_of(tmp_path, stop=0.5)
    again.recall([{"step": number + 1, "kl": kl, "units": 3.0} for number, kl in enumerate((0.4, 0.4, 0.6))])
    assert not again[3].batches
    assert again[3].examples == ()
    assert steps_of(tmp_path)[3].batches


def test_the_coefficient_goes_from_iteration_to_iteration_also_over_a_stop(tmp_path: Path) -> None:
    make = maker(actor_critic(), samples=2, worth=AdvantageSettings(kl_target=1.0, kl_horizon=20))
    expected = steps_of(tmp_path, Counting(make), adaptive=True)
    for number in (0, 6, 12):
        expected[number]
    coefficients = [coefficient for _, coefficient in expected.make.calls]
    assert len(set(coefficients)) == 3  # the KL is 0, so it falls
    again = steps_of(tmp_path, Counting(make), adaptive=True)
    again[12]
    assert again.make.calls == [(2, coefficients[2])]
    fixed = steps_of(tmp_path, Counting(make))
    fixed[6]
    assert fixed.make.calls == [(1, 0.1)]


def test_iterations_go_when_no_checkpoint_can_need_them(tmp_path: Path) -> None:
    kept: list[int] = []
    ours = steps_of(tmp_path, kept=lambda: kept)
    names = lambda: sorted(int(path.name.split("-")[1]) for path in tmp_path.iterdir())  # noqa: E731
    ours[0], ours[6]
    kept += [7]  # in iteration 1
    ours[12], ours[14], ours[20]
    assert names() == [0, 1, 3, 4]
    kept[:] = [21]
    ours[26]
    assert names() == [3, 4, 5]


def train_some(directory: Path, actor: Any, make: Any = None, **given: Any) -> list[StepResult]:
    results: list[StepResult] = []
    steps = steps_of(directory, make or maker(actor, samples=2), **given)
    optimizer = AdamW(actor.parameters())
    train(
        actor,
        ProximalPolicy(),
        steps,
        optimizer,
        lambda step: 1e-2,
        SingleProcess(),
        [results.append, steps.observe],
        clip_norm=1.0,
    )
    return results


def test_the_first_step_of_an_iteration_has_ratio_one_and_the_second_has_not(tmp_path: Path) -> None:
    results = train_some(tmp_path, actor_critic(), plan=plan(steps=8), whitened=whitened)
    for number in (0, 6):
        assert results[number].metrics["ratio"] == pytest.approx(1.0, abs=1e-5)
        assert results[number].metrics["kl"] == pytest.approx(0.0, abs=1e-6)
    assert results[1].metrics["kl"] > 1e-5
    assert results[0].metrics["reference_kl"] == pytest.approx(0.0, abs=1e-6)
    assert results[7].metrics["reference_kl"] > 1e-4


def test_an_empty_step_moves_nothing_and_is_recorded(tmp_path: Path) -> None:
    actor = actor_critic()
    results = train_some(tmp_path, actor, plan=plan(steps=6), whitened=whitened, stop=1e-9)
    assert [bool(each.units) for each in results] == [True, True, False, False, False, False]
    assert all(not each.metrics and each.gradient_norm == 0.0 for each in results[2:])
    short = actor_critic()
    train_some(tmp_path / "short", short, plan=plan(steps=2), whitened=whitened)
    for name, parameter in short.parameters().items():
        assert torch.equal(parameter, actor.parameters()[name]), name


def test_the_policy_stands_still_while_the_value_function_warms_up(tmp_path: Path) -> None:
    actor, before = actor_critic(), actor_critic()
    train_some(tmp_path, actor, plan=plan(steps=3), whitened=whitened, warmup=3)
    for name, parameter in before.parameters().items():
        moved = not torch.equal(parameter, actor.parameters()[name])
        assert moved == name.startswith("value."), name


def test_pieces_of_a_step_have_the_columns_of_the_whole(tmp_path: Path) -> None:
    whole = steps_of(tmp_path, whitened=whitened)
    small = steps_of(tmp_path, whitened=whitened)
    small.tokens = 1
    whole[0]
    for number in (1, 3):
        one, many = whole[number].batches, small[number].batches
        assert len(many) == 4 > len(one)
        for name in (*one[0].columns, "target"):
            joined = [torch.cat([_named(batch, name) for batch in batches]) for batches in (one, many)]
            assert torch.equal(*joined), name


def _named(batch: Any, name: str) -> torch.Tensor:
    found: torch.Tensor = batch.target if name == "target" else batch.columns[name]
    return found


def test_the_reference_does_not_move(tmp_path: Path) -> None:
    actor = actor_critic()
    make = maker(actor, samples=2)
    before = {name: tensor.clone() for name, tensor in make.reference.model.state_dict().items()}  # type: ignore[attr-defined]
    train_some(tmp_path, actor, make, plan=plan(steps=8))
    assert all(torch.equal(before[name], tensor) for name, tensor in make.reference.model.state_dict().items())  # type: ignore[attr-defined]
    assert not all(torch.equal(before[name], tensor) for name, tensor in actor.model.state_dict().items())


def shifted(rollouts: Rollouts) -> Rollouts:
    return replace(
        rollouts, columns={**rollouts.columns, OLD_LOG_PROBABILITY: np.roll(rollouts.columns[OLD_LOG_PROBABILITY], 1)}
    )


def test_old_log_probabilities_that_are_off_by_one_show_in_the_ratio(tmp_path: Path) -> None:
    actor = actor_critic()
    make = maker(actor, samples=2)
    results = train_some(tmp_path, actor, lambda *given: shifted(make(*given)), plan=plan(steps=1))
    assert abs(results[0].metrics["ratio"] - 1.0) > 0.05


def test_old_log_probabilities_of_another_temperature_show_in_the_ratio(tmp_path: Path) -> None:
    actor = actor_critic(temperature=0.7)
    make = maker(actor, samples=2)

    def at_one(*given: Any) -> Rollouts:
        actor.policy.temperature = 1.0
        found = make(*given)
        actor.policy.temperature = 0.7
        return found

    results = train_some(tmp_path, actor, at_one, plan=plan(steps=1))
    assert abs(results[0].metrics["ratio"] - 1.0) > 0.05


def test_prompts_of_these_tests_are_enough() -> None:
    assert len(PROMPTS) == 12
