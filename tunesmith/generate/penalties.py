"""The repetition penalty by gather and scatter: only the logits of ids that were seen are read and written."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def penalise(logits: Tensor, ids: Tensor, penalty: Tensor | float) -> None:
    """Divide positive logits of these ids by the penalty and multiply negative ones, each id once, in place.

    Keskar et al. 2019, "CTRL" (arXiv 1909.05858), with the sign rule of transformers' RepetitionPenaltyLogitsProcessor.
    logits: float [rows, vocabulary]. ids: int64 [rows, n]; repeated ids have no further effect. penalty: float or
    float [rows, 1].
    """
    found = logits.gather(1, ids)
    logits.scatter_(1, ids, torch.where(found < 0, found * penalty, found / penalty))


class SeenTokens:
    """The ids that each row has read or generated.

    Every place after the last id of a row repeats an id of the row, so that writing the penalised logit of an id more
    than once writes the same value.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._ids = torch.zeros(0, 0, dtype=torch.long, device=device)  # [rows, capacity]
        self._sizes = torch.zeros(0, 1, dtype=torch.long, device=device)  # number of ids of each row
        self._largest = 0  # an upper bound of the sizes

    def add(self, histories: Sequence[Sequence[int]]) -> None:
        """Append rows with the ids of these histories."""
        distinct = [list(dict.fromkeys(history)) for history in histories]
        self._largest = max([self._largest, *map(len, distinct)])
        self._reserve(self._largest)
        capacity = self._ids.shape[1]
        ids = [row + [row[-1] if row else 0] * (capacity - len(row)) for row in distinct]
        sizes = [[len(row)] for row in distinct]
        new_ids = torch.tensor(ids, dtype=torch.long, device=self._device).view(len(ids), capacity)
        new_sizes = torch.tensor(sizes, dtype=torch.long, device=self._device).view(len(ids), 1)
        self._ids, self._sizes = torch.cat([self._ids, new_ids]), torch.cat([self._sizes, new_sizes])

    def select(self, rows: Tensor) -> None:
        """Keep only these rows, int64 [n], in this order; a row that is named several times is repeated."""
        self._ids, self._sizes = self._ids[rows], self._sizes[rows]

    def append(self, ids: Tensor) -> None:
        """Add one id to every row, int64 [rows]."""
        self._largest += 1
        self._reserve(self._largest)
        columns = torch.arange(self._ids.shape[1], device=self._device)
        self._ids = torch.where(columns >= self._sizes, ids.unsqueeze(1), self._ids)
        self._sizes = self._sizes + 1

    def penalise(self, logits: Tensor, rows: Tensor, penalty: Tensor) -> None:
        """Penalise the seen ids of these rows, int64 [n], in place; see ``penalise``.

        logits: float [n, vocabulary]. penalty: float [n, 1].
        """
        if self._ids.shape[1] > 0:
            has_ids = self._sizes[rows] > 0
            penalise(logits, self._ids[rows], penalty.where(has_ids, 1.0))

    def _reserve(self, capacity: int) -> None:
        """Make at least this many places for each row."""
        rows, existing = self._ids.shape
        if capacity > existing:
            wanted = max(capacity, 2 * existing)
            last = self._ids[:, -1:] if existing else self._ids.new_zeros(rows, 1)
            self._ids = torch.cat([self._ids, last.expand(rows, wanted - existing)], dim=1)
