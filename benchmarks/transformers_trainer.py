"""What all runners that use transformers' Trainer share: the clock, the count of units, and the command line.

``python -m MODULE INPUTS RESULT MODE`` trains one epoch; the mode ``loss`` writes the loss of the first examples
instead.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from benchmarks.measurement import THREADS, WARM_UP, Clock, Measurement, peak_memory, with_preparation

LOSS_EXAMPLES = 8
SETTINGS: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "num_train_epochs": 1,
}
"""The settings of every runner that are not the trainer's defaults: CPU, float32, no reports, no files, one epoch."""
GROUPED = {"train_sampling_strategy": "group_by_length"}
"""Examples of about the same length are in one step, so that there is less padding."""


def micro_batches(size: int) -> dict[str, Any]:
    """The settings of steps of 8 examples that are read ``size`` at a time, which is another way to less padding."""
    return {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}


@dataclass(frozen=True, slots=True)
class TrainerRunner:
    """One side of a comparison that uses transformers' Trainer.

    build: build(inputs, mode, callbacks) constructs the trainer.
    count: count(example) is the number of units in an example, without padding.
    first_loss: first_loss(trainer) returns the loss of the first examples and their token ``ids``.
    reported: the names of the arguments that are recorded.
    preparation: preparation(trainer) is the seconds it spent once for all examples before training, which are counted.
    """

    build: Callable[[Path, str, list[TrainerCallback]], Any]
    count: Callable[[dict[str, Any]], int]
    first_loss: Callable[[Any], dict[str, Any]]
    reported: Sequence[str]
    preparation: Callable[[Any], float] = lambda trainer: 0.0


class CountingCollator:
    """The collator of the trainer, which also counts the units of every batch."""

    def __init__(self, collator: Any, count: Callable[[dict[str, Any]], int]) -> None:
        self.collator, self.count = collator, count
        self.counted: list[int] = []

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        self.counted.append(sum(map(self.count, examples)))
        return self.collator(examples)


class StepClock(TrainerCallback):
    """A callback that records the end of every step."""

    def __init__(self) -> None:
        self.clock = Clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **extra: Any) -> None:
        self.clock.step_ended()


def loss_of(trainer: Any, batch: Any) -> float:
    """The loss of a batch as the trainer computes it in training."""
    trainer.model.train()
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, batch))


def main(runner: TrainerRunner) -> None:
    """The command line of a runner."""
    inputs, result, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(THREADS)
    steps = StepClock()
    trainer = runner.build(inputs, mode, [steps])
    if mode == "loss":
        result.write_text(json.dumps(runner.first_loss(trainer)), encoding="utf-8")
        return
    collator = CountingCollator(trainer.data_collator, runner.count)
    trainer.data_collator = collator
    loaded = peak_memory()
    outcome = trainer.train()
    done, accumulated = len(steps.clock.ends), trainer.args.gradient_accumulation_steps
    details = {
        **{name: str(getattr(trainer.args, name)) for name in (*runner.reported, "optim")},
        "gradient_accumulation_steps": accumulated,
        "attention": trainer.model.config._attn_implementation,
        "steps": done,
        "preparation": runner.preparation(trainer),
    }
    # The collator is called once for each micro-batch of a step.
    counted = [sum(collator.counted[step * accumulated : (step + 1) * accumulated]) for step in range(done)]
    timed = counted[WARM_UP:]
    seconds = with_preparation(steps.clock.seconds(), timed, runner.preparation(trainer), sum(counted))
    Measurement(timed, seconds, peak_memory(), loaded, [outcome.training_loss], details).write(result)
