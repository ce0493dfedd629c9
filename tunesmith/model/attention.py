"""The attention of a packed row of trees, registered with transformers by name, so that model code stays stock.

The attention "tunesmith" follows the rule of ``batch.packed`` if it gets a ``layout`` argument. Without one
(generation, plain use) it calls transformers' scaled-dot-product attention. ``prepare`` computes the kernel of a
layout once per batch. What a family adds to its attention scores (sinks, a cap, a window) arrives as keyword
arguments (``model.attention_scores``); an argument that is not known is refused, so that nothing is dropped.
Shapes: H query heads, G key and value heads, T tokens, D units of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from tunesmith.batch.packed import Layout
from tunesmith.model.attention_cuda import FlexAttention, varlen_attention_layout
from tunesmith.model.attention_scores import (
    PLAIN,
    ScoreTerms,
    attend_explicitly,
    causal_mask,
    repeat_heads,
    within_window,
)

NAME = "tunesmith"
CALL_COST = 2048
"""What a call of the attention kernel on a CPU takes beyond its scores, in scores of one head."""
# Keyword arguments of transformers that are for other kernels, or for what is returned, and change no number here.
IGNORED = frozenset(
    {
        *("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "position_ids", "cache_position"),
        *("output_attentions", "output_hidden_states", "output_router_logits", "num_items_in_batch"),
        *("use_cache", "return_dict", "logits_to_keep"),
    }
)


class AttentionLayout(Protocol):
    """A layout prepared for one kind of kernel."""

    @property
    def name(self) -> str:
        """What the kernel is called in messages."""
        ...

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, terms: ScoreTerms = PLAIN
    ) -> Tensor:
        """The attended values, [1, H, T, D].

        query: [1, H, T, D].
        key, value: [1, G, T, D], where H is a multiple of G.
        scaling: factor of the products of query and key; None for D ** -0.5.
        terms: what the family adds to the scores.
        """
        ...


@dataclass(frozen=True, slots=True)
class SegmentAttention:
    """One scaled-dot-product call for each group of segments, with the keys of its ancestors before its own.

    A group is one segment, or a segment with all that are below it, where one call for them costs less than several.

    sizes: tokens of each group.
    ancestors: for each group the groups above it, root first; each of them is one segment.
    masks: for each group bool [its tokens, tokens of its ancestors and its own], None for one segment that starts a
        tree.
    """

    sizes: tuple[int, ...]
    ancestors: tuple[tuple[int, ...], ...]
    masks: tuple[Tensor | None, ...]

    @property
    def name(self) -> str:
        """See ``AttentionLayout``."""
        return "scaled-dot-product attention"

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, terms: ScoreTerms = PLAIN
    ) -> Tensor:
        """See ``AttentionLayout``."""
        # split() has a backward pass of one concatenation, whereas every slice would make a gradient of the full
        # length.
        key, value = (repeat_heads(states, query.shape[1]) for states in (key, value))
        queries, keys, values = (torch.split(states, list(self.sizes), dim=2) for states in (query, key, value))
        attended = []
        for own, (path, mask) in enumerate(zip(self.ancestors, self.masks, strict=True)):
            seen_keys, seen_values = keys[own], values[own]
            if path:
                seen_keys = torch.cat([*(keys[group] for group in path), seen_keys], dim=2)
                seen_values = torch.cat([*(values[group] for group in path), seen_values], dim=2)
            total = seen_keys.shape[2]
            window = terms.window if terms.window is not None and terms.window < total else None
            if mask is None and (window is not None or terms.explicit):
                mask = causal_mask(self.sizes[own], total, query.device)
            if mask is not None and window is not None:
                mask = within_window(mask, window)
            if terms.explicit:
                mixed = attend_explicitly(queries[own], seen_keys, seen_values, mask, scaling, terms)
            else:
                mixed = scaled_dot_product_attention(
                    queries[own], seen_keys, seen_values, attn_mask=mask, is_causal=mask is None, scale=scaling
                )
            attended.append(mixed.transpose(1, 2))
        # Joined in the order of tokens, in which transformers continues, so that it need not be copied for that again.
        return (attended[0] if len(attended) == 1 else torch.cat(attended, dim=1)).transpose(1, 2)


Prepare: TypeAlias = Callable[[Layout, torch.dtype], AttentionLayout]
"""prepare(layout, dtype): the kernel for a layout on its device, with products in the format ``dtype``."""


def segment_attention(layout: Layout, dtype: torch.dtype) -> SegmentAttention:
    """Scaled-dot-product attention group by group, which runs on every device and in every format."""
    groups = _group_segments(layout)
    number = {first: index for index, (first, _) in enumerate(groups)}
    masks: list[Tensor | None] = []
    for first, end in groups:
        alone = end == first + 1 and not layout.ancestors[first]
        masks.append(None if alone else _seen_by_group(layout, first, end))
    return SegmentAttention(
        tuple(sum(layout.sizes[first:end]) for first, end in groups),
        tuple(tuple(number[segment] for segment in layout.ancestors[first]) for first, _ in groups),
        tuple(masks),
    )


def _group_segments(layout: Layout) -> list[tuple[int, int]]:
    """(first segment, end) of every group: a segment is joined with those below it where that costs less.

    The cost of a call is the number of its scores and ``CALL_COST``. Above a group are only groups of one segment.
    """
    count = len(layout.sizes)
    tokens, ends = list(layout.sizes), list(range(1, count + 1))  # of the segment and those below it
    above = [sum(layout.sizes[segment] for segment in path) for path in layout.ancestors]
    divided = [CALL_COST + size * (before + size) for size, before in zip(layout.sizes, above, strict=True)]
    joined = [False] * count
    for segment in reversed(range(count)):
        together = CALL_COST + tokens[segment] * (above[segment] + tokens[segment])
        joined[segment] = together <= divided[segment]
        if layout.ancestors[segment]:
            parent = layout.ancestors[segment][-1]
            tokens[parent] += tokens[segment]
            ends[parent] = max(ends[parent], ends[segment])
            divided[parent] += min(together, divided[segment])
    found, segment = list[tuple[int, int]](), 0
    while segment < count:
        end = ends[segment] if joined[segment] else segment + 1
        found.append((segment, end))
        segment = end
    return found


def _seen_by_group(layout: Layout, first: int, end: int) -> Tensor:
    """Which keys the tokens of the segments from ``first`` to ``end`` see: those of the segments above them, then own.

    It is made on the device of the layout, so that nothing waits for a copy.

    Returns bool [tokens of the group, tokens above it and its own].
    """
    segments = (*layout.ancestors[first], *range(first, end))
    places = dict(zip(segments, accumulate((layout.sizes[each] for each in segments), initial=0), strict=False))
    above, total = places[first], places[end - 1] + layout.sizes[end - 1]
    seen = torch.zeros(total - above, total, dtype=torch.bool, device=layout.until.device)
    for segment in range(first, end):
        begin, size = places[segment], layout.sizes[segment]
        rows = seen[begin - above : begin - above + size]
        for one in layout.ancestors[segment]:
            rows[:, places[one] : places[one] + layout.sizes[one]].fill_(True)
        rows[:, begin : begin + size].fill_(True).tril_()
    return seen


def prepare(layout: Layout, dtype: torch.dtype) -> AttentionLayout:
    """The kernel for a layout on its device.

    On CUDA it is the variable-length kernel where nothing branches (in 16 bits, as the kernel requires), otherwise
    FlexAttention. On other devices it is one scaled-dot-product call per segment.
    """
    if layout.until.device.type != "cuda":
        return segment_attention(layout, dtype)
    if layout.branches or dtype == torch.float32:
        return FlexAttention(layout, dtype)
    return varlen_attention_layout(layout, dtype)


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
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    columns: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """transformers' attention protocol: query [B, H, T, D], key and value [B, G, T, D] in, [B, T, H, D] out.

    layout: the prepared layout of a packed row (B is 1); None for transformers' own attention.
    softcap, s_aux, sliding_window: see ``ScoreTerms``. Without a layout the window is part of ``attention_mask``.
    position_bias: numbers added to the scores, known only without a layout.
    columns: int64 [B], the column of the only query of every row, for which ``position_bias`` is then moved: it is that
        of a query in the last column. None where it is right already.
    is_causal: whether a token sees only earlier ones; None for what ``module`` says.
    others: only what has no influence on the result (``IGNORED``).
    Raises ValueError for any other argument, and for a layout where attention is not causal.
    """
    unknown = sorted(name for name, given in others.items() if given is not None and name not in IGNORED)
    if unknown:
        raise ValueError(f"{type(module).__name__} passes its attention {', '.join(unknown)}, which is not known here")
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    if layout is not None:
        if not causal or position_bias is not None:
            raise ValueError(f"{type(module).__name__} reads in both directions or adds a bias to its scores")
        terms = ScoreTerms(softcap, s_aux, sliding_window)
        return layout.attend(query, key, value, scaling, terms).transpose(1, 2).contiguous(), None
    terms = ScoreTerms(softcap, s_aux)
    if terms.explicit:
        if position_bias is not None:
            raise ValueError(f"{type(module).__name__} adds a bias to scores with a cap or sinks")
        return _explicit_attention(query, key, value, attention_mask, causal, scaling, terms), None
    if columns is not None and position_bias is not None:
        position_bias = _moved_bias(position_bias, columns)
    result: tuple[Tensor, None] = sdpa_attention_forward(
        module,
        query,
        key,
        value,
        attention_mask,
        dropout=dropout,
        scaling=scaling,
        is_causal=is_causal,
        position_bias=position_bias,
    )
    return result


def _explicit_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    causal: bool,
    scaling: float | None,
    terms: ScoreTerms,
) -> Tensor:
    """[B, T, H, D], with scores that are computed explicitly. mask: None where ``causal`` alone says what is seen."""
    if mask is None and causal:
        mask = causal_mask(query.shape[2], key.shape[2], query.device)
    key, value = (repeat_heads(states, query.shape[1]) for states in (key, value))
    return attend_explicitly(query, key, value, mask, scaling, terms).transpose(1, 2).contiguous()


def _moved_bias(bias: Tensor, columns: Tensor) -> Tensor:
    """[B, H, 1, S]: a bias by distance, [1, H, 1, S], of a query in the last column, for queries in other columns."""
    last = bias.shape[-1] - 1
    places = torch.arange(last + 1, device=bias.device) + (last - columns)[:, None]
    return bias[0, :, 0][:, places.clamp(0, last)].transpose(0, 1)[:, :, None]


def register() -> str:
    """Register the attention with transformers; returns its name, with which models are loaded."""
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME
