"""Kernels for CUDA: PyTorch's variable-length attention for threads, FlexAttention for branching trees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.attention.varlen import varlen_attn

from tunesmith.batch.packed import Layout

compiled_flex_attention = torch.compile(flex_attention, dynamic=True)


@dataclass(frozen=True, slots=True)
class VarlenAttention:
    """Causal attention within each of S segments, none of which branches.

    bounds: int32 [S + 1], index of the first token of each segment, and T.
    longest: tokens of the longest segment.
    """

    bounds: Tensor
    longest: int

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """See ``model.attention.AttentionLayout``."""
        row_query, row_key, row_value = (states[0].transpose(0, 1).contiguous() for states in (query, key, value))
        mixed = varlen_attn(
            row_query,
            row_key,
            row_value,
            self.bounds,
            self.bounds,
            self.longest,
            self.longest,
            scale=scaling,
            window_size=(-1, 0),
            enable_gqa=query.shape[1] != key.shape[1],
        )
        assert isinstance(mixed, Tensor)
        return mixed.transpose(0, 1).unsqueeze(0)


@dataclass(frozen=True, slots=True)
class FlexAttention:
    """Attention with the rule of ``batch.packed`` as a block mask.

    mask: the block mask over [T, T].
    compiled: whether to compile the kernel; off only where the rule is checked without a GPU.
    """

    mask: BlockMask
    compiled: bool = True

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """See ``model.attention.AttentionLayout``."""
        kernel = compiled_flex_attention if self.compiled else flex_attention
        mixed = kernel(
            query, key, value, block_mask=self.mask, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
        )
        assert isinstance(mixed, Tensor)
        return mixed


def varlen_attention_layout(layout: Layout, device: torch.device) -> VarlenAttention:
    """The variable-length kernel for a layout without branches."""
    sizes = torch.tensor((0, *layout.sizes), dtype=torch.int32)
    return VarlenAttention(sizes.cumsum(0, dtype=torch.int32).to(device), max(layout.sizes))


def flex_attention_layout(layout: Layout, device: torch.device, compiled: bool = True) -> FlexAttention:
    """The FlexAttention kernel for any layout."""
    until = layout.until.to(device)

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < until[key])

    return FlexAttention(
        create_block_mask(sees, None, None, layout.tokens, layout.tokens, device=str(device)), compiled
    )
