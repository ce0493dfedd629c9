"""A sample of the campaign that compares replies, and faults that it must find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPTNeoXConfig, PreTrainedModel

from benchmarks.sampling_inputs import VOCABULARY
from tests.campaigns.reply_equality import apart, compare, make_requests, ways
from tunesmith.generate.requests import ReplyRequest
from tunesmith.generate.slot_rows import SlotRows

TOKENS = 3


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = GPTNeoXConfig(vocab_size=VOCABULARY, **sizes, initializer_range=0.2)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


@pytest.fixture(scope="module")
def requests() -> list[ReplyRequest]:
    found = make_requests(5)
    return [replace(each, sampling=replace(each.sampling, max_new_tokens=TOKENS)) for each in found]


def test_a_prompt_has_its_samples_in_one_queue_or_in_two(requests: Sequence[ReplyRequest]) -> None:
    order = list(range(len(requests)))[::-1]
    first, second = apart(requests, order)
    assert sorted([*first, *second]) == sorted(order)
    for queue in (first, second):
        prompts = [requests[number].prompt for number in queue]
        assert len(set(prompts)) == len(prompts)
    assert len(second) == 2


def test_no_reply_changes(model: PreTrainedModel, requests: Sequence[ReplyRequest]) -> None:
    chosen = list(ways(requests))
    assert len(chosen) == 19
    found = dict(compare(model, requests, chosen[::6]))  # all of them take seconds
    assert len(found) == 3
    assert set(found.values()) == {0}


def depends_on_count(rows: SlotRows, logits: Tensor) -> Tensor:
    return logits.roll(len(logits), dims=1)


def depends_on_place(rows: SlotRows, logits: Tensor) -> Tensor:
    return torch.stack([row.roll(place) for place, row in enumerate(logits)])


def depends_on_prompts_read(rows: SlotRows, logits: Tensor) -> Tensor:
    return logits.roll(len(rows._read), dims=1)


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (depends_on_count, "1 row, given order"),
        (depends_on_place, "8 rows, random order, refilled, samples shared"),
        (depends_on_prompts_read, "8 rows, given order, refilled, samples apart"),
    ],
)
def test_a_reply_that_depends_on_others_is_seen(
    fault: Callable[[SlotRows, Tensor], Tensor],
    seen: str,
    model: PreTrainedModel,
    requests: Sequence[ReplyRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = SlotRows.step
    monkeypatch.setattr(SlotRows, "step", lambda rows, ids: fault(rows, step(rows, ids)))
    first, *others = ways(requests)
    ((name, differences),) = compare(model, requests, [first, *(way for way in others if way[0] == seen)])
    assert name == seen
    assert differences > 0
