"""The cheapest changes that make a run fit, as the words to append to the command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tunesmith.compose.sizing.duration import step_copy_seconds
from tunesmith.compose.sizing.estimate import GIB, AdapterSettings, Distribution, MemoryEstimate
from tunesmith.compose.sizing.hardware import Gpu
from tunesmith.compose.sizing.run import SizedRun, state_settings
from tunesmith.errors import TunesmithError
from tunesmith.recipe.schema import Recipe

RANK = 16
"""Rank of an adapter that is proposed."""
COUNTS = (2, 4, 8, 16, 32, 64, 128)
"""Numbers of GPUs that are tried."""
ALLOWED = 0.95
"""Share of the memory of a GPU above which a run does not start."""
SHORTEST = 1024
"""Tokens of a micro-batch below which a GPU is mostly idle."""

Change = Callable[[Sequence[str]], Recipe]
"""change(words): the recipe with these single values appended to its command. Raises RecipeError."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Changes that belong together.

    words: to append to `tunesmith train`.
    gpus: how many GPUs they are for.
    needed: bytes of one GPU with them.
    cost: what they cost, in words.
    """

    words: tuple[str, ...]
    gpus: int
    needed: int
    cost: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    words: tuple[str, ...]
    cost: str


def fits(memory: MemoryEstimate, gpu: Gpu) -> bool:
    """Whether a run may start on this GPU."""
    return memory.needed <= ALLOWED * gpu.memory


def propose(run: SizedRun, change: Change, gpu: Gpu, spread: Distribution) -> list[Proposal]:
    """Ways to make a run fit on this GPU, the cheapest first; empty if it fits or if nothing helps.

    change: applies words to the recipe of the run.
    spread: the GPUs that there are.
    """
    if fits(run.memory(spread), gpu):
        return []
    found = [each for each in (_on_these(run, change, gpu, spread), _adapter(run, gpu, spread)) if each is not None]
    more = _more_gpus(run, gpu, spread)
    return [*found, *([more] if more is not None else [])]


def _on_these(run: SizedRun, change: Change, gpu: Gpu, spread: Distribution) -> Proposal | None:
    """The cheapest set of changes that keeps every weight trained. Changes are added until it fits; then those that
    it does not need are left out again, the most costly ones first."""
    taken: list[_Candidate] = []
    for candidate in _candidates(run, gpu, spread):
        if (now := _changed(run, change, [*taken, candidate])) is None:
            continue
        taken.append(candidate)
        if fits(now.memory(spread), gpu):
            break
    else:
        return None
    for candidate in taken[-2::-1]:
        others = [each for each in taken if each is not candidate]
        now = _changed(run, change, others)
        if now is not None and fits(now.memory(spread), gpu):
            taken = others
    result = _changed(run, change, taken)
    assert result is not None, "these words were accepted before"
    words = tuple(word for each in taken for word in each.words)
    return Proposal(words, spread.processes, result.memory(spread).needed, "; ".join(each.cost for each in taken))


def _changed(run: SizedRun, change: Change, candidates: Sequence[_Candidate]) -> SizedRun | None:
    """The run with these changes; None if the recipe cannot have them."""
    try:
        return run.changed(change([word for each in candidates for word in each.words]))
    except TunesmithError:
        return None


def _candidates(run: SizedRun, gpu: Gpu, spread: Distribution) -> Iterator[_Candidate]:
    """All single changes, in the order in which they cost quality, then time."""
    recipe, states = run.recipe, state_settings(run.recipe)
    if float(recipe.model.gradient_checkpointing) < 1.0:
        yield _Candidate(("model.gradient_checkpointing=true",), "a third more time, the same result")
    size, least = recipe.train.micro_batch_tokens, max(SHORTEST, run.data.longest or recipe.text.max_length)
    while size > least:
        size = max(least, size // 2)
        yield _Candidate((f"train.micro_batch_tokens={size}",), "more passes, the same result")
    if states.weights == "float32" and states.compute == "bfloat16":
        yield _Candidate(("train.weights=split",), "the same result")
    if states.moments == "float32":
        yield _Candidate(("train.moments=8bit",), "no loss that could be measured")
    if not states.offload:
        moved = run.changed(recipe.model_copy(update={"train": recipe.train.model_copy(update={"offload": "moments"})}))
        seconds = step_copy_seconds(moved, gpu, spread)
        yield _Candidate(("train.offload=moments",), f"about {seconds:.1f} s more in each step, the same result")
    if states.gradients == "float32":
        yield _Candidate(("train.gradients=bfloat16",), "gradients are added up in 16 bits")


def adapter_settings(run: SizedRun) -> AdapterSettings:
    """An adapter on all matrices of the layers."""
    return AdapterSettings(RANK * run.network.sides)


def _adapter(run: SizedRun, gpu: Gpu, spread: Distribution) -> Proposal | None:
    """Training low-rank matrices instead of the weights."""
    if run.further or run.recipe.model.init is not None:
        return None
    adapter = adapter_settings(run)
    memory = run.memory(spread, adapter)
    share = adapter.parameters / run.network.parameters
    cost = f"another model: trains {share:.1%} as many numbers, in rank {RANK}"
    return Proposal(("lora",), spread.processes, memory.needed, cost) if fits(memory, gpu) else None


def _more_gpus(run: SizedRun, gpu: Gpu, spread: Distribution) -> Proposal | None:
    """The smallest number of GPUs that share weights, gradients and moments."""
    for count in COUNTS:
        if count >= spread.processes:
            wider = Distribution(count, "zero3")
            memory = run.memory(wider)
            if wider != spread and fits(memory, gpu):
                return Proposal(("train.shard=zero3",), count, memory.needed, f"{count} GPUs, the same result")
    return None


def describe_size(size: float) -> str:
    """``98.1 GiB`` or ``1.43 TiB``."""
    return f"{size / GIB / 1024:,.2f} TiB" if size >= 1024 * GIB else f"{size / GIB:,.1f} GiB"
