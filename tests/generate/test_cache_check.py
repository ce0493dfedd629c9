"""Decoding with a cache is compared with the whole text; families whose cache differs are decoded without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.campaigns.family_models import VOCABULARY, tiny_model
from tunesmith.errors import DataError
from tunesmith.generate import cache_check
from tunesmith.generate.cache_check import choose_decoding
from tunesmith.generate.decoding import CausalState, StoppingCriteria, decode
from tunesmith.generate.recomputing import RecomputingState
from tunesmith.generate.sampling import SamplingParameters

pytestmark = pytest.mark.filterwarnings("ignore")

PROMPTS = ((5, 9, 33, 2, 60, 12), (7, 41, 18), (3, 25, 80, 11, 6))


def greedy(model: Any, kind: Any) -> list[list[int]]:
    """The replies to prompts of three lengths; rows end after different numbers of tokens."""
    state = kind(model)
    sampling = SamplingParameters(do_sample=False, max_new_tokens=9)
    stopping = StoppingCriteria((), VOCABULARY, 12)
    found: list[list[int]] = [[] for _ in PROMPTS]
    for step in decode(state, state.prefill(PROMPTS), PROMPTS, sampling, stopping, 0, [0, 1, 2]):
        for row, token in step:
            found[row].append(token)
    return found


@torch.no_grad()
def stock_replies(model: Any) -> list[list[int]]:
    found = []
    for prompt in PROMPTS:
        ids = list(prompt)
        while len(ids) < 12:
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        found.append(ids[len(prompt) :])
    return found


@pytest.mark.parametrize("family", ["lfm2", "jamba", "qwen3_next", "mamba", "gemma2"])
def test_rows_of_hybrid_and_recurrent_caches_end_at_different_times(family: str) -> None:
    model = tiny_model(family)
    decoding = choose_decoding(model)
    assert isinstance(decoding.new_state(), CausalState)
    assert decoding.notice is None
    assert greedy(model, CausalState) == stock_replies(model)


@pytest.mark.parametrize("family", ["rwkv", "minimax"])
def test_a_family_whose_cache_cannot_be_used_is_decoded_without_one_and_says_so(family: str) -> None:
    model = tiny_model(family, **({"rescale_every": 0} if family == "rwkv" else {}))
    decoding = choose_decoding(model)
    assert isinstance(decoding.new_state(), RecomputingState)
    assert decoding.notice is not None
    assert "generates without a cache, which is slower" in decoding.notice
    assert greedy(model, RecomputingState) == stock_replies(model)


def test_a_cache_that_forgets_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetting(CausalState):
        def append(self, ids: torch.Tensor) -> torch.Tensor:
            self._cache.reset()
            return super().append(ids)

    monkeypatch.setattr(cache_check, "CausalState", Forgetting)
    assert isinstance(choose_decoding(tiny_model("llama")).new_state(), RecomputingState)


def test_a_model_whose_replies_cannot_be_generated_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> list[torch.Tensor]:
        raise TypeError("unexpected keyword")

    monkeypatch.setattr(cache_check, "_decode", fail)
    with pytest.raises(DataError, match="replies of LlamaForCausalLM cannot be generated here: unexpected keyword"):
        choose_decoding(tiny_model("llama"))
