"""Top-k, top-p and typical sampling without sorting the vocabulary: which tokens may be drawn, and with what weights.

A filter keeps the tokens whose key is at least a boundary. The key is the logit for top-k and top-p, the negative
distance to the entropy for typical sampling. The boundary is first looked for among the ``width`` tokens with the
highest keys. A row is resolved if every other token is certainly below its boundary; if not, the caller takes a larger
width, up to the whole vocabulary, of which one bin is sorted. The result does not depend on the width, except where a
sum is within rounding of its threshold: typical sampling behind top-k computes an entropy of the tokens that are looked
at, and at temperatures of about 1e6, where all keys are nearly equal, another order of its sum can keep another token.

Probabilities are in float32, their sums in float64. transformers sums in float32: what is kept may differ where a sum
is nearer to its threshold than float32 can say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.generate.cumulative import cumulative_sums

FILTER_VALUE = -math.inf
"""The logit of tokens that are filtered out."""

BLOCK = 64
"""Number of consecutive ids that are represented by their maximum in the search for the highest keys."""

SORTED_WIDTH = 1024
"""The boundary among at most so many tokens is found by sorting them, among more with bins."""

BINS, BINS_PER_NAT = 4096, 64
"""Number of bins, and their width in logits, counted from the highest key down."""


@dataclass(frozen=True, slots=True)
class Filters:
    """The parameters of the filters; None for a filter that no row has.

    top_k, top_p, typical_p: float64 [rows, 1].
    """

    top_k: Tensor | None = None
    top_p: Tensor | None = None
    typical_p: Tensor | None = None

    def select(self, rows: Tensor) -> Filters:
        """The parameters of these rows, int64 [n]."""
        values = (self.top_k, self.top_p, self.typical_p)
        return Filters(*(None if value is None else value[rows] for value in values))


@dataclass(frozen=True, slots=True)
class Candidates:
    """The tokens that may be drawn, in ascending order of their ids.

    ids: int64 [rows, width].
    weights: float64 [rows, width], in proportion to the probabilities; 0 for tokens that are filtered out.
    resolved: bool [rows]; False if more tokens have to be looked at to know what the filters keep.
    """

    ids: Tensor
    weights: Tensor
    resolved: Tensor


def filter_tokens(scores: Tensor, filters: Filters, width: int | None) -> Candidates:
    """Apply top-k, top-p and typical sampling, in this order.

    scores: float32 [rows, vocabulary], the logits after all other processors; -infinity for tokens that are excluded.
    width: how many tokens of each row are looked at; None for all, with which every row is resolved.
    """
    by_distance = filters.top_k is None and filters.top_p is None and filters.typical_p is not None
    keys = typical_keys(scores) if by_distance else scores
    ids, bound = find_highest(keys, width or scores.shape[1])
    values = scores.gather(1, ids)
    boundaries = []
    if filters.top_k is not None:
        weights = values.softmax(dim=-1).double()
        boundaries.append(find_boundary(values, torch.ones_like(weights), filters.top_k))
        weights = weights * (values >= boundaries[0])
        total = weights.sum(dim=-1, keepdim=True)
    else:
        weights = scores.softmax(dim=-1).gather(1, ids).double()
        total = torch.ones_like(weights[:, :1])
    if filters.top_p is not None:
        goal = filters.top_p * total
        boundaries.append(find_boundary(_without_removed(values, weights), weights, goal))
        weights = weights * _nucleus(values, weights, boundaries[-1], goal)
        total = weights.sum(dim=-1, keepdim=True)
    if filters.typical_p is not None:
        distances = keys.gather(1, ids) if by_distance else typical_keys(_without_removed(values, weights))
        boundaries.append(find_boundary(distances, weights, filters.typical_p * total))
        weights = weights * (distances >= boundaries[-1])
    if ids.shape[1] == scores.shape[1]:
        resolved = torch.ones_like(bound, dtype=torch.bool)
    else:
        resolved = boundaries[0] > bound if boundaries else torch.zeros_like(bound, dtype=torch.bool)
    return Candidates(ids, weights, resolved.squeeze(1))


def draw(candidates: Candidates, uniforms: Tensor) -> Tensor:
    """One id per row by inverse transform sampling over ascending ids: int64 [rows].

    uniforms: float64 [rows], numbers in [0, 1). Tokens of weight 0 do not change the result and are never drawn.
    """
    cumulative = cumulative_sums(candidates.weights)
    place = torch.searchsorted(cumulative, uniforms.unsqueeze(1) * cumulative[:, -1:], right=True)
    return candidates.ids.gather(1, place.clamp(max=cumulative.shape[1] - 1)).squeeze(1)


def typical_keys(scores: Tensor) -> Tensor:
    """-|-ln p - H| of every token, where H is the entropy of its row: float32 [rows, tokens] from the same shape.

    Meister et al. 2023, "Locally typical sampling" (arXiv 2202.00666). -infinity for tokens that are excluded.
    """
    log_probability = scores.log_softmax(dim=-1)
    entropy = -(log_probability * log_probability.exp()).nansum(dim=-1, keepdim=True)
    return -(-log_probability - entropy).abs()


def find_highest(keys: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The ids of the ``width`` highest keys of each row, and a bound that no other key exceeds.

    All keys above the bound are among them; which of the keys that are equal to it are, is not defined.
    keys: float32 [rows, vocabulary].
    Returns int64 [rows, width] in ascending order, and float32 [rows, 1].
    """
    rows, size = keys.shape
    if width >= size:
        return torch.arange(size, device=keys.device).expand(rows, size), keys.amin(dim=-1, keepdim=True)
    if 4 * width * BLOCK >= size:
        top = torch.topk(keys, width)
        ids = top.indices
    else:
        chosen, found = _highest_blocks(keys, width)
        top = torch.topk(found, width)
        inside = width * BLOCK  # keys that are in blocks; the ids after the blocks follow
        block = chosen.gather(1, (top.indices // BLOCK).clamp_(max=width - 1))
        after = size // BLOCK * BLOCK + top.indices - inside
        ids = torch.where(top.indices < inside, block * BLOCK + top.indices % BLOCK, after)
    return ids.sort(dim=-1).values, top.values[:, -1:]


def find_maximum(keys: Tensor) -> Tensor:
    """The lowest id that has the highest key of each row, int64 [rows].

    ``argmax`` of torch reads one key at a time on a CPU, maxima of blocks are vectorised.
    keys: float32 [rows, vocabulary].
    """
    size = keys.shape[1]
    if size < BLOCK * BLOCK:
        return keys.argmax(dim=-1)
    chosen, found = _highest_blocks(keys, 1)
    place = found.argmax(dim=-1)
    return torch.where(place < BLOCK, chosen[:, 0] * BLOCK, size // BLOCK * BLOCK - BLOCK) + place


def _highest_blocks(keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` blocks with the highest maxima, which hold the ``count`` highest keys.

    No key of the other blocks exceeds one of these maxima.
    Returns the numbers of the blocks, int64 [rows, count], and their keys followed by those of the ids after the
    blocks, float32 [rows, n].
    """
    rows, size = keys.shape
    blocks = keys[:, : size // BLOCK * BLOCK].view(rows, size // BLOCK, BLOCK)
    maxima = blocks.amax(dim=-1)
    chosen = maxima.argmax(dim=-1, keepdim=True) if count == 1 else torch.topk(maxima, count).indices
    found = blocks[torch.arange(rows, device=keys.device).unsqueeze(1), chosen].flatten(1)
    return chosen, torch.cat([found, keys[:, size // BLOCK * BLOCK :]], dim=1)


def find_boundary(keys: Tensor, weights: Tensor, goal: Tensor) -> Tensor:
    """The key at which the weights, summed in descending order of their keys, reach ``goal``: float32 [rows, 1].

    keys: float32 [rows, width]. weights: float64 [rows, width], not negative. goal: float64 [rows, 1].
    -infinity where the sum of all weights is less than the goal.
    """
    if (
        keys.shape[1] <= SORTED_WIDTH or keys.device.type == "cuda"
    ):  # bins add up in any order there, and sorts are fast
        boundary = _boundary_by_sorting(keys, weights, goal)
    else:
        boundary = torch.cat([_boundary_by_bins(*row) for row in zip(keys, weights, goal, strict=True)]).unsqueeze(1)
    return boundary.where(weights.sum(dim=-1, keepdim=True) >= goal, FILTER_VALUE)


def _boundary_by_sorting(keys: Tensor, weights: Tensor, goal: Tensor) -> Tensor:
    """The boundary of each row; the lowest key where a rounding error keeps the sums below the goal."""
    ordered, order = torch.sort(keys, dim=-1, descending=True)
    place = (cumulative_sums(weights.gather(-1, order)) < goal).sum(dim=-1, keepdim=True)
    return ordered.gather(-1, place.clamp(max=keys.shape[-1] - 1))


def _boundary_by_bins(keys: Tensor, weights: Tensor, goal: Tensor) -> Tensor:
    """The boundary of one row, float32 [1]: only the bin of keys is sorted in which the goal is reached."""
    bins = (keys.amax() - keys).mul_(BINS_PER_NAT).clamp_(max=BINS - 1).long()
    sums = torch.bincount(bins, weights, minlength=BINS).cumsum(dim=0)
    place = (sums < torch.minimum(goal, sums[-1])).sum()  # the first bin with all that there is, if that is too little
    inside = (bins == place).nonzero().squeeze(1)
    before = sums[place] - weights[inside].sum()
    return _boundary_by_sorting(keys[inside], weights[inside], goal - before)


def _nucleus(values: Tensor, weights: Tensor, boundary: Tensor, goal: Tensor) -> Tensor:
    """Which tokens are in the nucleus, bool [rows, width]: those above the boundary and some of those equal to it.

    Of these the ones with the highest ids are kept, as many as it takes to reach the goal, like transformers'
    TopPLogitsWarper, which removes tokens from the beginning of a stable sort in ascending order.
    """
    above, equal = values > boundary, values == boundary
    mass = (weights * above).sum(dim=-1, keepdim=True)
    after = equal.flip(1).cumsum(dim=-1).flip(1) - equal.long()  # number of equal tokens with higher ids
    return above | equal & (mass + after * weights.where(equal, 0).amax(dim=-1, keepdim=True) < goal)


def _without_removed(values: Tensor, weights: Tensor) -> Tensor:
    """The logits, -infinity for tokens that an earlier filter removed."""
    return values.masked_fill(weights == 0, FILTER_VALUE)


def sample_tokens(probability: Tensor, uniforms: Sequence[float] | Tensor) -> Tensor:
    """One id per row by inverse transform sampling: int64 [rows]. An id of probability 0 is never drawn.

    probability: float [rows, vocabulary]. uniforms: [rows] numbers in [0, 1) (``draws.token_uniform``).
    """
    cumulative = cumulative_sums(probability.double())
    numbers = torch.as_tensor(uniforms, dtype=torch.float64, device=probability.device)
    threshold = numbers.unsqueeze(1) * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, threshold, right=True)
    return place.clamp(max=cumulative.shape[1] - 1).squeeze(1)
