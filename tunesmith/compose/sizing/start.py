"""Whether a run fits on the device that it starts on: before the model is loaded, and before the first step."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tunesmith.batch.protocols import BatchT, Objective
from tunesmith.compose.sizing.advice import ALLOWED, describe_size, propose
from tunesmith.compose.sizing.estimate import Distribution
from tunesmith.compose.sizing.hardware import Gpu, present_gpu
from tunesmith.compose.sizing.run import DataCounts, SizedRun, size_run
from tunesmith.errors import RecipeError, TunesmithError
from tunesmith.recipe.overrides import override
from tunesmith.recipe.reading import to_located, to_plain
from tunesmith.recipe.schema import Recipe
from tunesmith.train.loop import PolicyT, Steps
from tunesmith.train.probe import CudaMeter, MemoryMeter, Probe, ProbeResult, largest_batch

PROCESSES = "WORLD_SIZE"
"""Environment variable of torchrun and srun: the number of processes."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
