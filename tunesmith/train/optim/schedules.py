"""Learning-rate schedules: pure functions from the number of an optimizer step to a learning rate.

Steps count from 0 and are optimizer steps, never micro-batches. A schedule has no state, so a resumed run gets the same
rate for step t as an uninterrupted one. Where a schedule reproduces that of another system, its docstring names it.

Arguments of every schedule:
learning_rate: the peak.
warmup_steps: optimizer steps before the peak.
total: optimizer steps of the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

Schedule = Callable[[int], float]
"""Number of an optimizer step, from 0 -> its learning rate."""


def warmup_steps(ratio: float, total: int) -> int:
    """Warm-up steps for a ratio of ``total`` steps, rounded up (0.1 of 93 steps are 10)."""
    return math.ceil(ratio * total)


def _warmup(step: int, steps: int, start: float, peak: float) -> float:
    """A straight line from ``start`` at step 0 to ``peak`` at step ``steps``."""
    return start + (peak - start) * (step / max(1, steps))


def _progress(step: int, warmup_steps: int, total: int) -> float:
    """Fraction of the steps between the end of the warm-up and ``total`` that are done; above 1 after ``total``."""
    return (step - warmup_steps) / max(1, total - warmup_steps)


def constant(learning_rate: float, warmup_steps: int = 0, total: int = 0, *, start: float = 0.0) -> Schedule:
    """Linear warm-up from ``start``, then ``learning_rate``; ``total`` has no effect.

    transformers' ``constant`` and ``constant_with_warmup``: step 0 of a warm-up runs at ``start``.
    """

    def at(step: int) -> float:
        return _warmup(step, warmup_steps, start, learning_rate) if step < warmup_steps else learning_rate

    return at


def polynomial(
    learning_rate: float, warmup_steps: int, total: int, *, end: float = 1e-7, power: float = 1.0, start: float = 0.0
) -> Schedule:
    """Linear warm-up, then ``end + (learning_rate - end) * (1 - progress) ** power``, ``end`` from ``total`` on.

    transformers' ``polynomial`` (whose defaults are these).
    """

    def at(step: int) -> float:
        if step < warmup_steps:
            return _warmup(step, warmup_steps, start, learning_rate)
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
            return _warmup(step, warmup_steps, start, learning_rate)
        wave = 0.5 * (1.0 + math.cos(math.pi * _progress(step, warmup_steps, total)))
        return minimum + (learning_rate - minimum) * max(0.0, wave)

    return at


def cosine_with_restarts(
    learning_rate: float, warmup_steps: int, total: int, *, cycles: int = 1, minimum: float = 0.0
) -> Schedule:
    """Linear warm-up, then ``cycles`` half cosines from ``learning_rate`` to ``minimum``; ``minimum`` after ``total``.

    transformers' ``cosine_with_restarts``.
    """

    def at(step: int) -> float:
        if step < warmup_steps:
            return _warmup(step, warmup_steps, 0.0, learning_rate)
        progress = _progress(step, warmup_steps, total)
        if progress >= 1.0:
            return minimum
        wave = 0.5 * (1.0 + math.cos(math.pi * ((cycles * progress) % 1.0)))
        return minimum + (learning_rate - minimum) * max(0.0, wave)

    return at


def inverse_square_root(
    learning_rate: float, warmup_steps: int, total: int = 0, *, timescale: int | None = None
) -> Schedule:
    """Linear warm-up, then ``learning_rate / sqrt((step + timescale - warmup_steps) / timescale)``.

    transformers' ``inverse_sqrt``; ``total`` has no effect.

    timescale: defaults to the warm-up, or 10,000 without one.
    """
    scale = timescale or warmup_steps or 10_000

    def at(step: int) -> float:
        if step < warmup_steps:
            return _warmup(step, warmup_steps, 0.0, learning_rate)
        return learning_rate / math.sqrt((step + scale - warmup_steps) / scale)

    return at


def lagged(schedule: Schedule, first: float) -> Schedule:
    """The rates of an optimizer that steps *before* its scheduler: ``first`` at step 0, then ``schedule(step - 1)``."""

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

    decay: what follows the warm-up.
    minimum: rate at the start of the warm-up, and at the end of a linear decay.
    lag: give the rates that DeepSpeed's optimizer *used*. It steps before the scheduler, so steps 0 and 1 both run at
        ``minimum`` and everything is one step late.
    first_at_peak: with ``lag``, step 0 runs at the full ``learning_rate``: a defect of DeepSpeed up to 0.9.x, where the
        first step used the optimizer's own rate before any warm-up. Only for reproducing such runs.
    """
    warmup = max(2, warmup_steps)

    def at(step: int) -> float:
        if step < warmup:
            fraction = math.log(step + 1) / math.log(warmup)
        elif decay == "none":
            fraction = 1.0
        else:
            fraction = max(0.0, (total - step) / max(1.0, total - warmup))
        return minimum + (learning_rate - minimum) * fraction

    return lagged(at, learning_rate if first_at_peak else minimum) if lag else at


Factor = Literal[
    "constant",
    "linear_warmup",
    "linear_decay",
    "rsqrt_decay",
    "rsqrt_normalized_decay",
    "decay_every",
    "cosine_decay",
]


def product_of_factors(
    learning_rate: float,
    warmup_steps: int,
    total: int = 0,
    *,
    factors: Sequence[Factor] = ("constant", "linear_warmup"),
    decay_factor: float = 0.5,
    steps_per_decay: int = 20_000,
    steps_per_cycle: int = 100_000,
    initial_step: int = 0,
    minimum: float = 1e-8,
) -> Schedule:
    """The product of ``factors`` at t = step + initial_step, never below ``minimum``; ``total`` has no effect.

    t5x's ``create_learning_rate_scheduler``. With w = warmup_steps, the factors are

    constant: learning_rate.
    linear_warmup: min(1, t / w).
    linear_decay: learning_rate min(t / w, 1 + decay_factor (w - t)). It contains the learning rate itself, so next to
        ``constant`` the rate counts twice.
    rsqrt_decay: 1 / sqrt(max(t, w)).
    rsqrt_normalized_decay: sqrt(w) / sqrt(max(t, w)).
    decay_every: decay_factor ** (t // steps_per_decay).
    cosine_decay: half a cosine from 1 to 0, repeated every ``steps_per_cycle`` steps after w.

    warmup_steps: 0 counts as 1 where it divides.
    initial_step: added to the step (t5x counts the steps of pretraining); if it is negative, the first steps all have
        t = 0, as with t5x's ``step_offset``.
    """
    w = max(1, warmup_steps)

    def cosine_decay(t: int) -> float:
        progress = max(0.0, (t - warmup_steps) / steps_per_cycle)
        return 0.5 * (1.0 + math.cos(math.pi * (progress % 1.0)))

    known: dict[Factor, Callable[[int], float]] = {
        "constant": lambda t: learning_rate,
        "linear_warmup": lambda t: min(1.0, t / w),
        "linear_decay": lambda t: learning_rate * min(t / w, 1.0 + decay_factor * (w - t)),
        "rsqrt_decay": lambda t: 1.0 / math.sqrt(max(t, w)),
        "rsqrt_normalized_decay": lambda t: math.sqrt(w) / math.sqrt(max(t, w)),
        "decay_every": lambda t: decay_factor ** (t // steps_per_decay),
        "cosine_decay": cosine_decay,
    }
    chosen = [known[name] for name in factors]

    def at(step: int) -> float:
        t = max(0, step + initial_step)
        return max(minimum, math.prod(factor(t) for factor in chosen))

    return at


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "linear": linear,
    "polynomial": polynomial,
    "cosine": cosine,
    "cosine_with_restarts": cosine_with_restarts,
    "inverse_square_root": inverse_square_root,
    "logarithmic": logarithmic,
    "factors": product_of_factors,
}
"""Name of a schedule -> its factory, which takes (learning_rate, warmup_steps, total) and its own named options."""
