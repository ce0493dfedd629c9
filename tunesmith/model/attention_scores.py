"""What some families add to the scores of their attention, and attention that computes the scores explicitly.

transformers passes these terms to every attention function by keyword. The fused kernel for CPUs knows none of them.
Shapes: H heads, T query tokens, S keys, D units of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTerms:
    """The terms of one attention module; all absent in most families.

    softcap: scores become softcap * tanh(scores / softcap), as in Gemma 2 (Riviere et al. 2024).
    sinks: [H], scores of a key that every token sees and whose value is zero, as in gpt-oss.
    window: a token sees itself and the ``window - 1`` tokens before it in its thread.
    """

    softcap: float | None = None
    sinks: Tensor | None = None
    window: int | None = None

    @property
    def explicit(self) -> bool:
        """Whether there are terms that the fused kernels of PyTorch cannot express by a mask."""
        return self.softcap is not None or self.sinks is not None


PLAIN = ScoreTerms()


def repeat_heads(states: Tensor, heads: int) -> Tensor:
    """Keys or values [B, G, S, D] as [B, H, S, D], every head repeated for the query heads that share it."""
    groups = heads // states.shape[1]
    return states.repeat_interleave(groups, dim=1) if groups > 1 else states


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """Which keys each of the last ``queries`` tokens of a thread of ``keys`` tokens sees, bool [queries, keys]."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(diagonal=keys - queries)


def within_window(seen: Tensor, window: int) -> Tensor:
    """Which keys are left where a token sees itself and the ``window - 1`` tokens before it in its thread.

    seen: bool [queries, keys], all tokens of its thread that each query sees; the last keys are the queries.
    """
    queries, keys = seen.shape
    position = seen.sum(dim=1) - 1  # the number of tokens before each query in its thread
    positions = torch.cat([torch.arange(keys - queries, device=seen.device), position])
    return seen & (position[:, None] - positions < window)


def attend_explicitly(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, terms: ScoreTerms
) -> Tensor:
    """The attended values, [B, H, T, D]; the softmax is computed in float32.

    query: [B, H, T, D].
    key, value: [B, H, S, D].
    mask: what broadcasts to [B, H, T, S]: bool, True where a key is seen, or numbers that are added to the scores.
    scaling: factor of the products of query and key; None for D ** -0.5.
    terms: the window is not applied here but is part of ``mask``.
    """
    scores = torch.matmul(query, key.transpose(2, 3)) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if terms.softcap is not None:
        scores = terms.softcap * torch.tanh(scores / terms.softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask
    if terms.sinks is not None:
        sinks = terms.sinks.to(scores.dtype).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sinks], dim=-1)
    share = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return torch.matmul(share[..., : key.shape[2]], value)
