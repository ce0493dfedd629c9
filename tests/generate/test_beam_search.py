"""Beam search against stock transformers, for causal models and encoder-decoders."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from transformers import GenerationConfig, PreTrainedModel

from tests.generate.test_encoder_decoder import random_t5
from tunesmith.draws import token_uniform
from tunesmith.generate.beam_search import beam_search, draw_places
from tunesmith.generate.decoding import CausalState, DecodingState
from tunesmith.generate.encoder_decoder import EncoderDecoderState
from tunesmith.generate.recomputing import RecomputingState
from tunesmith.generate.requests import StoppingCriteria
from tunesmith.generate.sampling import SamplingParameters

ROWS, CONTEXT = 64, 96
SEARCHES = [
    SamplingParameters(do_sample=False, num_beams=2, max_new_tokens=12),
    SamplingParameters(do_sample=False, num_beams=5, max_new_tokens=20, repetition_penalty=1.3),
    SamplingParameters(do_sample=False, num_beams=4, max_new_tokens=16, min_new_tokens=5),
    SamplingParameters(do_sample=False, num_beams=3, max_new_tokens=1),
    SamplingParameters(do_sample=False, num_beams=1, max_new_tokens=10),
]


def _prompts(count: int) -> list[list[int]]:
    generator = random.Random(count)
    return [[generator.randrange(ROWS) for _ in range(generator.randint(1, 20))] for _ in range(count)]


def _stock(
    model: PreTrainedModel, prompt: Sequence[int], sampling: SamplingParameters, stops: tuple[int, ...]
) -> list[int]:
    configuration = GenerationConfig(
        do_sample=False, num_beams=sampling.num_beams, max_new_tokens=sampling.max_new_tokens,
        min_new_tokens=sampling.min_new_tokens or None, repetition_penalty=sampling.repetition_penalty,
        eos_token_id=list(stops) or [ROWS], pad_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip
    ids = torch.tensor([list(prompt)])
    output = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=configuration)
    reply: list[int] = output[0, 1 if model.config.is_encoder_decoder else len(prompt) :].tolist()
    ends = [place + 1 for place, token in enumerate(reply) if token in stops]
    return reply[: ends[0]] if ends else reply


def _ours(
    state: DecodingState, prompt: Sequence[int], sampling: SamplingParameters, stops: tuple[int, ...]
) -> list[int]:
    return list(beam_search(state, prompt, sampling, StoppingCriteria(stops, ROWS, CONTEXT), 1, 2))


@pytest.mark.parametrize("stops", [(), (5,), (1, 4, 7, 11, 15, 18, 29, 40)])
@pytest.mark.parametrize("family", ["gpt_neox", "llama", "t5"])
def test_the_reply_is_that_of_stock_transformers(
    random_model: Callable[..., PreTrainedModel], family: str, stops: tuple[int, ...]
) -> None:
    model = random_t5() if family == "t5" else random_model(family, ROWS, CONTEXT)
    new_state = EncoderDecoderState if family == "t5" else CausalState
    ended = 0
    for number, prompt in enumerate(_prompts(10)):
        sampling = SEARCHES[number % len(SEARCHES)]
        ours = _ours(new_state(model), prompt, sampling, stops)
        assert ours == _stock(model, prompt, sampling, stops), (prompt, sampling)
        ended += ours[-1] in stops
    assert ended > 0 or len(stops) < 8


def test_a_search_without_a_cache_finds_the_same(random_model: Callable[..., PreTrainedModel]) -> None:
    model = random_model("llama", ROWS, CONTEXT)
    for prompt, sampling in zip(_prompts(3), SEARCHES, strict=False):
        without = _ours(RecomputingState(model), prompt, sampling, (5, 9))
        assert without == _ours(CausalState(model), prompt, sampling, (5, 9))


def test_the_end_of_the_context_ends_a_search(random_model: Callable[..., PreTrainedModel]) -> None:
    model, prompt = random_model("llama", ROWS, CONTEXT), [3] * 90
    sampling = SamplingParameters(do_sample=False, num_beams=3, max_new_tokens=50)
    assert len(_ours(CausalState(model), prompt, sampling, ())) == CONTEXT - 90


DRAWN = SamplingParameters(temperature=4.0, top_p=0.9, num_beams=5, max_new_tokens=12, min_new_tokens=3)


def test_beam_sampling_depends_on_seed_and_sample_and_obeys_the_filters(
    random_model: Callable[..., PreTrainedModel],
) -> None:
    model, stopping = random_model("llama", ROWS, CONTEXT), StoppingCriteria((5, 9, 20), ROWS, CONTEXT)

    def reply(seed: int, sample: int, sampling: SamplingParameters = DRAWN) -> tuple[int, ...]:
        return beam_search(CausalState(model), [1, 2, 3], sampling, stopping, seed, sample)

    assert reply(1, 2) == reply(1, 2)
    assert len({reply(1, sample) for sample in range(6)}) > 1
    for sample in range(6):
        found = reply(1, sample)
        assert 3 < len(found) <= 12
        assert not set(found[:3]) & {5, 9, 20}


def test_beam_sampling_from_few_tokens_searches_these_alone(random_model: Callable[..., PreTrainedModel]) -> None:
    model, stopping = random_model("gpt_neox", ROWS, CONTEXT), StoppingCriteria((), ROWS, CONTEXT)
    narrow = SamplingParameters(top_k=1, num_beams=4, max_new_tokens=6, temperature=0.05)
    found = {beam_search(CausalState(model), [4, 4], narrow, stopping, seed, 0) for seed in range(8)}
    allowed: set[tuple[int, ...]] = {()}
    for _ in range(6):  # top_k is at least 2, so that a beam can go on after a stop id
        grown: set[tuple[int, ...]] = set()
        for start in allowed:
            top = CausalState(model).prefill([[4, 4, *start]]).topk(2).indices[0].tolist()
            grown |= {(*start, token) for token in top}
        allowed = grown
    assert found <= allowed


def test_places_are_drawn_without_replacement_in_proportion_to_their_probabilities() -> None:
    scores = torch.tensor([[0.5, 0.0, 0.2], [0.0, 0.3, 0.0]]).log()
    draws = [draw_places(scores, [token_uniform(1, sample, i) for i in range(5)]) for sample in range(3000)]
    assert all(sorted(places) == [0, 2, 4] for places in draws)
    pairs = torch.bincount(torch.tensor([6 * first + second for first, second, _ in draws]), minlength=36) / 3000
    expected = {(0, 2): 0.5 * 0.4, (0, 4): 0.5 * 0.6, (2, 0): 0.2 * 0.625, (2, 4): 0.2 * 0.375, (4, 0): 0.3 * 5 / 7}
    for (first, second), probability in expected.items():
        assert pairs[6 * first + second].item() == pytest.approx(probability, abs=0.03)
