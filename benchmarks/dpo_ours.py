"""Tunesmith on the shared world: ``python -m benchmarks.dpo_ours WORLD RESULT train|loss``.

The settings are those of TRL's defaults where both have one (see ``benchmarks.ours``; threads cut at 1,024 tokens, beta 0.1, a
rate of 1e-6), and our own defaults elsewhere. The reference's log-probabilities are computed once, before the first step; the
time that this takes is shared out among the pairs.
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

from benchmarks.contender import Measured
from benchmarks.dpo_world import FORMAT
from benchmarks.ours import BATCH_SIZE, LOSS_EXAMPLES, MICRO_BATCH_TOKENS, SEED, epoch, settle
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
from tunesmith.recipe.objectives import Dpo
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.train.loop import StepResult
from tunesmith.train.steps import DatasetSteps

MAX_LENGTH = 1024
LEARNING_RATE = 1e-6
KEYS = Dpo()


def build_store(world: Path, cache: Path) -> Store:
    """Read, render, tokenise and store all pairs, as every run does."""
    source = SourceConfig(name="pairs", path=str(world / "records.jsonl"), reader="preference-text")
    render = RenderSettings(str(world / "tokenizer"), FORMAT.name, MAX_LENGTH, "right", targets="ranked")
    return prepare([source], render, validation=0, seed=SEED, cache=cache, workers=0).train


def references(policy: Policy, store: Store, count: int) -> References:
    """The reference pass over the first examples, as every run makes it."""
    examples = [Example(number, store.tree(number)) for number in range(count)]
    values = ReferenceModel(policy, PACKED.collate, MICRO_BATCH_TOKENS, {}).values(examples)
    return References(values, np.cumsum([len(example.tree.replies) for example in examples]))


def tokens_of(tree: TokenTree) -> list[object]:
    """How many tokens come before the replies, and both threads, the better one first."""
    threads = []
    for message, _, rank in tree.replies.tolist():
        start = next(span[0] for span in tree.spans.tolist() if span[3] == message)
        thread = next(path for end in tree.ends() if start in (path := tree.thread(end)).tolist())
        threads.append((rank, thread.tolist().index(start), tree.ids[thread].tolist()))
    threads.sort()
    return [threads[0][1], *(ids for _, _, ids in threads)]


def one_loss(world: Path, policy: Policy, store: Store) -> dict[str, object]:
    """Loss of the first pairs with the other weights as the reference, and their tokens."""
    before = references(Policy(load_model(str(world / "reference"))), store, LOSS_EXAMPLES)
    trees = [store.tree(number) for number in range(LOSS_EXAMPLES)]
    examples = [Example(number, tree, 0, before.columns(number)) for number, tree in enumerate(trees)]
    batch, objective = assemble_packed(examples, "messages"), objective_of(KEYS)
    with torch.no_grad():
        loss = float(objective(policy, batch, objective.units(batch)).loss)
    return {"loss": loss, "ids": [tokens_of(tree) for tree in trees]}


def run(policy: Policy, store: Store) -> Measured:
    """One epoch."""
    began = time.perf_counter()
    before = references(policy, store, len(store))
    preparation = time.perf_counter() - began
    plan = Plan(np.ones(len(store), np.int64), BATCH_SIZE, 1, None, SEED)
    steps = DatasetSteps(plan, store, "messages", MICRO_BATCH_TOKENS, SEED, columns=before.columns)
    objective, details = objective_of(KEYS), {"max_length": MAX_LENGTH, "beta": KEYS.beta}
    return epoch(policy, objective, steps, LEARNING_RATE, pairs, details, preparation=preparation)


def pairs(result: StepResult) -> int:
    """How many a step had."""
    return round(result.units)


def main() -> None:
    world, result, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    settle()
    store = build_store(world, world / "store")
    policy = Policy(load_model(str(world / "model")))
    if mode == "loss":
        result.write_text(json.dumps(one_loss(world, policy, store)), encoding="utf-8")
    else:
        run(policy, store).write(result)


if __name__ == "__main__":
    main()
