"""What every runner of a benchmark measures of its own process, in the same way on all sides."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

WARM_UP = 2  # steps that are not timed
THREADS = 2  # CPU threads of every runner


@dataclass(slots=True)
class Clock:
    """Times every optimizer step, from the end of the step before it to its own end.

    ends: for every step when it ended, in seconds.
    paused: for every step how long measuring itself took before it, in seconds; this is not counted.
    pause: what will be ``paused`` of the next step.
    """

    ends: list[float] = field(default_factory=list)
    paused: list[float] = field(default_factory=list)
    pause: float = 0.0

    def step_ended(self) -> None:
        """Record the end of a step."""
        self.ends.append(time.perf_counter())
        self.paused.append(self.pause)
        self.pause = 0.0

    def seconds(self) -> list[float]:
        """The seconds of every step after the warm-up."""
        first = WARM_UP - 1
        return [
            after - before - paused
            for before, after, paused in zip(
                self.ends[first:-1], self.ends[first + 1 :], self.paused[first + 1 :], strict=True
            )
        ]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of one runner.

    counted: for every timed step the number of units, without padding.
    seconds: for every timed step its time.
    peak_memory: the largest resident size of the process, in bytes.
    loaded_memory: the largest resident size before the first step, in bytes.
    losses: the losses that the runner reports.
    details: its settings.
    """

    counted: list[int]
    seconds: list[float]
    peak_memory: int
    loaded_memory: int
    losses: list[float]
    details: dict[str, Any]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rate(counted: Sequence[int], seconds: Sequence[float]) -> float:
    """Units per second over all steps."""
    return sum(counted) / sum(seconds)


def with_preparation(
    seconds: Sequence[float], counted: Sequence[int], preparation: float, everything: int
) -> list[float]:
    """The seconds of steps, each with its share of the ``preparation`` seconds that ``everything`` units took once."""
    return [each + preparation * count / everything for each, count in zip(seconds, counted, strict=True)]
