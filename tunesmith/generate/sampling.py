"""How replies are generated: the names and the meaning of transformers' ``GenerationConfig``.

The processors and their order are those of transformers' ``generate``: repetition penalty, minimal length, then (only
when sampling) temperature, top-k, top-p, typical.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from tunesmith.errors import UsageError

DIVISORS = (1e-4, 1e6)
"""The least and the greatest number by which logits are divided or multiplied.

Both at once change a logit by at most 1e10, so that no float32 logit below 1e28 becomes infinite, and numbers that
float32 rounds to 0 are excluded. At 1e-4 a lead of 0.02 is decided already (e^-200), at 1e6 all tokens are equally
likely.
"""


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How replies are generated, in the words of transformers' ``GenerationConfig``.

    The defaults leave the distribution of the model as it is. Raises UsageError, which names the parameter.

    do_sample: draw from the distribution; otherwise the most likely token is taken (greedy decoding), and temperature,
        top_k, top_p and typical_p have no effect.
    temperature: divides the logits; within ``DIVISORS``.
    top_k: keep the k most likely tokens; 0 keeps all.
    top_p: keep the most likely tokens up to this probability mass; 1 keeps all.
    typical_p: keep the most typical tokens up to this probability mass; 1 keeps all.
    repetition_penalty: for tokens of the reply and the prompt (but not of the input of an encoder); within
        ``DIVISORS``, 1 is no penalty.
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
        _check_divisor("temperature", self.temperature, greedy)
        _check(self.top_k >= 0, "top_k", self.top_k, "a whole number, 0 for no limit")
        _check(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1", "1 keeps all tokens")
        _check(0 < self.typical_p <= 1, "typical_p", self.typical_p, "above 0 and at most 1", "1 keeps all tokens")
        _check_divisor("repetition_penalty", self.repetition_penalty, "1 is no penalty")
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


def _check_divisor(name: str, value: float, advice: str) -> None:
    """Raises UsageError unless the value is within ``DIVISORS``."""
    least, greatest = DIVISORS
    _check(least <= value <= greatest, name, value, f"from {least} to {greatest:.0f}", advice)


def _check_type(name: str, value: Any, kind: type) -> None:
    """Raises UsageError for a wrong type. An int passes for a float, a bool for neither; infinity and NaN fail."""
    if kind is bool:
        _check(isinstance(value, bool), name, value, "true or false")
    elif kind is int:
        _check(isinstance(value, int) and not isinstance(value, bool), name, value, "a whole number")
    else:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        _check(is_number and math.isfinite(value), name, value, "a finite number")
