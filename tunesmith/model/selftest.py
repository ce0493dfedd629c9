"""Does this model's attention follow the layout? Tree against threads, on the user's own model, before training.

The reference is the unmodified model: every root-to-leaf thread run alone through its own forward pass, with its own
head. Absolute learned positions, ALiBi, sliding windows or soft caps that the layout cannot express show up as a difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith.batch.assemble import Example, assemble
from tunesmith.batch.threads import linear_threads
from tunesmith.errors import RecipeError
from tunesmith.model.policy import LayoutKind, Policy
from tunesmith.text.render import TokenTree

# Largest difference of a log-probability that number formats explain; a broken layout is off by 0.01 to 10.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.05}


@dataclass(frozen=True, slots=True)
class Verdict:
    """layout: how batches may be read. difference: the largest difference of a log-probability, tree against threads."""

    layout: LayoutKind
    difference: float


def probe_trees(tokens: int) -> tuple[TokenTree, TokenTree]:
    """A branching tree and a thread of fixed pseudo-random ids below ``tokens``."""
    draw = np.random.Generator(np.random.Philox(7))
    sizes, parents = [7, 5, 3, 4, 6], [-1, 0, 1, 1, 0]
    ends = np.cumsum(sizes)
    segments = np.stack([ends - sizes, ends, np.array(parents)], axis=1).astype(np.int32)
    through = [2, 1, 1, 1]
    spans = np.array(
        [
            [segments[s, 0], segments[s, 1], segments[segments[s, 2], 1] - 1, s, through[s - 1]]
            for s in range(1, len(sizes))
        ],
        np.int32,
    )
    branching = TokenTree(_ids(draw, int(ends[-1]), tokens), segments, spans, 3, 0)
    thread = TokenTree(
        _ids(draw, 9, tokens), np.array([[0, 9, -1]], np.int32), np.array([[4, 9, 3, 0, 1]], np.int32), 1, 0
    )
    return branching, thread


def _ids(draw: np.random.Generator, count: int, tokens: int) -> NDArray[np.int32]:
    return draw.integers(0, tokens, count).astype(np.int32)


def reference_log_probabilities(policy: Policy, threads: list[TokenTree]) -> list[torch.Tensor]:
    """The stock model on every thread alone, without our attention layout and without our head: float32 [targets] each."""
    found = []
    for thread in threads:
        batch = assemble([Example(0, thread)], "threads").to(policy.device)
        with policy.autocast():
            logits = policy.model(input_ids=batch.ids[None], use_cache=False).logits[0]
        table = torch.log_softmax(logits[batch.source].float(), dim=-1)
        found.append(table.gather(1, batch.target[:, None])[:, 0])
    return found


@torch.no_grad()
def self_test(policy: Policy, tokens: int, wanted: LayoutKind | None = None) -> Verdict:
    """Find the layout that is exact for this model; ``wanted`` insists on one. Raises RecipeError if none is."""
    policy.evaluate()
    trees = probe_trees(tokens)
    threads = [thread for tree in trees for thread in linear_threads(tree)]
    expected = reference_log_probabilities(policy, [found.tree for found in threads])
    tolerance = TOLERANCE[policy.compute]
    differences: dict[str, float] = {}
    choices: tuple[LayoutKind, ...] = (wanted,) if wanted else ("tree", "threads")
    for layout in choices:
        differences[layout] = _difference(policy.with_layout(layout), trees, expected)
        if differences[layout] <= tolerance:
            return Verdict(layout, differences.get("tree", differences[layout]))
    measured = ", ".join(f"{name} {value:.2g}" for name, value in differences.items())
    raise RecipeError(
        f"{type(policy.model).__name__} does not give the same log-probabilities in our batches as alone "
        f"(largest difference: {measured}; allowed {tolerance:g})",
        where="model.layout",
        advice="set model.layout to auto" if wanted == "tree" else "this family cannot be trained exactly here",
    )


def _difference(policy: Policy, trees: tuple[TokenTree, ...], expected: list[torch.Tensor]) -> float:
    """Largest absolute difference between the reference threads and the same tokens in one batch of all trees."""
    if policy.layout == "threads":
        examples = [Example(0, thread.tree) for tree in trees for thread in linear_threads(tree)]
        batch = assemble(examples, "threads").to(policy.device)
        ours = policy.log_probabilities(batch).log_probability
        return float((ours - torch.cat(expected)).abs().max())
    batch = assemble([Example(number, tree) for number, tree in enumerate(trees)], "threads").to(policy.device)
    ours = policy.log_probabilities(batch).log_probability
    worst, begin, reference = 0.0, 0, iter(expected)
    for tree in trees:
        count = int((tree.spans[:, 1] - tree.spans[:, 0]).sum())
        own = ours[begin : begin + count]
        for thread in linear_threads(tree):
            index = torch.from_numpy(thread.targets).to(own.device)
            worst = max(worst, float((own[index] - next(reference)).abs().max()))
        begin += count
    return worst
