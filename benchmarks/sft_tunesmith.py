"""Tunesmith's side of ``benchmarks.sft``: ``python -m benchmarks.sft_tunesmith INPUTS RESULT train|loss``.

The settings are TRL's defaults where both have one (see ``benchmarks.tunesmith_training``; threads are truncated at
1,024 tokens, the learning rate is 2e-5), and our own defaults elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tunesmith.memory import keep_freed_memory

keep_freed_memory()  # before torch is loaded, as the command line does

# ruff: noqa: E402
import numpy as np
import torch

from benchmarks.measurement import WARM_UP, Measurement
from benchmarks.operations import MultiplicationRate, shape_of, useful_operations
from benchmarks.sft_inputs import FORMAT
from benchmarks.tunesmith_training import (
    BATCH_SIZE,
    LOSS_EXAMPLES,
    MICRO_BATCH_TOKENS,
    SEED,
    TunesmithRunner,
    main,
    measure_epoch,
)
from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed, collate_packed
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
RATE_INTERVAL = 5  # steps between two measurements of the machine


def build_store(inputs: Path, cache: Path, workers: int | None = 0) -> Store:
    """Read, render, tokenize and store all records, as every run does."""
    source = SourceConfig(name="dolly", path=str(inputs / "records.jsonl"), reader="dolly")
    render = RenderSettings(str(inputs / "tokenizer"), FORMAT.name, MAX_LENGTH, "right")
    return prepare([source], render, validation=0, seed=SEED, cache=cache, workers=workers).train


def first_loss(inputs: Path, policy: Policy, store: Store) -> dict[str, object]:
    """The loss of the first examples, and their token ids."""
    trees = [store.tree(number) for number in range(LOSS_EXAMPLES)]
    batch = assemble_packed([Example(number, tree) for number, tree in enumerate(trees)], "messages")
    objective = SupervisedFineTuning()
    with torch.no_grad():
        loss = float(objective(policy, batch, objective.units(batch)).loss)
    return {"loss": loss, "ids": [np.asarray(tree.ids).tolist() for tree in trees]}


def run(policy: Policy, store: Store) -> Measurement:
    """One epoch, and the rate of a matrix product in between."""
    plan = Plan(np.ones(len(store), np.int64), BATCH_SIZE, 1, None, SEED)
    steps = DatasetSteps(plan, store, "messages", MICRO_BATCH_TOKENS, SEED, collate_packed)
    shape, rate = shape_of(policy.model), MultiplicationRate()
    operations: list[int] = []

    def measure_operations(result: StepResult) -> None:
        lengths = [int(store.tokens[number]) for number in result.examples]
        operations.append(useful_operations(shape, lengths, result.targets))
        if result.done % RATE_INTERVAL == 0:
            rate.measure()

    objective, details = SupervisedFineTuning(), {"max_length": MAX_LENGTH}
    found = measure_epoch(
        policy, objective, steps, LEARNING_RATE, lambda result: result.tokens, details, after_step=measure_operations
    )
    used = sum(operations[WARM_UP:]) / sum(found.seconds)
    return replace(found, details=found.details | {"operations_per_second": used, "multiplication_rate": rate.median()})


def load_policy(directory: Path) -> Policy:
    """The model in float32."""
    return Policy(load_model(str(directory)))


RUNNER = TunesmithRunner(build_store, load_policy, first_loss, run)


if __name__ == "__main__":
    main(RUNNER)
