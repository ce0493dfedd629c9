"""Steps of rollouts: the plan decides what a step holds, the KL of earlier steps whether an iteration ends early."""

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

from tests.train.small_rollouts import PROMPTS, actor_critic, frozen, generator
from tunesmith.batch.columns import ADVANTAGE, OLD_LOG_PROBABILITY
from tunesmith.data.dataset.plan import Plan, PlannedStep
from tunesmith.errors import StorageError
from tunesmith.objectives.advantages import whiten
from tunesmith.objectives.proximal import ProximalPolicy
from tunesmith.train.loop import StepResult, train
from tunesmith.train.optim.optimizers import AdamW
from tunesmith.train.rollout.generator import AdvantageSettings, RolloutGenerator
from tunesmith.train.rollout.plan import RolloutPlan, RolloutPosition
from tunesmith.train.rollout.rollouts import Floats, Rollouts
from tunesmith.train.rollout.steps import RolloutSteps
from tunesmith.world import SingleProcess


def plan(prompts: int = 12, iteration: int = 5, batch: int = 2, passes: int = 2, **length: Any) -> RolloutPlan:
    steps = length.pop("steps", None)
    length = length or ({"epochs": None, "steps": steps} if steps else {"epochs": 2.0, "steps": None})
    return RolloutPlan(Plan(np.ones(prompts), iteration, seed=4, **length), batch, passes, steps)


def test_every_pass_of_an_iteration_trains_on_each_of_its_prompts_once() -> None:
    ours = plan()
    assert ours.total_steps == 2 * (6 + 6 + 2)  # 5 + 5 + 2 prompts an epoch, in two passes of steps of 2
    found: dict[tuple[int, int], list[int]] = {}
    for step in range(ours.total_steps):
        position = ours.position(step)
        count = len(ours.iteration(position.iteration).examples)
        chosen = ours.batch(position)
        assert 1 <= len(chosen) <= 2
        found.setdefault((position.iteration, position.offset // -(-count // 2)), []).extend(chosen)
    assert len(found) == 12
    for (iteration, _), indices in found.items():
        assert sorted(indices) == list(range(len(ours.iteration(iteration).examples)))
    assert found[0, 0] != found[0, 1]


@pytest.mark.parametrize("steps", [1, 5, 6, 7, 13, 14, 15, 40])
def test_a_run_of_so_many_steps_has_so_many(steps: int) -> None:
    ours = plan(steps=steps)
    assert ours.total_steps == steps
    positions = [ours.position(step) for step in range(steps)]
    assert positions[0] == RolloutPosition(0, 0)
    assert all(
        later == RolloutPosition(position.iteration, position.offset + 1)
        or (later.offset == 0 and later.iteration == position.iteration + 1)
        for position, later in pairwise(positions)
    )
    with pytest.raises(IndexError):
        ours.position(steps)


@dataclass
class Counting:
    """A generator that counts its calls."""

    generate: RolloutGenerator
    calls: list[tuple[int, float]] = field(default_factory=list)

    def __call__(self, iteration: int, planned: PlannedStep, coefficient: float) -> Rollouts:
        self.calls.append((iteration, coefficient))
        return self.generate(iteration, planned, coefficient)


def whitened(values: Floats) -> Floats:
    return np.asarray(whiten(torch.from_numpy(values).double()).numpy(), np.float32)


def steps_of(
    directory: Path, generate: Any = None, saved_steps: Callable[[], list[int]] = list, **given: Any
) -> RolloutSteps:
    generate = generate or Counting(generator(actor_critic(), samples=2))
    decode = lambda ids: " ".join(map(str, ids))  # noqa: E731
    return RolloutSteps(given.pop("plan", plan()), generate, directory, 0.1, 200, saved_steps, decode, **given)


def result(number: int, metrics: Mapping[str, float], units: float = 3.0) -> StepResult:
    return StepResult(number + 1, 28, 0, (), dict(metrics), 0.1, 1.0, units, 1, 1, 0.1)


def test_replies_are_sampled_once_per_iteration_and_read_back_within_it(tmp_path: Path) -> None:
    one = steps_of(tmp_path)
    first = [one[number] for number in range(7)]
    assert [call[0] for call in one.generate.calls] == [0, 1]
    other = steps_of(tmp_path)
    assert first[6].examples == other[6].examples
    for number in (1, 5):
        again = steps_of(tmp_path)
        found = again[number]
        assert not again.generate.calls
        assert found.examples == first[number].examples
        for batch, expected in zip(found.batches, first[number].batches, strict=True):
            assert torch.equal(batch.ids, expected.ids)
            assert all(torch.equal(batch.columns[name], expected.columns[name]) for name in batch.columns)


def test_the_metrics_of_an_iteration_come_with_its_first_step(tmp_path: Path) -> None:
    ours = steps_of(tmp_path)
    metrics = [ours[number].metrics for number in range(7)]
    assert [bool(each) for each in metrics] == [True, *[False] * 5, True]
    assert {"rewards/mean", "rewards/finished", "replies/length", "kl_coefficient"} <= metrics[0].keys()


def test_the_replies_of_an_iteration_can_be_read(tmp_path: Path) -> None:
    ours = steps_of(tmp_path)
    ours[0]
    lines = [json.loads(line) for line in (tmp_path / "iteration-000000" / "replies.jsonl").read_text().splitlines()]
    rollouts = ours.rollouts(RolloutPosition(0, 0))
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


def test_lost_rollouts_stop_a_run_that_resumes_within_their_iteration(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="restore it"):
        steps_of(tmp_path)[1]


def test_advantages_are_whitened_over_the_step_and_zero_while_the_value_function_warms_up(tmp_path: Path) -> None:
    ours = steps_of(tmp_path, value_warmup=2, whiten=whitened)
    for number in range(4):
        values = torch.cat([batch.columns[ADVANTAGE] for batch in ours[number].batches])
        if number < 2:
            assert not values.any()
        else:
            assert float(values.mean()) == pytest.approx(0.0, abs=1e-5)
            assert float(values.std()) == pytest.approx(1.0, abs=1e-3)


def test_a_step_with_too_much_kl_ends_its_iteration_and_no_other(tmp_path: Path) -> None:
    ours = steps_of(tmp_path, kl_stop=0.5)
    sizes = []
    for number in range(12):
        sizes.append(len(ours[number].batches))
        ours.record_kl(
            result(number, {"kl": 0.6 if number == 2 else 0.4} if sizes[-1] else {}, 3.0 if sizes[-1] else 0.0)
        )
    assert [bool(size) for size in sizes] == [True] * 3 + [False] * 3 + [True] * 6
    again = steps_of(tmp_path, kl_stop=0.5)
    again.restore_kl([{"step": number + 1, "kl": kl, "units": 3.0} for number, kl in enumerate((0.4, 0.4, 0.6))])
    assert not again[3].batches
    assert again[3].examples == ()
    assert steps_of(tmp_path)[3].batches


def test_the_coefficient_is_passed_between_iterations_also_after_a_stop(tmp_path: Path) -> None:
    rollouts_of = generator(actor_critic(), samples=2, advantages=AdvantageSettings(kl_target=1.0, kl_horizon=20))
    expected = steps_of(tmp_path, Counting(rollouts_of), adaptive=True)
    for number in (0, 6, 12):
        expected[number]
    coefficients = [coefficient for _, coefficient in expected.generate.calls]
    assert len(set(coefficients)) == 3  # the KL is 0, so it falls
    again = steps_of(tmp_path, Counting(rollouts_of), adaptive=True)
    again[12]
    assert again.generate.calls == [(2, coefficients[2])]
    fixed = steps_of(tmp_path, Counting(rollouts_of))
    fixed[6]
    assert fixed.generate.calls == [(1, 0.1)]


def test_iterations_are_deleted_when_no_checkpoint_needs_them(tmp_path: Path) -> None:
    saved: list[int] = []
    ours = steps_of(tmp_path, saved_steps=lambda: saved)
    names = lambda: sorted(int(path.name.split("-")[1]) for path in tmp_path.iterdir())  # noqa: E731
    ours[0], ours[6]
    saved += [7]  # in iteration 1
    ours[12], ours[14], ours[20]
    assert names() == [0, 1, 3, 4]
    saved[:] = [21]
    ours[26]
    assert names() == [3, 4, 5]


def train_some(directory: Path, actor: Any, generate: Any = None, **given: Any) -> list[StepResult]:
    results: list[StepResult] = []
    steps = steps_of(directory, generate or generator(actor, samples=2), **given)
    optimizer = AdamW(actor.parameters())
    train(
        actor,
        ProximalPolicy(),
        steps,
        optimizer,
        lambda step: 1e-2,
        SingleProcess(),
        [results.append, steps.record_kl],
        clip_norm=1.0,
    )
    return results


def test_the_first_step_of_an_iteration_has_ratio_one_and_the_second_has_not(tmp_path: Path) -> None:
    results = train_some(tmp_path, actor_critic(), plan=plan(steps=8), whiten=whitened)
    for number in (0, 6):
        assert results[number].metrics["ratio"] == pytest.approx(1.0, abs=1e-5)
        assert results[number].metrics["kl"] == pytest.approx(0.0, abs=1e-6)
    assert results[1].metrics["kl"] > 1e-5
    assert results[0].metrics["reference_kl"] == pytest.approx(0.0, abs=1e-6)
    assert results[7].metrics["reference_kl"] > 1e-4


def test_an_empty_step_updates_nothing_and_is_recorded(tmp_path: Path) -> None:
    actor = actor_critic()
    results = train_some(tmp_path, actor, plan=plan(steps=6), whiten=whitened, kl_stop=1e-9)
    assert [bool(each.units) for each in results] == [True, True, False, False, False, False]
    assert all(not each.metrics and each.gradient_norm == 0.0 for each in results[2:])
    short = actor_critic()
    train_some(tmp_path / "short", short, plan=plan(steps=2), whiten=whitened)
    for name, parameter in short.parameters().items():
        assert torch.equal(parameter, actor.parameters()[name]), name


def test_the_policy_does_not_change_while_the_value_function_warms_up(tmp_path: Path) -> None:
    actor, before = actor_critic(), actor_critic()
    train_some(tmp_path, actor, plan=plan(steps=3), whiten=whitened, value_warmup=3)
    for name, parameter in before.parameters().items():
        moved = not torch.equal(parameter, actor.parameters()[name])
        assert moved == name.startswith("value."), name


def test_pieces_of_a_step_have_the_columns_of_the_whole(tmp_path: Path) -> None:
    whole = steps_of(tmp_path, whiten=whitened)
    small = steps_of(tmp_path, whiten=whitened)
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
    reference = frozen(actor)
    before = {name: tensor.clone() for name, tensor in reference.model.state_dict().items()}
    train_some(tmp_path, actor, generator(actor, samples=2, reference=reference), plan=plan(steps=8))
    assert all(torch.equal(before[name], tensor) for name, tensor in reference.model.state_dict().items())
    assert not all(torch.equal(before[name], tensor) for name, tensor in actor.model.state_dict().items())


def shifted(rollouts: Rollouts) -> Rollouts:
    return replace(
        rollouts, columns={**rollouts.columns, OLD_LOG_PROBABILITY: np.roll(rollouts.columns[OLD_LOG_PROBABILITY], 1)}
    )


def test_old_log_probabilities_that_are_off_by_one_show_in_the_ratio(tmp_path: Path) -> None:
    actor = actor_critic()
    generate = generator(actor, samples=2)
    results = train_some(tmp_path, actor, lambda *given: shifted(generate(*given)), plan=plan(steps=1))
    assert abs(results[0].metrics["ratio"] - 1.0) > 0.05


def test_old_log_probabilities_of_another_temperature_show_in_the_ratio(tmp_path: Path) -> None:
    actor = actor_critic(temperature=0.7)
    generate = generator(actor, samples=2)

    def at_one(*given: Any) -> Rollouts:
        actor.policy.temperature = 1.0
        found = generate(*given)
        actor.policy.temperature = 0.7
        return found

    results = train_some(tmp_path, actor, at_one, plan=plan(steps=1))
    assert abs(results[0].metrics["ratio"] - 1.0) > 0.05


def test_prompts_of_these_tests_are_enough() -> None:
    assert len(PROMPTS) == 12
