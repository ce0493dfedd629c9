"""What our side of every comparison of training shares: the settings that all peers have by default, and one measured epoch.

8 examples a step, AdamW without weight decay, clipping at 1, a linear schedule to zero; our own defaults elsewhere. The rate
is that of the peer's defaults.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.contender import THREADS, WARM_UP, Clock, Measured, peak_memory, with_preparation
from tunesmith.batch.protocols import Objective
from tunesmith.recipe.training import TrainConfig
from tunesmith.train.loop import StepResult, Steps, Trainable, train
from tunesmith.train.optim.optimizers import AdamW
from tunesmith.train.optim.schedules import linear
from tunesmith.train.world import SingleProcess

BATCH_SIZE = 8
CLIP = 1.0
MICRO_BATCH_TOKENS = int(TrainConfig.model_fields["micro_batch_tokens"].default)
SEED = 42
LOSS_EXAMPLES = 8


def settle() -> None:
    """As the product does at the start of every run, with the threads of a contender."""
    torch.set_flush_denormal(True)
    torch.set_num_threads(THREADS)


def nothing(result: StepResult) -> None:
    """What is done after a step where nothing is."""


def epoch(
    policy: Trainable,
    objective: Objective,
    steps: Steps,
    learning_rate: float,
    count: Callable[[StepResult], int],
    details: Mapping[str, Any],
    *,
    preparation: float = 0.0,
    also: Callable[[StepResult], None] = nothing,
) -> Measured:
    """All steps. count: of the unit, in one step. preparation: seconds of what was done once for all examples and counts.
    also: done after every step, not timed."""
    clock = Clock()
    counted: list[int] = []
    losses: list[float] = []

    def measure(result: StepResult) -> None:
        clock.step_ended()
        counted.append(count(result))
        losses.append(result.metrics["loss"])
        also(result)
        clock.pause = time.perf_counter() - clock.ends[-1]

    loaded = peak_memory()
    schedule = linear(learning_rate, 0, len(steps))
    train(policy, objective, steps, AdamW(policy.parameters()), schedule, SingleProcess(), [measure], clip_norm=CLIP)
    told = {"batch_size": BATCH_SIZE, "micro_batch_tokens": MICRO_BATCH_TOKENS, "steps": len(steps), **details}
    seconds = with_preparation(clock.seconds(), counted[WARM_UP:], preparation, sum(counted))
    return Measured(counted[WARM_UP:], seconds, peak_memory(), loaded, losses, told | {"preparation": preparation})
