"""Proposals fit, are accepted by the recipe, and hold nothing that is not needed."""

from __future__ import annotations

import itertools

import pytest

from tests.compose.sizing.seed_plans import sized
from tunesmith.compose.sizing.advice import Proposal, adapter_settings, fits, propose
from tunesmith.compose.sizing.estimate import Distribution
from tunesmith.compose.sizing.hardware import GPUS, find_gpu
from tunesmith.compose.sizing.run import SizedRun
from tunesmith.errors import UsageError
from tunesmith.recipe.load import load, with_values

ONE = Distribution()
CASES = [
    ("dolly-v2-12b", "h200", ONE),
    ("tulu-2.5-dpo-13b-uf-mean", "h100", ONE),
    ("dolly-v2-7b", "4090", ONE),
    ("tulu-2.5-dpo-13b-uf-mean", "h100", Distribution(2, "zero3")),
]


def run_of(name: str) -> SizedRun:
    return sized(load([name]).recipe)


def changed(run: SizedRun, words: tuple[str, ...]) -> SizedRun:
    return run.changed(with_values(run.recipe, words))


@pytest.mark.parametrize(("name", "gpu", "spread"), CASES)
def test_a_proposal_fits_and_leaves_out_what_is_not_needed(name: str, gpu: str, spread: Distribution) -> None:
    run = run_of(name)
    assert not fits(run.memory(spread), GPUS[gpu])
    found = propose(run, GPUS[gpu], spread)
    assert found
    for proposal in found:
        wider = spread if proposal.gpus == spread.processes else Distribution(proposal.gpus, "zero3")
        words = tuple(word for word in proposal.words if "=" in word)
        adapter = adapter_settings(run) if "lora" in proposal.words else None
        memory = changed(run, words).memory(wider, adapter)
        assert fits(memory, GPUS[gpu])
        assert memory.needed == proposal.needed
        for fewer in itertools.combinations(words, max(0, len(words) - 1)) if words else ():
            assert not fits(changed(run, fewer).memory(wider, adapter), GPUS[gpu])


def first(name: str, gpu: str, spread: Distribution = ONE) -> Proposal:
    return propose(run_of(name), GPUS[gpu], spread)[0]


def test_the_cheapest_change_comes_first() -> None:
    assert first("dolly-v2-12b", "h200").words == ("train.moments=8bit",)
    assert first("dolly-v2-7b", "h100").words == ("train.moments=8bit",)
    assert first("flan-t5-dolly-xxl", "h100").words == ("train.gradients=bfloat16",)


def test_what_fits_needs_no_advice() -> None:
    assert propose(run_of("dolly-v2-3b"), GPUS["h200"], ONE) == []


def test_the_smallest_number_of_gpus_without_changes_is_the_last_proposal() -> None:
    last = propose(run_of("tulu-2.5-dpo-13b-uf-mean"), GPUS["h100"], ONE)[-1]
    assert (last.gpus, last.words) == (4, ())
    fewer = run_of("tulu-2.5-dpo-13b-uf-mean").memory(Distribution(2, "zero3"))
    assert not fits(fewer, GPUS["h100"])


def test_an_unknown_gpu_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean h100"):
        find_gpu("h10")
    assert find_gpu("H200") is GPUS["h200"]
