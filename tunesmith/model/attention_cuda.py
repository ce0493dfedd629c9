"""Kernels for CUDA: PyTorch's variable-length attention for threads, FlexAttention for branching trees."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention
from torch.nn.attention.varlen import varlen_attn

from tunesmith.batch.moving import move
from tunesmith.batch.packed import Layout
from tunesmith.errors import InternalError
from tunesmith.model.attention_scores import PLAIN, ScoreTerms, repeat_heads
from tunesmith.model.block_mask import Reach, packed_block_mask

RECOMPILE_LIMIT = 64
"""Graphs of FlexAttention in one process, for several models, with and without gradient. Past PyTorch's limit of 8 the
kernel would silently be replaced by one that holds all scores, T x T for every head."""

FLASH_HEAD_SIZES = range(8, 257, 8)
"""Units of a head for which there is a variable-length kernel."""


def compile_flex_attention(backend: str = "inductor", graphs: int = RECOMPILE_LIMIT) -> Callable[..., Any]:
    """FlexAttention as a kernel for any length. The compiler is loaded by the first call.

    backend: of ``torch.compile``.
    graphs: how many kernels may be compiled, for other heads or with gradient. The function raises InternalError where
        one more is needed.
    """
    compiled = torch.compile(flex_attention, dynamic=True, backend=backend)

    def call(*arguments: Any, **keywords: Any) -> Any:
        try:
            with torch._dynamo.config.patch(recompile_limit=graphs, fail_on_recompile_limit_hit=True):
                return compiled(*arguments, **keywords)
        except torch._dynamo.exc.FailOnRecompileLimitHit as error:
            raise InternalError(
                f"FlexAttention was compiled {graphs} times in this process, and is asked for another kernel",
                advice="report this, with the models of the recipe; the last checkpoint is valid",
            ) from error

    return call


@cache
def compiled_flex_attention() -> Callable[..., Any]:
    """The kernel that all models of this process share."""
    return compile_flex_attention()


@dataclass(frozen=True, slots=True)
class FlexAttention:
    """Attention with the rule of ``batch.packed`` as a block mask.

    layout: the segments of the row, on the device of the row.
    dtype: of the products; queries, keys and values are converted to it.
    kernel: how the kernel is obtained; the unfused function only where the rule is checked without a GPU.
    masks: the block masks that were made so far, by the window of the attention.
    """

    layout: Layout
    dtype: torch.dtype
    kernel: Callable[[], Callable[..., Any]] = compiled_flex_attention
    masks: dict[int | None, BlockMask] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """See ``model.attention.AttentionLayout``."""
        return "FlexAttention"

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, terms: ScoreTerms = PLAIN
    ) -> Tensor:
        """See ``model.attention.AttentionLayout``."""
        query, key, value = (states.to(self.dtype) for states in (query, key, value))
        mixed, auxiliary = self.kernel()(
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
        if (found := self.masks.get(window)) is None:
            until = self.layout.until
            reach = None if window is None else Reach(move(_positions(self.layout), until.device), window)
            found = self.masks[window] = packed_block_mask(until, reach)
        return found


@dataclass(frozen=True, slots=True)
class VarlenAttention:
    """Causal attention within each of S segments, none of which branches.

    bounds: int32 [S + 1], index of the first token of each segment, and T.
    longest: tokens of the longest segment.
    dtype: of the products, of 16 bits; queries, keys and values are converted to it. Rotary embeddings in float32
        leave queries and keys in float32 under autocast, and the kernel is not on autocast's list.
    flexible: the same layout for scores and sizes of heads that this kernel does not know.
    kernel: a function with the arguments of ``varlen_attn``.
    """

    bounds: Tensor
    longest: int
    dtype: torch.dtype
    flexible: FlexAttention
    kernel: Callable[..., Any] = varlen_attn

    @property
    def name(self) -> str:
        """See ``model.attention.AttentionLayout``."""
        return "variable-length attention"

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, terms: ScoreTerms = PLAIN
    ) -> Tensor:
        """See ``model.attention.AttentionLayout``."""
        if terms.explicit or query.shape[-1] not in FLASH_HEAD_SIZES:
            return self.flexible.attend(query, key, value, scaling, terms)
        grouped = dict[str, bool]()
        if query.shape[1] != key.shape[1]:
            if takes_grouped_heads(self.kernel):
                grouped["enable_gqa"] = True
            else:
                key, value = (repeat_heads(states, query.shape[1]) for states in (key, value))
        row_query, row_key, row_value = (
            states.to(self.dtype)[0].transpose(0, 1).contiguous() for states in (query, key, value)
        )
        mixed = self.kernel(
            row_query,
            row_key,
            row_value,
            self.bounds,
            self.bounds,
            self.longest,
            self.longest,
            scale=scaling,
            window_size=(-1 if terms.window is None else terms.window - 1, 0),
            **grouped,
        )
        assert isinstance(mixed, Tensor)
        return mixed.transpose(0, 1).unsqueeze(0)


@cache
def takes_grouped_heads(kernel: Callable[..., Any]) -> bool:
    """Whether a kernel can share keys and values among query heads; ``varlen_attn`` can from PyTorch 2.12 on."""
    return "enable_gqa" in inspect.signature(kernel).parameters


def _cap(limit: float) -> Callable[..., Tensor]:
    def modify(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return limit * torch.tanh(score / limit)

    return modify


def _positions(layout: Layout) -> Tensor:
    """int64 [T], the position of each token in its thread."""
    above = [sum(layout.sizes[s] for s in path) for path in layout.ancestors]
    return torch.cat([torch.arange(start, start + size) for start, size in zip(above, layout.sizes, strict=True)])


def varlen_attention_layout(layout: Layout, dtype: torch.dtype) -> VarlenAttention:
    """The variable-length kernel for a layout without branches."""
    bounds = torch.tensor((0, *layout.sizes)).cumsum(0, dtype=torch.int32)
    return VarlenAttention(move(bounds, layout.until.device), max(layout.sizes), dtype, FlexAttention(layout, dtype))
