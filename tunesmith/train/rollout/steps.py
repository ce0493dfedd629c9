"""Rollouts as a source of steps: the first step of an iteration samples replies, and all its steps train on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tunesmith.batch.columns import ADVANTAGE, PPO_COLUMNS
from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch, collate_packed
from tunesmith.batch.protocols import Collator
from tunesmith.data.dataset.plan import PlannedStep
from tunesmith.errors import StorageError
from tunesmith.train.loop import StepResult
from tunesmith.train.rollout.files import Decode, delete_rollouts, load_rollouts, read_index, save_rollouts
from tunesmith.train.rollout.plan import RolloutPlan, RolloutPosition
from tunesmith.train.rollout.rollouts import Floats, Rollouts
from tunesmith.train.steps import Step
from tunesmith.world import ALONE, Communicator, deal

KL = "kl"
"""The metric of a step that may end its iteration."""


class GenerateRollouts(Protocol):
    """Samples and scores the replies of an iteration with the present weights."""

    def __call__(self, iteration: int, planned: PlannedStep, coefficient: float) -> Rollouts: ...


@dataclass(slots=True)
class RolloutSteps:
    """``steps[s]``, to be asked for in order: a step depends on the weights at the beginning of its iteration.

    plan: iterations and their steps.
    generate: makes the rollouts of an iteration; called at its first step.
    directory: where rollouts are stored. A run that resumes in the middle of an iteration reads them from there.
    coefficient: of the KL penalty in the first iteration.
    tokens: largest micro-batch.
    saved_steps: the steps of all checkpoints on disk.
    decode: token ids -> text, for the file that people read.
    adaptive: whether an iteration takes its coefficient from the one before.
    kl_stop: KL of a step (policy to old policy, nats) above which the later steps of its iteration are empty; None: no
        iteration ends early.
    value_warmup: so many first steps have advantages of 0, so they train the value function only.
    whiten: scales the advantages of a step, float32 [N], to mean 0 and variance 1; None: they stay. It is applied to a
        whole step, as in EasyLM, so micro-batches do not matter.
    collate: makes micro-batches of the kind that the policy reads.
    world: the processes that share every step; the first one writes.
    current: rollouts in memory.
    kl_of_steps: number of a step -> its KL.
    """

    plan: RolloutPlan
    generate: GenerateRollouts
    directory: Path
    coefficient: float
    tokens: int
    saved_steps: Callable[[], Collection[int]]
    decode: Decode
    adaptive: bool = False
    kl_stop: float | None = None
    value_warmup: int = 0
    whiten: Callable[[Floats], Floats] | None = None
    collate: Collator[PackedBatch] = collate_packed
    world: Communicator = ALONE
    current: Rollouts | None = None
    kl_of_steps: dict[int, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.plan.total_steps

    def __getitem__(self, number: int) -> Step[PackedBatch]:
        position = self.plan.position(number)
        epoch = self.plan.iteration(position.iteration).epoch
        rollouts = self.rollouts(position)
        metrics = rollouts.metrics if position.offset == 0 else dict[str, float]()
        if self._iteration_ended(number, position):
            return Step(number, epoch, (), (), metrics)
        chosen = self.plan.batch(position)
        examples = tuple(rollouts.answered[index].number for index in chosen)
        laid_out = self._examples(number, rollouts, chosen)
        costs = [len(example.tree.ids) for example in laid_out]
        own = [laid_out[place] for place in deal(costs, self.world.size)[self.world.rank]]
        shortest = laid_out[costs.index(min(costs))]
        return Step(number, epoch, examples, self.batches(own), metrics, lambda: self.batches([shortest])[0])

    def batches(self, examples: Iterable[Example]) -> tuple[PackedBatch, ...]:
        """The micro-batches of the examples of one step."""
        return tuple(self.collate(examples, "messages", self.tokens))

    def record_kl(self, result: StepResult) -> None:
        """A callback of the loop: remembers the KL of a step, which decides whether its iteration continues."""
        if result.units:
            self.kl_of_steps[result.done - 1] = result.metrics[KL]

    def restore_kl(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Restore the KL of all steps of a stopped run from the lines of its metrics.jsonl."""
        self.kl_of_steps = {int(each["step"]) - 1: float(each[KL]) for each in records if KL in each and each["units"]}

    def rollouts(self, position: RolloutPosition) -> Rollouts:
        """The rollouts of a step's iteration: those in memory, new ones at its first step, else those on disk.

        Raises StorageError.
        """
        iteration = position.iteration
        if self.current is not None and self.current.iteration == iteration:
            return self.current
        if position.offset:
            self.current = load_rollouts(self.directory, iteration)
            self._check_prompts(self.current)
            return self.current
        self.current = self.generate(iteration, self.plan.iteration(iteration), self._coefficient(iteration))
        if self.world.is_first:
            save_rollouts(self.directory, self.current, self.decode)
            delete_rollouts(self.directory, self._needed(iteration))
        return self.current

    def _coefficient(self, iteration: int) -> float:
        if not self.adaptive or not iteration:
            return self.coefficient
        if self.current is not None and self.current.iteration == iteration - 1:
            return self.current.next_coefficient
        return float(read_index(self.directory, iteration - 1)["following"])

    def _needed(self, current: int) -> set[int]:
        """The iterations that a run may read when it resumes from any checkpoint on disk.

        These are the iteration of the checkpoint, and the one before it for its KL coefficient.
        """
        last = len(self) - 1
        inside = {current, *(self.plan.position(min(step, last)).iteration for step in self.saved_steps())}
        return inside | {iteration - 1 for iteration in inside}

    def _check_prompts(self, rollouts: Rollouts) -> None:
        """Raises StorageError if the replies do not answer the prompts of the plan."""
        planned = self.plan.iteration(rollouts.iteration).examples
        if tuple(each.number for each in rollouts.answered) != planned:
            advice = "restore the rollouts of this run"
            raise StorageError("these rollouts answer other prompts", where=self.directory, advice=advice)

    def _iteration_ended(self, number: int, position: RolloutPosition) -> bool:
        """Whether an earlier step of the iteration had a KL above the limit."""
        if self.kl_stop is None:
            return False
        earlier = range(number - position.offset, number)
        return any(self.kl_of_steps.get(step, 0.0) > self.kl_stop for step in earlier)

    def _examples(self, number: int, rollouts: Rollouts, chosen: list[int]) -> list[Example]:
        """The examples of a step, with the advantages that it uses. chosen: indices of its prompts."""
        slices, advantages = rollouts.prompt_slices(), rollouts.columns[ADVANTAGE]
        step_advantages = np.concatenate([advantages[slices[index]] for index in chosen])
        if number < self.value_warmup:
            step_advantages = np.zeros_like(step_advantages)
        elif self.whiten is not None:
            step_advantages = self.whiten(step_advantages)
        examples: list[Example] = []
        done = 0  # targets of the step
        for index in chosen:
            start = slices[index].start
            for piece in rollouts.answered[index].split(self.tokens):
                stop = start + piece.targets
                columns = {name: rollouts.columns[name][start:stop] for name in PPO_COLUMNS}
                columns[ADVANTAGE] = step_advantages[done : done + piece.targets]
                examples.append(Example(piece.number, piece.tree(), columns=columns))
                start, done = stop, done + piece.targets
        return examples
