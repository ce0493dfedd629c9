"""Contrastive search: the most likely tokens, of which one is taken whose hidden state is unlike those of the text.

Su et al. 2022, "A contrastive framework for neural text generation" (arXiv 2202.06417). One prompt at a time, on any
decoding state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.generate.decoding import DecodingState
from tunesmith.generate.filters import FILTER_VALUE
from tunesmith.generate.penalties import penalise
from tunesmith.generate.requests import StoppingCriteria
from tunesmith.generate.row_sampler import check_finite
from tunesmith.generate.sampling import SamplingParameters


@torch.no_grad()
def contrastive_search(
    state: DecodingState,
    model: PreTrainedModel,
    prompt: Sequence[int],
    sampling: SamplingParameters,
    stopping: StoppingCriteria,
) -> tuple[int, ...]:
    """The ids of the reply, including its stop id.

    Of the ``top_k`` most likely tokens v the one is taken with the highest (1 - a) p(v) - a max cos(h_v, h_j), where a
    is ``penalty_alpha``, h_v the last hidden state of the model after v, and h_j one after a token before it. An
    encoder-decoder compares the states of its decoder.

    state: an empty decoding state of ``model``. prompt: its ids.
    Raises InternalError if the logits of the model are not finite.
    """
    ids, first = list(state.history(prompt)), len(state.history(prompt))
    limit = min(sampling.max_new_tokens, stopping.context - first)
    with captured_states(model) as captured:
        logits, text = state.prefill([prompt]), nn.functional.normalize(captured[-1][0], dim=-1)
        for token in range(limit):
            scores = _process(logits[:, : stopping.vocabulary], ids, token, sampling, stopping.stop_ids)
            top = torch.topk(scores.softmax(dim=-1)[0], min(sampling.top_k, stopping.vocabulary))
            state.select([0] * len(top.indices))
            logits = state.append(top.indices.unsqueeze(1))
            candidates = nn.functional.normalize(captured[-1][:, -1], dim=-1)  # [candidates, width]
            degeneration = (candidates @ text.T).amax(dim=-1)
            best = int(((1 - sampling.penalty_alpha) * top.values - sampling.penalty_alpha * degeneration).argmax())
            ids.append(int(top.indices[best]))
            if ids[-1] in stopping.stop_ids:
                break
            state.select([best])
            logits, text = logits[best : best + 1], torch.cat([text, candidates[best : best + 1]])
    return tuple(ids[first:])


@contextmanager
def captured_states(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """A list whose only element is what the decoder of the model computed last, float32 [rows, columns, width]."""
    captured: list[Tensor] = []

    def capture(module: nn.Module, arguments: tuple[object, ...], output: Mapping[str, Tensor]) -> None:
        captured[:] = [output["last_hidden_state"].float()]

    decoder: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
    handle = decoder.register_forward_hook(capture)
    try:
        yield captured
    finally:
        handle.remove()


def _process(
    logits: Tensor, ids: Sequence[int], generated: int, sampling: SamplingParameters, stop_ids: Sequence[int]
) -> Tensor:
    """The logits after repetition penalty and minimal length, float32 [1, vocabulary]."""
    check_finite(logits)
    scores = logits.clone()
    if sampling.repetition_penalty != 1:
        penalise(scores, torch.tensor([ids], device=logits.device), sampling.repetition_penalty)
    if generated < sampling.min_new_tokens:
        scores[:, list(stop_ids)] = FILTER_VALUE
    return scores
