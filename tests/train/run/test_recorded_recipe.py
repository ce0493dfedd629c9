"""What a page and the list of runs take from a recorded recipe, which another version may have written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worlds import small_recipe
from tunesmith.compose.best import selection_rule
from tunesmith.errors import DataError, MissingInputError, TunesmithError
from tunesmith.recipe.load import dump
from tunesmith.train.run.recorded_recipe import RecordedRecipe
from tunesmith.train.run.selection import SelectionRule


def read(directory: Path, text: str) -> RecordedRecipe:
    (directory / "recipe.yaml").write_text(text)
    return RecordedRecipe.read(directory)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("EleutherAI/pythia-70m", "EleutherAI/pythia-70m"),
        ("/data/runs/base/export", "base"),
        ("runs/base/export", "base"),
        ("../models/small", "small"),
        ("gpt2", "gpt2"),
        ("export", "export"),
        (".", "."),
        ("./", "./"),
        ("/", "/"),
    ],
)
def test_a_model_is_named_as_briefly_as_possible(tmp_path: Path, path: str, name: str) -> None:
    assert read(tmp_path, f"model: {{path: {path}}}").model == name
    assert read(tmp_path, "model: {path: null, init: {architecture: llama}}").model == "new llama"


def test_the_rule_is_that_of_the_recipe(tmp_path: Path) -> None:
    metrics = "[{name: validation/loss, mode: min}, {name: validation/accuracy, mode: max, weight: 2}]"
    recipe = small_recipe(tmp_path / "world", [f"train.best.metrics={metrics}", "train.best.keep=3"]).recipe
    found = read(tmp_path, dump(recipe))
    assert found.rule() == selection_rule(recipe.train.best)
    assert (found.method, found.model) == ("sft", "new llama")


def test_what_is_no_run_or_no_recipe_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no run"):
        RecordedRecipe.read(tmp_path)
    for text in ("a: [", "- a list", "\x00", "", "[" * 50_000, "a: " + "x" * (1 << 20)):
        with pytest.raises(DataError, match="recipe of the run"):
            read(tmp_path, text)


def test_numbers_and_words_are_those_of_the_recipe(tmp_path: Path) -> None:
    """YAML 1.1 has other ones: 1e-05 is text there, and no is false."""
    assert read(tmp_path, "train: {learning_rate: 1e-05}\nname: no\n").values == {
        "train": {"learning_rate": 1e-5},
        "name": "no",
    }


@given(text=st.text(max_size=40) | st.sampled_from(("model: 3", "train: {best: 1}", "train: {best: {metrics: [{}]}}")))
def test_any_text_is_a_recipe_or_an_error(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("run")
    (directory / "recipe.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        found = RecordedRecipe.read(directory)
    except TunesmithError:
        return
    assert isinstance(found.method + found.model, str)
    assert isinstance(found.rule(), SelectionRule)
