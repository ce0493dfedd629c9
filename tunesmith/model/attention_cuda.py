"""Kernels for CUDA: PyTorch's variable-length attention for threads, FlexAttention for branching trees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention
from torch.nn.attention.varlen import varlen_attn

from tunesmith.batch.packed import Layout
from tunesmith.model.attention_scores import PLAIN, ScoreTerms

compiled_flex_attention = torch.compile(flex_attention, dynamic=True)


@dataclass(frozen=True, slots=True)
class FlexAttention:
    """Attention with the rule of ``batch.packed`` as a block mask.

    layout: the segments of the row.
    device: of the row.
    compiled: whether to compile the kernel; off only where the rule is checked without a GPU.
    masks: the block masks over [T, T] that were made so far, by the window of the attention, 0 for none.
    """

    layout: Layout
    device: torch.device
    compiled: bool = True
    masks: dict[int, BlockMask] = field(default_factory=dict)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, terms: ScoreTerms = PLAIN
    ) -> Tensor:
        """See ``model.attention.AttentionLayout``."""
        kernel: Callable[..., Any] = compiled_flex_attention if self.compiled else flex_attention
        mixed, auxiliary = kernel(
            query,
            key,
            value,
            score_mod=None if terms.softcap is None else _cap(terms.softcap),
            block_mask=self._mask(terms.window),
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
            return_aux=AuxRequest(lse=terms.sinks is not None),
        )
        assert isinstance(mixed, Tensor)
        if terms.sinks is None:
            return mixed
        assert auxiliary.lse is not None
        # A sink takes exp(sink) / (exp(sink) + sum of exp(scores)) of the probability and adds no value.
        kept = torch.sigmoid(auxiliary.lse - terms.sinks.float().view(1, -1, 1))
        return (mixed * kept.unsqueeze(-1)).to(mixed.dtype)

    def _mask(self, window: int | None) -> BlockMask:
        if (found := self.masks.get(window or 0)) is None:
            until, positions = self.layout.until.to(self.device), _positions(self.layout).to(self.device)
            tokens, reach = self.layout.tokens, window or self.layout.tokens

            def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
                return (key <= query) & (query < until[key]) & (positions[query] - positions[key] < reach)

            found = create_block_mask(sees, None, None, tokens, tokens, device=str(self.device))
            self.masks[window or 0] = found
        return found


@dataclass(frozen=True, slots=True)
class VarlenAttention:
    """Causal attention within each of S segments, none of which branches.

    bounds: int32 [S + 1], index of the first token of each segment, and T.
    longest: tokens of the longest segment.
    flexible: the same layout for scores that this kernel does not know.
    """

    bounds: Tensor
    longest: int
    flexible: FlexAttention

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, terms: ScoreTerms = PLAIN
    ) -> Tensor:
        """See ``model.attention.AttentionLayout``."""
        if terms.explicit:
            return self.flexible.attend(query, key, value, scaling, terms)
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
            window_size=(-1 if terms.window is None else terms.window - 1, 0),
            enable_gqa=query.shape[1] != key.shape[1],
        )
        assert isinstance(mixed, Tensor)
        return mixed.transpose(0, 1).unsqueeze(0)


def _cap(limit: float) -> Callable[..., Tensor]:
    def modify(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return limit * torch.tanh(score / limit)

    return modify


def _positions(layout: Layout) -> Tensor:
    """int64 [T], the position of each token in its thread."""
    above = [sum(layout.sizes[s] for s in path) for path in layout.ancestors]
    return torch.cat([torch.arange(start, start + size) for start, size in zip(above, layout.sizes, strict=True)])


def varlen_attention_layout(layout: Layout, device: torch.device) -> VarlenAttention:
    """The variable-length kernel for a layout without branches."""
    sizes = torch.tensor((0, *layout.sizes), dtype=torch.int32)
    bounds = sizes.cumsum(0, dtype=torch.int32).to(device)
    return VarlenAttention(bounds, max(layout.sizes), flex_attention_layout(layout, device))


def flex_attention_layout(layout: Layout, device: torch.device, compiled: bool = True) -> FlexAttention:
    """The FlexAttention kernel for any layout."""
    return FlexAttention(layout, device, compiled)
