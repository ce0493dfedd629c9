"""Whether decoding with a cache gives what the whole text gives, tested on the user's own model before it is used.

Families keep their cache in different ways, under different names, and some ignore the padding of shorter rows. The
cache that is written in place, with rows that begin and end one by one, is tried before that of transformers, with rows
that begin together. A model that fails the test with both is used without a cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.errors import DataError
from tunesmith.generate.decoding import CausalState, DecodingState
from tunesmith.generate.encoder_decoder import EncoderDecoderState, start_token
from tunesmith.generate.encoder_decoder_rows import EncoderDecoderRows
from tunesmith.generate.recomputing import RecomputingState
from tunesmith.generate.running_rows import RunningRows, StaticRows
from tunesmith.generate.slot_rows import SlotRows
from tunesmith.model.attention_choice import stock_attention, use_stock_attention
from tunesmith.model.context import attention_limits
from tunesmith.model.failures import FAMILY_ERRORS, describe_failure
from tunesmith.model.modes import evaluation_mode
from tunesmith.verify.differences import max_or_nan

# Largest difference of a log-probability that number formats explain.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.05}
PROMPTS = ((5, 1, 4, 7, 2, 9, 3, 6, 8, 4, 1), (3, 8, 2, 6))
LONGEST_WINDOW = 64  # a sliding window of at most so many tokens is exceeded by the longer prompt
RECOMPUTED = "its cache does not give what the whole text gives"


Prompt = tuple[int, ...]
Found = Iterable[tuple[Prompt, Tensor]]
"""Texts, each with the logits [vocabulary] of its next token."""


class RowsFactory(Protocol):
    """Makes rows of a model."""

    def __call__(self, rows: int, *, reuse: bool = False) -> RunningRows:
        """rows: the largest number of rows. reuse: whether a prompt reuses the cache of ended rows (``SlotRows``)."""
        ...


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the replies of a model are generated.

    new_rows: makes empty rows.
    new_state: makes an empty decoding state, which searches use.
    notice: what the user should know about it; None for decoding with a cache.
    """

    new_rows: RowsFactory
    new_state: Callable[[], DecodingState]
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class _Way:
    """A way to decode.

    new_rows, new_state: as of ``Decoding``.
    run: generates something, and yields texts with the logits of their next tokens.
    """

    new_rows: RowsFactory
    new_state: Callable[[], DecodingState]
    run: Callable[[], Found]


def static_rows(model: PreTrainedModel, new_state: Callable[[], DecodingState]) -> RowsFactory:
    """The function that makes rows which begin together."""
    return lambda rows, *, reuse=False: StaticRows(new_state, model.device, reuse=reuse)


def state_decoding(model: PreTrainedModel, new_state: Callable[[], DecodingState]) -> Decoding:
    """Decoding with rows that begin together."""
    return Decoding(static_rows(model, new_state), new_state)


@torch.no_grad()
def choose_decoding(model: PreTrainedModel) -> Decoding:
    """The fastest way to decode that is exact: with a cache, or by computing the whole text at every step.

    Every way is tried with the attention that the model has and then with its stock attention, to which the model is
    changed if only that is exact. The reference is the stock model without a cache.
    Raises DataError if nothing is exact.
    """
    prompts = _prompts(model)
    slots = _Way(
        partial(SlotRows, model),
        partial(CausalState, model),
        lambda: _decode_slots(SlotRows(model, 3, reuse=True), *prompts),
    )
    states, recomputing = (_state_way(model, kind, *prompts) for kind in (CausalState, RecomputingState))
    reasons: list[str] = []
    with evaluation_mode(model):
        try:
            _expected(model, prompts[0])
        except FAMILY_ERRORS as error:
            raise _refuse(model, describe_failure(error)) from error
        for ways in ((slots, states), (recomputing,)):
            for stock in (False, True):
                for way in ways:
                    failure = _find_failure(model, way, stock=stock)
                    if failure is None:
                        if stock:
                            use_stock_attention(model)
                        notice = _notice(model, reasons) if way is recomputing else None
                        return Decoding(way.new_rows, way.new_state, notice)
                    if way is not slots:
                        reasons.append(failure)
    raise _refuse(model, reasons[-1])


@torch.no_grad()
def choose_encoder_decoding(model: PreTrainedModel) -> Decoding:
    """The fastest way to decode with an encoder-decoder that is exact.

    Rows that begin and end one by one need the attention of ``model.attention`` and a family without positions other
    than distances. Where they are not exact, rows begin together.
    """
    rows: RowsFactory = partial(EncoderDecoderRows, model)
    new_state = partial(EncoderDecoderState, model)
    with evaluation_mode(model):
        try:
            found = list(_decode_inputs(rows(3)))
            pairs = [(logits, _expected_reply(model, *texts)) for texts, logits in found]
        except FAMILY_ERRORS:
            return state_decoding(model, new_state)
    return state_decoding(model, new_state) if _find_difference(model, pairs) else Decoding(rows, new_state)


def _decode_inputs(rows: RunningRows) -> Iterable[tuple[tuple[Prompt, Prompt], Tensor]]:
    """(input, tokens of its reply) with the logits after them: rows begin while others run and take free slots."""
    one, other = PROMPTS
    rows.replace([], [one, other])
    start = rows.history(one)[0]
    yield from zip(((one, ()), (other, ())), rows.step([start, start]), strict=True)
    rows.replace([], [other])
    yield from zip(((one, (2,)), (other, (7,)), (other, ())), rows.step([2, 7, start]), strict=True)
    rows.replace([0], [])
    yield from zip(((other, (5,)), (other, (7, 6))), rows.step([5, 6]), strict=True)
    rows.replace([0], [one])
    yield from zip(((one, ()), (other, (7, 6, 3))), rows.step([start, 3]), strict=True)


def _expected_reply(model: PreTrainedModel, text: Prompt, reply: Prompt) -> Tensor:
    """The logits [vocabulary] of the token after the beginning of a reply, by the stock model without a cache."""
    begun = torch.tensor([[start_token(model), *reply]], device=model.device)
    with stock_attention(model):
        given = torch.tensor([text], device=model.device)
        logits: Tensor = model(input_ids=given, decoder_input_ids=begun, use_cache=False).logits
    return logits[0, -1].float()


def _state_way(
    model: PreTrainedModel, kind: Callable[[PreTrainedModel], DecodingState], long: Prompt, short: Prompt
) -> _Way:
    new_state = partial(kind, model)
    return _Way(static_rows(model, new_state), new_state, lambda: _decode(kind(model), model.device, long, short))


def _notice(model: PreTrainedModel, reasons: list[str]) -> str:
    return f"{type(model).__name__} generates without a cache, which is slower: {reasons[0]}"


def _refuse(model: PreTrainedModel, reason: str) -> DataError:
    return DataError(
        f"replies of {type(model).__name__} cannot be generated here: {reason}",
        advice="generate with transformers, or use a family that docs/families.md lists with replies",
    )


def _prompts(model: PreTrainedModel) -> tuple[Prompt, Prompt]:
    """A longer and a shorter prompt. The longer one does not fit into a short sliding window."""
    windows = attention_limits(model.config).values()
    size = max((each + 2 for each in windows if isinstance(each, int) and each <= LONGEST_WINDOW), default=0)
    repeated = PROMPTS[0] * (size // len(PROMPTS[0]) + 1)
    return repeated[: max(size, len(PROMPTS[0]))], PROMPTS[1]


def _decode(state: DecodingState, device: torch.device, long: Prompt, short: Prompt) -> Found:
    """Rows are repeated, end and are reused."""
    branch = (*long[:3], 9, 9)
    yield from zip((long, short), state.prefill([long, short]), strict=True)
    state.select([0, 1, 1])
    logits = state.append(torch.tensor([[2], [7], [5]], device=device))
    yield from zip(((*long, 2), (*short, 7), (*short, 5)), logits, strict=True)
    state.select([2, 0])
    logits = state.append(torch.tensor([[3], [6]], device=device))
    yield from zip(((*short, 5, 3), (*long, 2, 6)), logits, strict=True)
    for text in (long, branch):
        yield from zip((text,), state.prefill_cached(text), strict=True)


def _decode_slots(rows: RunningRows, long: Prompt, short: Prompt) -> Found:
    """Rows begin while others run, take the slot of one that has ended, fill a gap, and reuse a cache."""
    branch, longer = (*long[:3], 9, 9), (*long, 2, 6)
    rows.replace([], [long, short])
    yield from zip((long, short), rows.step([long[-1], short[-1]]), strict=True)
    rows.replace([], [short])
    yield from zip(((*long, 2), (*short, 7), short), rows.step([2, 7, short[-1]]), strict=True)
    rows.replace([1], [branch])
    yield from zip(((*long, 2, 6), branch, (*short, 5)), rows.step([6, 9, 5]), strict=True)
    rows.replace([1], [])
    yield from zip(((*long, 2, 6, 4), (*short, 5, 8)), rows.step([4, 8]), strict=True)
    rows.replace([0, 1], [longer])
    yield from zip((longer,), rows.step([6]), strict=True)


def _expected(model: PreTrainedModel, text: Prompt) -> Tensor:
    """The logits [vocabulary] of the token after a text, by the stock model without a cache."""
    with stock_attention(model):
        logits: Tensor = model(input_ids=torch.tensor([text], device=model.device), use_cache=False).logits
    return logits[0, -1].float()


def _find_failure(model: PreTrainedModel, way: _Way, *, stock: bool) -> str | None:
    """Why a way to decode is not exact; None if it is."""
    try:
        with stock_attention(model) if stock else nullcontext():
            found = list(way.run())
    except FAMILY_ERRORS as error:
        return describe_failure(error)
    return _find_difference(model, [(logits, _expected(model, text)) for text, logits in found])


def _find_difference(model: PreTrainedModel, pairs: Iterable[tuple[Tensor, Tensor]]) -> str | None:
    """Why logits are not those that are expected; None if they are. pairs: (logits, expected logits)."""
    logarithms = [(found.log_softmax(-1), expected.log_softmax(-1)) for found, expected in pairs]
    difference = max_or_nan(float((found - expected).abs().max()) for found, expected in logarithms)
    allowed = TOLERANCE.get(model.dtype, TOLERANCE[torch.float32])
    return None if difference <= allowed else f"{RECOMPUTED} (largest difference {difference:.2g}; allowed {allowed:g})"
