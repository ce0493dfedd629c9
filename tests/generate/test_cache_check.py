"""Decoding with a cache is compared with the whole text; families whose cache differs are decoded without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from tests.campaigns.family_models import VOCABULARY, tiny_model
from tests.generate.scheduling import generate
from tunesmith.errors import DataError
from tunesmith.generate import cache_check
from tunesmith.generate.cache_check import Decoding, choose_decoding
from tunesmith.generate.decoding import CausalState
from tunesmith.generate.recomputing import RecomputingState
from tunesmith.generate.requests import StoppingCriteria
from tunesmith.generate.running_rows import StaticRows
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.slot_rows import SlotRows

pytestmark = pytest.mark.filterwarnings("ignore")

PROMPTS = ((5, 9, 33, 2, 60, 12), (7, 41, 18), (3, 25, 80, 11, 6))


def greedy(decoding: Decoding, batch_size: int = 2) -> list[list[int]]:
    """The replies to prompts of three lengths; rows end after different numbers of tokens."""
    sampling = SamplingParameters(do_sample=False, max_new_tokens=9)
    stopping = StoppingCriteria((), VOCABULARY, 12)
    return generate(decoding.new_rows(batch_size), PROMPTS, sampling, stopping, batch_size=batch_size)


def kind(decoding: Decoding) -> type:
    """The class of the rows, or of the decoding state of rows that begin together."""
    rows = decoding.new_rows(1)
    return type(rows._state) if isinstance(rows, StaticRows) else type(rows)


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
    assert kind(decoding) is CausalState
    assert decoding.notice is None
    assert greedy(decoding) == stock_replies(model)


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gpt2", "qwen3", "bloom", "opt", "olmo2", "phi"])
def test_rows_of_families_that_keep_every_key_begin_and_end_one_by_one(family: str) -> None:
    model = tiny_model(family)
    decoding = choose_decoding(model)
    assert kind(decoding) is SlotRows
    assert decoding.notice is None
    assert greedy(decoding) == greedy(decoding, 3) == stock_replies(model)


@pytest.mark.parametrize("family", ["rwkv", "minimax"])
def test_a_family_whose_cache_cannot_be_used_is_decoded_without_one_and_says_so(family: str) -> None:
    model = tiny_model(family, **({"rescale_every": 0} if family == "rwkv" else {}))
    decoding = choose_decoding(model)
    assert kind(decoding) is RecomputingState
    assert decoding.notice is not None
    assert "generates without a cache, which is slower" in decoding.notice
    assert greedy(decoding) == stock_replies(model)


def test_a_cache_that_forgets_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetting(CausalState):
        def append(self, ids: torch.Tensor) -> torch.Tensor:
            self._cache.reset()
            return super().append(ids)

    monkeypatch.setattr(cache_check, "CausalState", Forgetting)
    monkeypatch.setattr(cache_check, "SlotRows", Overwriting)
    assert kind(choose_decoding(tiny_model("llama"))) is RecomputingState


class Overwriting(SlotRows):
    """After a row has ended, the first keys of slot 0 are in slot 2."""

    def replace(self, ended: Sequence[int], prompts: Sequence[tuple[int, ...]]) -> list[int]:
        order = super().replace(ended, prompts)
        if ended and len(order) > 2:
            self._cache.move(0, 2, 2)
        return order


class Misplacing(SlotRows):
    """The keys of a prompt that takes a free slot next to others are written into the next slot."""

    def _begin(self, slot: int, head: tuple[int, ...]) -> None:
        super()._begin(slot, head)
        if self._count:
            self._cache.move(slot, slot + 1, len(head))
            self._cache.write(slot, [])


class Staying(SlotRows):
    """The keys of a row that fills a gap stay where they were."""

    def _move(self, source: int, target: int) -> None:
        self._held[target], self._held[source] = self._held[source], []


@pytest.mark.parametrize("rows", [Overwriting, Misplacing, Staying])
def test_rows_that_mix_up_their_slots_are_seen(monkeypatch: pytest.MonkeyPatch, rows: type[SlotRows]) -> None:
    model = tiny_model("llama")
    found = list(cache_check._decode_slots(rows(model, 3, reuse=True), *cache_check.PROMPTS))
    assert len(found) == 11, "the mix-up is no error, so that only the logits show it"
    monkeypatch.setattr(cache_check, "SlotRows", rows)
    assert kind(choose_decoding(model)) is CausalState


def test_a_model_whose_replies_cannot_be_generated_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> list[torch.Tensor]:
        raise TypeError("unexpected keyword")

    for name in ("_decode", "_decode_slots"):
        monkeypatch.setattr(cache_check, name, fail)
    with pytest.raises(DataError, match="replies of LlamaForCausalLM cannot be generated here: unexpected keyword"):
        choose_decoding(tiny_model("llama"))
