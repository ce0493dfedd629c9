"""Beam search as transformers' ``generate`` does it, with length penalty 1 and ``early_stopping=False``.

With do_sample=true the continuations of a step are drawn without replacement (beam sampling) instead of taken in the
order of their scores. One prompt at a time, on any decoding state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tunesmith.draws import token_uniform
from tunesmith.generate.cumulative import cumulative_sums
from tunesmith.generate.decoding import DecodingState
from tunesmith.generate.filters import FILTER_VALUE, Filters, filter_tokens, typical_keys
from tunesmith.generate.penalties import penalise
from tunesmith.generate.requests import StoppingCriteria
from tunesmith.generate.row_sampler import check_finite
from tunesmith.generate.sampling import SamplingParameters


@dataclass(frozen=True, slots=True)
class Beam:
    """A reply or its beginning.

    ids: the ids that were generated.
    score: the sum of their log-probabilities after the processors, float32 []; divided by their number once it ended.
    parent: the row that it continues.
    ended: whether it ends with a stop id or at the largest length.
    """

    ids: tuple[int, ...]
    score: Tensor
    parent: int
    ended: bool


@torch.no_grad()
def beam_search(
    state: DecodingState,
    prompt: Sequence[int],
    sampling: SamplingParameters,
    stopping: StoppingCriteria,
    seed: int,
    sample: int,
) -> tuple[int, ...]:
    """The ids of the best reply, including its stop id.

    state: an empty decoding state. prompt: its ids.
    seed, sample: of the random numbers with do_sample=true, the i-th of which is ``token_uniform(seed, sample, i)``.
    Raises InternalError if the logits of the model are not finite.
    """
    history = list(state.history(prompt))
    limit = min(sampling.max_new_tokens, stopping.context - len(history))
    count = max(2, 1 + len(stopping.stop_ids)) * sampling.num_beams
    logits = state.prefill([prompt])
    running, ended = [Beam((), torch.zeros((), device=logits.device), 0, False)], list[Beam]()
    while running:
        scores = _process(logits[:, : stopping.vocabulary], history, running, sampling, stopping.stop_ids)
        scores = scores + torch.stack([beam.score for beam in running]).unsqueeze(1)
        length = len(running[0].ids) + 1
        if sampling.do_sample:
            uniforms = [token_uniform(seed, sample, number) for number in range((length - 1) * count, length * count)]
            places = draw_places(scores, uniforms)
        else:
            places = torch.topk(scores.flatten(), min(count, scores.numel())).indices.tolist()
        step = [_continue(running, scores, place, length == limit, stopping.stop_ids) for place in places]
        done = [replace(beam, score=beam.score / length) for beam in step[: sampling.num_beams] if beam.ended]
        ended = sorted([*ended, *done], key=lambda beam: -float(beam.score))[: sampling.num_beams]
        going = sorted((beam for beam in step if not beam.ended), key=lambda beam: -float(beam.score))
        running = going[: sampling.num_beams]
        if not running or (len(ended) == sampling.num_beams and running[0].score / length <= ended[-1].score):
            break
        state.select([beam.parent for beam in running])
        logits = state.append(torch.tensor([[beam.ids[-1]] for beam in running], device=logits.device))
    return ended[0].ids


def _continue(running: Sequence[Beam], scores: Tensor, place: int, last: bool, stop_ids: Sequence[int]) -> Beam:
    """A beam with one more id.

    scores: float32 [beams, vocabulary]. place: of the id among all scores. last: whether no id may follow it.
    """
    parent, token = divmod(place, scores.shape[1])
    return Beam((*running[parent].ids, token), scores[parent, token], parent, last or token in stop_ids)


def _process(
    logits: Tensor,
    history: Sequence[int],
    running: Sequence[Beam],
    sampling: SamplingParameters,
    stop_ids: Sequence[int],
) -> Tensor:
    """Log-probabilities after the processors, float32 [beams, vocabulary]; transformers applies them to these."""
    check_finite(logits)
    scores = logits.log_softmax(dim=-1)
    if sampling.repetition_penalty != 1:
        seen = torch.tensor([[*history, *beam.ids] for beam in running], device=logits.device)
        penalise(scores, seen, sampling.repetition_penalty)
    if len(running[0].ids) < sampling.min_new_tokens:
        scores[:, list(stop_ids)] = FILTER_VALUE
    return _filter(scores, sampling, fewest=max(2, 1 + len(stop_ids))) if sampling.do_sample else scores


def _filter(scores: Tensor, sampling: SamplingParameters, fewest: int) -> Tensor:
    """The scores after temperature, top-k, top-p and typical sampling, each of which keeps at least ``fewest`` tokens.

    So every beam has a token that does not end it, as in transformers.
    """
    scores, fewest = scores / sampling.temperature, min(fewest, scores.shape[1])
    if sampling.top_k > 0:
        scores = _keep(scores, Filters(top_k=_column(scores, max(sampling.top_k, fewest))), scores, fewest)
    if sampling.top_p < 1:
        scores = _keep(scores, Filters(top_p=_column(scores, sampling.top_p)), scores, fewest)
    if sampling.typical_p < 1:
        scores = _keep(scores, Filters(typical_p=_column(scores, sampling.typical_p)), typical_keys(scores), fewest)
    return scores


def _keep(scores: Tensor, filters: Filters, keys: Tensor, fewest: int) -> Tensor:
    """What a filter and the ``fewest`` highest keys keep of the scores."""
    removed = filter_tokens(scores, filters, None).weights == 0
    return scores.masked_fill(removed.scatter(1, torch.topk(keys, fewest).indices, False), FILTER_VALUE)


def _column(scores: Tensor, value: float) -> Tensor:
    return torch.full((len(scores), 1), value, dtype=torch.float64, device=scores.device)


def draw_places(scores: Tensor, uniforms: Sequence[float]) -> list[int]:
    """Places among all scores, drawn in proportion to their exponentials and without replacement."""
    weights = scores.flatten().softmax(dim=0).double()
    places = weights.nonzero().squeeze(1)
    weights, found = weights[places], []
    for uniform in uniforms[: len(places)]:
        cumulative = cumulative_sums(weights)
        place = torch.searchsorted(cumulative, uniform * cumulative[-1:], right=True).clamp(max=len(places) - 1)
        found.append(int(places[place]))
        weights[place] = 0
    return found
