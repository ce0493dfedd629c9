"""The first lines of a run: what is lost to the length limit, what is proven and what is planned."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.worlds import ppo_recipe, preference_recipe, small_recipe
from tunesmith.compose.components.run_lines import TOO_LONG, TRAINED, describe_plan, describe_proof, length_warnings
from tunesmith.data.dataset.report import DataReport, SourceCounts, SplitCounts


def report(*sources: SourceCounts, threads: int = 50) -> DataReport:
    names = ("mine", "yours")
    return DataReport(dict(zip(names, sources, strict=False)), 0, SplitCounts(50, threads, 900, 90), None)


def lossy(dropped: int) -> SourceCounts:
    counts = SourceCounts(records=3000, tokens=1000, cut=276)
    counts.rejected = Counter({TOO_LONG: dropped}) if dropped else Counter()
    return counts


def test_records_that_are_dropped_for_their_length_are_one_plain_sentence(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, ["text.max_length=512"]).recipe
    sentence = "184 of 3,000 records (27.6 % of tokens) are longer than 512 tokens and are dropped (text.max_length)"
    assert list(length_warnings(recipe, report(lossy(184)))) == [sentence]
    whole = SourceCounts(records=10, tokens=100)
    assert list(length_warnings(recipe, report(whole, lossy(184)))) == [f"yours: {sentence}"]
    assert not list(length_warnings(recipe, report(whole)))
    assert "1 of 3,000 records (27.6 % of tokens) is longer than" in next(length_warnings(recipe, report(lossy(1))))


def test_tokens_that_are_cut_are_not_said_to_be_those_of_the_records_that_are_dropped(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, ["text.truncation=right"]).recipe
    beyond = "27.6 % of tokens are beyond the limit of 200 tokens and are dropped"
    assert list(length_warnings(recipe, report(lossy(0)))) == [f"{beyond} (text.max_length)"]
    both = [f"{beyond}, and 184 of 3,000 records with them (text.max_length)"]
    assert list(length_warnings(recipe, report(lossy(184)))) == both
    branches = small_recipe(tmp_path).recipe
    assert list(length_warnings(branches, report(lossy(184), threads=90))) == both


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([60], "masks proven on all records: only replies are trained"),
        ([257], "masks proven on the first 256 records: only replies are trained"),
        ([60, 257], "masks proven on the first 256 records of every source: only replies are trained"),
    ],
)
def test_the_proof_says_on_how_many_records(records: list[int], expected: str, tmp_path: Path) -> None:
    assert describe_proof(small_recipe(tmp_path).recipe, records, 256) == expected


def test_the_proof_says_what_is_trained_in_every_method(tmp_path: Path) -> None:
    preferences = preference_recipe(tmp_path / "dpo").recipe
    assert describe_proof(preferences, [9], 256).endswith(f": {TRAINED['ranked']}")
    assert describe_proof(ppo_recipe(tmp_path / "ppo").recipe, [9], 256).endswith(
        ": only replies that the model writes are trained"
    )


def test_the_plan_counts_the_examples_that_a_step_has(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, ["train.batch_size=64", "train.steps=null", "train.epochs=1"]).recipe
    assert describe_plan(recipe, 3, 1000) == "3 steps of 64 examples, 1 epoch"
    assert describe_plan(recipe, 1, 48) == "1 step of 48 examples, 1 epoch"
    tokens = small_recipe(tmp_path, ["train.batch_size=640", "train.batch_unit=tokens"]).recipe
    assert describe_plan(tokens, 30, 48) == "30 steps of 640 tokens"
    assert describe_plan(ppo_recipe(tmp_path / "ppo").recipe, 30, 48) == "30 steps of 3 prompts"
