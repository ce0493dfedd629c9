"""Does this model's attention follow the layout? Tree against threads, on the user's own model, before training.

The reference is the unmodified model: every root-to-leaf thread run alone through its own forward pass, with its own
head. Absolute learned positions, ALiBi, sliding windows or soft caps that the layout cannot express show up as a difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble, thread_ends
from tunesmith.batch.threads import linear_threads
from tunesmith.errors import RecipeError
from tunesmith.model.policy import LayoutKind, Policy
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.text.tokens.token_tree import TokenTree

LAYOUTS: tuple[LayoutKind, ...] = ("tree", "threads")
# Largest difference of a log-probability that number formats explain; a broken layout is off by 0.01 to 10.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.05}


@dataclass(frozen=True, slots=True)
class Verdict:
    """layout: how batches may be read. difference: the largest difference of what was compared, tree against threads."""

    layout: LayoutKind
    difference: float


def probe_trees(tokens: int, longest: int) -> tuple[TokenTree, TokenTree]:
    """A branching tree, and a thread of ``longest`` tokens (only its end is scored), of fixed pseudo-random ids below ``tokens``."""
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
    end = max(longest, 9)
    thread = TokenTree(
        _ids(draw, end, tokens),
        np.array([[0, end, -1]], np.int32),
        np.array([[end - 5, end, end - 6, 0, 1]], np.int32),
        1,
        0,
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
def self_test(policy: Policy, tokens: int, longest: int, wanted: LayoutKind | None = None) -> Verdict:
    """Find the layout that is exact for this model; ``wanted`` insists on one. Raises RecipeError if none is.

    tokens: ids to draw from. longest: tokens of the longest thread that will be trained: a window or a table of positions
    that is shorter must show up here.
    """
    trees = probe_trees(tokens, longest)
    threads = [thread.tree for tree in trees for thread in linear_threads(tree)]
    found = _Comparison(
        what="log-probabilities",
        alone=lambda: reference_log_probabilities(policy, threads),
        together=lambda layout, expected: _difference(policy.with_layout(layout), trees, expected),
    )
    return _verdict(policy, found, longest, wanted)


@torch.no_grad()
def self_test_scalars(policy: ScalarPolicy, tokens: int, longest: int, wanted: LayoutKind | None = None) -> Verdict:
    """The same for a model that scores. What is compared are the states under its head, since a new head may be all zeros:
    at the end of every thread, relative to the largest of them."""
    trees = probe_trees(tokens, longest)
    threads = [torch.from_numpy(thread.tree.ids).long() for tree in trees for thread in linear_threads(tree)]
    batch = assemble([Example(number, tree) for number, tree in enumerate(trees)], "threads").to(policy.device)
    ends = thread_ends(trees)

    def alone() -> list[torch.Tensor]:
        with policy.backbone.autocast():
            rows = [ids.to(policy.device)[None] for ids in threads]
            return [policy.model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0, -1] for ids in rows]

    def together(layout: LayoutKind, expected: list[torch.Tensor]) -> float:
        states = policy.with_layout(layout).backbone.hidden(batch)[ends.to(policy.device)].float()
        wanted_states = torch.stack(expected).float()
        return float((states - wanted_states).abs().max() / wanted_states.abs().max())

    return _verdict(policy, _Comparison("states", alone, together), longest, wanted)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """alone: what the stock model gives for every thread by itself. together: the largest difference from it of our batch,
    read in a layout."""

    what: str
    alone: Callable[[], list[torch.Tensor]]
    together: Callable[[LayoutKind, list[torch.Tensor]], float]


def _verdict(
    policy: Policy | ScalarPolicy, comparison: _Comparison, longest: int, wanted: LayoutKind | None
) -> Verdict:
    policy.eval()
    found: dict[str, str] = {}
    try:
        expected = comparison.alone()
        first = math.inf
        for layout in (wanted,) if wanted else LAYOUTS:
            difference = _attempt(comparison, layout, expected)
            first = min(first, difference) if math.isinf(first) else first
            if difference <= TOLERANCE[policy.compute]:
                return Verdict(layout, first)
            found[layout] = f"{difference:.2g}"
    except (ValueError, TypeError, IndexError, RuntimeError, NotImplementedError) as error:
        # Whatever a family's code raises when its attention or positions cannot do this is a reason to refuse it.
        found["failed"] = " ".join(str(error).split())[:200]
    measured = ", ".join(f"{name}: {value}" for name, value in found.items())
    raise RecipeError(
        f"{type(policy.model).__name__} does not give the same {comparison.what} in our batches as alone, for threads of "
        f"up to {longest} tokens (largest difference by layout {measured}; allowed {TOLERANCE[policy.compute]:g})",
        where="model.layout",
        advice="set model.layout to auto" if wanted == "tree" else "try a smaller text.max_length or another family",
    )


def _difference(policy: Policy, trees: tuple[TokenTree, ...], expected: list[torch.Tensor]) -> float:
    """Largest absolute difference between the reference threads and the same tokens in one batch of all trees."""
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


def _attempt(comparison: _Comparison, layout: LayoutKind, expected: list[torch.Tensor]) -> float:
    """The difference, or infinity where the tree layout already fails to run (bloom builds its own mask)."""
    if layout == "threads":
        return comparison.together(layout, expected)
    try:
        return comparison.together(layout, expected)
    except (ValueError, TypeError, RuntimeError):
        return math.inf
