"""Our loop against the one of transformers, batches against single prompts, a reused cache against a fresh one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, GenerationConfig, MistralConfig, PreTrainedModel

from tests.generate.scheduling import generate
from tunesmith.errors import InternalError
from tunesmith.generate.decoding import CausalState
from tunesmith.generate.requests import StoppingCriteria
from tunesmith.generate.running_rows import RunningRows, StaticRows
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.slot_rows import SlotRows

VOCABULARY = 61  # of 64 rows
CONTEXT = 96
STOPS = (3, 7, 11)
GREEDY = SamplingParameters(do_sample=False, max_new_tokens=24)


def _prompts(count: int, longest: int = 30) -> list[list[int]]:
    generator = random.Random(count)
    return [[generator.randrange(VOCABULARY) for _ in range(generator.randint(1, longest))] for _ in range(count)]


def static_rows(model: PreTrainedModel, *, reuse: bool = False) -> StaticRows:
    return StaticRows(lambda: CausalState(model), model.device, reuse=reuse)


def _reusing(model: PreTrainedModel, *, static: bool) -> RunningRows:
    return static_rows(model, reuse=True) if static else SlotRows(model, 1, reuse=True)


def _replies(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingParameters,
    *,
    stops: tuple[int, ...] = STOPS,
    samples: Sequence[int] | None = None,
    static: bool = False,
) -> list[list[int]]:
    stopping = StoppingCriteria(stops, VOCABULARY, CONTEXT)
    rows = static_rows(model) if static else SlotRows(model, len(prompts))
    return generate(rows, prompts, sampling, stopping, samples=samples)


def _stock(
    model: PreTrainedModel, prompt: Sequence[int], sampling: SamplingParameters, stops: tuple[int, ...]
) -> list[int]:
    configuration = GenerationConfig(
        do_sample=False,
        max_new_tokens=min(sampling.max_new_tokens, CONTEXT - len(prompt)),
        min_new_tokens=sampling.min_new_tokens or None,
        repetition_penalty=sampling.repetition_penalty,
        eos_token_id=list(stops) or None,
        pad_token_id=0,
        suppress_tokens=list(range(VOCABULARY, model.config.vocab_size)),
    )
    ids = torch.tensor([list(prompt)])
    output: list[int] = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=configuration)[
        0
    ].tolist()
    return output[len(prompt) :]


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize(("minimum", "penalty"), [(0, 1.0), (6, 1.2)])
def test_greedy_replies_equal_those_of_stock_generate(
    model: PreTrainedModel, penalty: float, minimum: int, static: bool
) -> None:
    sampling = SamplingParameters(
        do_sample=False, max_new_tokens=24, repetition_penalty=penalty, min_new_tokens=minimum
    )
    prompts = _prompts(6)
    assert [_replies(model, [prompt], sampling, static=static)[0] for prompt in prompts] == [
        _stock(model, prompt, sampling, STOPS) for prompt in prompts
    ]


@pytest.mark.parametrize("static", [True, False])
def test_a_batch_gives_what_each_prompt_gives_alone_although_finished_rows_leave(
    model: PreTrainedModel, static: bool
) -> None:
    prompts = _prompts(9)
    together = _replies(model, prompts, GREEDY, static=static)
    assert together == [_replies(model, [prompt], GREEDY)[0] for prompt in prompts]
    assert len({len(reply) for reply in together}) > 2, "the replies should end at different steps"
    assert any(reply[-1] in STOPS for reply in together)


def test_a_sample_does_not_depend_on_its_batch(model: PreTrainedModel) -> None:
    prompts, sampling = _prompts(7), SamplingParameters(top_p=0.95, temperature=0.9, max_new_tokens=16)
    together = _replies(model, prompts, sampling)
    alone = [_replies(model, [prompt], sampling, samples=[index])[0] for index, prompt in enumerate(prompts)]
    assert together == alone
    assert _replies(model, [prompts[0]], sampling, samples=[99])[0] != together[0]


def test_padding_rows_of_the_vocabulary_are_never_chosen(random_model: Callable[..., PreTrainedModel]) -> None:
    model = random_model("llama")
    with torch.no_grad():
        model.lm_head.weight[VOCABULARY:] = 50 * model.lm_head.weight[:3]
    prompts = _prompts(5)
    for sampling in (GREEDY, SamplingParameters(max_new_tokens=24)):
        assert max(max(reply) for reply in _replies(model, prompts, sampling)) < VOCABULARY


def test_prompt_and_reply_together_never_pass_the_context(model: PreTrainedModel) -> None:
    prompts = [[5] * (CONTEXT - 1), [5] * (CONTEXT - 4), [5]]
    lengths = [
        len(reply)
        for reply in _replies(model, prompts, SamplingParameters(do_sample=False, max_new_tokens=200), stops=())
    ]
    assert lengths == [1, 4, CONTEXT - 1]


def test_logits_that_are_not_finite_stop_the_program(random_model: Callable[..., PreTrainedModel]) -> None:
    model = random_model("gpt_neox")
    with torch.no_grad():
        model.get_output_embeddings().weight[4, 0] = float("nan")
    with pytest.raises(InternalError, match="not finite"):
        _replies(model, [[1, 2]], GREEDY)


def _dialogue(rows: RunningRows, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    stopping = StoppingCriteria(STOPS, VOCABULARY, CONTEXT)
    return [generate(rows, [prompt], GREEDY, stopping)[0] for prompt in prompts]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=5), st.booleans())
def test_a_reused_cache_gives_what_a_fresh_one_gives(
    model: PreTrainedModel, prompts: list[list[int]], static: bool
) -> None:
    assert _dialogue(_reusing(model, static=static), prompts) == [
        _replies(model, [prompt], GREEDY)[0] for prompt in prompts
    ]


class _Interrupting(torch.nn.Module):
    """Replaces one layer and is interrupted once, in the middle of a forward pass."""

    def __init__(self, layer: torch.nn.Module, at: int) -> None:
        super().__init__()
        self.layer, self.left = layer, at

    def forward(self, *arguments: object, **options: object) -> object:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.layer(*arguments, **options)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("at", [1, 2, 5])
def test_an_interrupted_reply_leaves_a_usable_cache(
    random_model: Callable[..., PreTrainedModel], at: int, static: bool
) -> None:
    first, second = [1, 2, 3, 4], [1, 2, 3, 4, 9, 9]
    model = random_model("llama")
    expected = _replies(model, [second], GREEDY)
    rows = _reusing(model, static=static)
    layers = model.model.layers
    layers[1] = _Interrupting(layers[1], at)
    with pytest.raises(KeyboardInterrupt):
        _dialogue(rows, [first])
    assert _dialogue(rows, [second]) == expected


def test_a_sliding_window_is_read_afresh() -> None:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=4, max_position_embeddings=CONTEXT, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    prompts = [[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3]]
    alone = [_replies(model, [prompt], GREEDY, static=True)[0] for prompt in prompts]
    assert _dialogue(_reusing(model, static=True), prompts) == alone
