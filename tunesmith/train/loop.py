"""The loop. What varies arrives as an argument.

Two rules make it right. Count before you compute: the units of a step are summed over all micro-batches and processes
before the first forward pass, and every loss is a sum divided by that number. The order is a formula: step s is asked for
by its number, so resuming is starting at another number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from tunesmith.batch.protocols import Objective
from tunesmith.train.optim.optimizers import Optimizer, check_finite, clipping
from tunesmith.train.optim.schedules import Schedule
from tunesmith.train.steps import Step
from tunesmith.train.world import World


class Trainable(Protocol):
    """A policy as the loop sees it; what it answers is between it and its objective."""

    @property
    def device(self) -> torch.device: ...

    def parameters(self) -> dict[str, nn.Parameter]: ...

    def train(self) -> None: ...


class Evaluated(Protocol):
    """A policy as a gate before the first step sees it."""

    @property
    def device(self) -> torch.device: ...

    def eval(self) -> None: ...


class Steps(Protocol):
    """A source of steps: demonstrations, pairs or rollouts."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Step: ...


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one optimizer step did. ``done`` steps are behind us; measures are means over the step's units, and what the
    source of steps tells. A step without batches moved nothing and has no means.

    seconds: wall-clock time of the step, kept apart from everything that is reproducible.
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


def train(
    policy: Trainable,
    objective: Objective,
    steps: Steps,
    optimizer: Optimizer,
    schedule: Schedule,
    world: World,
    actions: Sequence[Callback],
    *,
    start: int = 0,
    clip_norm: float | None = None,
) -> None:
    """Run steps ``start`` to ``len(steps) - 1``; after each, every action in order.

    Raises InternalError before the weights move if loss or gradient norm is not finite. An action ends the run by raising.
    """
    for number in range(start, len(steps)):
        began = time.perf_counter()
        step = steps[number]
        policy.train()
        sums, units, sizes = accumulate(policy, objective, step, world)
        for name, value in sums.items():
            check_finite(name, value, number, where=f"examples {_some(step.examples)}")
        norm, rate = 0.0, schedule(number)
        if sizes[0]:
            parameters = policy.parameters()
            world.sum_gradients(parameters.values())
            norm, scale = clipping(parameters, clip_norm, number)
            optimizer.step(rate, scale)
        optimizer.zero()
        result = StepResult(
            done=number + 1,
            total=len(steps),
            epoch=step.epoch,
            examples=step.examples,
            metrics={**({name: value / units for name, value in sums.items()} if sizes[0] else {}), **step.metrics},
            learning_rate=rate,
            gradient_norm=norm,
            units=units,
            tokens=sizes[0],
            targets=sizes[1],
            seconds=time.perf_counter() - began,
        )
        for action in actions:
            action(result)


def accumulate(
    policy: Trainable, objective: Objective, step: Step, world: World
) -> tuple[dict[str, float], float, tuple[int, int]]:
    """Gradients of one step: (sums of the measures, units, (tokens, targets)), all over every process."""
    counts = [
        sum(objective.units(batch) for batch in step.batches),
        float(sum(batch.tokens for batch in step.batches)),
        float(sum(batch.targets for batch in step.batches)),
    ]
    units, tokens, targets = world.total(torch.tensor(counts, dtype=torch.float64)).tolist()
    added = {name: torch.zeros((), dtype=torch.float64, device=policy.device) for name in objective.metrics}
    for batch in step.batches:
        found = objective(policy, batch.to(policy.device), units)
        found.loss.backward()  # type: ignore[no-untyped-call]
        for name in added:
            added[name] = added[name] + found.sums[name].detach().double()
    totals = world.total(torch.stack(list(added.values()))).tolist()
    sums = dict(zip(added, totals, strict=True))
    return sums, units, (int(tokens), int(targets))


@torch.no_grad()
def accumulate_metrics(policy: Evaluated, objective: Objective, step: Step) -> dict[str, float]:
    """What the objective measures on one process's share of a step, without noise; nothing is changed."""
    policy.eval()
    units = sum(objective.units(batch) for batch in step.batches)
    found = [objective(policy, batch.to(policy.device), units).sums for batch in step.batches]
    return {name: float(sum(sums[name] for sums in found)) / units for name in objective.metrics}


def _some(examples: tuple[int, ...]) -> str:
    return ", ".join(map(str, examples[:8])) + (", ..." if len(examples) > 8 else "")
