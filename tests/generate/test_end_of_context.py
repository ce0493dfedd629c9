"""Replies beyond every window and up to the last position, in batches whose rows have different lengths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from tests.campaigns.family_models import VOCABULARY, tiny_model
from tunesmith.generate.cache_check import choose_decoding
from tunesmith.generate.requests import ReplyRequest, StoppingCriteria
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.scheduler import Scheduler
from tunesmith.generate.slot_rows import SlotRows

pytestmark = pytest.mark.filterwarnings("ignore")

POSITIONS = 106
"""Not a multiple of the blocks of columns and of prompts."""
LENGTHS = ((POSITIONS - 1, 5), (3, 2 * POSITIONS), (POSITIONS - 9, 4), (1, 40), (70, POSITIONS))
"""Of each prompt, and of its reply at most."""

ENCODERS = ("big_bird", "roformer")
"""Families whose tokens see all others unless the configuration says that the model is a decoder."""


def model_with_positions(family: str, **values: Any) -> PreTrainedModel:
    values |= {"max_seq_len" if family == "mpt" else "max_position_embeddings": POSITIONS}
    return tiny_model(family, **values, **({"is_decoder": True} if family in ENCODERS else {}))


@torch.no_grad()
def largest_difference(model: PreTrainedModel, batch_size: int) -> float:
    """Between the log-probabilities of the tokens of greedy replies and those of the whole texts without a cache."""
    draw = torch.Generator().manual_seed(1)
    prompts = [tuple(torch.randint(3, VOCABULARY, (length,), generator=draw).tolist()) for length, _ in LENGTHS]
    rows = choose_decoding(model).new_rows(batch_size)
    scheduler = Scheduler(rows, StoppingCriteria((), VOCABULARY, POSITIONS), batch_size)
    asked = {}
    for prompt, (_, most) in zip(prompts, LENGTHS, strict=True):
        sampling = SamplingParameters(do_sample=False, max_new_tokens=most)
        asked[scheduler.add(ReplyRequest(prompt, sampling, 0, 0, alternatives=0))] = prompt
    found = dict(scheduler.run())
    assert sum(reply.finish == "context" for reply in found.values()) == 3
    differences = []
    for ticket, prompt in asked.items():
        reply = found[ticket]
        text = torch.tensor([[*prompt, *reply.ids]])
        logits = model(input_ids=text[:, :-1], use_cache=False).logits[0, len(prompt) - 1 :].float()
        expected = logits.log_softmax(-1).gather(1, text[0, len(prompt) :, None])[:, 0]
        assert reply.log_probabilities is not None
        got = torch.tensor([each.chosen for each in reply.log_probabilities])
        differences.append(float((got - expected).abs().max()))
    return max(differences)


@pytest.mark.parametrize("window", [16, 80])
def test_local_attention_counts_the_tokens_of_a_row_and_not_the_columns(window: int) -> None:
    assert largest_difference(model_with_positions("gpt_neo", window_size=window), 8) < 1e-3


@pytest.mark.parametrize("family", ["mpt", "big_bird", "roformer", "llama", "gpt2", "bloom"])
def test_replies_end_at_the_last_position(family: str) -> None:
    model = tiny_model(family) if family == "bloom" else model_with_positions(family)
    assert largest_difference(model, 8) < 1e-2


def test_rows_that_begin_together_pass_the_context_in_columns_but_not_in_tokens() -> None:
    model = model_with_positions("gpt_neo")
    with pytest.raises(ValueError, match="tokens that do not see all others: attention_types, window_size"):
        SlotRows(model, 1)
    assert largest_difference(model, 2) < 1e-3
