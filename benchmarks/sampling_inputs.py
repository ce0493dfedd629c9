"""The inputs of ``benchmarks.sampling``: prompts and reply lengths as in a published report, and a model."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from transformers import PreTrainedModel

from benchmarks.dolly_like import length_at
from benchmarks.sft_inputs import ROWS, SHAPE
from tunesmith.generate.original_sampling import original_sampling
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.sampling_configurations import open_sampling_file
from tunesmith.model.load import new_model

# Quantiles at the shares of ``dolly_like`` of the prompts and of the 2,750 replies of OpenAssistant's published report
# on SFT-4 (oasst-sft-4-pythia-12b-epoch-3.5, sampling "noprefix"), in Pythia tokens; replies end at 400 tokens.
PROMPT = (4, 10, 12, 14, 17, 19, 23, 27, 32, 39, 55, 63, 78, 87, 97)
REPLY = (5, 27, 60, 91, 113, 141, 182, 227, 278, 340, 400, 400, 400, 400, 400)
PROMPTS, REPLIES = 250, 2750  # in the report

VOCABULARY = 50277  # ids of Pythia's tokenizer; the other rows of the model are padding
ENTROPY = 1.4  # nats, of the next token; a trained model's

FILE = "noprefix"
"""The file of sampling configurations of the report."""
SETTINGS: Mapping[str, SamplingParameters] = {
    name: original_sampling(found.generate_args).parameters
    for name in ("greedy", "k50", "nucleus9")
    for found in open_sampling_file(f"{FILE}:{name}").configurations
}
"""Configurations of the report as they took effect: all have repetition_penalty 1.2 and min_new_tokens 4, and nucleus9
has the top_k of 50 that ``generate`` fills in."""


@dataclass(frozen=True, slots=True)
class Job:
    """One reply that is generated. prompt: token ids. length: the number of its tokens."""

    prompt: tuple[int, ...]
    length: int


def spread_lengths(count: int, table: tuple[int, ...], seed: int) -> list[int]:
    """Lengths at evenly spaced shares of a table of quantiles, in a random order that is always the same."""
    lengths = [length_at((number + 0.5) / count, table) for number in range(count)]
    random.Random(seed).shuffle(lengths)
    return lengths


def make_jobs(count: int, scale: float = 1.0) -> list[Job]:
    """Jobs with the lengths of the report; those of the replies times ``scale``."""
    draw = random.Random(3)
    prompts, replies = spread_lengths(count, PROMPT, 1), spread_lengths(count, REPLY, 2)
    return [
        Job(tuple(draw.randrange(VOCABULARY) for _ in range(prompt)), max(1, round(reply * scale)))
        for prompt, reply in zip(prompts, replies, strict=True)
    ]


@torch.no_grad()
def peaked_model(sizes: Mapping[str, int] = MappingProxyType({})) -> PreTrainedModel:
    """Random weights in the shape of Pythia-31m, with a head that gives ``ENTROPY`` on average.

    sizes: what differs from this shape.
    """
    model = new_model({**SHAPE, **sizes}, ROWS, seed=5).eval()
    model.set_attn_implementation("sdpa")  # generate_batch takes no other by name
    ids = torch.tensor([job.prompt[:8] for job in make_jobs(200) if len(job.prompt) >= 8])
    logits = model(ids, logits_to_keep=1).logits[:, 0, :VOCABULARY]
    low, high = 1.0, 1000.0
    while high / low > 1.01:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if mean_entropy(logits * middle) > ENTROPY else (low, middle)
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    head.weight.mul_(low)
    return model


def mean_entropy(logits: torch.Tensor) -> float:
    """The mean entropy in nats of the distributions with logits [rows, vocabulary]."""
    log_probability = logits.log_softmax(-1)
    return float(-(log_probability.exp() * log_probability).sum(-1).mean())


def sampling_of(name: str, length: int) -> SamplingParameters:
    """A configuration with a limit of tokens, which may be less than its smallest number of them."""
    found = SETTINGS[name]
    return replace(found, max_new_tokens=length, min_new_tokens=min(found.min_new_tokens, length))
