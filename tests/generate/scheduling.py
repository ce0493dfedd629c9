"""Generating replies in tests: the tokens of some prompts, from any rows."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.generate.requests import ReplyRequest, StoppingCriteria
from tunesmith.generate.running_rows import RunningRows
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.scheduler import Scheduler


def generate(
    rows: RunningRows,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingParameters,
    stopping: StoppingCriteria,
    seed: int = 1,
    samples: Sequence[int] | None = None,
    batch_size: int | None = None,
) -> list[list[int]]:
    """The ids of the reply to every prompt; ``batch_size`` at a time, by default all of them."""
    scheduler = Scheduler(rows, stopping, batch_size or len(prompts))
    numbers = samples or range(len(prompts))
    tickets = [
        scheduler.add(ReplyRequest(tuple(prompt), sampling, seed, number))
        for prompt, number in zip(prompts, numbers, strict=True)
    ]
    found = dict(scheduler.run())
    return [list(found[ticket].ids) for ticket in tickets]
