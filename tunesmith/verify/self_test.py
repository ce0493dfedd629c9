"""Whether the attention of a model follows the layout of packed batches, tested on the user's own model before
training.

The reference is the unmodified model: every root-to-leaf thread in a separate forward pass, with the attention in the
code of its family and with its own head. Absolute learned positions, ALiBi, sliding windows or soft caps that the
layout cannot express appear as a difference. In order of preference a batch is read as one tree, thread by thread, or
thread by thread with the family's own attention; if none is exact, the model is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed, thread_ends
from tunesmith.batch.threads import split_into_threads
from tunesmith.errors import RecipeError
from tunesmith.model.attention_choice import stock_attention, use_stock_attention
from tunesmith.model.body import body_of, check_causal
from tunesmith.model.failures import FAMILY_ERRORS, describe_failure
from tunesmith.model.policy import LayoutKind, Policy
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.model.wrapper import ModelWrapper
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.verify.differences import largest_difference, max_or_nan

LAYOUTS: tuple[LayoutKind, ...] = ("tree", "threads")
# Largest difference of a log-probability that number formats explain, for logits up to 10 and above; a broken layout
# differs by 0.01 to 10. Rounding and the effect of a broken layout both shrink with the logits, so for smaller logits,
# as of a model with small random weights, a smaller difference is allowed.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.05}
USUAL_LOGIT = 10.0
LEAST_SHARE = 0.01  # of the tolerance, for logits close to 0: the logarithm of the sum is rounded, too


@dataclass(frozen=True, slots=True)
class SelfTestResult:
    """What the self-test found.

    layout: the layout in which batches may be read.
    difference: the largest difference between packed batch and separate threads, in the first layout that the model
        can run.
    stock_attention: whether the model was changed to its stock attention, because ours is not exact for it.
    """

    layout: LayoutKind
    difference: float
    stock_attention: bool = False

    @property
    def description(self) -> str:
        """The layout and the attention, for the user."""
        return f"{self.layout}, with its stock attention" if self.stock_attention else self.layout


@dataclass(frozen=True, slots=True)
class StockResult:
    """The numbers of the stock model.

    values: of every thread.
    largest: the largest absolute value of the logits that they come from.
    """

    values: list[Tensor]
    largest: float


def allowed_difference(compute: torch.dtype, largest: float) -> float:
    """The largest difference of a log-probability that rounding explains.

    compute: the data type of the matrix products.
    largest: the largest absolute value of the logits.
    """
    return TOLERANCE[compute] * min(1.0, max(LEAST_SHARE, largest / USUAL_LOGIT))


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Two computations of the same numbers.

    what: what is compared, for messages.
    alone: computes the numbers of every thread with the stock model, and the size that the tolerance depends on.
    together: (layout, numbers of every thread) -> their largest difference from the packed batch, read in that layout.
    """

    what: str
    alone: Callable[[], StockResult]
    together: Callable[[LayoutKind, list[Tensor]], float]


def probe_trees(tokens: int, longest: int) -> tuple[TokenTree, TokenTree]:
    """A branching tree, and a thread of which only the end is a target, of fixed pseudo-random token ids.

    tokens: the ids are below it.
    longest: tokens of the thread.
    """
    draw = np.random.Generator(np.random.Philox(7))
    sizes, parents = [7, 5, 3, 4, 6], [-1, 0, 1, 1, 0]
    ends = np.cumsum(sizes)
    segments = np.stack([ends - sizes, ends, np.array(parents)], axis=1).astype(np.int32)
    threads = [2, 1, 1, 1]
    spans = np.array(
        [
            [segments[s, 0], segments[s, 1], segments[segments[s, 2], 1] - 1, s, threads[s - 1]]
            for s in range(1, len(sizes))
        ],
        np.int32,
    )
    branching = TokenTree(_draw_ids(draw, int(ends[-1]), tokens), segments, spans, 3, 0)
    end = max(longest, 9)
    thread = TokenTree(
        _draw_ids(draw, end, tokens),
        np.array([[0, end, -1]], np.int32),
        np.array([[end - 5, end, end - 6, 0, 1]], np.int32),
        1,
        0,
    )
    return branching, thread


def _draw_ids(draw: np.random.Generator, count: int, tokens: int) -> NDArray[np.int32]:
    return draw.integers(0, tokens, count).astype(np.int32)


def reference_log_probabilities(policy: Policy, threads: list[TokenTree]) -> StockResult:
    """float32 [targets] for each thread: the stock model on it alone, without our attention and our head."""
    found, largest = [], 0.0
    for thread in threads:
        batch = assemble_packed([Example(0, thread)], "threads").to(policy.device)
        with policy.autocast(), stock_attention(policy.model):
            logits = policy.model(input_ids=batch.ids[None], use_cache=False).logits[0]
        read = logits[batch.source].float()
        largest = max(largest, float(read.abs().max()))
        found.append(torch.log_softmax(read, dim=-1).gather(1, batch.target[:, None])[:, 0])
    return StockResult(found, largest)


@torch.no_grad()
def self_test(policy: Policy, tokens: int, longest: int, wanted: LayoutKind | None = None) -> SelfTestResult:
    """Find the layout that is exact for this model, with our attention or else with its stock attention.

    Raises RecipeError if none is exact.
    tokens: token ids are drawn below it.
    longest: tokens of the longest thread in training: a sliding window or a table of positions that is shorter must
        appear.
    wanted: the only layout to try; None for all.
    """
    trees = probe_trees(tokens, longest)
    threads = [thread.tree for tree in trees for thread in split_into_threads(tree)]
    comparison = _Comparison(
        what="log-probabilities",
        alone=lambda: reference_log_probabilities(policy, threads),
        together=lambda layout, expected: _difference_of_trees(policy.with_layout(layout), trees, expected),
    )
    return _find_layout(policy, comparison, longest, wanted)


@torch.no_grad()
def self_test_scalars(
    policy: ScalarPolicy, tokens: int, longest: int, wanted: LayoutKind | None = None
) -> SelfTestResult:
    """The same for a reward model. Raises RecipeError if no layout is exact.

    The hidden states before its head are compared, since a new head may be all zeros: those at the end of every thread,
    relative to the largest of them. tokens, longest, wanted: as of ``self_test``.
    """
    trees = probe_trees(tokens, longest)
    threads = [torch.from_numpy(thread.tree.ids).long() for tree in trees for thread in split_into_threads(tree)]
    batch = assemble_packed([Example(number, tree) for number, tree in enumerate(trees)], "threads").to(policy.device)
    ends = thread_ends(trees)

    def alone() -> StockResult:
        body = body_of(policy.model)
        with policy.autocast(), stock_attention(policy.model):
            rows = [ids.to(policy.device)[None] for ids in threads]
            states = [body(input_ids=ids, use_cache=False).last_hidden_state[0, -1] for ids in rows]
        return StockResult(states, USUAL_LOGIT)  # the difference of states is relative already

    def together(layout: LayoutKind, expected: list[Tensor]) -> float:
        states = policy.with_layout(layout).hidden(batch)[ends.to(policy.device)].float()
        expected_states = torch.stack(expected).float()
        return float((states - expected_states).abs().max() / expected_states.abs().max())

    return _find_layout(policy, _Comparison("states", alone, together), longest, wanted)


def check_finite(policy: ModelWrapper, what: str, values: Sequence[Tensor]) -> None:
    """Raises RecipeError if numbers of the stock model are NaN or infinite. what: the numbers, for the message."""
    if not all(bool(torch.isfinite(each).all()) for each in values):
        raise RecipeError(
            f"the {what} of {type(policy.model).__name__} are NaN or infinite, also in the stock model",
            where="model",
            advice="its weights hold NaN or are too large for model.dtype; load or export the model again",
        )


def _find_layout(
    policy: Policy | ScalarPolicy, comparison: _Comparison, longest: int, wanted: LayoutKind | None
) -> SelfTestResult:
    """The first way to compute whose difference is within the tolerance. Raises RecipeError if there is none."""
    policy.eval()
    results: dict[str, str] = {}
    check_causal(policy.model)
    try:
        reference = comparison.alone()
    except FAMILY_ERRORS as error:
        raise _refuse(policy, f"fails on a single thread: {describe_failure(error)}") from error
    expected = reference.values
    check_finite(policy, comparison.what, expected)
    tolerance = allowed_difference(policy.compute, reference.largest)
    first = math.inf
    for layout in (wanted,) if wanted else LAYOUTS:
        difference, failure = _try_layout(comparison, layout, expected)
        first = first if math.isfinite(first) else difference
        if difference <= tolerance:  # false for NaN
            return SelfTestResult(layout, first)
        results[layout] = failure or f"{difference:.2g}"
    if wanted != "tree":
        with stock_attention(policy.model):
            difference, failure = _try_layout(comparison, "threads", expected)
        if difference <= tolerance:
            use_stock_attention(policy.model)
            return SelfTestResult("threads", first if math.isfinite(first) else difference, stock_attention=True)
        results["threads with its stock attention"] = failure or f"{difference:.2g}"
    summary = ", ".join(f"{name}: {value}" for name, value in results.items())
    raise _refuse(
        policy,
        f"does not give the same {comparison.what} in our batches as alone, for threads of up to {longest} tokens "
        f"(largest difference by layout {summary}; allowed {tolerance:.1g})",
        "set model.layout to auto" if wanted == "tree" else None,
    )


def _refuse(policy: ModelWrapper, reason: str, advice: str | None = None) -> RecipeError:
    return RecipeError(
        f"{type(policy.model).__name__} {reason}",
        where="model.layout",
        advice=advice or "try a smaller text.max_length or a family that docs/families.md lists as trained",
    )


def _try_layout(comparison: _Comparison, layout: LayoutKind, expected: list[Tensor]) -> tuple[float, str]:
    """The difference and "", or infinity and why the layout fails to run (bloom builds its own mask)."""
    try:
        return comparison.together(layout, expected), ""
    except FAMILY_ERRORS as error:
        return math.inf, describe_failure(error)


def _difference_of_trees(policy: Policy, trees: tuple[TokenTree, ...], expected: list[Tensor]) -> float:
    """The largest difference between the log-probabilities of separate threads and of one batch of all trees.

    expected: float32 [targets] for each thread of all trees.
    """
    batch = assemble_packed([Example(number, tree) for number, tree in enumerate(trees)], "threads").to(policy.device)
    log_probability = policy.log_probabilities(batch).log_probability
    differences, begin, reference = list[float](), 0, iter(expected)
    for tree in trees:
        count = int((tree.spans[:, 1] - tree.spans[:, 0]).sum())
        own = log_probability[begin : begin + count]
        for thread in split_into_threads(tree):
            index = torch.from_numpy(thread.targets).to(own.device)
            differences.append(largest_difference(own[index], next(reference)))
        begin += count
    return max_or_nan(differences)
