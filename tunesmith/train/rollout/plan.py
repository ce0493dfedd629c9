"""The plan of PPO: which prompts an iteration samples replies to, and which of them a step trains on."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field

from tunesmith.data.dataset.plan import Plan, PlannedStep
from tunesmith.draws import permutation


@dataclass(frozen=True, slots=True)
class RolloutPosition:
    """The position of an optimizer step.

    iteration: from 0.
    offset: number of the step within its iteration, from 0.
    """

    iteration: int
    offset: int


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """The iterations of a run and the optimizer steps in each of them.

    plan: each of its steps is an iteration here, and its examples are prompts.
    batch_size: prompts of an optimizer step.
    passes: passes over the prompts of an iteration, each in a different order. A step never spans two passes.
    steps: optimizer steps after which the run ends; None: after those of all iterations.
    starts: the first step of every iteration known so far, and of the one after them; computed on demand.
    """

    plan: Plan
    batch_size: int
    passes: int
    steps: int | None = None
    starts: list[int] = field(default_factory=lambda: [0])

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the run."""
        while len(self.starts) <= self.plan.total_steps and (self.steps is None or self.starts[-1] < self.steps):
            self._extend()
        return self.starts[-1] if self.steps is None else min(self.steps, self.starts[-1])

    def iteration(self, number: int) -> PlannedStep:
        """The prompts of an iteration. Raises IndexError after the last one."""
        return self.plan.step(number)

    def position(self, step: int) -> RolloutPosition:
        """The position of an optimizer step. Raises IndexError after the last one."""
        if not 0 <= step < self.total_steps:
            raise IndexError(f"step {step} of {self.total_steps}")
        iteration = bisect_right(self.starts, step) - 1
        return RolloutPosition(iteration, step - self.starts[iteration])

    def batch(self, position: RolloutPosition) -> list[int]:
        """The prompts that a step trains on, in order, as indices into the prompts of its iteration."""
        count = len(self.iteration(position.iteration).examples)
        number, batch = divmod(position.offset, self._steps_per_pass(count))
        order = permutation(count, self.plan.seed, position.iteration, f"pass {number}")
        return [int(index) for index in order[batch * self.batch_size : (batch + 1) * self.batch_size]]

    def _steps_per_pass(self, prompts: int) -> int:
        return math.ceil(prompts / self.batch_size)

    def _extend(self) -> None:
        count = len(self.plan.step(len(self.starts) - 1).examples)
        self.starts.append(self.starts[-1] + self.passes * self._steps_per_pass(count))
