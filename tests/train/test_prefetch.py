"""Steps that are laid out one ahead are the same steps, and errors come where they belong."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from tests.model.trees import random_tree, small_model
from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch, collate_packed
from tunesmith.model.policy import Policy
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.train.loop import Steps, train
from tunesmith.train.optim.optimizers import AdamW
from tunesmith.train.prefetch import PrefetchedSteps, prefetched
from tunesmith.train.steps import Step
from tunesmith.world import SingleProcess

COUNT = 6


@dataclass(slots=True)
class Recorded:
    """Steps of two examples each. made: the numbers of the steps that were asked for. broken: a step that fails."""

    broken: int | None = None
    made: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> Step[PackedBatch]:
        self.made.append(number)
        if number == self.broken:
            raise ValueError(f"step {number} cannot be made")
        examples = [Example(each, random_tree(each)) for each in (2 * number, 2 * number + 1)]
        return Step(number, 0, (2 * number, 2 * number + 1), tuple(collate_packed(examples, "threads", 30)))


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as found:
        yield found


def weights_after(steps: Steps[PackedBatch], start: int = 0) -> tuple[list[Any], dict[str, torch.Tensor]]:
    policy = Policy(small_model("llama"))
    results: list[Any] = []
    train(
        policy,
        SupervisedFineTuning(),
        steps,
        AdamW(policy.parameters()),
        lambda step: 1e-3,
        SingleProcess(),
        [results.append],
        start=start,
    )
    metrics = [(result.done, result.examples, result.metrics, result.gradient_norm) for result in results]
    return metrics, {name: value.detach().clone() for name, value in policy.parameters().items()}


@pytest.mark.parametrize("start", [0, 3])
def test_training_with_steps_laid_out_ahead_gives_the_same_bits(start: int, executor: ThreadPoolExecutor) -> None:
    metrics, weights = weights_after(Recorded(), start)
    recorded = Recorded()
    found, moved = weights_after(PrefetchedSteps(recorded, executor, pin=False), start)
    assert found == metrics
    assert all(torch.equal(moved[name], weights[name]) for name in weights)
    assert recorded.made == list(range(start, COUNT))


def test_a_step_is_made_while_the_one_before_it_is_used(executor: ThreadPoolExecutor) -> None:
    recorded = Recorded()
    steps = PrefetchedSteps(recorded, executor, pin=False)
    assert steps[2].number == 2
    executor.submit(int).result()  # what was submitted before is done
    assert recorded.made == [2, 3]
    assert steps[3].number == 3
    assert steps[0].number == 0, "another order than expected"


def test_a_step_that_cannot_be_made_is_an_error_only_when_it_is_asked_for(executor: ThreadPoolExecutor) -> None:
    steps = PrefetchedSteps(Recorded(broken=3), executor, pin=False)
    assert [steps[number].number for number in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="step 3 cannot be made"):
        steps[3]


def test_on_a_cpu_no_thread_takes_its_cores() -> None:
    recorded = Recorded()
    with prefetched(recorded, torch.device("cpu")) as steps:
        assert steps is recorded
