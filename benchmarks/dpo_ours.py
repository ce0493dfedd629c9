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
from tunesmith.batch.assemble import Example, assemble, micro_batches
from tunesmith.data.plan import Plan
from tunesmith.data.prepare import prepare
from tunesmith.data.rendering import RenderSettings
from tunesmith.data.sources import SourceSpec
from tunesmith.data.store import Store
from tunesmith.model.load import load_model
from tunesmith.model.policy import Policy
from tunesmith.objectives.preference import PreferenceOptimization
from tunesmith.objectives.replies import reply_log_probabilities
from tunesmith.text.token_tree import TokenTree
from tunesmith.train.steps import DemonstrationSteps

MAX_LENGTH = 1024
LEARNING_RATE = 1e-6
BETA = 0.1


def build_store(world: Path, cache: Path) -> Store:
    """Read, render, tokenise and store all pairs, as every run does."""
    source = SourceSpec(name="pairs", path=str(world / "records.jsonl"), reader="preference-text")
    render = RenderSettings(str(world / "tokenizer"), FORMAT.name, MAX_LENGTH, "right", targets="ranked")
    return prepare([source], render, validation=0, seed=SEED, cache=cache, workers=0).train


def references(policy: Policy, store: Store, size: int) -> list[np.ndarray]:
    """For the first ``size`` examples the log-probability of every reply."""
    found: list[np.ndarray] = []
    policy.evaluate()
    with torch.no_grad():
        examples = (Example(number, store.tree(number)) for number in range(size))
        for batch in micro_batches(examples, "messages", MICRO_BATCH_TOKENS):
            log_probability = policy.log_probabilities(batch).log_probability
            sums, _ = reply_log_probabilities(log_probability, batch.owner, len(batch.replies))
            counts = [len(store.tree(number).replies) for number in batch.examples]
            found.extend(part.numpy() for part in sums.split(counts))
    return found


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
    examples = [Example(number, tree, 0, {"reference": before[number]}) for number, tree in enumerate(trees)]
    batch, objective = assemble(examples, "messages"), PreferenceOptimization(beta=BETA)
    with torch.no_grad():
        loss = float(objective(policy, batch, objective.units(batch)).loss)
    return {"loss": loss, "ids": [tokens_of(tree) for tree in trees]}


def run(policy: Policy, store: Store) -> Measured:
    """One epoch."""
    began = time.perf_counter()
    before = references(policy, store, len(store))
    preparation = time.perf_counter() - began
    plan = Plan(np.ones(len(store), np.int64), BATCH_SIZE, 1, None, SEED)
    steps = DemonstrationSteps(
        plan, store, "messages", MICRO_BATCH_TOKENS, SEED, columns=lambda number: {"reference": before[number]}
    )
    objective, details = PreferenceOptimization(beta=BETA), {"max_length": MAX_LENGTH, "beta": BETA}
    return epoch(
        policy,
        objective,
        steps,
        LEARNING_RATE,
        lambda result: round(result.units),
        details,
        preparation=preparation,
    )


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
