"""What all peers that are built on transformers' trainer share: their clock, their count, and their command line.

``python -m MODULE WORLD RESULT MODE``; the mode ``loss`` writes the loss of the first examples and their tokens instead.
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

from benchmarks.contender import THREADS, WARM_UP, Clock, Measured, peak_memory, with_preparation

LOSS_EXAMPLES = 8
PLAIN = {
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "num_train_epochs": 1,
}
"""All that is set for every peer: CPU, float32, no reports and no files written, one epoch."""


@dataclass(frozen=True, slots=True)
class Peer:
    """build(world, mode, callbacks): a trainer. count(example): of the unit, without padding. loss(trainer): the loss of the
    first examples, and their ``ids``. told: the arguments that are reported. prepared(trainer): seconds of what it did once
    for all examples before training and that counts."""

    build: Callable[[Path, str, list[TrainerCallback]], Any]
    count: Callable[[dict[str, Any]], int]
    loss: Callable[[Any], dict[str, Any]]
    told: Sequence[str]
    prepared: Callable[[Any], float] = lambda trainer: 0.0


class CountingCollator:
    """The trainer's own collator, with what is counted in every batch."""

    def __init__(self, collator: Any, count: Callable[[dict[str, Any]], int]) -> None:
        self.collator, self.count = collator, count
        self.counted: list[int] = []

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        self.counted.append(sum(map(self.count, examples)))
        return self.collator(examples)


class StepClock(TrainerCallback):
    """The trainer's step ends."""

    def __init__(self) -> None:
        self.clock = Clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **extra: Any) -> None:
        self.clock.step_ended()


def loss_of(trainer: Any, batch: Any) -> float:
    """The loss of a batch as the trainer computes it."""
    trainer.model.train()
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, batch))


def main(peer: Peer) -> None:
    world, result, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(THREADS)
    steps = StepClock()
    trainer = peer.build(world, mode, [steps])
    if mode == "loss":
        result.write_text(json.dumps(peer.loss(trainer)), encoding="utf-8")
        return
    collator = CountingCollator(trainer.data_collator, peer.count)
    trainer.data_collator = collator
    loaded = peak_memory()
    outcome = trainer.train()
    done = len(steps.clock.ends)
    details = {
        **{name: str(getattr(trainer.args, name)) for name in (*peer.told, "optim")},
        "attention": trainer.model.config._attn_implementation,
        "steps": done,
        "preparation": peer.prepared(trainer),
    }
    counted = collator.counted[:done]
    timed = counted[WARM_UP:]
    seconds = with_preparation(steps.clock.seconds(), timed, peer.prepared(trainer), sum(counted))
    Measured(timed, seconds, peak_memory(), loaded, [outcome.training_loss], details).write(result)
