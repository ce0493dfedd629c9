"""Disk and host memory of a run."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.compose.sizing.memory import GIB
from tunesmith.compose.sizing.run import SizedRun, state_settings
from tunesmith.compose.sizing.settings import FLOAT, Distribution
from tunesmith.recipe.training import period_in_steps

PROCESS = 4 * GIB
"""Host memory of a process with PyTorch, CUDA, tokenizer and memory-mapped data."""


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """Bytes on disk.

    checkpoint: of one checkpoint.
    most: the largest number of checkpoints at a time, the one that is being written included.
    export: of the export in float32, which is the largest.
    """

    checkpoint: int
    most: int
    export: int

    @property
    def total(self) -> int:
        """Bytes of all of them."""
        return self.checkpoint * self.most + self.export


def disk_need(run: SizedRun) -> DiskNeed:
    """A checkpoint has weights, rests and moments as they are stored; tied weights once."""
    states, keys = state_settings(run.recipe), run.recipe.train
    trained = [run.network, *(each.network for each in run.further if each.trained)]
    size = sum(states.weight_bytes * each.parameters + states.moment_bytes(each) for each in trained)
    if run.adapter is not None:
        size = 3 * FLOAT * run.adapter.parameters
    best = keys.best.keep if run.recipe.data.evaluates else 0
    most = keys.keep + best + 1
    if run.data.steps is not None:
        every = period_in_steps(keys.save_every, run.data.steps) or run.data.steps
        most = min(most, -(-run.data.steps // every) + best)
    return DiskNeed(size, max(1, most), FLOAT * run.network.parameters)


def host_need(run: SizedRun, spread: Distribution) -> int:
    """Bytes of host memory with all processes: the model while it is loaded, and offloaded moments.

    Every process loads a whole model in float32, also one that is stored in fewer bits afterwards. Of one that is
    loaded by rows it has embedding and head on the host, since rows that are added to them are drawn there. The first
    process builds the export from a whole model.
    """
    states, adapter = state_settings(run.recipe), run.adapter
    by_rows = run.is_loaded_by_rows and spread.parts > 1
    loaded = FLOAT * (run.network.outside if by_rows else run.network.parameters) * spread.processes
    loaded = max(loaded, FLOAT * run.network.parameters)
    trained = [run.network, *(further.network for further in run.further if further.trained)]
    moments = sum(states.moment_bytes(each) for each in trained) if states.offload and adapter is None else 0
    return PROCESS * spread.processes + max(loaded, moments * spread.processes // spread.parts)
