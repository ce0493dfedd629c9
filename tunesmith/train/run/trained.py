"""What training returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A finished run.

    directory: of the run.
    export: the directory of the exported model.
    steps: optimizer steps of the whole run.
    """

    directory: Path
    export: Path
    steps: int
