"""The plan as lines of at most 80 columns."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunesmith.compose.sizing.advice import Proposal, describe_size, fits
from tunesmith.compose.sizing.duration import HOUR, Duration, utilisation
from tunesmith.compose.sizing.hardware import Gpu
from tunesmith.compose.sizing.memory import GIB, MemoryEstimate, Phase
from tunesmith.compose.sizing.run import SizedRun
from tunesmith.compose.sizing.settings import Distribution
from tunesmith.compose.sizing.storage import DiskNeed

SHOWN = GIB // 20
"""Bytes below which a line would be 0.0 GiB."""
NAMED = ("weights", "gradients", "moments", "activations", "head")
"""Lines that every plan has, however small."""
WIDTH = 80
NAME, NUMBER = 15, 11
NOTES = 2 + NAME + NUMBER + 3
"""Column at which notes begin."""
PHASES: dict[Phase, str] = {
    "loading": "while models are loaded and tested",
    "training": "in a forward and backward pass",
    "update": "while the weights are updated",
    "replies": "while replies are generated",
}


@dataclass(frozen=True, slots=True)
class PlanResult:
    """Everything that is printed about one run on one kind of machine.

    run: the counts.
    words: of the command after `tunesmith plan`, without options.
    gpu, spread: the machine.
    memory: of one GPU.
    disk, host: bytes on disk and of host memory.
    duration: how long it takes.
    measured: whether the speed was measured.
    proposals: changes that make it fit.
    """

    run: SizedRun
    words: Sequence[str]
    gpu: Gpu
    spread: Distribution
    memory: MemoryEstimate
    disk: DiskNeed
    host: int
    duration: Duration
    measured: bool
    proposals: Sequence[Proposal]

    @property
    def fits(self) -> bool:
        """Whether the run may start."""
        return fits(self.memory, self.gpu)


def plan_lines(result: PlanResult) -> list[str]:
    """All lines."""
    return [
        *_heading(result),
        "",
        *_memory(result),
        "",
        *_rest(result),
        *(["", *_advice(result)] if not result.fits else []),
    ]


def verdict(result: PlanResult) -> str:
    """``125.3 of 139.0 GiB: it fits``."""
    share = f"{result.memory.needed / result.gpu.memory:.0%}".replace("%", " %")
    whole = f"{share} of {describe_size(result.gpu.memory)}"
    if result.fits:
        return f"{whole}: it fits"
    if result.memory.needed <= result.gpu.memory:
        return f"{whole}: too close, a run starts up to 95 %"
    return f"{whole}: it does not fit"


def _heading(result: PlanResult) -> Iterator[str]:
    run, recipe = result.run, result.run.recipe
    count = result.spread.processes
    where = f"{count} x {result.gpu.title}" if count > 1 else f"one {result.gpu.title}"
    kinds = {"none": "", "zero2": ", gradients and optimizer divided", "zero3": ", weights and optimizer divided"}
    divided = kinds[result.spread.shard]
    copies = f", in {result.spread.replicas} copies" if divided and result.spread.replicas > 1 else ""
    yield from _wrapped(f"{' '.join(result.words)} on {where}{divided}{copies}", "")
    model = f"{run.model.entries['model_type']}, {run.network.parameters:,} parameters, {run.network.layers} layers"
    yield from _wrapped(f"model: {model} (from {run.model.origin})", "")
    yield f"trained by {recipe.objective.kind} with {recipe.train.optimizer.kind} in {recipe.model.dtype}"


def _memory(result: PlanResult) -> Iterator[str]:
    memory = result.memory
    largest = memory.largest_phase
    yield "memory of each GPU" if result.spread.processes > 1 else "memory of the GPU"
    for line in memory.lines:
        if line.phase in ("always", largest) and (line.bytes >= SHOWN or line.name in NAMED):
            yield from _row(line.name, describe_size(line.bytes), line.note)
    if "moments" not in {line.name for line in memory.lines}:
        yield from _row("moments", describe_size(0), "in host memory (train.offload)")
    yield from _row("reserve", describe_size(memory.reserve), "CUDA, its kernels, and gaps between tensors")
    yield from _row("together", describe_size(memory.needed), verdict(result))
    for phase in ("loading", "training", "replies"):
        if phase != largest and memory.total(phase):
            need = memory.total("always") + memory.total(phase)
            parts = [line for line in memory.lines if line.phase == phase]
            listed = ", ".join(f"{line.name} {describe_size(line.bytes)}" for line in parts)
            yield from _row(phase, "", f"{PHASES[phase]} {describe_size(need)} and the reserve ({listed})")


def _rest(result: PlanResult) -> Iterator[str]:
    disk = result.disk
    count = f"at most {disk.most} and an export of {describe_size(disk.export)}: {describe_size(disk.total)} of disk"
    yield from _row("checkpoint", describe_size(disk.checkpoint), count)
    yield from _row("host memory", describe_size(result.host), "of the machine, while the model is loaded")
    hours = result.duration.hours
    yield from _row("time", "unknown" if hours is None else _describe_hours(hours), _time_note(result))


def _time_note(result: PlanResult) -> str:
    run, duration = result.run, result.duration
    share = utilisation(float(run.recipe.model.gradient_checkpointing))
    source = "measured" if result.measured else f"assumed: {share:.0%} of the published rate".replace("%", " %")
    rate = f"{duration.rate:,.0f} tokens a second ({source})"
    if duration.training is None:
        return f"at {rate}; give --tokens, how many the whole run reads"
    note = f"{run.data.tokens:,} tokens at {rate}"
    if duration.generating:
        note += f", {_describe_hours(duration.generating / HOUR)} of it for replies (assumed)"
    return note


def _describe_hours(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:,.1f} days"
    return f"{hours:,.1f} hours" if hours >= 1 else f"{max(1, round(60 * hours))} min"


def _advice(result: PlanResult) -> Iterator[str]:
    if not result.proposals:
        yield from _wrapped("No change of the recipe and no number of these GPUs up to 128 makes it fit.", "")
        return
    here = [each for each in result.proposals if each.gpus == result.spread.processes]
    wider = [each for each in result.proposals if each not in here]
    if here:
        yield "to make it fit, append"
        for proposal in here:
            yield from _wrapped(shlex.join(proposal.words), "  ", "    ")
            yield from _wrapped(f"{describe_size(proposal.needed)}; {proposal.cost}", "    ", "    ")
    if wider:
        yield f"{'or' if here else 'to make it fit,'} use more GPUs"
        yield "  (torchrun --nproc-per-node N -m tunesmith train ...)"
    for proposal in wider:
        words = f", and append {shlex.join(proposal.words)}" if proposal.words else ""
        yield from _wrapped(f"{proposal.gpus} GPUs{words}", "  ", "    ")
        yield from _wrapped(f"{describe_size(proposal.needed)} on each; {proposal.cost}", "    ", "    ")


def _row(name: str, number: str, note: str) -> Iterator[str]:
    start = f"  {name:<{NAME}}{number:>{NUMBER}}   "
    lines = textwrap.wrap(note, WIDTH - NOTES, break_long_words=False) or [""]
    yield (start + lines[0]).rstrip()
    yield from (" " * NOTES + line for line in lines[1:])


def _wrapped(text: str, indent: str, following: str = "  ") -> list[str]:
    """following: indent of all lines but the first."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=following, break_long_words=False, break_on_hyphens=False
    )
