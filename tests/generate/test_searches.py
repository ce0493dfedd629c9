"""Which search a request runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from transformers import PreTrainedModel

from tunesmith.generate.beam_search import beam_search
from tunesmith.generate.contrastive import contrastive_search
from tunesmith.generate.decoding import CausalState
from tunesmith.generate.requests import StoppingCriteria
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.searches import search

PROMPT, STOPPING = [1, 2, 3], StoppingCriteria((5,), 61, 96)
BEAMS = SamplingParameters(do_sample=False, num_beams=3, max_new_tokens=8)
CONTRASTIVE = SamplingParameters(do_sample=False, top_k=4, penalty_alpha=0.6, max_new_tokens=8)


@pytest.mark.parametrize(
    ("sampling", "is_search", "is_contrastive"),
    [
        (BEAMS, True, False),
        (CONTRASTIVE, True, True),
        (SamplingParameters(num_beams=2), True, False),
        (SamplingParameters(do_sample=False, num_beams=2, top_k=4, penalty_alpha=0.6), True, False),
        (SamplingParameters(top_k=5, penalty_alpha=0.6), False, False),
        (SamplingParameters(do_sample=False, top_k=1, penalty_alpha=0.6), False, False),
        (SamplingParameters(do_sample=False), False, False),
    ],
)
def test_a_search_is_recognised_as_in_transformers(
    sampling: SamplingParameters, is_search: bool, is_contrastive: bool
) -> None:
    assert (sampling.is_search, sampling.is_contrastive) == (is_search, is_contrastive)


def test_a_request_runs_its_search(random_model: Callable[..., PreTrainedModel]) -> None:
    model = random_model("llama")

    def found(sampling: SamplingParameters) -> tuple[int, ...]:
        return search(CausalState(model), model, PROMPT, sampling, STOPPING, 1, 2)

    assert found(BEAMS) == beam_search(CausalState(model), PROMPT, BEAMS, STOPPING, 1, 2)
    assert found(CONTRASTIVE) == contrastive_search(CausalState(model), model, PROMPT, CONTRASTIVE, STOPPING)
    with pytest.raises(AssertionError, match="one after the other"):
        found(SamplingParameters())
