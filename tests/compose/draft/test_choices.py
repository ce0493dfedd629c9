"""The values that `tunesmith init` chooses from what it measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.compose.draft.choices import (
    LONGEST,
    MOST_HELD_OUT,
    RATE_FACTORS,
    choose_batch,
    choose_length,
    choose_log_period,
    choose_rate,
    choose_validation,
    count_steps,
)
from tunesmith.data.dataset.plan import Plan

lengths = st.lists(st.integers(1, 20_000), min_size=1, max_size=300)


@given(lengths, st.none() | st.integers(16, 100_000))
def test_a_limit_is_never_above_what_the_model_reads_and_its_counts_are_those_of_the_data(
    lengths: list[int], context: int | None
) -> None:
    limit = choose_length(lengths, context)
    assert 1 < limit.tokens <= min(LONGEST, context or LONGEST)
    assert limit.longest == max(lengths)
    assert limit.longer == len([length for length in lengths if length > limit.tokens])


@given(lengths)
def test_at_most_one_record_in_a_hundred_is_left_out_where_the_model_reads_enough(lengths: list[int]) -> None:
    short = [min(length, LONGEST) for length in lengths]
    assert choose_length(short, None).longer <= len(short) / 100


def test_all_records_fit_unless_a_few_are_much_longer() -> None:
    assert choose_length([10] * 98 + [45, 50], None).tokens == 64
    assert choose_length([100] * 199 + [2000], None) == (choose_length([100] * 199 + [2000], 512))
    assert choose_length([100] * 199 + [2000], None).tokens == 128


@given(st.integers(1, 10**7))
def test_never_more_records_are_held_out_than_a_twentieth_or_two(records: int) -> None:
    held_out = choose_validation(records)
    assert 0 <= held_out <= min(MOST_HELD_OUT, max(2, records // 20))
    assert held_out < records
    assert (held_out == 0) == (records < 20)


@given(st.integers(1, 10**7), st.integers(1, 4))
def test_a_batch_is_no_larger_than_the_data_and_grows_with_them(records: int, epochs: int) -> None:
    batch = choose_batch(records, epochs)
    assert 1 <= batch <= max(4, records)
    assert batch <= records or batch == 1
    assert choose_batch(records + 1, epochs) >= batch


@given(st.integers(1, 300), st.integers(1, 4), st.integers(1, 32))
def test_the_steps_are_those_of_the_run(records: int, epochs: int, batch: int) -> None:
    assert count_steps(records, epochs, batch) == Plan([1] * records, batch, epochs, None, 0).total_steps


@given(st.integers(1, 10**7))
def test_a_run_of_any_length_has_lines_on_the_screen(steps: int) -> None:
    assert 1 <= choose_log_period(steps) <= min(10, max(1, steps / 10))


@pytest.mark.parametrize("objective", RATE_FACTORS)
def test_larger_models_get_lower_rates(objective: str) -> None:
    rates = [choose_rate(parameters, objective) for parameters in (10**5, 10**7, 10**8, 5 * 10**8, 10**9, 10**10)]
    assert rates == sorted(set(rates), reverse=True)


def test_the_rates_of_a_billion_parameters_are_those_of_the_generic_recipes() -> None:
    assert [choose_rate(10**9, name) for name in ("sft", "dpo", "reward", "ppo")] == [2e-5, 1e-6, 1e-5, 1e-6]
