"""Filters against reference vectors, draws against their distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.generate.sorted_sampling import (
    filter_top_k,
    filter_top_p,
    filter_typical,
    next_token_probabilities,
    next_tokens,
    process_logits,
    seen_tokens,
)
from tunesmith.draws import token_uniform
from tunesmith.errors import UsageError
from tunesmith.generate.filters import sample_tokens
from tunesmith.generate.sampling import DIVISORS, SamplingParameters

NAMES = {field.name for field in fields(SamplingParameters)}


def _arguments(case: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, int, SamplingParameters, list[int]]:
    given_settings, row = case["settings"], case["input"]
    rows = row["input_ids"] if case["kind"] == "batch" else [row["input_ids"]]
    logits = torch.tensor(
        [[float(x) for x in line] for line in (row["logits"] if case["kind"] == "batch" else [row["logits"]])]
    )
    values = {name: value for name, value in given_settings.items() if name in NAMES}
    values.setdefault("top_k", given_settings["library_default_top_k"] or 0)
    stops = given_settings["eos_token_id"]
    generated = len(rows[0]) - row["prompt_length"]
    return (
        logits,
        seen_tokens(rows, logits.shape[1]),
        generated,
        SamplingParameters(**values),
        [stops] if isinstance(stops, int) else stops,
    )


def _kept(logits: torch.Tensor) -> list[list[int]]:
    return [[i for i, value in enumerate(row) if value > float("-inf")] for row in logits.tolist()]


def test_every_reference_vector_keeps_the_same_tokens_with_the_same_probabilities(
    golden: Callable[[str], dict[str, Any]],
) -> None:
    cases = golden("sampling_filters")["cases"]
    assert len(cases) >= 40
    for case in cases:
        arguments = _arguments(case)
        expected = case["expected"]
        batch = case["kind"] == "batch"
        stages = expected["stages"]
        if stages:
            kept = stages[-1]["kept"] if batch else [stages[-1]["kept"]]
            ours = _kept(process_logits(*arguments))
            if "only the number of kept tokens is portable" in case.get("note", ""):
                assert [len(row) for row in ours] == [len(row) for row in kept], case["id"]
                continue
            assert ours == kept, case["id"]
        wanted = torch.tensor(expected["probabilities"] if batch else [expected["probabilities"]])
        torch.testing.assert_close(next_token_probabilities(*arguments), wanted, atol=1e-6, rtol=0, msg=case["id"])
        greedy = next_tokens(*arguments[:3], SamplingParameters(do_sample=False), [], [0.0] * len(wanted))
        assert greedy.tolist() == arguments[0].argmax(dim=-1).tolist()


def test_temperature_comes_before_the_nucleus() -> None:
    logits = torch.tensor([[3.0, 2.5, 2.0, 1.0, -1.0]])
    cold_then_nucleus = process_logits(
        logits, torch.zeros(1, 5, dtype=torch.bool), 0, SamplingParameters(temperature=0.5, top_p=0.5), []
    )
    nucleus_then_cold = filter_top_p(logits, 0.5) / 0.5
    assert _kept(cold_then_nucleus) != _kept(nucleus_then_cold)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.0), ("temperature", -1.0), ("temperature", float("nan")), ("temperature", float("inf")),
        ("temperature", True), ("top_k", -1), ("top_k", 1.5), ("top_k", True), ("top_p", 0.0), ("top_p", 1.5),
        ("typical_p", 0.0), ("typical_p", 2), ("repetition_penalty", 0), ("min_new_tokens", -1), ("max_new_tokens", 0),
        ("num_beams", 0), ("num_beams", 2.0), ("penalty_alpha", -0.1), ("penalty_alpha", 1.5), ("penalty_alpha", "no"),
        ("do_sample", 1), ("do_sample", "yes"),
    ],
)  # fmt: skip
def test_an_impossible_setting_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        SamplingParameters(**{name: value})


_rows = st.lists(st.lists(st.floats(-30, 30, width=32), min_size=7, max_size=7), min_size=1, max_size=4)


@pytest.mark.parametrize("name", ["temperature", "repetition_penalty"])
def test_numbers_that_float32_rounds_to_zero_or_infinity_do_not_divide_logits(name: str) -> None:
    for value in (1e-46, 1e-40, 9e-5, 1.1e6, 1e300):
        values: dict[str, Any] = {name: value}
        with pytest.raises(UsageError, match=rf"{name}=.* must be from 0.0001 to 1000000"):
            SamplingParameters(**values)


@settings(max_examples=50, deadline=None)
@given(_rows, st.sampled_from(DIVISORS), st.sampled_from(DIVISORS), st.floats(0, 1, exclude_max=True))
def test_at_the_ends_of_the_bounds_a_possible_token_is_drawn(
    rows: list[list[float]], temperature: float, penalty: float, number: float
) -> None:
    logits, sampling = torch.tensor(rows), SamplingParameters(temperature=temperature, repetition_penalty=penalty)
    probability = next_token_probabilities(logits, seen_tokens([[1, 5]] * len(rows), 7), 0, sampling, [])
    assert probability.isfinite().all()
    ids = sample_tokens(probability, [number] * len(rows))
    assert (probability.gather(1, ids[:, None]) > 0).all()


def test_a_draw_from_no_numbers_is_an_id_of_the_vocabulary() -> None:
    assert sample_tokens(torch.full((1, 5), float("nan")), [0.5]).item() < 5


def test_whole_numbers_pass_as_floats() -> None:
    assert SamplingParameters(temperature=1, top_p=1).temperature == 1


@settings(max_examples=150, deadline=None)
@given(_rows, st.floats(0.01, 1), st.integers(1, 9), st.floats(0.01, 1))
def test_filters_keep_something_and_never_invent_a_logit(
    rows: list[list[float]], p: float, k: int, mass: float
) -> None:
    logits = torch.tensor(rows)
    for result in (filter_top_p(logits, p), filter_top_k(logits, k), filter_typical(logits, mass)):
        kept = result > float("-inf")
        assert kept.any(dim=-1).all()
        assert torch.equal(result[kept], logits[kept])
    removed_mass = logits.softmax(-1).masked_fill(filter_top_p(logits, p) > float("-inf"), 0).sum(-1)
    assert (removed_mass <= 1 - p + 1e-5).all()


@settings(max_examples=150, deadline=None)
@given(_rows, st.integers(0, 2**40), st.integers(1, 3))
def test_a_row_is_treated_alike_alone_and_in_a_batch(rows: list[list[float]], seed: int, top_k: int) -> None:
    logits, sampling = (
        torch.tensor(rows),
        SamplingParameters(top_k=top_k, top_p=0.9, typical_p=0.9, repetition_penalty=1.3, temperature=0.8),
    )
    seen = seen_tokens([[i % 7, (i + 3) % 7] for i in range(len(rows))], 7)
    numbers = [token_uniform(seed, i, 0) for i in range(len(rows))]
    together = next_tokens(logits, seen, 5, sampling, [0], numbers)
    alone = [
        next_tokens(logits[i : i + 1], seen[i : i + 1], 5, sampling, [0], numbers[i : i + 1]).item()
        for i in range(len(rows))
    ]
    assert together.tolist() == alone


def test_the_smallest_nucleus_is_one_token() -> None:
    logits = torch.tensor([[0.1, 2.0, 0.3], [0.0, 0.0, 0.0]])
    for result in (filter_top_p(logits, 1e-12), filter_typical(logits[:1], 1e-12), filter_top_k(logits[:1], 1)):
        assert all(len(row) == 1 for row in _kept(result))


def test_draws_follow_the_distribution_and_never_hit_a_removed_token() -> None:
    probability = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    numbers = [token_uniform(7, sample, 0) for sample in range(20_000)]
    ids = sample_tokens(probability.expand(20_000, 6), numbers)
    frequency = torch.bincount(ids, minlength=6) / 20_000
    assert frequency[[0, 2, 5]].tolist() == [0, 0, 0]
    torch.testing.assert_close(frequency, probability, atol=0.015, rtol=0)


@pytest.mark.parametrize("number", [0.0, 1 - 2.0**-53])
def test_the_ends_of_the_unit_interval_draw_a_possible_token(number: float) -> None:
    probability = torch.tensor([[0.0, 0.0, 0.7, 0.3, 0.0]])
    assert sample_tokens(probability, [number]).item() in (2, 3)


def test_the_random_numbers_depend_on_all_three_arguments_and_nothing_else() -> None:
    base = token_uniform(1, 2, 3)
    assert base == token_uniform(1, 2, 3)
    assert (
        len(
            {
                base,
                token_uniform(2, 2, 3),
                token_uniform(1, 3, 3),
                token_uniform(1, 2, 4),
                token_uniform(12, 3, 0),
                token_uniform(1, 23, 0),
            }
        )
        == 6
    )
    assert 0 <= base < 1


def test_no_stop_token_before_the_minimal_length() -> None:
    logits = torch.tensor([[9.0, 1.0, 0.0]])
    seen = torch.zeros(1, 3, dtype=torch.bool)
    sampling = SamplingParameters(do_sample=False, min_new_tokens=3)
    assert [next_tokens(logits, seen, n, sampling, [0], [0.0]).item() for n in (0, 2, 3)] == [1, 1, 0]
