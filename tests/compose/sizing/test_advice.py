"""Proposals fit, are accepted by the recipe, and hold nothing that is not needed."""

from __future__ import annotations

import itertools
from functools import cache

import pytest

from tests.compose.sizing.seed_plans import sized
from tunesmith.compose.models.families import check_divided
from tunesmith.compose.sizing.advice import LAYERS, RANK, Proposal, fits, propose
from tunesmith.compose.sizing.hardware import GPUS, find_gpu
from tunesmith.compose.sizing.run import SizedRun
from tunesmith.compose.sizing.settings import Distribution
from tunesmith.errors import UsageError
from tunesmith.recipe.load import load

ONE = Distribution()
CASES = [
    ("dolly-v2-12b", "h200", ONE),
    ("tulu-2.5-dpo-13b-uf-mean", "h100", ONE),
    ("dolly-v2-7b", "4090", ONE),
    ("oasst-rlhf-pythia-12b", "h100", Distribution(2, "zero3")),
]


@cache
def run_of(name: str) -> SizedRun:
    return sized(load([name]).recipe)


@pytest.mark.parametrize(("name", "gpu", "spread"), CASES)
def test_a_proposal_fits_and_leaves_out_what_is_not_needed(name: str, gpu: str, spread: Distribution) -> None:
    run = run_of(name)
    assert not fits(run.memory(spread), GPUS[gpu])
    found = propose(run, GPUS[gpu], spread)
    assert found
    for proposal in found:
        wider = spread if proposal.gpus == spread.processes else Distribution(proposal.gpus, "zero3")
        words = tuple(word for word in proposal.words if "=" in word)
        layers = [word for word in proposal.words if "=" not in word]
        adapted = run.changed(load([name, *layers], words).recipe)
        check_divided(adapted.recipe, wider.shard, adapted.recipe.train.weights)
        memory = adapted.memory(wider)
        assert fits(memory, GPUS[gpu])
        assert memory.needed == proposal.needed
        for fewer in itertools.combinations(words, max(0, len(words) - 1)) if words else ():
            assert not fits(run.changed(load([name, *layers], fewer).recipe).memory(wider), GPUS[gpu])


def test_adapters_with_a_base_in_4_bits_are_proposed_if_others_do_not_fit() -> None:
    run = run_of("tulu-2-13b")
    assert [each.words[0] for each in propose(run, GPUS["a100-40"], ONE)][:1] == ["lora"]
    assert [each.words[0] for each in propose(run, GPUS["4090"], ONE)][:1] == ["qlora"]
    adapted = run.changed(load(["tulu-2-13b", "lora"]).recipe)
    assert [each.words[0] for each in propose(adapted, GPUS["4090"], ONE)][:1] == ["qlora"]
    assert not [each for each in propose(run, GPUS["4090"], Distribution(2, "zero3")) if "qlora" in each.words]


def test_the_rank_of_the_formula_is_that_of_the_layers() -> None:
    for layer in LAYERS:
        keys = load(["tulu-2-13b", layer]).recipe.model.adapter
        assert keys is not None
        assert (keys.kind, keys.rank) == (layer, RANK)


def test_weights_and_gradients_of_several_gpus_stay_float32() -> None:
    run = run_of("dolly-v2-12b")
    found = propose(run.changed(load(["dolly-v2-12b", "one-h100"]).recipe), GPUS["h100"], ONE)
    assert (found[-1].gpus, found[-1].words) == (2, ("train.gradients=float32",))
    refused = ("train.gradients=bfloat16", "train.weights")
    wider = propose(run, find_gpu("a100-40"), Distribution(2, "zero3"))
    assert not [word for each in wider for word in each.words if word.startswith(refused)]


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
