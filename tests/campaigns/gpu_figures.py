"""What the GPU campaign prints: figures with their targets."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tunesmith.compose.sizing.hardware import GPUS, Gpu, present_gpu

WIDEST = 56


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    what: is measured.
    found: as text with a unit.
    target: as text; empty for a figure without one.
    passed: None without a target.
    """

    what: str
    found: str
    target: str = ""
    passed: bool | None = None

    @property
    def mark(self) -> str:
        """The last column."""
        return "" if self.passed is None else "pass" if self.passed else "FAIL"


@dataclass(frozen=True, slots=True)
class Campaign:
    """What is run where.

    device: a GPU, or the CPU in a rehearsal.
    rehearsal: everything is small, and speed has no target.
    """

    device: torch.device
    rehearsal: bool

    @property
    def gpu(self) -> Gpu:
        """The GPU, or one in its place in a rehearsal."""
        return present_gpu() or GPUS["h200"]

    def wait(self) -> None:
        """Wait until the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def free(self) -> None:
        """Give unused memory back."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def table(figures: Sequence[Figure]) -> str:
    """The figures in columns."""
    rows = [("what", "figure", "target", "")]
    rows += [(each.what, textwrap.shorten(each.found, WIDEST), each.target, each.mark) for each in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
