"""Rollouts as a source of steps: at the first step of an iteration replies are written, its other steps train on them too."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tunesmith.batch.columns import ADVANTAGE, PPO_COLUMNS
from tunesmith.batch.example import Example
from tunesmith.batch.packed import collate_packed
from tunesmith.batch.protocols import Collator, MicroBatch
from tunesmith.data.dataset.plan import PlannedStep
from tunesmith.errors import StorageError
from tunesmith.train.loop import StepResult
from tunesmith.train.rollout.files import Words, forget_rollouts, load_rollouts, read_iteration, save_rollouts
from tunesmith.train.rollout.plan import Place, RolloutPlan
from tunesmith.train.rollout.rollouts import Floats, Rollouts
from tunesmith.train.steps import Step

KL = "kl"  # the measure of a step that may stop its iteration
NOTHING: Mapping[str, float] = {}


class GenerateRollouts(Protocol):
    """Writes and scores the replies of an iteration with the present weights."""

    def __call__(self, iteration: int, planned: PlannedStep, coefficient: float) -> Rollouts: ...


@dataclass(slots=True)
class RolloutSteps:
    """``steps[s]``, to be asked for in order; what a step holds is decided by the weights at the beginning of its iteration.

    make: called at the first step of an iteration. directory: where iterations are kept; a run that goes on in the middle
    of one reads it from there. coefficient: of the KL penalty in the first iteration. adaptive: whether later iterations
    take theirs from the one before. stop: the KL of a step, policy to old policy, above which the later steps of its iteration
    are empty; None: none ever is. warmup: so many first steps have advantages of 0, and move the value function only.
    whitened: makes the advantages of a step, [N], ones of mean 0 and variance 1; over a whole step, as in EasyLM, so that
    micro-batches have no part in it. kept: the steps of the checkpoints that there are. tokens: largest micro-batch.
    words: token ids as text, for people.
    """

    plan: RolloutPlan
    make: GenerateRollouts
    directory: Path
    coefficient: float
    tokens: int
    kept: Callable[[], Collection[int]]
    words: Words
    adaptive: bool = False
    stop: float | None = None
    warmup: int = 0
    whitened: Callable[[Floats], Floats] | None = None
    collate: Collator = collate_packed
    present: Rollouts | None = None
    seen: dict[int, float] = field(default_factory=dict)  # step -> its KL

    def __len__(self) -> int:
        return self.plan.total_steps

    def __getitem__(self, number: int) -> Step:
        place = self.plan.place(number)
        planned = self.plan.iteration(place.iteration)
        rollouts = self.rollouts(place)
        told = rollouts.metrics if place.position == 0 else NOTHING
        if self._stopped(number, place):
            return Step(number, planned.epoch, (), (), told)
        chosen = self.plan.batch(place)
        examples = tuple(rollouts.answered[index].number for index in chosen)
        return Step(number, planned.epoch, examples, self.batches(self._examples(number, rollouts, chosen)), told)

    def batches(self, examples: Iterable[Example]) -> tuple[MicroBatch, ...]:
        """Examples of one step, laid out."""
        return tuple(self.collate(examples, "messages", self.tokens))

    def observe(self, result: StepResult) -> None:
        """An action of the loop: what a step did decides whether its iteration goes on."""
        if result.units:
            self.seen[result.done - 1] = result.metrics[KL]

    def recall(self, records: Iterable[Mapping[str, Any]]) -> None:
        """What was seen before the run was stopped, from its record."""
        self.seen = {int(each["step"]) - 1: float(each[KL]) for each in records if KL in each and each["units"]}

    def rollouts(self, place: Place) -> Rollouts:
        """Those of the iteration of a step: at hand, written anew at its first step, or read back. Raises StorageError."""
        number = place.iteration
        if self.present is not None and self.present.iteration == number:
            return self.present
        if place.position:
            self.present = self._checked(load_rollouts(self.directory, number))
            return self.present
        self.present = self.make(number, self.plan.iteration(number), self._coefficient(number))
        save_rollouts(self.directory, self.present, self.words)
        forget_rollouts(self.directory, self._needed(number))
        return self.present

    def _coefficient(self, iteration: int) -> float:
        if not self.adaptive or not iteration:
            return self.coefficient
        if self.present is not None and self.present.iteration == iteration - 1:
            return self.present.following
        return float(read_iteration(self.directory, iteration - 1)["following"])

    def _needed(self, present: int) -> set[int]:
        """Iterations that a run could ask for again that goes on from any checkpoint there is: the one that it is in, and
        the one before for its KL coefficient."""
        last = len(self) - 1
        inside = {present, *(self.plan.place(min(step, last)).iteration for step in self.kept())}
        return inside | {iteration - 1 for iteration in inside}

    def _checked(self, rollouts: Rollouts) -> Rollouts:
        planned = self.plan.iteration(rollouts.iteration).examples
        if tuple(each.number for each in rollouts.answered) != planned:
            advice = "put back the rollouts of this run"
            raise StorageError("these rollouts answer other prompts", where=self.directory, advice=advice)
        return rollouts

    def _stopped(self, number: int, place: Place) -> bool:
        if self.stop is None:
            return False
        return any(self.seen.get(step, 0.0) > self.stop for step in range(number - place.position, number))

    def _examples(self, number: int, rollouts: Rollouts, chosen: list[int]) -> list[Example]:
        parts, advantages = rollouts.parts(), rollouts.columns[ADVANTAGE]
        owned = np.concatenate([advantages[parts[index]] for index in chosen])
        if number < self.warmup:
            owned = np.zeros_like(owned)
        elif self.whitened is not None:
            owned = self.whitened(owned)
        found: list[Example] = []
        done = 0  # of the step's targets
        for index in chosen:
            start = parts[index].start
            for piece in rollouts.answered[index].split(self.tokens):
                stop = start + piece.targets
                columns = {name: rollouts.columns[name][start:stop] for name in PPO_COLUMNS}
                columns[ADVANTAGE] = owned[done : done + piece.targets]
                found.append(Example(piece.number, piece.tree(), columns=columns))
                start, done = stop, done + piece.targets
        return found
