"""Searches run one prompt at a time, outside of the batch of the other requests."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel

from tunesmith.generate.beam_search import beam_search
from tunesmith.generate.contrastive import contrastive_search
from tunesmith.generate.decoding import DecodingState
from tunesmith.generate.requests import StoppingCriteria
from tunesmith.generate.sampling import SamplingParameters


def search(
    state: DecodingState,
    model: PreTrainedModel,
    prompt: Sequence[int],
    sampling: SamplingParameters,
    stopping: StoppingCriteria,
    seed: int,
    sample: int,
) -> tuple[int, ...]:
    """The ids of the reply of a search (``SamplingParameters.is_search``), including its stop id.

    state: an empty decoding state of ``model``.
    seed, sample: of the random numbers of a beam search with do_sample=true; otherwise without effect.
    Raises InternalError if the logits of the model are not finite.
    """
    assert sampling.is_search, "the tokens of this request are chosen one after the other"
    if sampling.is_contrastive:
        return contrastive_search(state, model, prompt, sampling, stopping)
    return beam_search(state, prompt, sampling, stopping, seed, sample)
