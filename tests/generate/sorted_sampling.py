"""Logits processors that sort or mask the whole vocabulary, as transformers does: the reference of the fast ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tunesmith.generate.filters import FILTER_VALUE, sample_tokens
from tunesmith.generate.sampling import SamplingParameters


def seen_tokens(histories: Sequence[Sequence[int]], vocabulary: int) -> Tensor:
    """Which of the ``vocabulary`` ids occur in each history of token ids: bool [rows, vocabulary]."""
    seen = torch.zeros(len(histories), vocabulary, dtype=torch.bool)
    for row, history in enumerate(histories):
        seen[row, torch.as_tensor(history, dtype=torch.long)] = True
    return seen


def apply_repetition_penalty(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide positive logits of seen ids by ``penalty`` and multiply negative ones, each id once.

    Keskar et al. 2019, "CTRL" (arXiv 1909.05858), with the sign rule of transformers' RepetitionPenaltyLogitsProcessor.
    logits: float [rows, vocabulary]. seen: bool [rows, vocabulary] (``seen_tokens``). Returns float [rows, vocabulary].
    """
    penalised = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(seen, penalised, logits)


def suppress_tokens(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """Filter out these ids in every row: float [rows, vocabulary] from float [rows, vocabulary]."""
    result = logits.clone()
    result[:, list(ids)] = FILTER_VALUE
    return result


def filter_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k highest logits of each row, and those equal to the k-th: float [rows, vocabulary] from the same shape.

    Fan et al. 2018, "Hierarchical neural story generation" (arXiv 1805.04833).
    """
    threshold = torch.topk(logits, min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < threshold, FILTER_VALUE)


def filter_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of most likely tokens whose probability mass is at least p, one token at least.

    Nucleus sampling: Holtzman et al. 2020, "The curious case of neural text degeneration" (arXiv 1904.09751). The
        mass is summed from the least likely token on, as in transformers' TopPLogitsWarper, so that both keep exactly
        the same tokens.
    logits: float [rows, vocabulary]. Returns float [rows, vocabulary].
    """
    ascending, order = torch.sort(logits, descending=False)
    mass = ascending.softmax(dim=-1).cumsum(dim=-1)
    removed = mass <= 1 - p
    removed[:, -1] = False
    return logits.masked_fill(removed.scatter(1, order, removed), FILTER_VALUE)


def filter_typical(logits: Tensor, mass: float) -> Tensor:
    """Keep the tokens whose information is nearest to the entropy H, until their probability mass reaches ``mass``.

    Meister et al. 2023, "Locally typical sampling" (arXiv 2202.00666). The distance is |-ln p - H|; tokens at the same
    distance as the last one kept are kept as well. logits: float [rows, vocabulary]. Returns float [rows, vocabulary].
    """
    log_probability = logits.log_softmax(dim=-1)
    probability = log_probability.exp()
    entropy = -(log_probability * probability).nansum(dim=-1, keepdim=True)
    distance, order = torch.sort((-log_probability - entropy).abs(), descending=False)
    reached = logits.gather(1, order).softmax(dim=-1).cumsum(dim=-1)
    last = (reached < mass).sum(dim=-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    removed = distance > distance.gather(1, last)
    return logits.masked_fill(removed.scatter(1, order, removed), FILTER_VALUE)


def process_logits(
    logits: Tensor, seen: Tensor, generated: int, sampling: SamplingParameters, stop_ids: Sequence[int]
) -> Tensor:
    """Apply every logits processor that ``sampling`` asks for.

    Args:
        logits: float [rows, vocabulary].
        seen: bool [rows, vocabulary], the ids that a row has read or written (``seen_tokens``).
        generated: the number of tokens that each row has generated so far.
        stop_ids: the ids that end a reply.

    Returns:
        Float [rows, vocabulary]; tokens that are filtered out have the logit -infinity.
    """
    if sampling.repetition_penalty != 1:
        logits = apply_repetition_penalty(logits, seen, sampling.repetition_penalty)
    if generated < sampling.min_new_tokens:
        logits = suppress_tokens(logits, stop_ids)
    if not sampling.do_sample:
        return logits
    if sampling.temperature != 1:
        logits = logits / sampling.temperature
    if sampling.top_k:
        logits = filter_top_k(logits, sampling.top_k)
    if sampling.top_p < 1:
        logits = filter_top_p(logits, sampling.top_p)
    if sampling.typical_p < 1:
        logits = filter_typical(logits, sampling.typical_p)
    return logits


def next_token_probabilities(
    logits: Tensor, seen: Tensor, generated: int, sampling: SamplingParameters, stop_ids: Sequence[int]
) -> Tensor:
    """The distribution of the next token, float [rows, vocabulary]; arguments as of ``process_logits``."""
    return process_logits(logits, seen, generated, sampling, stop_ids).softmax(dim=-1)


def next_tokens(
    logits: Tensor,
    seen: Tensor,
    generated: int,
    sampling: SamplingParameters,
    stop_ids: Sequence[int],
    uniforms: Sequence[float],
) -> Tensor:
    """The next id of each row, greedy or sampled: int64 [rows].

    Arguments as of ``process_logits`` and ``sample_tokens``; greedy decoding ignores ``uniforms``.
    """
    if not sampling.do_sample:
        return process_logits(logits, seen, generated, sampling, stop_ids).argmax(dim=-1)
    return sample_tokens(next_token_probabilities(logits, seen, generated, sampling, stop_ids), uniforms)
