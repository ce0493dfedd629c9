"""Penalties of tokens: only the logits of ids that are penalised are read and written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class LogitAdjustments:
    """What is added to the logits of the model before every logits processor, in the words of OpenAI's API.

    presence: subtracted from the logit of every token that the reply has already.
    frequency: subtracted once for every time that the reply has the token.
    bias: (id, number) for ids whose logits get a number added; every id once.
    """

    presence: float = 0.0
    frequency: float = 0.0
    bias: tuple[tuple[int, float], ...] = ()


NO_ADJUSTMENTS = LogitAdjustments()


class AdjustedRows:
    """The adjustments of every row, with the numbers of the tokens that its reply has so far."""

    def __init__(self) -> None:
        self._adjustments: list[LogitAdjustments] = []
        self._counts: list[Counter[int]] = []

    def add(self, adjustments: Sequence[LogitAdjustments]) -> None:
        """Append rows that have not generated anything."""
        self._adjustments += adjustments
        self._counts += [Counter() for _ in adjustments]

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order; a row that is named several times is repeated."""
        self._adjustments = [self._adjustments[row] for row in rows]
        self._counts = [self._counts[row].copy() for row in rows]

    def append(self, ids: Sequence[int]) -> None:
        """Count one id of every row."""
        for adjustments, counts, token in zip(self._adjustments, self._counts, ids, strict=True):
            if adjustments.presence or adjustments.frequency:
                counts[token] += 1

    def adjust(self, logits: Tensor) -> Tensor:
        """The adjusted logits, float [rows, vocabulary]; the same tensor if no row has adjustments.

        One number is added to a logit, so the result does not depend on the order of the additions.
        """
        rows, ids, numbers = list[int](), list[int](), list[float]()
        for row, (adjustments, counts) in enumerate(zip(self._adjustments, self._counts, strict=True)):
            if adjustments is NO_ADJUSTMENTS:
                continue
            added = dict(adjustments.bias)
            for token, count in counts.items():
                added[token] = added.get(token, 0.0) - adjustments.presence - adjustments.frequency * count
            rows += [row] * len(added)
            ids += added
            numbers += added.values()
        if not rows:
            return logits
        place = torch.tensor([rows, ids], device=logits.device)
        found = logits.clone()
        found[place[0], place[1]] += torch.tensor(numbers, dtype=logits.dtype, device=logits.device)
        return found
