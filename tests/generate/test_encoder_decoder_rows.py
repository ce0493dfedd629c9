"""Rows of an encoder-decoder that begin while others run: the same replies, bit for bit, and each prompt read once."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from transformers import PreTrainedModel

from tests.generate.test_encoder_decoder import KINDS, STOPS, VOCABULARY, random_t5
from tunesmith.generate.cache_check import choose_encoder_decoding
from tunesmith.generate.encoder_decoder_rows import EncoderDecoderRows
from tunesmith.generate.requests import ReplyRequest, StoppingCriteria
from tunesmith.generate.running_rows import StaticRows
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.scheduler import FinishedReply, Scheduler
from tunesmith.model.attention import register

STOPPING = StoppingCriteria(STOPS, VOCABULARY, 2**31)


def model_with_our_attention(kind: str = "untied") -> PreTrainedModel:
    model = random_t5(kind)
    model.set_attn_implementation(register())
    return model


def requests(count: int = 12) -> list[ReplyRequest]:
    """Greedy and drawn replies of different lengths, some of them beyond a block of columns, to prompts of 1 to 90."""
    draw, found = random.Random(1), list[ReplyRequest]()
    for number in range(count):
        prompt = tuple(draw.randrange(VOCABULARY) for _ in range(draw.randint(1, 90)))
        longest = 80 if number % 7 == 0 else draw.randint(1, 20)
        sampling = SamplingParameters(
            do_sample=number % 3 > 0, max_new_tokens=longest, min_new_tokens=longest // 2, repetition_penalty=1.2
        )
        found.append(ReplyRequest(prompt, sampling, 3, number, alternatives=2))
    return found


def replies(model: PreTrainedModel, asked: Sequence[ReplyRequest], batch_size: int) -> list[FinishedReply]:
    scheduler = Scheduler(EncoderDecoderRows(model, batch_size), STOPPING, batch_size)
    tickets = [scheduler.add(request) for request in asked]
    found = dict(scheduler.run())
    return [found[ticket] for ticket in tickets]


@pytest.mark.parametrize("kind", KINDS)
def test_replies_have_the_same_bits_alone_in_any_batch_and_order(kind: str) -> None:
    model, asked = model_with_our_attention(kind), requests()
    alone = [replies(model, [request], 1)[0] for request in asked]
    for size in (3, len(asked)):
        assert replies(model, asked, size) == alone
    assert replies(model, asked[::-1], 5)[::-1] == alone
    assert len({len(reply.ids) for reply in alone}) > 5


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_begin_one_by_one_are_chosen_where_they_are_exact(kind: str) -> None:
    chosen = choose_encoder_decoding(model_with_our_attention(kind)).new_rows(2)
    assert isinstance(chosen, EncoderDecoderRows)


def test_they_are_not_chosen_with_an_attention_that_moves_no_bias() -> None:
    assert isinstance(choose_encoder_decoding(random_t5()).new_rows(2), StaticRows)


def test_a_prompt_is_encoded_once_also_for_replies_that_begin_later() -> None:
    model, sizes = model_with_our_attention(), list[int]()
    hook = model.get_encoder().register_forward_pre_hook(
        lambda module, arguments, options: sizes.append(len(options["input_ids"])), with_kwargs=True
    )
    asked = [ReplyRequest((5, 6, 8), SamplingParameters(max_new_tokens=4), 1, number) for number in range(6)]
    assert len(replies(model, asked, 2)) == 6
    hook.remove()
    assert sizes == [1]


def test_a_step_that_was_interrupted_can_be_repeated() -> None:
    model, prompts = model_with_our_attention(), [(5, 6, 8), (9, 4)]
    whole, interrupted = EncoderDecoderRows(model, 2), EncoderDecoderRows(model, 2)
    for rows in (whole, interrupted):
        rows.replace([], prompts)
        rows.step([0, 0])

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    hook = model.get_decoder().block[1].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        interrupted.step([5, 7])
    hook.remove()
    for ids in ([5, 7], [6, 6]):
        assert torch.equal(interrupted.step(ids), whole.step(ids))
