"""Whether a run fits on the device that it starts on: before the model is loaded, and before the first step."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from tunesmith.batch.protocols import BatchT
from tunesmith.compose.methods.method import TrainingSetup
from tunesmith.compose.sizing.advice import ALLOWED, Proposal, describe_size, propose
from tunesmith.compose.sizing.estimate import FLOAT, Distribution
from tunesmith.compose.sizing.hardware import Gpu, present_gpu
from tunesmith.compose.sizing.memory import MemoryEstimate
from tunesmith.compose.sizing.run import DataCounts, size_run, state_settings
from tunesmith.errors import RecipeError, TunesmithError
from tunesmith.recipe.schema import Recipe
from tunesmith.train.loop import PolicyT
from tunesmith.train.probe import CudaMeter, MemoryProbe, ProbeResult, largest_batch

WHERE = "train.micro_batch_tokens, train.moments"
PROCESSES = "WORLD_SIZE"
"""Environment variable of torchrun and of other launchers: the number of processes."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
ONE_GPU = Distribution()

Notice = Callable[[str], None]


def check_before_loading(recipe: Recipe, gpu: Gpu | None = None) -> None:
    """Raises RecipeError, with changes that help, if even the tensors of a run are more than a GPU has.

    A model that cannot be counted before it is loaded is left to the probe.

    gpu: None for that of this machine; without one nothing is checked.
    """
    gpu = gpu or (present_gpu() if is_alone() else None)
    if gpu is None:
        return
    try:
        run = size_run(recipe, DataCounts())
        memory = run.memory(ONE_GPU)
    except TunesmithError:  # loading reports it, with more reason
        return
    if memory.tensors > gpu.memory:
        what = f"{_needs(memory)}, and {gpu.title} has {describe_size(gpu.memory)}"
        raise RecipeError(what, where=WHERE, advice=_advice(propose(run, gpu, ONE_GPU)))


def check_memory(recipe: Recipe, setup: TrainingSetup[PolicyT, BatchT], start: int, notice: Notice) -> None:
    """Check before the next step that a run fits: on a GPU by a probe, elsewhere by what the host has.

    start: steps that are done.
    notice: is given a line with what the probe took.
    Raises RecipeError.
    """
    if (gpu := present_gpu()) is None:
        check_host(recipe, setup.policy.parameters(), host_memory())
    elif is_alone():
        probe = MemoryProbe(setup.policy, setup.objective, CudaMeter(setup.policy.device))
        check_largest_batch(recipe, probe, largest_batch(setup.steps, start, ahead=setup.ahead), gpu, notice)


def check_largest_batch(
    recipe: Recipe, probe: MemoryProbe[PolicyT, BatchT], batch: BatchT | None, gpu: Gpu, notice: Notice
) -> None:
    """Run a micro-batch without an update. Raises RecipeError if it needs more than ``ALLOWED`` of the memory.

    batch: None if there is none.
    """
    if batch is None:
        return
    found = probe(batch)
    if found.share > ALLOWED:
        raise RecipeError(_refusal(found), where=WHERE, advice=_advice(_proposals(recipe, found, gpu)))
    assert found.largest is not None, "its share is known"
    took = f"{describe_size(found.largest)} of {describe_size(found.total)}"
    rate = found.tokens / max(found.seconds, 1e-9)
    notice(f"memory: {took} for the largest micro-batch, {found.tokens:,} tokens at {rate:,.0f} tokens a second")


def _refusal(found: ProbeResult) -> str:
    whole = f"the {describe_size(found.total)} of the device"
    if found.largest is None:
        return f"a micro-batch of {found.tokens:,} tokens needs more than {whole}"
    share = f"{found.share:.0%}".replace("%", " %")
    return f"a micro-batch of {found.tokens:,} tokens needs {share} of {whole}, which leaves too little for others"


def _proposals(recipe: Recipe, found: ProbeResult, gpu: Gpu) -> Sequence[Proposal]:
    """Changes after which the formula, scaled to what was measured, says that the run fits."""
    try:
        longest = found.tokens if found.tokens > recipe.train.micro_batch_tokens else None  # then it is one record
        run = size_run(recipe, DataCounts(longest=longest))
        needed = run.memory(ONE_GPU).needed
    except TunesmithError:
        return ()
    measured = found.largest or max(found.total, needed)
    return propose(run, replace(gpu, memory=round(found.total * min(1.0, needed / measured))), ONE_GPU)


def _needs(memory: MemoryEstimate) -> str:
    """``the run needs 192.6 GiB (weights 44.1, gradients 44.1, moments 88.3)``."""
    largest = memory.largest_phase
    lines = [line for line in memory.lines if line.phase in ("always", largest)]
    parts = ", ".join(f"{line.name} {describe_size(line.bytes)}" for line in lines)
    return f"the run needs {describe_size(memory.needed)} ({parts})"


def _advice(proposals: Sequence[Proposal]) -> str:
    if not proposals:
        return "use a smaller model, or GPUs with more memory"
    ways = [
        f"append {shlex.join(each.words)} ({describe_size(each.needed)})"
        if each.gpus == 1
        else f"use {each.gpus} GPUs ({describe_size(each.needed)} on each)"
        for each in proposals
        if each.gpus == 1 or not each.words
    ]
    return f"{', or '.join(ways)}; `tunesmith plan` shows where the memory goes"


def check_host(recipe: Recipe, parameters: Mapping[str, nn.Parameter], total: int) -> None:
    """Raises RecipeError if weights, gradients and moments alone are more than the memory of a machine without a GPU.

    Activations are not counted: on a CPU they are returned to the system, and swapping is slow but no error.

    parameters: that are trained.
    total: bytes of the machine.
    """
    if recipe.model.adapter is not None:
        return  # its states are few
    states = state_settings(recipe)
    count = sum(each.numel() for each in parameters.values())
    moments = {"adamw": 2.0, "muon": 1.0, "adafactor": 0.0}[states.optimizer]
    moments *= FLOAT if states.moments == "float32" else 1.0
    needed = round(count * (states.weight_bytes + states.gradient_bytes + moments))
    if needed > total:
        what = f"weights, gradients and moments need {describe_size(needed)}, this machine has {describe_size(total)}"
        advice = "append train.moments=8bit, use a smaller model, or a machine with more memory"
        raise RecipeError(what, where="model", advice=advice)


def is_alone() -> bool:
    """Whether this is the only process of the run; several must run the same number of passes, so none is probed."""
    return os.environ.get(PROCESSES, "1") == "1"


def host_memory() -> int:
    """Bytes of memory of this machine, or of the container that limits it."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP_LIMIT.read_text(encoding="ascii").strip() if CGROUP_LIMIT.is_file() else ""
    return min(physical, int(limit)) if limit.isdecimal() else physical
