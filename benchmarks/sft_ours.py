"""Tunesmith on the shared world: ``python -m benchmarks.sft_ours WORLD RESULT train|loss``.

The settings are those of TRL's defaults where both have one (8 examples a step, threads cut at 1,024 tokens, AdamW without
weight decay, clipping at 1, a linear schedule from 2e-5) and our own defaults elsewhere.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tunesmith.memory import keep_freed_memory

keep_freed_memory()  # before torch is loaded, as the command line does

# ruff: noqa: E402
import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks.contender import THREADS, WARM_UP, Clock, Measured, peak_memory
from benchmarks.operations import MultiplicationRate, shape_of, useful_operations
from benchmarks.world import FORMAT
from tunesmith.batch.assemble import Example, assemble
from tunesmith.data.plan import Plan
from tunesmith.data.prepare import prepare
from tunesmith.data.rendering import RenderSettings
from tunesmith.data.sources import SourceSpec
from tunesmith.data.store import Store
from tunesmith.model.load import load_model
from tunesmith.model.policy import Policy
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.recipe.training import Train
from tunesmith.train.loop import StepResult, train
from tunesmith.train.optimizers import AdamW
from tunesmith.train.schedules import linear
from tunesmith.train.steps import DemonstrationSteps
from tunesmith.train.world import Alone

BATCH_SIZE = 8
MAX_LENGTH = 1024
LEARNING_RATE = 2e-5
CLIP = 1.0
MICRO_BATCH_TOKENS = int(Train.model_fields["micro_batch_tokens"].default)
SEED = 42
EVERY = 5  # steps between two measurements of the machine
LOSS_EXAMPLES = 8


def build_store(world: Path, cache: Path, workers: int | None = 0) -> Store:
    """Read, render, tokenise and store all records, as every run does."""
    source = SourceSpec(name="dolly", path=str(world / "records.jsonl"), reader="dolly")
    render = RenderSettings(str(world / "tokenizer"), FORMAT.name, MAX_LENGTH, "right")
    return prepare([source], render, validation=0, seed=SEED, cache=cache, workers=workers).train


def one_loss(policy: Policy, store: Store) -> dict[str, object]:
    """Loss of the first examples, and their tokens."""
    trees = [store.tree(number) for number in range(LOSS_EXAMPLES)]
    batch = assemble([Example(number, tree) for number, tree in enumerate(trees)], "messages")
    objective = SupervisedFineTuning()
    with torch.no_grad():
        loss = float(objective(policy, batch, objective.units(batch)).loss)
    return {"loss": loss, "ids": [np.asarray(tree.ids).tolist() for tree in trees]}


def run(model: PreTrainedModel, policy: Policy, store: Store) -> Measured:
    """One epoch."""
    plan = Plan(np.ones(len(store), np.int64), BATCH_SIZE, 1, None, SEED)
    steps = DemonstrationSteps(plan, store, "messages", MICRO_BATCH_TOKENS, SEED)
    shape = shape_of(model)
    clock, rate = Clock(), MultiplicationRate()
    tokens: list[int] = []
    losses: list[float] = []
    operations: list[int] = []

    def measure(result: StepResult) -> None:
        clock.step_ended()
        tokens.append(result.tokens)
        losses.append(result.measures["loss"])
        lengths = [int(store.tokens[number]) for number in result.examples]
        operations.append(useful_operations(shape, lengths, result.targets))
        if result.done % EVERY == 0:
            rate.measure()
        clock.pause = time.perf_counter() - clock.ends[-1]

    loaded = peak_memory()
    optimizer = AdamW(policy.parameters())
    schedule = linear(LEARNING_RATE, 0, len(steps))
    train(policy, SupervisedFineTuning(), steps, optimizer, schedule, Alone(), [measure], clip_norm=CLIP)
    seconds = clock.seconds()
    details = {
        "batch_size": BATCH_SIZE,
        "max_length": MAX_LENGTH,
        "micro_batch_tokens": MICRO_BATCH_TOKENS,
        "steps": len(steps),
        "operations_per_second": sum(operations[WARM_UP:]) / sum(seconds),
        "multiplication_rate": rate.median(),
    }
    return Measured(tokens[WARM_UP:], seconds, peak_memory(), loaded, losses, details)


def main() -> None:
    world, result, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    torch.set_flush_denormal(True)  # as the product does at the start of every run
    torch.set_num_threads(THREADS)
    store = build_store(world, world / "store")
    model = load_model(str(world / "model"))
    policy = Policy(model)
    if mode == "loss":
        result.write_text(json.dumps(one_loss(policy, store)), encoding="utf-8")
    else:
        run(model, policy, store).write(result)


if __name__ == "__main__":
    main()
