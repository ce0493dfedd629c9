"""Memory and speed on a GPU: models of random weights, made on the device, in the storage that the layers ask for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tests.campaigns.gpu_figures import Campaign, Figure
from tunesmith.batch.columns import REFERENCE
from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch, assemble_packed
from tunesmith.compose.sizing.estimate import estimate_memory
from tunesmith.compose.sizing.known_models import LLAMA_13B, PYTHIA_7B, PYTHIA_12B, Entries
from tunesmith.compose.sizing.memory import GIB
from tunesmith.compose.sizing.networks import ModelSizes
from tunesmith.compose.sizing.settings import StateSettings, Workload
from tunesmith.model.attention import register
from tunesmith.model.footprint import StorageCount
from tunesmith.model.logits import LogitRule
from tunesmith.model.outline import shortened
from tunesmith.model.policy import Policy
from tunesmith.model.recomputation import recompute_layers
from tunesmith.objectives.preference import PreferenceOptimization
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.train.loop import accumulate_gradients
from tunesmith.train.optim.optimizers import AdamW, clip_coefficient
from tunesmith.train.optim.storage import StateFormat
from tunesmith.train.steps import Step
from tunesmith.world import SingleProcess

MEMORY_TOLERANCE = 0.05
REHEARSED_TOLERANCE = 0.15
RECORD, PROMPT = 2048, 512
SMALL = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 4}


@dataclass(frozen=True, slots=True)
class Shape:
    """A model and how it is trained.

    name: in the table.
    entries: of its configuration.
    objective: sft or dpo.
    states: how weights, gradients and moments are stored.
    tokens: of a micro-batch.
    least: useful tokens a second on an H200; None without a target.
    """

    name: str
    entries: Entries
    objective: Literal["sft", "dpo"]
    states: StateSettings
    tokens: int
    least: float | None = None


SMALLEST = StateSettings("split", "bfloat16", "8bit")
SHAPES = (
    Shape("6.9B cut to 8 layers, sft", shortened(PYTHIA_7B, 8), "sft", StateSettings("split"), 16_384),
    Shape("6.9B cut to 8 layers, dpo", shortened(PYTHIA_7B, 8), "dpo", StateSettings("split"), 16_384),
    Shape("6.9B sft", PYTHIA_7B, "sft", StateSettings("split", moments="8bit"), 16_384, 10_500),
    Shape("12B sft", PYTHIA_12B, "sft", SMALLEST, 16_384, 5_500),
    Shape("13B dpo", LLAMA_13B, "dpo", SMALLEST, 16_384, 5_500),
)


def speed(campaign: Campaign) -> Iterator[Figure]:
    """Peak against plan, tokens a second and the share of the rate of the GPU, for every shape that fits."""
    for shape in SHAPES:
        chosen = rehearsed(shape) if campaign.rehearsal else shape
        planned = planned_bytes(chosen)
        if planned > 0.95 * campaign.gpu.memory:
            yield Figure(f"{shape.name}: planned", f"{planned / GIB:.1f} GiB", "does not fit on this GPU")
            continue
        yield from measured(campaign, chosen, planned)
        campaign.free()


def rehearsed(shape: Shape) -> Shape:
    """A small model of the same architecture."""
    kept = {key: value for key, value in SMALL.items() if key in shape.entries}
    return replace(shape, entries={**shortened(shape.entries, 4), **kept, "vocab_size": 512}, tokens=RECORD // 4)


def planned_bytes(shape: Shape) -> int:
    """Bytes of tensors by the plan."""
    sizes = ModelSizes(shape.entries)
    activations = sizes.activations(torch.bfloat16, shape.tokens, None, 1.0)
    targets = sum(span[1] - span[0] for tree in _trees(shape) for span in tree.spans.tolist())
    work = Workload(shape.tokens, targets, 1.0, activations)
    return estimate_memory(sizes.network(), shape.states, work).tensors


def _trees(shape: Shape) -> list[TokenTree]:
    """Records that fill one micro-batch."""
    record = min(RECORD, shape.tokens)
    make = _pair if shape.objective == "dpo" else _thread
    return [make(record) for _ in range(shape.tokens // record)]


def token_ids(size: int) -> Any:
    """int32 [size]."""
    return (np.arange(size) * 7 % 500 + 5).astype(np.int32)


def _thread(size: int) -> TokenTree:
    spans = np.array([(1, size, 0, 1, 1)], np.int32)
    return TokenTree(token_ids(size), np.array([(0, size, -1)], np.int32), spans, 1)


def _pair(size: int) -> TokenTree:
    """A prompt with two replies."""
    prompt = min(PROMPT, size // 4)
    first = prompt + (size - prompt) // 2
    segments = np.array([(0, prompt, -1), (prompt, first, 0), (first, size, 0)], np.int32)
    spans = np.array([(prompt, first, prompt - 1, 1, 1), (first, size, prompt - 1, 2, 1)], np.int32)
    replies = np.array([(1, 0, 0), (2, 0, 1)], np.int32)
    return TokenTree(token_ids(size), segments, spans, 2, replies=replies, scores=np.full(2, np.nan, np.float32))


def _batch(shape: Shape) -> PackedBatch:
    columns: Mapping[str, Any] = {}
    if shape.objective == "dpo":
        columns = {REFERENCE: np.full(2, -1000.0, np.float32)}
    return assemble_packed([Example(number, tree, 0, columns) for number, tree in enumerate(_trees(shape))], "messages")


def build(shape: Shape, device: torch.device) -> PreTrainedModel:
    """A model with random weights in bfloat16, made on the device."""
    entries = {key: value for key, value in shape.entries.items() if key != "model_type"}
    configuration = AutoConfig.for_model(str(shape.entries["model_type"]), **entries)
    with device:
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            configuration, attn_implementation=register(), dtype=torch.bfloat16
        )
    recompute_layers(model)
    return model


def measured(campaign: Campaign, shape: Shape, planned: int) -> Iterator[Figure]:
    """Three steps of two micro-batches; the first one compiles kernels and is not timed."""
    model = build(shape, campaign.device)
    policy = Policy(model, compute=torch.bfloat16, rule=LogitRule())
    storage = StateFormat(
        torch.bfloat16 if shape.states.gradients == "bfloat16" else torch.float32, moments=shape.states.moments
    )
    optimizer = AdamW(policy.parameters(), storage=storage)
    objective: Any = PreferenceOptimization() if shape.objective == "dpo" else SupervisedFineTuning()
    batches = (_batch(shape), _batch(shape))
    step = Step(0, 0, (0,), batches)

    def run() -> float:
        policy.train()
        totals = accumulate_gradients(policy, objective, step, SingleProcess())
        _, scale = clip_coefficient(policy.parameters(), 1.0, 0)
        optimizer.step(1e-6, scale)
        optimizer.zero_grad()
        return totals.means()["loss"]

    kept = [*model.parameters(), *model.buffers(), *optimizer.state_dict().values()]
    peak, seconds, loss = _measured_steps(campaign, run, kept)
    parameters = sum(each.numel() for each in model.parameters())
    rate = sum(batch.tokens for batch in batches) / seconds
    yield from _figures(campaign, shape, planned, peak, rate, parameters)
    finite = loss == loss and abs(loss) < 1e6
    yield Figure(f"{shape.name}: loss", f"{loss:.3f}", "finite", finite)


def _measured_steps(campaign: Campaign, run: Callable[[], float], kept: list[torch.Tensor]) -> tuple[int, float, float]:
    """(largest bytes of tensors, seconds of a step, last loss). kept: tensors that are there before."""
    if campaign.rehearsal:
        with StorageCount(kept) as count:
            run()
        began = time.perf_counter()
        loss = run()
        return count.peak + sum(each.nbytes for each in kept), time.perf_counter() - began, loss
    run()
    campaign.wait()
    torch.cuda.reset_peak_memory_stats(campaign.device)
    began = time.perf_counter()
    losses = [run() for _ in range(2)]
    campaign.wait()
    return torch.cuda.max_memory_allocated(campaign.device), (time.perf_counter() - began) / 2, losses[-1]


def _figures(
    campaign: Campaign, shape: Shape, planned: int, peak: int, rate: float, parameters: int
) -> Iterator[Figure]:
    allowed = REHEARSED_TOLERANCE if campaign.rehearsal else MEMORY_TOLERANCE
    difference = peak / planned - 1.0
    size = f"{peak / GIB:.2f} GiB, planned {planned / GIB:.2f} ({difference:+.1%})"
    yield Figure(f"{shape.name}: peak", size, f"within {allowed:.0%}", abs(difference) <= allowed)
    least = None if campaign.rehearsal or "H200" not in campaign.gpu.title else shape.least
    target = "" if least is None else f"at least {least:,}"
    yield Figure(f"{shape.name}: tokens/s", f"{rate:,.0f}", target, None if least is None else rate >= least)
    share = 6 * parameters * rate / campaign.gpu.rate
    if not campaign.rehearsal:
        yield Figure(f"{shape.name}: MFU (6N)", f"{share:.1%}")
