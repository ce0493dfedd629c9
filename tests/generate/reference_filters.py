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


def keep_typical(logits: Tensor, mass: float) -> tuple[Tensor, Tensor]:
    """What transformers' TypicalLogitsWarper keeps, and for which tokens rounding in float32 may decide otherwise.

    Returns bool [rows, vocabulary] twice.
    """
    log_probability = logits.double().log_softmax(dim=-1)
    entropy = -(log_probability * log_probability.exp()).nansum(dim=-1, keepdim=True)
    distance = (-log_probability - entropy).abs()
    ordered, order = torch.sort(distance, dim=-1, stable=True)
    reached = log_probability.gather(1, order).exp().cumsum(dim=-1)
    last = (reached < mass).sum(dim=-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    boundary = ordered.gather(1, last)
    kept = distance <= boundary + 1e-9  # equal logits have equal distances
    near = (distance - boundary).abs() < 1e-5
    tie = (near & ((distance - boundary).abs() > 1e-9)).any(dim=-1, keepdim=True)
    return kept, near & tie


def keep(logits: Tensor, top_k: float | None, top_p: float | None, typical_p: float | None) -> tuple[Tensor, Tensor]:
    """All three in the order of transformers; None leaves one out. Returns as ``keep_typical``."""
    remaining, doubtful = logits, torch.zeros_like(logits, dtype=torch.bool)
    if top_k is not None:
        remaining = remaining.masked_fill(~keep_top_k(remaining, top_k), REMOVED)
    if top_p is not None:
        remaining = remaining.masked_fill(~keep_top_p(remaining, top_p), REMOVED)
    kept = torch.ones_like(logits, dtype=torch.bool)
    if typical_p is not None:
        kept, doubtful = keep_typical(remaining, typical_p)
    return kept & (remaining > REMOVED), doubtful
