"""Iterations and their steps as formulas: which prompts get replies when, and which of them a step trains on."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from tunesmith.data.dataset.plan import Plan, PlannedStep
from tunesmith.draws import permutation


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step stands. iteration: from 0. position: from 0, in its iteration."""

    iteration: int
    position: int


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """The iterations of a run and the steps in them.

    plan: its steps are the iterations here, and its examples are prompts. batch_size: prompts of an optimizer step. passes: over the
    prompts of an iteration, each in an order of its own; no step reaches over the end of a pass. steps: most optimizer
    steps of the run, the last iteration ends with them; None: as many as the iterations have.
    """

    plan: Plan
    batch_size: int
    passes: int
    steps: int | None = None
    starts: list[int] = field(
        default_factory=lambda: [0]
    )  # the first step of every iteration, and of the one after them

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the run."""
        while len(self.starts) <= self.plan.total_steps and (self.steps is None or self.starts[-1] < self.steps):
            self._extend()
        return self.starts[-1] if self.steps is None else min(self.steps, self.starts[-1])

    def iteration(self, number: int) -> PlannedStep:
        """The prompts of an iteration. Raises IndexError beyond the end."""
        return self.plan.step(number)

    def place(self, step: int) -> Place:
        """Raises IndexError for a step beyond the end."""
        if not 0 <= step < self.total_steps:
            raise IndexError(f"step {step} of {self.total_steps}")
        iteration = bisect_right(self.starts, step) - 1
        return Place(iteration, step - self.starts[iteration])

    def batch(self, place: Place) -> list[int]:
        """Which of the prompts of the iteration, by their index in it, a step trains on, in order."""
        count = len(self.iteration(place.iteration).examples)
        number, position = divmod(place.position, self._batches(count))
        order = permutation(count, self.plan.seed, place.iteration, f"pass {number}")
        return [int(index) for index in order[position * self.batch_size : (position + 1) * self.batch_size]]

    def _batches(self, count: int) -> int:
        return -(-count // self.batch_size)

    def _extend(self) -> None:
        count = len(self.plan.step(len(self.starts) - 1).examples)
        self.starts.append(self.starts[-1] + self.passes * self._batches(count))
