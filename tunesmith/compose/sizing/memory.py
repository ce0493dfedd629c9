"""The memory of one GPU as lines: what needs it, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GIB = 1 << 30
CONTEXT = 3 * GIB // 2
"""Memory that CUDA, its libraries and compiled kernels take before the first tensor."""
SLACK = 0.04
"""Share of the tensors that the allocator may lose between them."""

Phase = Literal["always", "loading", "training", "update", "replies"]


@dataclass(frozen=True, slots=True)
class MemoryLine:
    """One line of the plan.

    name: what needs the memory.
    bytes: on one GPU.
    phase: when it is needed.
    note: how the number comes about.
    """

    name: str
    bytes: int
    phase: Phase
    note: str = ""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """The memory of one GPU. lines: without the reserve."""

    lines: tuple[MemoryLine, ...]

    def total(self, phase: Phase) -> int:
        """Bytes that belong to a phase alone."""
        return sum(line.bytes for line in self.lines if line.phase == phase)

    @property
    def largest_phase(self) -> Phase:
        """The phase that needs most."""
        phases: tuple[Phase, ...] = ("training", "update", "replies", "loading")
        return max(phases, key=self.total)

    @property
    def tensors(self) -> int:
        """The largest number of bytes of tensors at any time."""
        return self.total("always") + self.total(self.largest_phase)

    @property
    def reserve(self) -> int:
        """Bytes for CUDA and for gaps between tensors."""
        return CONTEXT + round(SLACK * self.tensors)

    @property
    def needed(self) -> int:
        """What a GPU needs."""
        return self.tensors + self.reserve
