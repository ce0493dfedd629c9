"""Tunesmith on the shared world: ``python -m benchmarks.sft_ours WORLD RESULT train|loss``.

The settings are those of TRL's defaults where both have one (see ``benchmarks.ours``; threads cut at 1,024 tokens, a rate of
2e-5), and our own defaults elsewhere.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from tunesmith.memory import keep_freed_memory

keep_freed_memory()  # before torch is loaded, as the command line does

# ruff: noqa: E402
import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks.contender import WARM_UP, Measured
from benchmarks.operations import MultiplicationRate, shape_of, useful_operations
from benchmarks.ours import BATCH_SIZE, LOSS_EXAMPLES, MICRO_BATCH_TOKENS, SEED, epoch, settle
from benchmarks.world import FORMAT
from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed
from tunesmith.data.dataset.plan import Plan
from tunesmith.data.dataset.prepare import prepare
from tunesmith.data.dataset.rendering import RenderSettings
from tunesmith.data.dataset.store import Store
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.model.load import load_model
from tunesmith.model.policy import Policy
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.train.loop import StepResult
from tunesmith.train.steps import DatasetSteps

MAX_LENGTH = 1024
LEARNING_RATE = 2e-5
EVERY = 5  # steps between two measurements of the machine


def build_store(world: Path, cache: Path, workers: int | None = 0) -> Store:
    """Read, render, tokenise and store all records, as every run does."""
    source = SourceConfig(name="dolly", path=str(world / "records.jsonl"), reader="dolly")
    render = RenderSettings(str(world / "tokenizer"), FORMAT.name, MAX_LENGTH, "right")
    return prepare([source], render, validation=0, seed=SEED, cache=cache, workers=workers).train


def one_loss(policy: Policy, store: Store) -> dict[str, object]:
    """Loss of the first examples, and their tokens."""
    trees = [store.tree(number) for number in range(LOSS_EXAMPLES)]
    batch = assemble_packed([Example(number, tree) for number, tree in enumerate(trees)], "messages")
    objective = SupervisedFineTuning()
    with torch.no_grad():
        loss = float(objective(policy, batch, objective.units(batch)).loss)
    return {"loss": loss, "ids": [np.asarray(tree.ids).tolist() for tree in trees]}


def run(model: PreTrainedModel, policy: Policy, store: Store) -> Measured:
    """One epoch."""
    plan = Plan(np.ones(len(store), np.int64), BATCH_SIZE, 1, None, SEED)
    steps = DatasetSteps(plan, store, "messages", MICRO_BATCH_TOKENS, SEED)
    shape, rate = shape_of(model), MultiplicationRate()
    operations: list[int] = []

    def measure(result: StepResult) -> None:
        lengths = [int(store.tokens[number]) for number in result.examples]
        operations.append(useful_operations(shape, lengths, result.targets))
        if result.done % EVERY == 0:
            rate.measure()

    objective, details = SupervisedFineTuning(), {"max_length": MAX_LENGTH}
    found = epoch(policy, objective, steps, LEARNING_RATE, lambda result: result.tokens, details, also=measure)
    used = sum(operations[WARM_UP:]) / sum(found.seconds)
    return replace(found, details=found.details | {"operations_per_second": used, "multiplication_rate": rate.median()})


def main() -> None:
    world, result, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    settle()
    store = build_store(world, world / "store")
    model = load_model(str(world / "model"))
    policy = Policy(model)
    if mode == "loss":
        result.write_text(json.dumps(one_loss(policy, store)), encoding="utf-8")
    else:
        run(model, policy, store).write(result)


if __name__ == "__main__":
    main()
