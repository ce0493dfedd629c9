"""The filters by their definition, over the sorted vocabulary and in float64: what fast filters are compared with."""

from __future__ import annotations

import torch
from torch import Tensor

REMOVED = float("-inf")


def keep_top_k(logits: Tensor, k: float) -> Tensor:
    """The k highest logits and those equal to the k-th: bool [rows, vocabulary]."""
    ordered = logits.sort(dim=-1, descending=True).values
    return logits >= ordered[:, min(int(k), logits.shape[1]) - 1 : int(k)][:, :1]


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """What transformers' TopPLogitsWarper keeps: bool [rows, vocabulary]."""
    ascending, order = torch.sort(logits.double(), dim=-1, stable=True)
    removed = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - p
    removed[:, -1] = False
    return ~removed.scatter(1, order, removed)


def keep_typical(logits: Tensor, mass: float) -> Tensor:
    """What transformers' TypicalLogitsWarper keeps: bool [rows, vocabulary]."""
    log_probability = logits.double().log_softmax(dim=-1)
    entropy = -(log_probability * log_probability.exp()).nansum(dim=-1, keepdim=True)
    distance, order = torch.sort((-log_probability - entropy).abs(), dim=-1, stable=True)
    reached = log_probability.gather(1, order).exp().cumsum(dim=-1)
    last = (reached < mass).sum(dim=-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    kept = distance <= distance.gather(1, last) + 1e-9  # equal logits have equal distances
    return kept.scatter(1, order, kept)


def keep(logits: Tensor, top_k: float | None, top_p: float | None, typical_p: float | None) -> Tensor:
    """All three in the order of transformers; None leaves one out. bool [rows, vocabulary]."""
    kept = torch.ones_like(logits, dtype=torch.bool)
    filters = ((keep_top_k, top_k), (keep_top_p, top_p), (keep_typical, typical_p))
    for filter, value in filters:
        if value is not None:
            remaining = logits.masked_fill(~kept, REMOVED)
            kept &= filter(remaining, value) & (remaining > REMOVED)
    return kept
