"""Tunesmith's side of ``benchmarks.seq2seq``: ``python -m benchmarks.seq2seq_tunesmith INPUTS RESULT train|loss``.

The settings are the defaults of transformers' trainer where both have one (see ``benchmarks.tunesmith_training``; the
learning rate is 5e-5), and our own defaults elsewhere.
"""

from __future__ import annotations

from pathlib import Path

from tunesmith.memory import keep_freed_memory

keep_freed_memory()  # before torch is loaded, as the command line does

# ruff: noqa: E402
import numpy as np
import torch

from benchmarks.measurement import Measurement
from benchmarks.seq2seq_inputs import FORMAT, MAX_INPUT, MAX_TARGET
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
from tunesmith.batch.padded import assemble_padded, split_inputs_and_replies
from tunesmith.compose.models.families import padded
from tunesmith.data.dataset.plan import Plan
from tunesmith.data.dataset.prepare import prepare
from tunesmith.data.dataset.rendering import RenderSettings
from tunesmith.data.dataset.store import Store
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.model.load import load_model
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.train.steps import DatasetSteps

LEARNING_RATE = 5e-5
START = PADDING = 0


def build_store(inputs: Path, cache: Path) -> Store:
    """Read, render, tokenize and store all records, as every run does."""
    source = SourceConfig(name="dolly", path=str(inputs / "records.jsonl"), reader="dolly")
    render = RenderSettings(str(inputs / "tokenizer"), FORMAT.name, MAX_INPUT, "right", max_target_length=MAX_TARGET)
    return prepare([source], render, validation=0, seed=SEED, cache=cache, workers=0).train


def first_loss(inputs: Path, policy: Seq2SeqPolicy, store: Store) -> dict[str, object]:
    """The loss of the first examples, and the token ids of their inputs and replies."""
    examples = [Example(number, store.tree(number)) for number in range(LOSS_EXAMPLES)]
    batch = assemble_padded(examples, "messages", start=START, padding=PADDING)
    objective = SupervisedFineTuning()
    with torch.no_grad():
        loss = float(objective(policy, batch, objective.units(batch)).loss)
    found = [split_inputs_and_replies(example) for example in examples]
    return {"loss": loss, "ids": [[each.inputs[0].tolist(), each.replies[0].ids.tolist()] for each in found]}


def run(policy: Seq2SeqPolicy, store: Store) -> Measurement:
    """One epoch."""
    plan = Plan(np.ones(len(store), np.int64), BATCH_SIZE, 1, None, SEED)
    steps = DatasetSteps(plan, store, "messages", MICRO_BATCH_TOKENS, SEED, collate=padded(START, PADDING).collate)
    return measure_epoch(policy, SupervisedFineTuning(), steps, LEARNING_RATE, lambda result: result.targets, {})


def load_policy(directory: Path) -> Seq2SeqPolicy:
    """The model in float32."""
    return Seq2SeqPolicy(load_model(str(directory)))


RUNNER = TunesmithRunner(build_store, load_policy, first_loss, run)


if __name__ == "__main__":
    main(RUNNER)
