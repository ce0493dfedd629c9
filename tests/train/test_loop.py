"""The loop's guards: nothing that is not finite moves the weights, units are counted over the whole step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from tests.model.trees import random_tree, small_model
from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch, collate_packed
from tunesmith.batch.protocols import LogProbabilityModel, Loss
from tunesmith.draws import noise_seed
from tunesmith.errors import InternalError
from tunesmith.model.policy import Policy
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.train.loop import StepResult, train
from tunesmith.train.optim.optimizers import AdamW
from tunesmith.train.optim.schedules import Schedule
from tunesmith.train.steps import Step
from tunesmith.world import SingleProcess


@dataclass(frozen=True, slots=True)
class Few:
    """Steps over the same six random trees, in micro-batches of ``tokens`` tokens."""

    count: int
    tokens: int = 10_000

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Step:
        examples = [Example(n, random_tree(n)) for n in range(6)]
        return Step(number, 0, tuple(range(6)), tuple(collate_packed(examples, "threads", self.tokens)))


def run(policy: Policy, steps: Few, objective: object = None, epsilon: float = 1e-8) -> list[StepResult]:
    results: list[StepResult] = []
    train(
        policy,
        objective or SupervisedFineTuning(),  # type: ignore[arg-type]
        steps,
        AdamW(policy.parameters(), epsilon=epsilon),
        lambda step: 1e-2,
        SingleProcess(),
        [results.append],
        clip_norm=1.0,
    )
    return results


def test_the_loss_falls_and_every_step_is_reported_once() -> None:
    results = run(Policy(small_model("llama")), Few(20))
    assert [result.done for result in results] == list(range(1, 21))
    assert results[-1].metrics["loss"] < results[0].metrics["loss"] - 1.0
    assert results[0].targets == sum(batch.targets for batch in Few(1)[0].batches)


@pytest.mark.parametrize("tokens", [1, 40])
def test_metrics_and_update_do_not_depend_on_micro_batches(tokens: int) -> None:
    whole, split = Policy(small_model("gpt_neox")), Policy(small_model("gpt_neox"))
    # A large epsilon: Adam divides a gradient of pure rounding (key biases) by its own size otherwise.
    one, many = run(whole, Few(3), epsilon=1e-3)[-1], run(split, Few(3, tokens), epsilon=1e-3)[-1]
    assert many.metrics["loss"] == pytest.approx(one.metrics["loss"], rel=1e-5)
    assert many.units == one.units
    for name, parameter in whole.parameters().items():
        assert torch.allclose(parameter, split.parameters()[name], atol=2e-5), name


def test_a_run_that_begins_later_has_the_steps_and_the_rates_of_those_numbers() -> None:
    policy, results = Policy(small_model("llama")), list[StepResult]()
    rates: Schedule = lambda step: (step + 1) * 1e-3  # noqa: E731
    train(
        *(policy, SupervisedFineTuning(), Few(5), AdamW(policy.parameters()), rates, SingleProcess(), [results.append]),
        start=3,
    )
    assert [result.done for result in results] == [4, 5]
    assert [result.learning_rate for result in results] == pytest.approx([4e-3, 5e-3])


def test_the_gradients_of_a_step_are_gone_before_the_next() -> None:
    policy, results = Policy(small_model("llama")), list[StepResult]()
    objective, optimizer = SupervisedFineTuning(), AdamW(policy.parameters())
    train(policy, objective, Few(3), optimizer, lambda step: 0.0, SingleProcess(), [results.append])
    assert len({result.gradient_norm for result in results}) == 1


class MeanOfMeans(SupervisedFineTuning):
    """The planted fault of the field: every micro-batch divided by its own count."""

    def __call__(self, policy: LogProbabilityModel, batch: PackedBatch, units: float) -> Loss:
        return super().__call__(policy, batch, self.units(batch))


def test_a_mean_of_means_is_seen() -> None:
    whole, split = Policy(small_model("gpt_neox")), Policy(small_model("gpt_neox"))
    one, many = run(whole, Few(1), MeanOfMeans())[0], run(split, Few(1, 1), MeanOfMeans())[0]
    assert abs(many.gradient_norm - one.gradient_norm) > 0.05 * one.gradient_norm


class Poisoned(SupervisedFineTuning):
    """Makes the value that ``place`` names not finite."""

    def __init__(self, place: str, value: float) -> None:
        super().__init__()
        self.place, self.value = place, value

    def __call__(self, policy: LogProbabilityModel, batch: PackedBatch, units: float) -> Loss:
        found = super().__call__(policy, batch, units)
        if self.place == "loss":
            return replace(found, sums={**found.sums, "loss": found.sums["loss"] * self.value})
        return replace(found, loss=found.loss * self.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", ["loss", "gradient"])
def test_a_number_that_is_not_finite_stops_before_the_update(place: str, value: float) -> None:
    policy = Policy(small_model("llama"))
    before = {name: parameter.detach().clone() for name, parameter in policy.parameters().items()}
    with pytest.raises(InternalError, match="step 1"):
        run(policy, Few(3), Poisoned(place, value))
    assert all(torch.equal(before[name], parameter) for name, parameter in policy.parameters().items())


def test_noise_seeds_differ_between_epochs_examples_and_runs() -> None:
    seeds = {noise_seed(seed, epoch, example) for seed in range(3) for epoch in range(3) for example in range(50)}
    assert len(seeds) == 450
    seeds |= {noise_seed(0, 0, example, copy) for example in range(50) for copy in range(1, 4)}
    assert len(seeds) == 600
    assert all(0 <= seed < 2**63 for seed in seeds)
