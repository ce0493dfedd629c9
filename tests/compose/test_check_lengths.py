"""What `tunesmith check` says of records that are too long, and that the words it advises are enough."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worlds import preference_recipe, small_recipe, write_world
from tunesmith.compose.check.lengths import find_limit
from tunesmith.compose.check.recipe import CheckResult, collect_checks
from tunesmith.recipe.load import LoadedRecipe
from tunesmith.report.check import Check


def write_long(root: Path, architecture: str = "llama") -> None:
    """Sixty short records and six long ones."""
    write_world(root, architecture=architecture)
    with (root / "demonstrations.jsonl").open("a") as lines:
        lines.writelines(
            json.dumps({"instruction": f"Count to {n}.", "response": "red blue " * 60 + str(n)}) + "\n"
            for n in range(6)
        )


def checked(recipe: LoadedRecipe, *, with_model: bool = False) -> CheckResult:
    return collect_checks(recipe, lambda done, total, label: None, with_model=with_model)


def find(result: CheckResult, name: str) -> Check:
    (found,) = (check for check in result.report.checks if check.name == name)
    return found


def advised_words(check: Check) -> list[str]:
    (words,) = re.findall(r"^append (.*?) to ", check.advice)
    return shlex.split(words)


@pytest.mark.parametrize(
    ("architecture", "limits"),
    [("llama", ["text.max_length=150"]), ("t5", ["text.max_length=60", "text.max_target_length=40"])],
)
def test_the_words_that_are_advised_are_enough(architecture: str, limits: list[str], tmp_path: Path) -> None:
    write_long(tmp_path, architecture)
    given_words = [*limits, "text.truncation=drop"]
    before = checked(small_recipe(tmp_path, given_words))
    for name in ("length limit", "truncated targets"):
        assert find(before, name).status in ("warn", "fail")
        words = advised_words(find(before, name))
        after = checked(small_recipe(tmp_path, [*given_words, *words]))
        assert (find(after, name).status, words != []) == ("pass", True)


def test_records_that_are_dropped_are_counted_and_marked_on_the_page(tmp_path: Path) -> None:
    write_long(tmp_path)
    result = checked(small_recipe(tmp_path, ["text.max_length=150", "text.truncation=drop"]))
    summary = find(result, "length limit").summary
    assert re.fullmatch(r"6 of 66 records \([\d.]+% of tokens\) are longer than 150 tokens and dropped", summary)
    assert {example.dropped for example in result.examples} == {"", "longer than the limit"}
    for example in result.examples:
        assert (example.tokens > 150) == bool(example.dropped)
        assert example.use in (("training", "validation") if not example.dropped else ("",))


def test_records_that_are_cut_are_counted_and_their_lost_tokens_are_marked(tmp_path: Path) -> None:
    write_long(tmp_path)
    result = checked(small_recipe(tmp_path, ["text.max_length=150", "text.truncation=right"]))
    assert "since 6 of 66 records are longer than 150 tokens" in find(result, "length limit").summary
    for example in result.examples:
        marked = [[token.cut for token in thread] for thread in example.threads]
        assert sum(map(sum, marked)) == example.cut
        assert all(flags == sorted(flags) for flags in marked)
    assert any(example.cut for example in result.examples)


def test_nothing_longer_than_the_model_is_advised(tmp_path: Path) -> None:
    write_long(tmp_path)
    positions = ["model.init.max_position_embeddings=192", "text.max_length=150", "text.truncation=drop"]
    check = find(checked(small_recipe(tmp_path, positions), with_model=True), "length limit")
    assert advised_words(check) == ["text.max_length=192"]
    assert check.advice.endswith("or append text.truncation=right to keep the beginning of longer records")
    positions = ["model.init.max_position_embeddings=150", "text.max_length=150", "text.truncation=drop"]
    check = find(checked(small_recipe(tmp_path, positions), with_model=True), "length limit")
    assert check.advice.startswith("the model reads 150 tokens at most; append text.truncation=right")


def test_the_other_reply_of_a_ranking_is_no_reason_to_cut(tmp_path: Path) -> None:
    check = find(checked(preference_recipe(tmp_path, ["text.max_length=60"])), "length limit")
    assert "text.truncation" not in check.advice


@pytest.mark.parametrize("policy", ["exact", "near"])
def test_a_record_that_repeats_another_is_marked_as_dropped(policy: str, tmp_path: Path) -> None:
    write_world(tmp_path)
    line = json.dumps({"instruction": "Say it twice.", "context": "", "response": "twice " * 20}) + "\n"
    with (tmp_path / "demonstrations.jsonl").open("a") as file:
        file.write(line * 2)
    result = checked(small_recipe(tmp_path, [f"data.duplicates={policy}"]))
    dropped = [example for example in result.examples if example.dropped]
    assert dropped
    for example in dropped:
        assert re.match("repeats line|nearly repeats an earlier record", example.dropped)
        assert example.use == ""
    assert find(result, "truncated targets").status == "pass"  # what is dropped as a duplicate is not cut


def test_the_report_names_what_was_checked(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    inputs = collect_checks(recipe, lambda *_: None, command="tunesmith check small").report.inputs
    assert inputs["command"] == ["tunesmith check small"]
    assert inputs["data"] == [f"demonstrations: {tmp_path}/demonstrations.jsonl, 60 of 60 records used"]
    assert [line.split(" records")[0] for line in inputs["split"]] == ["training: 48", "validation: 12"]
    assert inputs["model"][0] == "new llama with random weights"
    assert inputs["model"][1].startswith("LlamaForCausalLM, ")
    assert "torch 2" in inputs["versions"][0]


def test_one_cause_is_one_failed_check(tmp_path: Path) -> None:
    write_world(tmp_path)
    result = checked(small_recipe(tmp_path, [f"model.tokenizer={tmp_path}/nowhere"]))
    (check,) = result.report.checks
    assert (check.name, check.status, check.places) == ("cannot begin: tokenizer", "fail", ())
    assert result.examples == []


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=30), st.floats(0, 0.9))
def test_the_limit_is_the_lowest_that_loses_at_most_the_share(records: list[tuple[int, int]], share: float) -> None:
    lengths = np.array([length for length, _ in records], np.int64)
    weight = np.array([weight for _, weight in records], np.float64)
    limit = find_limit(lengths, [weight], share)

    def loses(limit: int) -> float:
        return float(weight[lengths > limit].sum())

    assert loses(limit) <= share * weight.sum()
    shorter = [length for length in lengths.tolist() if length < limit]
    assert not shorter or loses(max(shorter)) > share * weight.sum()
