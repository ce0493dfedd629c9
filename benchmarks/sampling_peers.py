"""transformers' side of ``benchmarks.sampling``: ``generate`` for one prompt or a batch, and ``generate_batch``."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from benchmarks.sampling_inputs import Job, sampling_of


def configuration(name: str, length: int) -> GenerationConfig:
    """A configuration in transformers' words; no token ends a reply, so that it has ``length`` tokens."""
    sampling = sampling_of(name, length)
    given = ("repetition_penalty", "min_new_tokens", "max_new_tokens", "do_sample")
    drawing = ("temperature", "top_k", "top_p") if sampling.do_sample else ()
    chosen = {each: getattr(sampling, each) for each in (*given, *drawing)}
    return GenerationConfig(**chosen, pad_token_id=0, eos_token_id=None)


@torch.no_grad()
def generate_padded(model: PreTrainedModel, jobs: Sequence[Job], name: str, batch_size: int) -> None:
    """``generate`` in batches of ``batch_size``; each takes the steps of its longest reply."""
    for start in range(0, len(jobs), batch_size):
        batch = jobs[start : start + batch_size]
        width = max(len(job.prompt) for job in batch)
        ids = torch.tensor([[0] * (width - len(job.prompt)) + list(job.prompt) for job in batch])
        mask = torch.tensor([[0] * (width - len(job.prompt)) + [1] * len(job.prompt) for job in batch])
        length = max(job.length for job in batch)
        model.generate(  # type: ignore[operator]
            ids, attention_mask=mask, generation_config=configuration(name, length)
        )


@torch.no_grad()
def generate_continuously(model: PreTrainedModel, jobs: Sequence[Job], name: str, batch_size: int) -> None:
    """``generate_batch``. It has one length for all replies, so all have the mean length of the jobs.

    It leaves the repetition penalty out, which it does not support.
    """
    length = round(sum(job.length for job in jobs) / len(jobs))
    blocks = -(-(max(len(job.prompt) for job in jobs) + length) // 256) * batch_size
    settings = ContinuousBatchingConfig(page_size=256, num_blocks=blocks, max_batch_tokens=512)
    copied = copy.deepcopy(model)  # it changes the attention of its model
    copied.generate_batch(  # type: ignore[operator]
        [list(job.prompt) for job in jobs],
        generation_config=configuration(name, length),
        continuous_batching_config=settings,
        progress_bar=False,
    )
