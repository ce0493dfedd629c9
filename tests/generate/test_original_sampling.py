"""What a sampling configuration of an original means, against the golden vectors and stock transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from transformers import GenerationConfig

from tunesmith.errors import UsageError
from tunesmith.generate.original_sampling import original_sampling
from tunesmith.generate.sampling import SamplingParameters

NUCLEUS = {"max_new_tokens": 400, "do_sample": True, "temperature": 0.8, "top_p": 0.9}


def test_a_configuration_that_draws_without_top_k_draws_from_the_50_most_likely_tokens() -> None:
    found = original_sampling(NUCLEUS)
    assert found.parameters == SamplingParameters(temperature=0.8, top_p=0.9, top_k=50, max_new_tokens=400)
    assert found.filled_in == {"top_k": 50}
    assert found.without_effect == ()


@pytest.mark.parametrize("top_k", [0, 5, 9607])
def test_a_top_k_that_is_named_is_kept(top_k: int) -> None:
    found = original_sampling({**NUCLEUS, "top_k": top_k})
    assert (found.parameters.top_k, found.filled_in) == (top_k, {})


def test_greedy_decoding_is_the_default_and_fills_in_nothing_that_it_does_not_read() -> None:
    found = original_sampling({"max_new_tokens": 8, "temperature": 0.7, "penalty_alpha": None})
    assert found.parameters == SamplingParameters(do_sample=False, temperature=0.7, max_new_tokens=8)
    assert (found.filled_in, found.without_effect) == ({}, ("temperature",))


def test_penalty_alpha_has_no_effect_while_do_sample_is_true() -> None:
    found = original_sampling({"do_sample": True, "top_k": 5, "penalty_alpha": 0.6, "max_new_tokens": 9})
    assert not found.parameters.is_contrastive
    assert found.without_effect == ("penalty_alpha",)


def test_penalty_alpha_without_draws_is_a_contrastive_search_over_50_candidates() -> None:
    found = original_sampling({"do_sample": False, "penalty_alpha": 0.6, "max_new_tokens": 9})
    assert found.parameters.is_contrastive
    assert (found.filled_in, found.without_effect) == ({"top_k": 50}, ())


def test_the_library_ends_a_reply_after_20_tokens_unless_the_configuration_says_more() -> None:
    assert original_sampling({}).parameters.max_new_tokens == 20
    assert original_sampling({}).filled_in == {"max_new_tokens": 20}


@pytest.mark.parametrize(
    "arguments",
    [{"penalty_alpha": 0.6}, {"penalty_alpha": 0.6, "top_k": 1}, {"penalty_alpha": 0.6, "do_sample": True},
     {"penalty_alpha": 0.6, "num_beams": 2}, {"num_beams": 4}, {"do_sample": True}, {}],
)  # fmt: skip
def test_a_contrastive_search_is_what_transformers_takes_for_one(arguments: dict[str, Any]) -> None:
    library = GenerationConfig(**{"top_k": 50, "do_sample": False, "num_beams": 1, **arguments})
    is_search = library.get_generation_mode().value == "contrastive_search"
    assert original_sampling(arguments).parameters.is_contrastive == is_search


def test_an_unknown_argument_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="bad_words_ids"):
        original_sampling({"bad_words_ids": [[1, 2]]})


def test_the_processors_are_those_that_the_original_built(golden: Callable[[str], dict[str, Any]]) -> None:
    for case in golden("sampling_filters")["cases"]:
        arguments = {name: value for name, value in case["settings"].items() if name in _ARGUMENTS}
        if case["settings"]["library_default_top_k"] is None:
            arguments.setdefault("top_k", 0)
        found = original_sampling(arguments).parameters
        stages = [stage["name"] for stage in case["expected"]["stages"]]
        assert [name for name, holds in _PROCESSORS.items() if holds(found, arguments)] == stages, case["id"]


_ARGUMENTS = ("do_sample", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "min_new_tokens",
              "num_beams", "penalty_alpha")  # fmt: skip
_PROCESSORS: Mapping[str, Callable[[SamplingParameters, dict[str, Any]], bool]] = {
    "RepetitionPenaltyLogitsProcessor": lambda found, _: found.repetition_penalty != 1,
    "MinNewTokensLengthLogitsProcessor": lambda found, _: found.min_new_tokens > 0,
    "TemperatureLogitsWarper": lambda found, _: found.do_sample and found.temperature != 1,
    "TopKLogitsWarper": lambda found, _: found.do_sample and found.top_k > 0,
    "TopPLogitsWarper": lambda found, _: found.do_sample and found.top_p < 1,
    "TypicalLogitsWarper": lambda found, _: found.do_sample and found.typical_p < 1,
}
