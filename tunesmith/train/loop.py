"""The training loop. Policy, objective, source of steps, optimizer and callbacks are arguments.

Two rules make its result independent of micro-batches, processes and interruptions. First, the units of a step are
counted over all micro-batches and processes before the first forward pass, and every loss is a sum divided by this
count. Second, a step is a function of its number, so a run resumes by starting at another number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from tunesmith.batch.protocols import BatchT, BatchT_co, Objective
from tunesmith.recipe.training import ShardedKind
from tunesmith.train.optim.optimizers import Optimizer, check_finite, clip_coefficient
from tunesmith.train.optim.schedules import Schedule
from tunesmith.train.steps import Step
from tunesmith.world import Communicator


class Trainable(Protocol):
    """What the loop needs of a policy; the forward pass is between the policy and its objective."""

    @property
    def device(self) -> torch.device: ...

    def parameters(self) -> dict[str, nn.Parameter]: ...

    def train(self) -> None: ...

    def eval(self) -> None: ...

    def shard(self, mesh: DeviceMesh, kind: ShardedKind) -> None: ...


PolicyT = TypeVar("PolicyT", bound=Trainable)


class Steps(Protocol[BatchT_co]):
    """A source of steps: demonstrations, preferences or rollouts."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Step[BatchT_co]: ...


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of one optimizer step, summed over all processes.

    done: optimizer steps done, this one included.
    total: optimizer steps of the run.
    epoch: from 0.
    examples: numbers of the examples of the step.
    metrics: means of the objective's metrics over the units, and the metrics that came with the step. A step without
        batches has no means.
    learning_rate: of this step.
    gradient_norm: before clipping; 0 for a step without batches.
    units: denominator of the loss, as the objective counts it.
    tokens, targets: tokens that the model read, and those that were trained.
    seconds: wall-clock time, the only value that a repeated run does not reproduce.
    """

    done: int
    total: int
    epoch: int
    examples: tuple[int, ...]
    metrics: dict[str, float]
    learning_rate: float
    gradient_norm: float
    units: float
    tokens: int
    targets: int
    seconds: float


Callback = Callable[[StepResult], None]
"""Called after every optimizer step."""


class TrainingEnded(Exception):
    """A callback raises it to end training before its last step; it is no error."""


def train(
    policy: PolicyT,
    objective: Objective[PolicyT, BatchT],
    steps: Steps[BatchT],
    optimizer: Optimizer,
    schedule: Schedule,
    communicator: Communicator,
    callbacks: Sequence[Callback],
    *,
    start: int = 0,
    clip_norm: float | None = None,
) -> int:
    """Run the steps ``start`` to ``len(steps) - 1``, and after each of them every callback in order.

    A step without batches updates nothing. A callback ends the run by raising.

    start: steps that are done already.
    clip_norm: largest gradient norm; None: gradients are not clipped.
    Returns the steps that are done: fewer than ``len(steps)`` if a callback raised TrainingEnded.
    Raises InternalError before the weights are updated if the loss or the gradient norm is not finite.
    """
    for number in range(start, len(steps)):
        began = time.perf_counter()
        step = steps[number]
        learning_rate, norm = schedule(number), 0.0
        policy.train()
        totals = accumulate_gradients(policy, objective, step, communicator)
        for name, value in totals.sums.items():
            check_finite(name, value, number + 1, where=f"examples {first_numbers(step.examples)}")
        if totals.tokens:
            parameters = policy.parameters()
            communicator.sum_gradients(parameters.values())
            norm, scale = clip_coefficient(parameters, clip_norm, number + 1)
            optimizer.step(learning_rate, scale)
        optimizer.zero_grad()
        result = StepResult(
            done=number + 1,
            total=len(steps),
            epoch=step.epoch,
            examples=step.examples,
            metrics={**totals.means(), **step.metrics},
            learning_rate=learning_rate,
            gradient_norm=norm,
            units=totals.units,
            tokens=totals.tokens,
            targets=totals.targets,
            seconds=time.perf_counter() - began,
        )
        try:
            for callback in callbacks:
                callback(result)
        except TrainingEnded:
            return result.done
    return len(steps)


@dataclass(frozen=True, slots=True)
class StepTotals:
    """Sums over all micro-batches of a step and all processes.

    sums: metric of the objective -> its sum.
    units: denominator of the loss.
    tokens, targets: tokens that the model read, and those that were trained.
    """

    sums: Mapping[str, float]
    units: float
    tokens: int
    targets: int

    def means(self) -> dict[str, float]:
        """The sums divided by the units; nothing if the step has no batches."""
        return {name: value / self.units for name, value in self.sums.items()} if self.tokens else {}


def accumulate_gradients(
    policy: PolicyT, objective: Objective[PolicyT, BatchT], step: Step[BatchT], communicator: Communicator
) -> StepTotals:
    """Run the backward pass of every micro-batch, which adds to the gradients of this process; returns the totals."""
    counts = [
        sum(objective.units(batch) for batch in step.batches),
        float(sum(batch.tokens for batch in step.batches)),
        float(sum(batch.targets for batch in step.batches)),
    ]
    units, tokens, targets = communicator.sum_values(torch.tensor(counts, dtype=torch.float64)).tolist()
    sums = {name: torch.zeros((), dtype=torch.float64, device=policy.device) for name in objective.metrics}
    passes = communicator.passes(len(step.batches))
    for batch in step.batches:
        found = objective(policy, batch.to(policy.device), units)
        found.loss.backward()  # type: ignore[no-untyped-call]
        for name in sums:
            sums[name] = sums[name] + found.sums[name].detach().double()
    if len(step.batches) < passes:
        assert step.idle is not None, "other processes have batches"
        idle = step.idle().to(policy.device)
        for _ in range(len(step.batches), passes):
            # Gradients of 0, for the sums over all processes that are part of the backward pass of a sharded model.
            (objective(policy, idle, units).loss * 0.0).backward()  # type: ignore[no-untyped-call]
    totals = communicator.sum_values(torch.stack(list(sums.values()))).tolist()
    return StepTotals(dict(zip(sums, totals, strict=True)), units, int(tokens), int(targets))


@torch.no_grad()
def accumulate_metrics(
    policy: PolicyT, objective: Objective[PolicyT, BatchT], step: Step[BatchT], communicator: Communicator
) -> dict[str, float]:
    """Means of the objective's metrics over a step, without dropout and without gradients."""
    policy.eval()
    own = float(sum(objective.units(batch) for batch in step.batches))
    units = float(communicator.sum_values(torch.tensor(own, dtype=torch.float64)))
    passes = communicator.passes(len(step.batches))
    found = [objective(policy, batch.to(policy.device), units).sums for batch in step.batches]
    for _ in range(len(found), passes):
        assert step.idle is not None, "other processes have batches"
        objective(policy, step.idle().to(policy.device), units)
    sums = torch.tensor([float(sum(each[name] for each in found)) for name in objective.metrics], dtype=torch.float64)
    totals = communicator.sum_values(sums).tolist()
    return {name: total / units for name, total in zip(objective.metrics, totals, strict=True)}


def first_numbers(examples: Sequence[int]) -> str:
    """Some of the numbers of the examples of a step, for a message."""
    return ", ".join(map(str, examples[:8])) + (", ..." if len(examples) > 8 else "")
