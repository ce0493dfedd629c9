"""The attention of a packed row of trees, registered with transformers by name, so that model code stays stock.

The attention "tunesmith" follows the rule of ``batch.packed`` if it gets a ``layout`` argument. Without one
(generation, plain use) it calls transformers' scaled-dot-product attention. ``prepare`` computes the kernel of a
layout once per batch.
Shapes: H query heads, G key and value heads, T tokens, D units of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from tunesmith.batch.packed import Layout
from tunesmith.model.attention_cuda import flex_attention_layout, varlen_attention_layout

NAME = "tunesmith"


class AttentionLayout(Protocol):
    """A layout prepared for one kind of kernel."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """The attended values, [1, H, T, D].

        query: [1, H, T, D].
        key, value: [1, G, T, D], where H is a multiple of G.
        scaling: factor of the products of query and key; None for D ** -0.5.
        """
        ...


@dataclass(frozen=True, slots=True)
class SegmentAttention:
    """One scaled-dot-product call for each segment, with the keys of its ancestors before its own.

    sizes: tokens of each segment.
    ancestors: for each segment the segments above it, root first.
    masks: for each segment bool [its tokens, tokens of its ancestors and its own], None for one that starts a tree.
    """

    sizes: tuple[int, ...]
    ancestors: tuple[tuple[int, ...], ...]
    masks: tuple[Tensor | None, ...]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """See ``AttentionLayout``."""
        # split() has a backward pass of one concatenation, whereas every slice would make a gradient of the full
        # length.
        if (groups := query.shape[1] // key.shape[1]) > 1:
            key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        queries, keys, values = (torch.split(states, list(self.sizes), dim=2) for states in (query, key, value))
        attended = []
        for own, (path, mask) in enumerate(zip(self.ancestors, self.masks, strict=True)):
            if mask is None:
                mixed = scaled_dot_product_attention(
                    queries[own], keys[own], values[own], is_causal=True, scale=scaling
                )
            else:
                seen_keys = torch.cat([*(keys[s] for s in path), keys[own]], dim=2)
                seen_values = torch.cat([*(values[s] for s in path), values[own]], dim=2)
                mixed = scaled_dot_product_attention(
                    queries[own], seen_keys, seen_values, attn_mask=mask, scale=scaling
                )
            attended.append(mixed)
        return attended[0] if len(attended) == 1 else torch.cat(attended, dim=2)


def _segment_attention(layout: Layout, device: torch.device) -> SegmentAttention:
    masks: list[Tensor | None] = []
    for size, path in zip(layout.sizes, layout.ancestors, strict=True):
        if not path:
            masks.append(None)
            continue
        above = sum(layout.sizes[s] for s in path)
        masks.append(torch.ones(size, above + size, dtype=torch.bool, device=device).tril(diagonal=above))
    return SegmentAttention(layout.sizes, layout.ancestors, tuple(masks))


def prepare(layout: Layout, device: torch.device, dtype: torch.dtype) -> AttentionLayout:
    """The kernel for a layout on a device.

    On CUDA it is the variable-length kernel where nothing branches (in 16 bits, as the kernel requires), otherwise
    FlexAttention. On other devices it is one scaled-dot-product call per segment.
    """
    if device.type != "cuda":
        return _segment_attention(layout, device)
    if layout.branches or dtype == torch.float32:
        return flex_attention_layout(layout, device)
    return varlen_attention_layout(layout, device)


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: AttentionLayout | None = None,
    **extra: Any,
) -> tuple[Tensor, None]:
    """transformers' attention protocol: query [B, H, T, D], key and value [B, G, T, D] in, [B, T, H, D] out.

    layout: the prepared layout of a packed row (B is 1); None for transformers' own attention.
    extra: what transformers passes to every attention function.
    """
    if layout is None:
        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **extra
        )
        return result
    return layout.attend(query, key, value, scaling).transpose(1, 2).contiguous(), None


def register() -> str:
    """Register the attention with transformers; returns its name, with which models are loaded."""
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME
