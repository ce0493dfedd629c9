"""Several replies to a prompt that is read once are those that separate prompts give."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from transformers import PreTrainedModel

from tests.generate.scheduling import generate
from tunesmith.generate.decoding import CausalState
from tunesmith.generate.requests import StoppingCriteria
from tunesmith.generate.samples import ReplyTokens, sample_replies
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.slot_rows import SlotRows

STOPPING = StoppingCriteria((3, 7, 11), 61, 96)
SAMPLING = SamplingParameters(temperature=0.8, top_p=0.95, max_new_tokens=20)


def _prompts(count: int, longest: int = 30) -> list[list[int]]:
    draw = random.Random(count)
    return [[draw.randrange(61) for _ in range(draw.randint(1, longest))] for _ in range(count)]


def _alone(model: PreTrainedModel, prompt: Sequence[int], number: int) -> list[int]:
    return generate(SlotRows(model, 1), [prompt], SAMPLING, STOPPING, 9, [number])[0]


def _sampled(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], draws: Sequence[Sequence[int]], batch_size: int
) -> list[list[ReplyTokens]]:
    return sample_replies(SlotRows(model, batch_size), prompts, draws, SAMPLING, STOPPING, 9, batch_size)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_every_reply_is_the_one_that_its_prompt_gets_alone(model: PreTrainedModel, batch_size: int) -> None:
    prompts = _prompts(5)
    draws = [[10 * prompt + k for k in range(count)] for prompt, count in enumerate((4, 1, 3, 0, 4))]
    found = _sampled(model, prompts, draws, batch_size)
    expected = [[_alone(model, prompts[p], number) for number in chosen] for p, chosen in enumerate(draws)]
    assert [[list(sample.ids) for sample in replies] for replies in found] == expected
    assert len({sample.ids for sample in found[0]}) > 1, "replies to one prompt should differ"


def test_a_reply_says_whether_it_ended_by_itself(model: PreTrainedModel) -> None:
    found = [
        sample for replies in _sampled(model, _prompts(6), [[k, k + 50] for k in range(6)], 4) for sample in replies
    ]
    assert {sample.stopped for sample in found} == {True, False}
    for sample in found:
        assert sample.stopped == (sample.ids[-1] in STOPPING.stop_ids)
        assert sample.stopped or len(sample.ids) == SAMPLING.max_new_tokens
        assert not any(token in STOPPING.stop_ids for token in sample.ids[:-1])


def test_logits_of_repeated_rows_are_those_of_rows_that_were_read_apart(model: PreTrainedModel) -> None:
    prompts, owners = _prompts(3), [0, 0, 1, 2, 2, 2]
    shared, apart = CausalState(model), CausalState(model)
    first = shared.prefill(prompts)[owners]
    shared.select(owners)
    assert torch.allclose(first, apart.prefill([prompts[owner] for owner in owners]), atol=1e-5)
    following = torch.arange(len(owners))[:, None] + 20
    assert torch.allclose(shared.append(following), apart.append(following), atol=1e-5)


def test_a_prompt_is_read_once_for_all_its_replies(random_model: Callable[..., PreTrainedModel]) -> None:
    model, read = random_model("llama"), list[int]()

    def count(module: torch.nn.Module, arguments: object, options: dict[str, torch.Tensor]) -> None:
        if options["input_ids"].shape[1] > 1:
            read.append(len(options["input_ids"]))

    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    prompts = [[*range(2, 12 + number)] for number in range(4)]
    replies = _sampled(model, prompts, [[0, 1, 2, 3, 4, 5]] * 4, 3)
    hook.remove()
    assert sum(read) == 4, "replies to a prompt that begin later do not read it again"
    assert all(isinstance(sample, ReplyTokens) for each in replies for sample in each)
