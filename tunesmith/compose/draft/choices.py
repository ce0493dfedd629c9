"""The values of a recipe that follow from what was measured, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LONGEST = 4096
"""The longest limit that is chosen, in tokens, also for models that read more: memory grows with it."""

STEP = 32  # a limit is a multiple of it
OUTLIER = 1.5  # a longest record of more than this many times the 99th percentile does not decide the limit
BATCHES = (32, 16, 8, 4)
ENOUGH_STEPS = 100
HELD_OUT = 0.05
MOST_HELD_OUT = 200
FEWEST_RECORDS = 20
"""With fewer records none is held out."""

EPOCHS: Mapping[str, int] = {"sft": 3, "dpo": 1, "reward": 1, "ppo": 1}
RATES = ((5e6, 1e-3), (5e7, 5e-4), (3e8, 1e-4), (7e8, 5e-5), (3e9, 2e-5), (math.inf, 1e-5))
"""(parameters, learning rate of supervised fine-tuning for models with fewer)"""
RATE_FACTORS: Mapping[str, float] = {"sft": 1.0, "dpo": 1 / 20, "reward": 1 / 2, "ppo": 1 / 20}
"""Objective -> its learning rate as a part of that of supervised fine-tuning."""


@dataclass(frozen=True, slots=True)
class LengthLimit:
    """A limit of tokens.

    tokens: the limit.
    longest: the tokens of the longest record.
    longer: how many records are longer than the limit.
    """

    tokens: int
    longest: int
    longer: int


def choose_length(lengths: Sequence[int], context: int | None) -> LengthLimit:
    """The limit that all records fit in, unless a few are much longer or the model cannot read them.

    lengths: of the records, in tokens; there is at least one.
    context: the most tokens that the model reads; None without a limit.
    """
    ordered = sorted(lengths)
    percentile = ordered[max(0, math.ceil(0.99 * len(ordered)) - 1)]
    wanted = ordered[-1] if ordered[-1] <= OUTLIER * percentile else percentile
    limit = min(max(STEP, math.ceil(wanted / STEP) * STEP), LONGEST, context or LONGEST)
    return LengthLimit(limit, ordered[-1], sum(length > limit for length in ordered))


def choose_validation(records: int) -> int:
    """How many records are held out: one in twenty, at most 200, and none of a few."""
    return 0 if records < FEWEST_RECORDS else min(MOST_HELD_OUT, max(2, int(HELD_OUT * records)))


def choose_batch(records: int, epochs: int) -> int:
    """The records of one step: as many as leave a hundred steps, at least four."""
    return next(
        (size for size in BATCHES if records * epochs >= ENOUGH_STEPS * size), min(BATCHES[-1], max(1, records))
    )


def choose_rate(parameters: int, objective: str) -> float:
    """The learning rate for a model of this size."""
    rate = next(rate for size, rate in RATES if parameters < size)
    return float(f"{rate * RATE_FACTORS[objective]:.2g}")


def count_steps(records: int, epochs: int, batch: int) -> int:
    """The optimizer steps of a run. No step has records of two epochs."""
    return math.ceil(records / batch) * epochs


def choose_log_period(steps: int) -> int:
    """The steps between two lines on the screen."""
    return max(1, min(10, steps // 10))


def choose_evaluation_period(steps: int) -> float | None:
    """The share of a run between two evaluations; None for that of the method.

    A run of few steps is evaluated where it is saved, so that its steps are not lost between evaluations.
    """
    return 0.25 if steps < ENOUGH_STEPS else None
