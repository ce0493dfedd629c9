"""The cheapest changes that make a run fit, as the words to append to the command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tunesmith.compose.sizing.duration import copy_seconds
from tunesmith.compose.sizing.hardware import Gpu
from tunesmith.compose.sizing.memory import GIB, MemoryEstimate
from tunesmith.compose.sizing.run import SizedRun, state_settings
from tunesmith.compose.sizing.settings import Distribution
from tunesmith.errors import TunesmithError
from tunesmith.recipe.load import with_values

RANK = 8
"""Rank of the adapters of these layers."""
COUNTS = (2, 4, 8, 16, 32, 64, 128)
"""Numbers of GPUs that are tried."""
ALLOWED = 0.95
"""Share of the memory of a GPU above which a run does not start."""
LAYERS = ("lora", "qlora")
"""Layers that train adapters, the better one first."""
LAYER_COSTS = {"lora": "", "qlora": ", next to a base in 4 bits"}
SHORTEST = 1024
"""Tokens of a micro-batch below which a GPU is mostly idle."""


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


def propose(run: SizedRun, gpu: Gpu, spread: Distribution) -> list[Proposal]:
    """Ways to make a run fit on this GPU, the cheapest first; empty if it fits or if nothing helps.

    spread: the GPUs that there are.
    """
    if fits(run.memory(spread), gpu):
        return []
    ways = [
        _cheapest(run, gpu, spread, _candidates(run, gpu, spread)),
        _adapter(run, gpu, spread),
        *_more_gpus(run, gpu, spread),
    ]
    return [each for each in ways if each is not None]


def _cheapest(run: SizedRun, gpu: Gpu, spread: Distribution, candidates: Iterable[_Candidate]) -> Proposal | None:
    """The cheapest set of changes with which a run fits; None if all of them are not enough.

    Changes are added until it fits; then those that it does not need are left out, the most costly ones first.
    """
    taken: list[_Candidate] = []
    result = run
    for candidate in candidates:
        if fits(result.memory(spread), gpu):
            break
        if (now := _changed(run, [*taken, candidate])) is not None:
            taken, result = [*taken, candidate], now
    if not fits(result.memory(spread), gpu):
        return None
    for candidate in taken[-2::-1]:
        others = [each for each in taken if each is not candidate]
        now = _changed(run, others)
        if now is not None and fits(now.memory(spread), gpu):
            taken, result = others, now
    words = tuple(word for each in taken for word in each.words)
    cost = "; ".join(each.cost for each in taken) or "the same result"
    return Proposal(words, spread.processes, result.memory(spread).needed, cost)


def _changed(run: SizedRun, candidates: Sequence[_Candidate]) -> SizedRun | None:
    """The run with these changes; None if the recipe cannot have them."""
    try:
        return run.changed(with_values(run.recipe, [word for each in candidates for word in each.words]))
    except TunesmithError:
        return None


def _candidates(run: SizedRun, gpu: Gpu, spread: Distribution) -> Iterator[_Candidate]:
    """All single changes, in the order in which they cost quality, then time."""
    yield from _of_activations(run)
    if run.adapter is not None:
        return
    states, divided = state_settings(run.recipe), spread.parts > 1
    if states.weights == "float32" and states.compute == "bfloat16" and not divided:
        yield _Candidate(("train.weights=split",), "the same result")
    if states.moments == "float32":
        yield _Candidate(("train.moments=8bit",), "no loss that could be measured")
    if not states.offload:
        seconds = copy_seconds(run, gpu, spread)
        yield _Candidate(("train.offload=moments",), f"about {seconds:.1f} s more in each step")
    if divided:
        return  # weights and gradients are float32 then
    if states.gradients == "float32":
        yield _Candidate(("train.gradients=bfloat16",), "gradients are added up in 16 bits")
    if states.weights == "split" and not states.first_moment and states.optimizer != "adafactor":
        yield _Candidate(("train.weights=bfloat16-stochastic",), "weights are rounded at random to 16 bits")


def _of_activations(run: SizedRun) -> Iterator[_Candidate]:
    """Changes after which activations take less, with the same result."""
    recipe = run.recipe
    if float(recipe.model.gradient_checkpointing) < 1.0:
        yield _Candidate(("model.gradient_checkpointing=true",), "a third more time")
    size, least = recipe.train.micro_batch_tokens, max(SHORTEST, run.data.longest or recipe.text.max_length)
    while size > least:
        size = max(least, size // 2)
        yield _Candidate((f"train.micro_batch_tokens={size}",), "more and smaller passes")
    rows = run.workload().replies
    while rows > 1:
        rows //= 2
        yield _Candidate((f"evaluate.batch_size={rows}",), "replies are generated in smaller groups")


def _adapter(run: SizedRun, gpu: Gpu, spread: Distribution) -> Proposal | None:
    """Training low-rank matrices instead of the weights; with the base in 4 bits if nothing else fits."""
    present = run.recipe.model.adapter
    layers = LAYERS if present is None else LAYERS[LAYERS.index(present.kind) + 1 :]
    words = tuple(_of_weights(run))
    for layer in layers:
        if layer == "qlora" and spread.processes > 1:
            continue  # 4 bits are for one GPU
        keys = (f"model.adapter.kind={layer}", f"model.adapter.rank={RANK}")
        adapted = _changed(run, [_Candidate((*keys, *words), "")])
        found = None if adapted is None else _cheapest(adapted, gpu, spread, _of_activations(adapted))
        if adapted is None or adapted.adapter is None or found is None:
            continue
        share = f"{adapted.adapter.parameters / run.trained_parameters:.1%}".replace("%", " %")
        cost = f"another model: only an adapter of rank {RANK} is trained, {share} of the weights"
        return replace(found, words=(layer, *words, *found.words), cost=f"{cost}{LAYER_COSTS[layer]}")
    return None


def _of_full_training(run: SizedRun) -> Iterator[str]:
    """Words that set back what is only for training all weights in one process."""
    if run.recipe.train.gradients != "float32" and run.adapter is None:
        yield "train.gradients=float32"
    yield from _of_weights(run)


def _of_weights(run: SizedRun) -> Iterator[str]:
    """The word that sets back the format of weights that are all trained in one process."""
    if run.recipe.train.weights not in ("auto", "float32"):
        yield "train.weights=auto"


def _more_gpus(run: SizedRun, gpu: Gpu, spread: Distribution) -> list[Proposal]:
    """The smallest number of GPUs with which it fits as it is, and a smaller one with which it fits with changes."""
    copies = spread.replicas
    wider = [Distribution(n, "zero3", copies) for n in COUNTS if n >= spread.processes and n % copies == 0]
    wider = [each for each in wider if each != spread]
    found: list[Proposal] = []
    words = tuple(_of_full_training(run))
    if spread.processes > 1 and spread.shard != "zero3":
        words = (*words, "train.shard=zero3")
    divided = _changed(run, [_Candidate(words, "")]) or run
    for each in wider:
        proposal = _cheapest(divided, gpu, each, _candidates(divided, gpu, each))
        if proposal is not None:
            proposal = replace(proposal, words=(*words, *proposal.words))
            found.append(proposal)
            if proposal.words == words:
                break
    return [found[0], found[-1]] if len(found) > 1 else found


def describe_size(size: float) -> str:
    """``98.1 GiB`` or ``1.43 TiB``."""
    return f"{size / GIB / 1024:,.2f} TiB" if size >= 1024 * GIB else f"{size / GIB:,.1f} GiB"
