"""Tunesmith's side of ``benchmarks.dpo``: ``python -m benchmarks.dpo_tunesmith INPUTS RESULT train|loss``.

The settings are TRL's defaults where both have one (see ``benchmarks.tunesmith_training``; threads are truncated at
1,024 tokens, beta is 0.1, the learning rate is 1e-6), and our own defaults elsewhere. The log-probabilities of the
reference are computed once before the first step; every pair is charged with its share of that time.
"""

from __future__ import annotations

import time
from pathlib import Path

from tunesmith.memory import keep_freed_memory

keep_freed_memory()  # before torch is loaded, as the command line does

# ruff: noqa: E402
import numpy as np
import torch

from benchmarks.measurement import Measurement
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
from tunesmith.batch.packed import assemble_packed
from tunesmith.compose.methods.dpo import objective_of
from tunesmith.compose.models.families import PACKED
from tunesmith.compose.models.reference_cache import ReferenceModel, References
from tunesmith.data.dataset.plan import Plan
from tunesmith.data.dataset.prepare import prepare
from tunesmith.data.dataset.rendering import RenderSettings
from tunesmith.data.dataset.store import Store
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.model.load import load_model
from tunesmith.model.policy import Policy
from tunesmith.recipe.objectives import DpoConfig
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.train.loop import StepResult
from tunesmith.train.steps import DatasetSteps

MAX_LENGTH = 1024
LEARNING_RATE = 1e-6
KEYS = DpoConfig()


def build_store(inputs: Path, cache: Path) -> Store:
    """Read, render, tokenize and store all pairs, as every run does."""
    source = SourceConfig(name="pairs", path=str(inputs / "records.jsonl"), reader="preference-text")
    render = RenderSettings(str(inputs / "tokenizer"), FORMAT.name, MAX_LENGTH, "right", targets="ranked")
    return prepare([source], render, validation=0, seed=SEED, cache=cache, workers=0).train


def references(policy: Policy, store: Store, count: int) -> References:
    """The reference log-probabilities of the first ``count`` examples, computed as in every run."""
    examples = [Example(number, store.tree(number)) for number in range(count)]
    values = ReferenceModel(policy, PACKED.collate, MICRO_BATCH_TOKENS, {}).values(examples)
    return References(values, np.cumsum([len(example.tree.replies) for example in examples]))


def tokens_of(tree: TokenTree) -> list[object]:
    """The number of tokens before the replies, then the token ids of both threads, the chosen one first."""
    threads = []
    for message, _, rank in tree.replies.tolist():
        start = next(span[0] for span in tree.spans.tolist() if span[3] == message)
        thread = next(path for end in tree.ends() if start in (path := tree.thread(end)).tolist())
        threads.append((rank, thread.tolist().index(start), tree.ids[thread].tolist()))
    threads.sort()
    return [threads[0][1], *(ids for _, _, ids in threads)]


def first_loss(inputs: Path, policy: Policy, store: Store) -> dict[str, object]:
    """The loss of the first pairs with the weights in reference/ as the reference, and their token ids."""
    before = references(Policy(load_model(str(inputs / "reference"))), store, LOSS_EXAMPLES)
    trees = [store.tree(number) for number in range(LOSS_EXAMPLES)]
    examples = [Example(number, tree, 0, before.columns(number)) for number, tree in enumerate(trees)]
    batch, objective = assemble_packed(examples, "messages"), objective_of(KEYS)
    with torch.no_grad():
        loss = float(objective(policy, batch, objective.units(batch)).loss)
    return {"loss": loss, "ids": [tokens_of(tree) for tree in trees]}


def run(policy: Policy, store: Store) -> Measurement:
    """The reference pass and one epoch."""
    began = time.perf_counter()
    before = references(policy, store, len(store))
    preparation = time.perf_counter() - began
    plan = Plan(np.ones(len(store), np.int64), BATCH_SIZE, 1, None, SEED)
    steps = DatasetSteps(plan, store, "messages", MICRO_BATCH_TOKENS, SEED, PACKED.collate, columns=before.columns)
    objective, details = objective_of(KEYS), {"max_length": MAX_LENGTH, "beta": KEYS.beta}
    return measure_epoch(policy, objective, steps, LEARNING_RATE, pairs, details, preparation=preparation)


def pairs(result: StepResult) -> int:
    """The number of pairs in a step."""
    return round(result.units)


def load_policy(directory: Path) -> Policy:
    """The model in float32."""
    return Policy(load_model(str(directory)))


RUNNER = TunesmithRunner(build_store, load_policy, first_loss, run)


if __name__ == "__main__":
    main(RUNNER)
