"""From logits to the next token, as pure functions: logits processors, probabilities, one draw.

The processors and their order are those of transformers' ``generate``: repetition penalty, minimal length, then (only
when sampling) temperature, top-k, top-p, typical. Every draw is a function of (seed, sample, token), so a sample does
not depend on the other rows of its batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from tunesmith.errors import UsageError

FILTER_VALUE = -math.inf
"""The logit of tokens that are filtered out."""


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How replies are generated, in the words of transformers' ``GenerationConfig``.

    The defaults leave the distribution of the model as it is. Raises UsageError, which names the parameter.

    do_sample: draw from the distribution; otherwise the most likely token is taken (greedy decoding), and temperature,
        top_k, top_p and typical_p have no effect.
    temperature: divides the logits; above 0.
    top_k: keep the k most likely tokens; 0 keeps all.
    top_p: keep the most likely tokens up to this probability mass; 1 keeps all.
    typical_p: keep the most typical tokens up to this probability mass; 1 keeps all.
    repetition_penalty: for tokens of the reply and the prompt (but not of the input of an encoder); 1 is no penalty.
    min_new_tokens: the smallest number of tokens of a reply before its stop token.
    max_new_tokens: the largest number of tokens of a reply.
    num_beams: the number of beams of a beam search; 1 is no beam search.
    penalty_alpha: with do_sample=false and top_k above 1, the weight of the degeneration penalty of a contrastive
        search; 0 is no contrastive search.
    """

    do_sample: bool = True
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    max_new_tokens: int = 256
    num_beams: int = 1
    penalty_alpha: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), type(field.default))
        greedy = "for the most likely token each time set do_sample=false"
        _check(self.temperature > 0, "temperature", self.temperature, "a number above 0", greedy)
        _check(self.top_k >= 0, "top_k", self.top_k, "a whole number, 0 for no limit")
        _check(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1", "1 keeps all tokens")
        _check(0 < self.typical_p <= 1, "typical_p", self.typical_p, "above 0 and at most 1", "1 keeps all tokens")
        _check(self.repetition_penalty > 0, "repetition_penalty", self.repetition_penalty, "above 0", "1 is no penalty")
        _check(self.min_new_tokens >= 0, "min_new_tokens", self.min_new_tokens, "a whole number, 0 for no minimum")
        _check(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "a whole number of at least 1")
        _check(self.num_beams >= 1, "num_beams", self.num_beams, "a whole number of at least 1", "1 is no beam search")
        _check(0 <= self.penalty_alpha <= 1, "penalty_alpha", self.penalty_alpha, "from 0 to 1", "0 has no effect")

    @property
    def is_contrastive(self) -> bool:
        """Whether this is a contrastive search, by the rule of transformers' ``get_generation_mode``."""
        return self.num_beams == 1 and not self.do_sample and self.top_k > 1 and self.penalty_alpha > 0

    @property
    def is_search(self) -> bool:
        """Whether tokens are not chosen one after the other: a beam search or a contrastive search."""
        return self.num_beams > 1 or self.is_contrastive


def _check(holds: bool, name: str, value: Any, wanted: str, advice: str | None = None) -> None:
    """Raises UsageError unless ``holds``."""
    if not holds:
        raise UsageError(f"{name}={value!r} must be {wanted}", where="sampling", advice=advice)


def _check_type(name: str, value: Any, kind: type) -> None:
    """Raises UsageError for a wrong type. An int passes for a float, a bool for neither; infinity and NaN fail."""
    if kind is bool:
        _check(isinstance(value, bool), name, value, "true or false")
    elif kind is int:
        _check(isinstance(value, int) and not isinstance(value, bool), name, value, "a whole number")
    else:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        _check(is_number and math.isfinite(value), name, value, "a finite number")


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


def sample_tokens(probability: Tensor, uniforms: Sequence[float] | Tensor) -> Tensor:
    """One id per row by inverse transform sampling: int64 [rows]. An id of probability 0 is never drawn.

    probability: float [rows, vocabulary]. uniforms: [rows] numbers in [0, 1) (``draws.token_uniform``).
    """
    cumulative = probability.double().cumsum(dim=-1)
    numbers = torch.as_tensor(uniforms, dtype=torch.float64, device=probability.device)
    threshold = numbers.unsqueeze(1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(1)


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
