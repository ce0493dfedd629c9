"""Our side of every comparison of training: the shared settings, one measured epoch, and the command line.

Shared are the defaults of the other libraries: 8 examples a step, AdamW without weight decay, gradients clipped at 1, a
linear schedule to zero; the learning rate is the other library's default. Everything else is our own default.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from benchmarks.measurement import THREADS, WARM_UP, Clock, Measurement, peak_memory, with_preparation
from tunesmith.batch.protocols import Objective
from tunesmith.data.dataset.store import Store
from tunesmith.recipe.training import TrainConfig
from tunesmith.train.loop import StepResult, Steps, Trainable, train
from tunesmith.train.optim.optimizers import AdamW
from tunesmith.train.optim.schedules import linear
from tunesmith.world import SingleProcess

BATCH_SIZE = 8
CLIP = 1.0
MICRO_BATCH_TOKENS = int(TrainConfig.model_fields["micro_batch_tokens"].default)
SEED = 42
LOSS_EXAMPLES = 8

PolicyT = TypeVar("PolicyT")


@dataclass(frozen=True, slots=True)
class TunesmithRunner(Generic[PolicyT]):
    """Our side of one comparison.

    build_store: build_store(inputs, cache) prepares the records as every run does.
    load_policy: load_policy(directory) loads the model.
    first_loss: first_loss(inputs, policy, store) returns the loss of the first examples and their token ``ids``.
    run: run(policy, store) trains one epoch.
    """

    build_store: Callable[[Path, Path], Store]
    load_policy: Callable[[Path], PolicyT]
    first_loss: Callable[[Path, PolicyT, Store], Mapping[str, object]]
    run: Callable[[PolicyT, Store], Measurement]


def main(runner: TunesmithRunner[Any]) -> None:
    """The command line ``python -m MODULE INPUTS RESULT train|loss``; the result is written as JSON."""
    inputs, result, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    torch.set_flush_denormal(True)  # as every run does
    torch.set_num_threads(THREADS)
    store = runner.build_store(inputs, inputs / "store")
    policy = runner.load_policy(inputs / "model")
    if mode == "loss":
        result.write_text(json.dumps(runner.first_loss(inputs, policy, store)), encoding="utf-8")
    else:
        runner.run(policy, store).write(result)


def ignore(result: StepResult) -> None:
    """A callback that does nothing."""


def measure_epoch(
    policy: Trainable,
    objective: Objective,
    steps: Steps,
    learning_rate: float,
    count: Callable[[StepResult], int],
    details: Mapping[str, Any],
    *,
    preparation: float = 0.0,
    after_step: Callable[[StepResult], None] = ignore,
) -> Measurement:
    """Train all steps and measure them.

    Args:
        learning_rate: at the beginning of the linear schedule.
        count: the number of units in a step.
        details: settings to record.
        preparation: seconds that were spent once for all examples; every step is charged with its share.
        after_step: called after every step; its time is not counted.
    """
    clock = Clock()
    counted: list[int] = []
    losses: list[float] = []

    def measure(result: StepResult) -> None:
        clock.step_ended()
        counted.append(count(result))
        losses.append(result.metrics["loss"])
        after_step(result)
        clock.pause = time.perf_counter() - clock.ends[-1]

    loaded = peak_memory()
    schedule = linear(learning_rate, 0, len(steps))
    train(policy, objective, steps, AdamW(policy.parameters()), schedule, SingleProcess(), [measure], clip_norm=CLIP)
    settings = {"batch_size": BATCH_SIZE, "micro_batch_tokens": MICRO_BATCH_TOKENS, "steps": len(steps), **details}
    seconds = with_preparation(clock.seconds(), counted[WARM_UP:], preparation, sum(counted))
    recorded = settings | {"preparation": preparation}
    return Measurement(counted[WARM_UP:], seconds, peak_memory(), loaded, losses, recorded)
