"""How the next token is chosen: logits -> filters -> probabilities -> one draw, as pure functions.

The order is that of Hugging Face ``generate``: repetition penalty, minimal length, then (only when sampling) temperature,
top-k, top-p, locally typical. Every draw is a function of (seed, sample, token), so a sample does not depend on what
else happens to be in its batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from tunesmith.errors import UsageError

REMOVED = -math.inf


@dataclass(frozen=True, slots=True)
class Sampling:
    """The settings of one way to generate. The defaults leave the model's distribution as it is.

    do_sample: draw from the distribution; otherwise the most likely token is taken and the settings below it that only
    shape the distribution (temperature, top_k, top_p, typical_p) have no effect.
    top_k: 0 keeps all. top_p, typical_p: 1 keeps all. repetition_penalty: 1 is none; it counts the prompt as well
    (but not what an encoder read).
    min_new_tokens: a reply may not end before it has that many. max_new_tokens: it is cut there.
    Raises UsageError that names the setting.
    """

    do_sample: bool = True
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    max_new_tokens: int = 256

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


def _check(holds: bool, name: str, value: Any, wanted: str, advice: str | None = None) -> None:
    if not holds:
        raise UsageError(f"{name}={value!r} must be {wanted}", where="sampling", advice=advice)


def _check_type(name: str, value: Any, kind: type) -> None:
    """A whole number may stand for a float; a truth value is no number; infinities and NaN are no settings."""
    if kind is bool:
        _check(isinstance(value, bool), name, value, "true or false")
    elif kind is int:
        _check(isinstance(value, int) and not isinstance(value, bool), name, value, "a whole number")
    else:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        _check(is_number and math.isfinite(value), name, value, "a finite number")


def seen_tokens(histories: Sequence[Sequence[int]], vocabulary: int) -> Tensor:
    """Which ids occur in each history (prompt and what was generated so far): bool [rows, vocabulary]."""
    seen = torch.zeros(len(histories), vocabulary, dtype=torch.bool)
    for row, history in enumerate(histories):
        seen[row, torch.as_tensor(history, dtype=torch.long)] = True
    return seen


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide positive logits of seen ids by ``penalty`` and multiply negative ones, each id once (CTRL, arXiv 1909.05858,
    with the sign rule of Hugging Face). logits [rows, vocabulary], seen bool of the same shape."""
    penalised = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(seen, penalised, logits)


def forbid(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """Give the ids no chance at all. logits [rows, vocabulary]."""
    result = logits.clone()
    result[:, list(ids)] = REMOVED
    return result


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k highest logits of each row, and whatever ties with the k-th."""
    threshold = torch.topk(logits, min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < threshold, REMOVED)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of likely tokens with a mass of at least p, one at least (nucleus sampling, arXiv 1904.09751).

    The mass is summed from the unlikely end, as Hugging Face does, so that the sets agree to the last token.
    """
    ascending, order = torch.sort(logits, descending=False)
    mass = ascending.softmax(dim=-1).cumsum(dim=-1)
    removed = mass <= 1 - p
    removed[:, -1] = False
    return logits.masked_fill(removed.scatter(1, order, removed), REMOVED)


def keep_typical(logits: Tensor, mass: float) -> Tensor:
    """Keep the tokens whose information is closest to the entropy, until ``mass`` is reached (arXiv 2202.00666).

    Distance |-ln p - H|; tokens at the same distance as the last one kept stay as well.
    """
    log_probability = logits.log_softmax(dim=-1)
    probability = log_probability.exp()
    entropy = -(log_probability * probability).nansum(dim=-1, keepdim=True)
    distance, order = torch.sort((-log_probability - entropy).abs(), descending=False)
    reached = logits.gather(1, order).softmax(dim=-1).cumsum(dim=-1)
    last = (reached < mass).sum(dim=-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    removed = distance > distance.gather(1, last)
    return logits.masked_fill(removed.scatter(1, order, removed), REMOVED)


def filtered(logits: Tensor, seen: Tensor, generated: int, sampling: Sampling, stops: Sequence[int]) -> Tensor:
    """Logits after every filter that ``sampling`` asks for; removed tokens are -infinity.

    logits: float [rows, vocabulary]. seen: bool of that shape (``seen_tokens``). generated: number of tokens that each
    row has generated so far. stops: ids that end a reply.
    """
    if sampling.repetition_penalty != 1:
        logits = penalise_repetition(logits, seen, sampling.repetition_penalty)
    if generated < sampling.min_new_tokens:
        logits = forbid(logits, stops)
    if not sampling.do_sample:
        return logits
    if sampling.temperature != 1:
        logits = logits / sampling.temperature
    if sampling.top_k:
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p < 1:
        logits = keep_top_p(logits, sampling.top_p)
    if sampling.typical_p < 1:
        logits = keep_typical(logits, sampling.typical_p)
    return logits


def probabilities(logits: Tensor, seen: Tensor, generated: int, sampling: Sampling, stops: Sequence[int]) -> Tensor:
    """The distribution that is drawn from: float [rows, vocabulary], rows sum to 1. Arguments as for ``filtered``."""
    return filtered(logits, seen, generated, sampling, stops).softmax(dim=-1)


def draw(probability: Tensor, uniforms: Sequence[float]) -> Tensor:
    """One id per row by inverting the cumulative distribution: int64 [rows]. An id of probability 0 is never drawn.

    probability: float [rows, vocabulary]. uniforms: one number in [0, 1) per row (``draws.token_uniform``).
    """
    cumulative = probability.double().cumsum(dim=-1)
    threshold = torch.tensor(uniforms, dtype=torch.float64, device=probability.device).unsqueeze(1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(1)


def choose(
    logits: Tensor, seen: Tensor, generated: int, sampling: Sampling, stops: Sequence[int], uniforms: Sequence[float]
) -> Tensor:
    """The next id of each row: the most likely one, or a draw. int64 [rows]. Arguments as for ``filtered`` and ``draw``."""
    if not sampling.do_sample:
        return filtered(logits, seen, generated, sampling, stops).argmax(dim=-1)
    return draw(probabilities(logits, seen, generated, sampling, stops), uniforms)
