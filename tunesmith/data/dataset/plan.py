"""The order of training: which examples step s consumes is a function of (seed, epoch, s) and nothing else."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from tunesmith.draws import permutation

Integers = npt.NDArray[np.int64]
CACHED_EPOCHS = 2  # permutations in memory: the one in use, and at the beginning of an epoch the one before


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """The examples of one optimizer step.

    step: from 0.
    epoch: from 0.
    examples: their numbers in the store, in the order in which they are laid out.
    copies: for each the number of its copy in this epoch, from 0; empty where an epoch has every example once.
    """

    step: int
    epoch: int
    examples: tuple[int, ...]
    copies: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Draw:
    """How many examples of one source every epoch has.

    name: of the source; the examples that are drawn depend on it, the seed and the epoch, and not on other sources.
    examples: int64 [n], their numbers in the store.
    count: examples in an epoch: up to n are drawn without replacement; beyond n, each is taken count // n times, and
        the rest is drawn.
    """

    name: str
    examples: Integers
    count: int


@dataclass(frozen=True, slots=True)
class _Epoch:
    """One planned epoch.

    order: int64 [n], its examples.
    copies: int64 [n], the number of the copy that each is.
    ends: int64 [steps], where in ``order`` the steps end.
    """

    order: Integers
    copies: Integers
    ends: Integers


class Plan:
    """The steps of a whole run, planned for all processes together. No step has examples of two epochs.

    costs: int [n], the units of every example (1, its threads, or its tokens), at least 1.
    batch_size: a step is full when the costs of its examples reach it; the last step of an epoch has what is left.
    epochs: how many; with a fraction, the last epoch ends after its share of steps, rounded up.
    steps: how many; exactly one of ``epochs`` and ``steps`` is given, the other is None.
    seed: of the order.
    draws: how many examples of each source an epoch has; without any, it has every example once.
    Raises ValueError for other arguments.
    """

    def __init__(
        self,
        costs: npt.ArrayLike,
        batch_size: int,
        epochs: float | None,
        steps: int | None,
        seed: int,
        draws: Sequence[Draw] = (),
    ) -> None:
        self.costs: Integers = np.asarray(costs, dtype=np.int64)
        self.batch_size, self.epochs, self.steps, self.seed = batch_size, epochs, steps, seed
        if self.costs.ndim != 1 or not self.costs.size or self.costs.min() < 1 or batch_size < 1:
            raise ValueError(f"costs {self.costs!r} and batch size {batch_size} are not all at least 1")
        if (epochs is None) == (steps is None):
            raise ValueError(f"epochs {epochs!r} and steps {steps!r}: give one of the two")
        if (epochs is not None and not 0 < epochs < math.inf) or (steps is not None and steps < 1):
            raise ValueError(f"epochs {epochs!r} or steps {steps!r} is not above 0")
        if any(not len(draw.examples) or draw.count < 1 for draw in draws):
            raise ValueError("a draw has no examples, or its count is below 1")
        self.draws = tuple(draws)
        self._cache: dict[int, _Epoch] = {}
        self._starts = [0]  # the first step of every epoch that was planned, and of the next one
        self._total: int | None = steps

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the run. With ``epochs`` every epoch is planned once to count them."""
        if self._total is None:
            assert self.epochs is not None
            whole = math.floor(self.epochs)
            share = self.epochs - whole
            self._total = self._start(whole)
            if share > 1e-9:
                self._total += max(1, math.ceil(share * len(self._epoch(whole).ends) - 1e-9))
        return self._total

    def step(self, step: int) -> PlannedStep:
        """The examples of one step; steps may be requested in any order. Raises IndexError beyond the end."""
        if not 0 <= step < self.total_steps:
            raise IndexError(f"step {step} of {self.total_steps}")
        while self._starts[-1] <= step:
            self._start(len(self._starts))
        epoch = bisect_right(self._starts, step) - 1
        planned, position = self._epoch(epoch), step - self._starts[epoch]
        start = int(planned.ends[position - 1]) if position else 0
        end = int(planned.ends[position])
        copies = planned.copies[start:end].tolist() if self.draws else []
        return PlannedStep(step, epoch, tuple(planned.order[start:end].tolist()), tuple(copies))

    def _start(self, epoch: int) -> int:
        """The first step of an epoch."""
        while len(self._starts) <= epoch:
            self._starts.append(self._starts[-1] + len(self._epoch(len(self._starts) - 1).ends))
        return self._starts[epoch]

    def _epoch(self, epoch: int) -> _Epoch:
        if epoch not in self._cache:
            order, copies = self._order(epoch)
            while len(self._cache) >= CACHED_EPOCHS:
                del self._cache[next(iter(self._cache))]
            self._cache[epoch] = _Epoch(order, copies, step_ends(self.costs[order], self.batch_size))
        return self._cache[epoch]

    def _order(self, epoch: int) -> tuple[Integers, Integers]:
        """The examples of an epoch in their order, and the number of the copy that each is; both int64 [n]."""
        if not self.draws:
            order = permutation(len(self.costs), self.seed, epoch)
            return order, np.zeros_like(order)
        drawn = np.concatenate([_drawn(draw, self.seed, epoch) for draw in self.draws], axis=1)
        examples, copies = drawn[:, permutation(drawn.shape[1], self.seed, epoch)]
        return examples, copies


def _drawn(draw: Draw, seed: int, epoch: int) -> Integers:
    """The examples of a source in an epoch, and the number of the copy that each is; int64 [2, draw.count]."""
    copies, rest = divmod(draw.count, len(draw.examples))
    chosen = permutation(len(draw.examples), seed, epoch, f"source {draw.name}")[:rest]
    examples = np.concatenate([np.tile(draw.examples, copies), draw.examples[np.sort(chosen)]])
    return np.stack([examples, np.arange(draw.count) // len(draw.examples)])


def share_of(count: int, amount: float) -> int:
    """``amount`` times ``count``, rounded down, but at least one unless ``count`` is 0.

    The amount is taken as it is written in decimals: 0.29 of 100 are 29, not the 28 of binary arithmetic.
    """
    return max(min(count, 1), math.floor(count * Fraction(repr(amount))))


def step_ends(costs: Integers, batch_size: int) -> Integers:
    """Where every step ends, greedily: a step is full when its costs reach ``batch_size``.

    costs: int64 [n], in the order of the examples.
    Returns int64 [steps].
    """
    if costs.min() == costs.max():
        size = -(-batch_size // int(costs[0]))
        return np.minimum(np.arange(size, len(costs) + size, size, dtype=np.int64), len(costs))
    reached = np.cumsum(costs)
    ends: list[int] = []
    before = 0
    while not ends or ends[-1] < len(costs):
        end = min(int(np.searchsorted(reached, before + batch_size)) + 1, len(costs))
        ends.append(end)
        before = int(reached[end - 1])
    return np.array(ends, dtype=np.int64)
