"""Whether a run fits on the device that it starts on: before the model is loaded, and before the first step."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path

from torch import nn

from tunesmith.batch.protocols import BatchT
from tunesmith.compose.methods.method import TrainingSetup
from tunesmith.compose.models.families import shard_kind
from tunesmith.compose.sizing.advice import ALLOWED, Proposal, describe_size, propose
from tunesmith.compose.sizing.hardware import Gpu, present_gpu
from tunesmith.compose.sizing.memory import MemoryEstimate
from tunesmith.compose.sizing.run import DataCounts, size_run, state_settings
from tunesmith.compose.sizing.settings import FLOAT, Distribution
from tunesmith.errors import RecipeError, TunesmithError
from tunesmith.recipe.schema import Recipe
from tunesmith.train.loop import PolicyT
from tunesmith.train.probe import CudaMeter, MemoryProbe, ProbeResult, largest_batch
from tunesmith.world import ALONE, Communicator

WHERE = "train.micro_batch_tokens, train.moments"
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")

Notice = Callable[[str], None]


def check_before_loading(recipe: Recipe, world: Communicator = ALONE, gpu: Gpu | None = None) -> None:
    """Raises RecipeError, with changes that help, if even the tensors of a run are more than a GPU has.

    The first process counts for all of them, and the others wait for it and end with it. A model that cannot be counted
    before it is loaded is left to the probe.

    world: the processes that share the run, one for each GPU.
    gpu: of this process; None for that of this machine, without which nothing is checked.
    """
    gpu = _smallest_gpu(gpu or present_gpu(), world)
    if gpu is not None and world.is_first:
        _check_tensors(recipe, spread_of(recipe, world.size), gpu)
    world.barrier()


def _check_tensors(recipe: Recipe, spread: Distribution, gpu: Gpu) -> None:
    try:
        run = size_run(recipe, DataCounts())
        memory = run.memory(spread)
    except TunesmithError:  # loading reports it, with more reason
        return
    if memory.tensors > gpu.memory:
        who = "the run" if spread.processes == 1 else f"each of {spread.processes} processes"
        what = f"{who} needs {_needs(memory)}, and {gpu.title} has {describe_size(gpu.memory)}"
        raise RecipeError(what, where=WHERE, advice=_advice(propose(run, gpu, spread), spread))


def spread_of(recipe: Recipe, processes: int) -> Distribution:
    """How a run is spread over the GPUs of so many processes."""
    return Distribution(processes, shard_kind(recipe, processes), recipe.train.replicas)


def _smallest_gpu(gpu: Gpu | None, world: Communicator) -> Gpu | None:
    """The GPU with the memory of the smallest one of all processes; None if some process has none."""
    sizes: list[int | None] = world.gather(None if gpu is None else gpu.memory)
    known = [each for each in sizes if each is not None]
    return replace(gpu, memory=min(known)) if gpu is not None and len(known) == len(sizes) else None


def check_memory(
    recipe: Recipe, setup: TrainingSetup[PolicyT, BatchT], start: int, notice: Notice, world: Communicator = ALONE
) -> None:
    """Check before the next step that a run fits: on a GPU by a probe, elsewhere by what the host has.

    start: steps that are done.
    notice: is given a line with what the probe took.
    world: the processes that share the run.
    Raises RecipeError.
    """
    if (gpu := present_gpu()) is None:
        check_host(recipe, setup.policy.parameters(), host_memory())
        return
    probe = MemoryProbe(setup.policy, setup.objective, CudaMeter(setup.policy.device))
    check_largest_batch(recipe, probe, largest_batch(setup.steps, start, ahead=setup.ahead), gpu, notice, world)


def check_largest_batch(
    recipe: Recipe,
    probe: MemoryProbe[PolicyT, BatchT],
    batch: BatchT | None,
    gpu: Gpu,
    notice: Notice,
    world: Communicator = ALONE,
) -> None:
    """Run a micro-batch without an update. Raises RecipeError if it needs more than ``ALLOWED`` of the memory.

    Every process runs a separate one, with equally many passes, and the first one judges the one that needed most.
    Where the memory is not enough, the others may wait for this process within a pass: it raises at once, and the watch
    over processes ends them.

    batch: None if there is none; then no process has one.
    """
    if batch is None:
        return
    found, spread = probe(batch), spread_of(recipe, world.size)
    if found.largest is not None:
        found = max((ProbeResult(*each) for each in world.gather(astuple(found))), key=lambda each: each.share)
    if found.share > ALLOWED and (world.is_first or found.largest is None):
        advice = _advice(_proposals(recipe, found, gpu, spread), spread)
        raise RecipeError(_refusal(found), where=WHERE, advice=advice)
    world.barrier()
    assert found.largest is not None, "its share is known"
    took = f"{describe_size(found.largest)} of {describe_size(found.total)}"
    rate = f"{found.tokens:,} tokens at {found.tokens / max(found.seconds, 1e-9):,.0f} tokens a second"
    each = f" on each of {world.size} GPUs" if world.size > 1 else ""
    notice(f"memory: {took} for the largest micro-batch, {rate}{each}")


def _refusal(found: ProbeResult) -> str:
    whole = f"the {describe_size(found.total)} of the device"
    if found.largest is None:
        return f"a micro-batch of {found.tokens:,} tokens needs more than {whole}"
    share = f"{found.share:.0%}".replace("%", " %")
    return f"a micro-batch of {found.tokens:,} tokens needs {share} of {whole}, which leaves too little for others"


def _proposals(recipe: Recipe, found: ProbeResult, gpu: Gpu, spread: Distribution) -> Sequence[Proposal]:
    """Changes after which the formula, scaled to what was measured, says that the run fits."""
    try:
        longest = found.tokens if found.tokens > recipe.train.micro_batch_tokens else None  # then it is one record
        run = size_run(recipe, DataCounts(longest=longest))
        needed = run.memory(spread).needed
    except TunesmithError:
        return ()
    measured = found.largest or max(found.total, needed)
    return propose(run, replace(gpu, memory=round(found.total * min(1.0, needed / measured))), spread)


def _needs(memory: MemoryEstimate) -> str:
    """``192.6 GiB (weights 44.1, gradients 44.1, moments 88.3)``."""
    largest = memory.largest_phase
    lines = [line for line in memory.lines if line.bytes and line.phase in ("always", largest)]
    parts = ", ".join(f"{line.name} {describe_size(line.bytes)}" for line in lines)
    return f"{describe_size(memory.needed)} ({parts})"


def _advice(proposals: Sequence[Proposal], spread: Distribution) -> str:
    """The changes for the GPUs that there are, and the number of GPUs with the fewest changes."""
    if not proposals:
        return "use a smaller model, or GPUs with more memory"
    each = " on each" if spread.processes > 1 else ""
    ways = [
        f"append {shlex.join(found.words)} ({describe_size(found.needed)}{each})"
        for found in proposals
        if found.gpus == spread.processes
    ]
    for found in [found for found in proposals if found.gpus != spread.processes][-1:]:
        words = f" and append {shlex.join(found.words)}" if found.words else ""
        ways.append(f"use {found.gpus} GPUs{words} ({describe_size(found.needed)} on each)")
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


def host_memory() -> int:
    """Bytes of memory of this machine, or of the container that limits it."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP_LIMIT.read_text(encoding="ascii").strip() if CGROUP_LIMIT.is_file() else ""
    return min(physical, int(limit)) if limit.isdecimal() else physical
