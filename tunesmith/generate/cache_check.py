"""Whether decoding with a cache gives what the whole text gives, tested on the user's own model before it is used.

Families keep their cache in different ways, under different names, and some ignore the padding of shorter rows. A model
that fails the test with its cache is used without one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.errors import DataError
from tunesmith.generate.decoding import CausalState, DecodingState
from tunesmith.generate.recomputing import RecomputingState
from tunesmith.model.attention_choice import stock_attention, use_stock_attention
from tunesmith.model.failures import FAMILY_ERRORS, describe_failure
from tunesmith.model.modes import evaluation_mode
from tunesmith.verify.differences import max_or_nan

# Largest difference of a log-probability that number formats explain.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.05}
PROMPTS = ((5, 1, 4, 7, 2, 9, 3, 6, 8, 4, 1), (3, 8, 2, 6))
LONGEST_WINDOW = 64  # a sliding window of at most so many tokens is exceeded by the longer prompt
RECOMPUTED = "its cache does not give what the whole text gives"


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the replies of a causal model are generated.

    new_state: makes an empty decoding state.
    notice: what the user should know about it; None for decoding with a cache.
    """

    new_state: Callable[[], DecodingState]
    notice: str | None = None


@torch.no_grad()
def choose_decoding(model: PreTrainedModel) -> Decoding:
    """The fastest way to decode that is exact: with a cache, or by computing the whole text at every step.

    Either is tried with the attention that the model has and then with its stock attention, to which the model is
    changed if only that is exact. The reference is the stock model without a cache.
    Raises DataError if nothing is exact.
    """
    prompts = _prompts(model)
    with evaluation_mode(model):
        try:
            expected = _expected(model, prompts)
        except FAMILY_ERRORS as error:
            raise _refuse(model, describe_failure(error)) from error
        reasons: list[str] = []
        for kind in (CausalState, RecomputingState):
            for stock in (False, True):
                failure = _try_state(model, kind, prompts, expected, stock=stock)
                if failure is None:
                    if stock:
                        use_stock_attention(model)
                    return _decoding(model, kind, reasons)
                reasons.append(failure)
    raise _refuse(model, reasons[-1])


def _decoding(model: PreTrainedModel, kind: type[CausalState | RecomputingState], reasons: list[str]) -> Decoding:
    if kind is CausalState:
        return Decoding(lambda: CausalState(model))
    what = f"{type(model).__name__} generates without a cache, which is slower: {reasons[0]}"
    return Decoding(lambda: RecomputingState(model), what)


def _refuse(model: PreTrainedModel, reason: str) -> DataError:
    return DataError(
        f"replies of {type(model).__name__} cannot be generated here: {reason}",
        advice="generate with transformers, or use a family that docs/families.md lists with replies",
    )


def _prompts(model: PreTrainedModel) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A longer and a shorter prompt. The longer one does not fit into a short sliding window."""
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    size = window + 2 if isinstance(window, int) and window <= LONGEST_WINDOW else len(PROMPTS[0])
    repeated = PROMPTS[0] * (size // len(PROMPTS[0]) + 1)
    return repeated[: max(size, len(PROMPTS[0]))], PROMPTS[1]


def _texts(prompts: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The texts whose next tokens ``_decode`` predicts, in its order."""
    long, short = prompts
    return [
        *(long, short),
        *((*long, 2), (*short, 7), (*short, 5)),
        *((*short, 5, 3), (*long, 2, 6)),
        *(long, (*long[:3], 9, 9)),
    ]


def _decode(state: DecodingState, prompts: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """The logits [vocabulary] after every text of ``_texts``, from a state: rows are repeated, end and are reused."""
    long, short = prompts
    found = list(state.prefill([long, short]))
    device = found[0].device
    state.select([0, 1, 1])
    found += state.append(torch.tensor([[2], [7], [5]], device=device))
    state.select([2, 0])
    found += state.append(torch.tensor([[3], [6]], device=device))
    found += state.prefill_cached(long)
    found += state.prefill_cached((*long[:3], 9, 9))
    return found


def _expected(model: PreTrainedModel, prompts: Sequence[tuple[int, ...]]) -> list[Tensor]:
    with stock_attention(model):
        rows = [torch.tensor([text], device=model.device) for text in _texts(prompts)]
        return [model(input_ids=ids, use_cache=False).logits[0, -1].float() for ids in rows]


def _try_state(
    model: PreTrainedModel,
    kind: type[CausalState | RecomputingState],
    prompts: Sequence[tuple[int, ...]],
    expected: list[Tensor],
    *,
    stock: bool,
) -> str | None:
    """Why a way to decode is not exact; None if it is."""
    try:
        if stock:
            with stock_attention(model):
                found = _decode(kind(model), prompts)
        else:
            found = _decode(kind(model), prompts)
    except FAMILY_ERRORS as error:
        return describe_failure(error)
    pairs = zip(found, expected, strict=True)
    difference = max_or_nan(float((a.log_softmax(-1) - b.log_softmax(-1)).abs().max()) for a, b in pairs)
    allowed = TOLERANCE.get(model.dtype, TOLERANCE[torch.float32])
    return None if difference <= allowed else f"{RECOMPUTED} (largest difference {difference:.2g}; allowed {allowed:g})"
