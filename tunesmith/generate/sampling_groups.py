"""Rows of a batch that need the same logits processors, with their parameters as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tunesmith.generate.filters import Filters
from tunesmith.generate.sampling import SamplingParameters

WIDTHS = (64, 512)
"""How many of the highest logits the filters look at before they look at the whole vocabulary."""

WIDEST_ROWS = 2
"""Rows of which the whole vocabulary is filtered are computed in groups of so many, whose numbers fit into a cache."""


@dataclass(frozen=True, slots=True)
class SamplingGroup:
    """Rows that need the same processors; None for a processor that they do not need.

    places: the numbers of the rows in their batch.
    rows: the same as int64 [n].
    do_sample: False for greedy decoding.
    minimum: the ``min_new_tokens`` of each row.
    penalty, temperature: float32 [n, 1].
    width: how many of the highest logits the filters look at; None for all.
    """

    places: tuple[int, ...]
    rows: Tensor
    do_sample: bool
    minimum: tuple[int, ...]
    penalty: Tensor | None
    temperature: Tensor | None
    filters: Filters
    width: int | None

    @property
    def draws_unfiltered(self) -> bool:
        """Whether every token may be drawn."""
        return self.do_sample and self.filters == Filters()

    def widen(self, members: Sequence[int]) -> list[SamplingGroup]:
        """These members of the group, whose filters look at more tokens, in groups of suitable size."""
        width = next((width for width in WIDTHS if self.width is not None and width > self.width), None)
        size = max(1, len(members)) if width else WIDEST_ROWS
        return [self._select(members[start : start + size], width) for start in range(0, len(members), size)]

    def _select(self, members: Sequence[int], width: int | None) -> SamplingGroup:
        index = torch.tensor(members, device=self.rows.device)
        return replace(
            self,
            places=tuple(self.places[member] for member in members),
            rows=self.rows[index],
            minimum=tuple(self.minimum[member] for member in members),
            penalty=None if self.penalty is None else self.penalty[index],
            temperature=None if self.temperature is None else self.temperature[index],
            filters=self.filters.select(index),
            width=width,
        )


def group_rows(samplings: Sequence[SamplingParameters], device: torch.device) -> list[SamplingGroup]:
    """The groups of the rows with these parameters; every row is in one group."""
    members: dict[_Needs, list[int]] = {}
    for place, sampling in enumerate(samplings):
        members.setdefault(_needs(sampling), []).append(place)
    return [
        _make_group(needs, places, [samplings[place] for place in places], device) for needs, places in members.items()
    ]


@dataclass(frozen=True, slots=True)
class _Needs:
    """Which processors a row needs; rows with the same needs are a group. ``width`` as of ``SamplingGroup``."""

    do_sample: bool
    penalty: bool
    temperature: bool = False
    top_k: bool = False
    top_p: bool = False
    typical_p: bool = False
    width: int | None = None


def _needs(sampling: SamplingParameters) -> _Needs:
    penalty = sampling.repetition_penalty != 1
    if not sampling.do_sample:
        return _Needs(do_sample=False, penalty=penalty)
    return _Needs(
        do_sample=True,
        penalty=penalty,
        temperature=sampling.temperature != 1,
        top_k=sampling.top_k > 0,
        top_p=sampling.top_p < 1,
        typical_p=sampling.typical_p < 1,
        width=next((width for width in WIDTHS if width > sampling.top_k), None),
    )


def _make_group(
    needs: _Needs, places: Sequence[int], samplings: Sequence[SamplingParameters], device: torch.device
) -> SamplingGroup:
    def column(needed: bool, read: Callable[[SamplingParameters], float], dtype: torch.dtype) -> Tensor | None:
        return torch.tensor([[read(row)] for row in samplings], dtype=dtype, device=device) if needed else None

    return SamplingGroup(
        places=tuple(places),
        rows=torch.tensor(places, device=device),
        do_sample=needs.do_sample,
        minimum=tuple(row.min_new_tokens for row in samplings),
        penalty=column(needs.penalty, lambda row: row.repetition_penalty, torch.float32),
        temperature=column(needs.temperature, lambda row: row.temperature, torch.float32),
        filters=Filters(
            column(needs.top_k, lambda row: row.top_k, torch.float64),
            column(needs.top_p, lambda row: row.top_p, torch.float64),
            column(needs.typical_p, lambda row: row.typical_p, torch.float64),
        ),
        width=needs.width,
    )
