"""Plants one number in the training loop of a run: in a gradient, a weight, a moment, a loss, a batch or a reward."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from tunesmith.batch.protocols import Loss
from tunesmith.compose import train as train_module
from tunesmith.compose.methods import ppo
from tunesmith.train import loop
from tunesmith.train.rollout.generator import RewardSource
from tunesmith.train.run.callbacks import Checkpointer, EvaluationCallback
from tunesmith.train.steps import Step

OVERFLOW = 3e38
"""A number from which the next operation makes an infinity."""


@dataclass(frozen=True, slots=True)
class Injection:
    """One number that is planted.

    place: where; a key of ``PLACES``, or a column of the batches.
    value: the number.
    step: the optimizer step, from 1, in which it is found.
    seed: decides which tensor, and which of its elements.
    """

    place: str
    value: float
    step: int
    seed: int

    def install(self) -> None:
        """Plant the number in this process, which is the child of a campaign."""
        if self.place == "reward":
            patch.object(ppo, "reward_sources", self._poisoned_sources(ppo.reward_sources)).start()
        else:
            patch.object(train_module, "train", self._poisoned_loop(loop.train)).start()

    def _poisoned_loop(self, train: Callable[..., int]) -> Callable[..., int]:
        def poisoned(
            policy: Any, objective: Any, steps: Any, optimizer: Any, schedule: Any, world: Any, calls: Any, **given: Any
        ) -> int:
            present = [0]
            watched = _WatchedSteps(steps, self, present, optimizer)
            if self.place == "gradient":
                self._hook_gradient(policy.parameters(), present)
            if self.place == "loss":
                objective = _PoisonedLoss(objective, self, present)
            calls = [self._poisoned_call(each, present) for each in calls]
            return train(policy, objective, watched, optimizer, schedule, world, calls, **given)

        return poisoned

    def _poisoned_call(self, call: Any, present: list[int]) -> Any:
        if isinstance(call, EvaluationCallback) and self.place == "evaluation":

            def evaluate() -> dict[str, dict[str, float]]:
                found = {source: dict(metrics) for source, metrics in call.evaluate().items()}
                if present[0] == self.step:
                    metrics = random.Random(self.seed).choice([found[name] for name in sorted(found)])
                    metrics[random.Random(self.seed).choice(sorted(metrics))] = self.value
                return found

            return replace(call, evaluate=evaluate)
        if isinstance(call, Checkpointer) and self.place in ("weight", "unused row", "moment"):

            def save(result: loop.StepResult) -> None:
                if result.done == self.step:
                    self.plant(self._state(call))
                call(result)

            return save
        return call

    def _state(self, call: Checkpointer) -> Mapping[str, Tensor]:
        if self.place == "moment":
            return call.optimizer.state_dict()
        named = {name: tensor for module in call.modules.values() for name, tensor in module.state_dict().items()}
        if self.place == "weight":
            return named
        return {
            name: tensor for name, tensor in named.items() if name.endswith(("embed_tokens.weight", "shared.weight"))
        }

    def plant(self, tensors: Mapping[str, Tensor]) -> None:
        """Set one element of one of the tensors. That of an unused row is the last one."""
        draw = random.Random(self.seed)
        names = sorted(name for name, each in tensors.items() if each.is_floating_point() and each.numel())
        flat = tensors[draw.choice(names)].detach().view(-1)
        flat[flat.numel() - 1 if self.place == "unused row" else draw.randrange(flat.numel())] = self.value

    def _hook_gradient(self, parameters: Mapping[str, nn.Parameter], present: list[int]) -> None:
        draw = random.Random(self.seed)
        chosen = parameters[draw.choice(sorted(name for name, each in parameters.items() if each.requires_grad))]
        place = draw.randrange(chosen.numel())

        def poison(parameter: Tensor) -> None:
            if present[0] == self.step and parameter.grad is not None:
                parameter.grad.view(-1)[place] = self.value

        chosen.register_post_accumulate_grad_hook(poison)

    def _poisoned_sources(self, build: Callable[..., Sequence[RewardSource]]) -> Callable[..., Sequence[RewardSource]]:
        def poisoned(*given: Any) -> Sequence[RewardSource]:
            first, *others = build(*given)
            calls = [0]

            def score(batch: Any, answered: Any) -> Tensor:
                found = first.score(batch, answered)
                calls[0] += 1
                if calls[0] >= self.step:
                    found = found.clone()
                    found[random.Random(self.seed).randrange(len(found))] = self.value
                return found

            return [replace(first, score=score), *others]

        return poisoned

    def poison_step(self, step: Step[Any]) -> Step[Any]:
        """The step with one element of a column of one of its batches set."""
        draw, batches = random.Random(self.seed), list(step.batches)
        chosen = draw.randrange(len(batches))
        batch = batches[chosen]
        column = (batch.weight if self.place == "weight of a target" else batch.columns[self.place]).clone()
        column[draw.randrange(len(column))] = self.value
        changed = {"weight": column} if self.place == "weight of a target" else None
        batches[chosen] = replace(batch, **(changed or {"columns": {**batch.columns, self.place: column}}))
        return replace(step, batches=tuple(batches))


class _WatchedSteps:
    """The steps of a run; the present one is known to the injection."""

    def __init__(self, steps: Any, injection: Injection, present: list[int], optimizer: Any) -> None:
        self._steps, self._injection, self._present, self._optimizer = steps, injection, present, optimizer

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, number: int) -> Step[Any]:
        self._present[0] = number + 1
        step: Step[Any] = self._steps[number]
        if number + 1 != self._injection.step:
            return step
        if self._injection.place == "moment before":
            state = self._optimizer.state_dict()
            moments = {name: each for name, each in state.items() if name.endswith((".exp_avg", ".momentum"))}
            with torch.no_grad():
                self._injection.plant(moments or state)
        is_column = self._injection.place not in PLACES or self._injection.place == "weight of a target"
        return self._injection.poison_step(step) if is_column else step


class _PoisonedLoss:
    """An objective whose loss is multiplied in one step."""

    def __init__(self, objective: Any, injection: Injection, present: list[int]) -> None:
        self._objective, self._injection, self._present = objective, injection, present
        self.metrics, self.units = objective.metrics, objective.units

    def __call__(self, policy: Any, batch: Any, units: float) -> Loss:
        found: Loss = self._objective(policy, batch, units)
        if self._present[0] != self._injection.step:
            return found
        factor = self._injection.value
        if random.Random(self._injection.seed).random() < 0.5:
            return Loss(found.loss * factor, found.sums)  # only the gradients show it
        return Loss(found.loss * factor, {name: value * factor * 1e300 for name, value in found.sums.items()})


PLACES = (
    *("gradient", "weight", "unused row", "moment", "moment before", "loss", "weight of a target", "evaluation"),
    "reward",
)
