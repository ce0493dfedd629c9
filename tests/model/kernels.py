"""Other computations of the attention kernels for CUDA, with their arguments: neither runs with gradient on a CPU."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from torch.nn.functional import scaled_dot_product_attention

from tunesmith.batch.packed import Layout
from tunesmith.model.attention import AttentionLayout
from tunesmith.model.attention_cuda import FlexAttention, varlen_attention_layout


def seen_pairs(mask: BlockMask) -> Tensor:
    """bool [T, T], which query sees which key: all of a full block, and what the rule says in another listed block."""
    tokens = mask.seq_lengths[0]
    place = torch.arange(tokens)
    rule = mask.mask_mod(place, place, place[:, None], place[None, :])
    size = mask.BLOCK_SIZE[0]
    listed = {}
    for name, counts, columns in (
        ("partly", mask.kv_num_blocks, mask.kv_indices),
        ("fully", mask.full_kv_num_blocks, mask.full_kv_indices),
    ):
        table = torch.zeros(counts.shape[-1], columns.shape[-1], dtype=torch.bool)
        for row, count in enumerate(counts[0, 0].tolist()):
            table[row, columns[0, 0, row, :count].long()] = True
        listed[name] = table.repeat_interleave(size, 0).repeat_interleave(size, 1)[:tokens, :tokens]
    return (listed["partly"] & rule) | listed["fully"]


def plain_flex_attention(query: Tensor, key: Tensor, value: Tensor, **settings: Any) -> Any:
    """``flex_attention`` without a change of scores."""
    assert settings["score_mod"] is None
    assert query.dtype == key.dtype == value.dtype
    assert settings["enable_gqa"] == (query.shape[1] != key.shape[1])
    seen = seen_pairs(settings["block_mask"])
    mixed = scaled_dot_product_attention(
        query, key, value, attn_mask=seen, scale=settings["scale"], enable_gqa=settings["enable_gqa"]
    )
    return mixed, SimpleNamespace(lse=None)


def plain_varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, window: tuple[int, int], scale: float | None
) -> Tensor:
    """Causal attention within each segment, [T, H, D]."""
    assert query.dtype == key.dtype == value.dtype
    assert bounds.dtype == torch.int32
    assert window[1] == 0, "not causal"
    assert all(states.is_contiguous() for states in (query, key, value))
    parts = []
    for begin, end in pairwise(bounds.tolist()):
        rows = [states[begin:end].transpose(0, 1) for states in (query, key, value)]
        seen = torch.ones(end - begin, end - begin, dtype=torch.bool, device=query.device).tril()
        if window[0] >= 0:
            seen = seen.triu(-window[0])
        parts.append(scaled_dot_product_attention(*rows, attn_mask=seen, scale=scale, enable_gqa=True).transpose(0, 1))
    return torch.cat(parts)


def _rule_of_flex(query: Tensor, key: Tensor, value: Tensor, **settings: Any) -> Any:
    """FlexAttention by its rule, without its kernel and without a wait."""
    place = torch.arange(query.shape[2], device=query.device)
    rule = settings["block_mask"].mask_mod(place, place, place[:, None], place[None, :])
    scores = (query @ key.transpose(2, 3) * query.shape[-1] ** -0.5).masked_fill(~rule, -torch.inf)
    return torch.softmax(scores, dim=-1) @ value, SimpleNamespace(lse=None)


def _rule_of_varlen(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, *_: Any, **settings: Any) -> Tensor:
    place = torch.arange(len(query), device=query.device)
    segment = torch.searchsorted(bounds, place.to(torch.int32), right=True)
    seen = (segment[:, None] == segment[None, :]) & (place[:, None] >= place[None, :])
    query, key, value = (states.transpose(0, 1) for states in (query, key, value))
    scores = (query @ key.transpose(1, 2) * query.shape[-1] ** -0.5).masked_fill(~seen, -torch.inf)
    return (torch.softmax(scores, dim=-1) @ value).transpose(0, 1)


def kernels_on_any_device(layout: Layout, dtype: torch.dtype) -> AttentionLayout:
    """The choice of kernels on CUDA, computed by their rules with gradient and without a wait."""
    if layout.branches:
        return FlexAttention(layout, dtype, lambda: _rule_of_flex)
    return replace(varlen_attention_layout(layout, dtype), kernel=_rule_of_varlen)
