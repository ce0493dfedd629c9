"""What every contender measures of itself, in the same way."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

WARM_UP = 2  # steps that are not timed
THREADS = 2  # CPU threads of every contender


@dataclass(slots=True)
class Clock:
    """Times from the end of one optimizer step to the end of the next; work in between can be left out.

    ends[s], paused[s]: when step s ended, and how long measuring itself took before it.
    """

    ends: list[float] = field(default_factory=list)
    paused: list[float] = field(default_factory=list)
    pause: float = 0.0

    def step_ended(self) -> None:
        self.ends.append(time.perf_counter())
        self.paused.append(self.pause)
        self.pause = 0.0

    def seconds(self) -> list[float]:
        """Seconds of every step after the warm-up."""
        first = WARM_UP - 1
        return [
            after - before - paused
            for before, after, paused in zip(
                self.ends[first:-1], self.ends[first + 1 :], self.paused[first + 1 :], strict=True
            )
        ]


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one contender. counted, seconds: of the timed steps; what is counted is the unit of the benchmark, without
    padding. peak_memory, loaded_memory: bytes of the process, at its highest and when data and model were ready. details:
    whatever else it reports."""

    counted: list[int]
    seconds: list[float]
    peak_memory: int
    loaded_memory: int
    losses: list[float]
    details: dict[str, Any]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rate(counted: Sequence[int], seconds: Sequence[float]) -> float:
    """All that was counted by all seconds."""
    return sum(counted) / sum(seconds)


def with_preparation(
    seconds: Sequence[float], counted: Sequence[int], preparation: float, everything: int
) -> list[float]:
    """The seconds of steps, each with its share of what was done once for ``everything`` that is counted."""
    return [each + preparation * count / everything for each, count in zip(seconds, counted, strict=True)]
