"""Contrastive search against its definition, computed from the whole text for every candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from transformers import PreTrainedModel

from tests.generate.test_encoder_decoder import random_t5
from tunesmith.generate.contrastive import contrastive_search
from tunesmith.generate.decoding import CausalState, DecodingState
from tunesmith.generate.encoder_decoder import EncoderDecoderState
from tunesmith.generate.recomputing import RecomputingState
from tunesmith.generate.requests import StoppingCriteria
from tunesmith.generate.sampling import SamplingParameters

VOCABULARY, CONTEXT, STOPS = 61, 96, (5, 9, 20, 33)
PROMPTS = [[1, 2, 3], [7], [60, 4, 4, 4, 9, 30, 2, 11]]
STATES: dict[str, Callable[[PreTrainedModel], DecodingState]] = {
    "gpt_neox": CausalState, "llama": RecomputingState, "gpt2": CausalState, "t5": EncoderDecoderState,
}  # fmt: skip


def _read(model: PreTrainedModel, prompt: Sequence[int], ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits after the last id, float32 [vocabulary], and the last hidden states of the decoder [ids, width]."""
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            inputs = {"input_ids": torch.tensor([list(prompt)]), "decoder_input_ids": torch.tensor([list(ids)])}
            output = model(**inputs, output_hidden_states=True)
            return output.logits[0, -1, :VOCABULARY], output.decoder_hidden_states[-1][0]
        output = model(input_ids=torch.tensor([list(ids)]), output_hidden_states=True)
        return output.logits[0, -1, :VOCABULARY], output.hidden_states[-1][0]


def _by_definition(model: PreTrainedModel, prompt: Sequence[int], alpha: float, k: int, most: int) -> list[int]:
    ids = [0] if model.config.is_encoder_decoder else list(prompt)
    first = len(ids)
    while len(ids) - first < most:
        logits, _ = _read(model, prompt, ids)
        probabilities = logits.softmax(dim=0)
        best, chosen = float("-inf"), -1
        for token in probabilities.topk(k).indices.tolist():
            _, states = _read(model, prompt, [*ids, token])
            similar = max(float(torch.cosine_similarity(states[-1], state, dim=0)) for state in states[:-1])
            value = (1 - alpha) * float(probabilities[token]) - alpha * similar
            if value > best:
                best, chosen = value, token
        ids.append(chosen)
        if chosen in STOPS:
            break
    return ids[first:]


@pytest.mark.parametrize("family", list(STATES))
@pytest.mark.parametrize(("alpha", "k"), [(0.6, 5), (0.3, 8), (1.0, 2)])
def test_the_reply_is_that_of_the_definition(
    random_model: Callable[..., PreTrainedModel], family: str, alpha: float, k: int
) -> None:
    model = random_t5() if family == "t5" else random_model(family, 64, CONTEXT)
    sampling = SamplingParameters(do_sample=False, top_k=k, penalty_alpha=alpha, max_new_tokens=9)
    greedy, different = SamplingParameters(do_sample=False, top_k=1, max_new_tokens=9), 0
    for prompt in PROMPTS:
        stopping = StoppingCriteria(STOPS, VOCABULARY, CONTEXT)
        found = contrastive_search(STATES[family](model), model, prompt, sampling, stopping)
        assert list(found) == _by_definition(model, prompt, alpha, k, 9)
        different += found != contrastive_search(STATES[family](model), model, prompt, greedy, stopping)
    assert different > 0


def test_processors_apply_before_the_candidates_are_chosen(random_model: Callable[..., PreTrainedModel]) -> None:
    model = random_model("llama", 64, CONTEXT)
    stopping = StoppingCriteria(tuple(range(30)), VOCABULARY, CONTEXT)
    sampling = SamplingParameters(
        do_sample=False, top_k=4, penalty_alpha=0.5, min_new_tokens=6, max_new_tokens=9, repetition_penalty=1e4
    )
    found = contrastive_search(CausalState(model), model, [40, 41], sampling, stopping)
    assert min(found[:6]) >= 30
    assert len(set(found)) == len(found)


def test_nothing_stays_attached_to_the_model(random_model: Callable[..., PreTrainedModel]) -> None:
    model = random_model("llama", 64, CONTEXT)
    sampling = SamplingParameters(do_sample=False, top_k=2, penalty_alpha=0.5, max_new_tokens=2)
    contrastive_search(CausalState(model), model, [1], sampling, StoppingCriteria((), VOCABULARY, CONTEXT))
    assert not any(module._forward_hooks for module in model.modules())
