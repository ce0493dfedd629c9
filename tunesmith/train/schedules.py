"""Learning-rate schedules: pure functions from the number of an optimizer step to a learning rate.

Steps count from 0 and are optimizer steps, never micro-batches. A schedule holds no state, so a resumed run asks for
step t and gets what the uninterrupted run got. Where a named system is imitated, the docstring says which.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

Schedule = Callable[[int], float]


def warmup_steps(share: float, total: int) -> int:
    """Steps of warm-up for a share of ``total`` steps, rounded up (0.1 of 93 steps are 10)."""
    return math.ceil(share * total)


def _warming_up(step: int, steps: int, start: float, peak: float) -> float:
    return start + (peak - start) * (step / max(1, steps))


def _progress(step: int, warmup_steps: int, total: int) -> float:
    """How much of the way from the end of the warm-up to ``total`` is done; above 1 after ``total``."""
    return (step - warmup_steps) / max(1, total - warmup_steps)


def constant(learning_rate: float, warmup_steps: int = 0, total: int = 0, *, start: float = 0.0) -> Schedule:
    """Linear warm-up from ``start``, then ``learning_rate`` for ever; ``total`` has no influence.

    transformers' ``constant`` and ``constant_with_warmup``: step 0 of a warm-up runs at ``start``.
    """

    def at(step: int) -> float:
        return _warming_up(step, warmup_steps, start, learning_rate) if step < warmup_steps else learning_rate

    return at


def polynomial(
    learning_rate: float, warmup_steps: int, total: int, *, end: float = 1e-7, power: float = 1.0, start: float = 0.0
) -> Schedule:
    """Linear warm-up, then ``end + (learning_rate - end) * (1 - progress) ** power``, ``end`` from ``total`` on.

    transformers' ``polynomial`` (whose defaults are these).
    """

    def at(step: int) -> float:
        if step < warmup_steps:
            return _warming_up(step, warmup_steps, start, learning_rate)
        if step >= total:
            return end
        return end + (learning_rate - end) * math.pow(1.0 - _progress(step, warmup_steps, total), power)

    return at


def linear(learning_rate: float, warmup_steps: int, total: int, *, end: float = 0.0, start: float = 0.0) -> Schedule:
    """Linear warm-up from ``start``, then a straight line that reaches ``end`` at step ``total``.

    transformers' ``linear``; with ``start`` and ``end`` the schedule of EasyLM (Tulu 2 and 2.5), in optimizer steps.
    """
    return polynomial(learning_rate, warmup_steps, total, end=end, power=1.0, start=start)


def cosine(
    learning_rate: float, warmup_steps: int, total: int, *, minimum: float = 0.0, start: float = 0.0
) -> Schedule:
    """Linear warm-up, then half a cosine from ``learning_rate`` to ``minimum`` at step ``total``.

    transformers' ``cosine`` and torch's ``CosineAnnealingLR`` (``total`` is its ``T_max``). Like both of them it is
    periodic: after ``total`` it rises again.
    """

    def at(step: int) -> float:
        if step < warmup_steps:
            return _warming_up(step, warmup_steps, start, learning_rate)
        wave = 0.5 * (1.0 + math.cos(math.pi * _progress(step, warmup_steps, total)))
        return minimum + (learning_rate - minimum) * max(0.0, wave)

    return at


def cosine_with_restarts(
    learning_rate: float, warmup_steps: int, total: int, *, cycles: int = 1, minimum: float = 0.0
) -> Schedule:
    """Linear warm-up, then ``cycles`` half cosines, each from ``learning_rate`` to ``minimum``, which holds after ``total``.

    transformers' ``cosine_with_restarts``.
    """

    def at(step: int) -> float:
        if step < warmup_steps:
            return _warming_up(step, warmup_steps, 0.0, learning_rate)
        progress = _progress(step, warmup_steps, total)
        if progress >= 1.0:
            return minimum
        wave = 0.5 * (1.0 + math.cos(math.pi * ((cycles * progress) % 1.0)))
        return minimum + (learning_rate - minimum) * max(0.0, wave)

    return at


def inverse_square_root(
    learning_rate: float, warmup_steps: int, total: int = 0, *, timescale: int | None = None
) -> Schedule:
    """Linear warm-up, then ``learning_rate / sqrt((step + timescale - warmup_steps) / timescale)``; ``total`` has no influence.

    transformers' ``inverse_sqrt``; ``timescale`` defaults to the warm-up, or 10,000 without one.
    """
    scale = timescale or warmup_steps or 10_000

    def at(step: int) -> float:
        if step < warmup_steps:
            return _warming_up(step, warmup_steps, 0.0, learning_rate)
        return learning_rate / math.sqrt((step + scale - warmup_steps) / scale)

    return at


def lagged(schedule: Schedule, first: float) -> Schedule:
    """What an optimizer uses that steps *before* its scheduler does: ``first`` at step 0, then ``schedule(step - 1)``."""

    def at(step: int) -> float:
        return first if step == 0 else schedule(step - 1)

    return at


def logarithmic(
    learning_rate: float,
    warmup_steps: int,
    total: int = 0,
    *,
    decay: Literal["none", "linear"] = "none",
    minimum: float = 0.0,
    lag: bool = False,
    first_at_peak: bool = False,
) -> Schedule:
    """Warm-up along ``ln(step + 1) / ln(warmup_steps)``, then constant or a straight line to ``minimum`` at ``total``.

    DeepSpeed's ``WarmupLR`` (``decay="none"``) and ``WarmupDecayLR`` (``decay="linear"``) with their default warm-up
    type. A warm-up below two steps counts as two, as there.

    lag: give what DeepSpeed's optimizer *used*. It steps before the scheduler, so that steps 0 and 1 both run at
        ``minimum`` and everything is one step late.
    first_at_peak: with ``lag``, let step 0 run at the full ``learning_rate``: a defect of DeepSpeed up to 0.9.x,
        where the first step took the optimizer's own rate before any warm-up. Only for reproducing such runs.
    """
    warmup = max(2, warmup_steps)

    def at(step: int) -> float:
        if step < warmup:
            share = math.log(step + 1) / math.log(warmup)
        elif decay == "none":
            share = 1.0
        else:
            share = max(0.0, (total - step) / max(1.0, total - warmup))
        return minimum + (learning_rate - minimum) * share

    return lagged(at, learning_rate if first_at_peak else minimum) if lag else at


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "linear": linear,
    "polynomial": polynomial,
    "cosine": cosine,
    "cosine_with_restarts": cosine_with_restarts,
    "inverse_square_root": inverse_square_root,
    "logarithmic": logarithmic,
}
"""Name in a recipe -> factory; each takes (learning_rate, warmup_steps, total) and its own named options."""
