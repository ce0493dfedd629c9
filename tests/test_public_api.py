"""The public functions of the package: their names and signatures stay, and importing them is light."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import tunesmith
from tests.conftest import REPOSITORY
from tunesmith.errors import RecipeError, UsageError
from tunesmith.recipe.layers import CATALOG
from tunesmith.recipe.load import load
from tunesmith.recipe.problems import InvalidRecipeError

SIGNATURES = {
    "load_recipe": "(recipe: 'str | Path | Mapping[str, Any]', *changes: 'str') -> 'LoadedRecipe'",
    "train_recipe": "(recipe: 'LoadedRecipe | str | Path | Mapping[str, Any]', *changes: 'str') -> 'TrainedRun'",
    "sample": "(models: 'Sequence[str | Path]', *, prompts: 'str | Path' = 'general', "
    "output: 'str | Path' = 'reports', sampling: 'Sequence[str]' = ('noprefix',), samples: 'int' = 2, "
    "seed: 'int' = 42, limit: 'int | None' = None, "
    "max_new_tokens: 'int | None' = None, format: 'str | None' = None, batch_size: 'int' = 32) -> 'list[Path]'",
    "score": "(model: 'str | Path', inputs: 'Sequence[str | Path]', *, reader: 'str | None' = None, "
    "output: 'str | Path | None' = None, format: 'str | None' = None, skip: 'bool' = False) -> 'list[dict[str, Any]]'",
    "pipeline": "(path: 'str | Path', *, format: 'str | None' = None, return_full_text: 'bool' = False, "
    "**sampling: 'float') -> 'ReplyPipeline'",
}
"""Programs of users call these. A parameter may be added with a default; nothing may be renamed or removed."""

MINE = {
    "extends": "sft",
    "name": "mine",
    "model": {"path": "model"},
    "data": {"sources": [{"path": Path("mine.jsonl"), "reader": "dolly"}]},
}


def test_names_and_signatures_stay() -> None:
    assert sorted(SIGNATURES) == tunesmith.__all__
    assert {name: str(inspect.signature(getattr(tunesmith, name))) for name in tunesmith.__all__} == SIGNATURES


def test_no_function_has_the_name_of_a_package() -> None:
    """The import of a package would replace the function."""
    packages = {path.stem for path in (REPOSITORY / "tunesmith").iterdir() if path.suffix in ("", ".py")}
    assert packages & {"train", "recipe", "errors"} == {"train", "recipe", "errors"}
    assert packages & set(tunesmith.__all__) == set()


@pytest.mark.parametrize("name", tunesmith.__all__)
def test_arguments_results_and_errors_are_documented(name: str) -> None:
    function = getattr(tunesmith, name)
    text = inspect.getdoc(function) or ""
    assert "Raises " in text
    assert f"tunesmith.{name}(" in text
    for parameter in inspect.signature(function).parameters:
        assert any(line.split(":")[0].split(", ").count(parameter) for line in text.splitlines()), parameter


def test_the_help_of_python_lists_the_functions() -> None:
    text = pydoc.plain(pydoc.render_doc(tunesmith))
    assert "tunesmith - Tunesmith turns a base language model into an assistant" in text
    for name in tunesmith.__all__:
        assert f"    {name}(" in text


def test_the_package_is_imported_without_anything_heavy() -> None:
    code = "import sys, tunesmith; print(sorted({'torch', 'transformers', 'pydantic', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stdout == "[]\n"


def test_a_recipe_is_a_name_a_file_or_a_mapping(tmp_path: Path) -> None:
    assert tunesmith.load_recipe("dolly-v2-3b", "tiny", "train.epochs=3") == load(
        ["dolly-v2-3b", "tiny"], ["train.epochs=3"]
    )
    given = tunesmith.load_recipe(MINE, "lora", "train.epochs=3")
    assert (given.recipe.train.epochs, given.recipe.train.batch_size) == (3, 16)
    origins = [str(given.origins[key]) for key in ("model.path", "train.epochs", "train.keep", "model.adapter.rank")]
    layer = (CATALOG / "layers" / "lora.yaml").read_text().splitlines()
    rank = next(number for number, line in enumerate(layer, start=1) if line.strip().startswith("rank:"))
    assert origins == ["mapping", "command line", "sft:43", f"lora:{rank}"]
    assert str(given.recipe.directory) == "runs/mine-lora"
    assert given.recipe.data.sources[0].path == "mine.jsonl"
    path = tmp_path / "mine.yaml"
    path.write_text(
        "{extends: sft, name: mine, model: {path: model}, data: {sources: [{path: mine.jsonl, reader: dolly}]}}"
    )
    assert tunesmith.load_recipe(path).recipe == tunesmith.load_recipe(MINE).recipe


def test_mistakes_in_a_mapping_are_all_reported() -> None:
    with pytest.raises(InvalidRecipeError) as caught:
        tunesmith.load_recipe({**MINE, "train": {"learning_rte": 1, "clip": "high"}})
    assert str(caught.value).split("\n") == [
        "mapping train.clip: expected a number, got 'high'",
        "mapping train.learning_rte: unknown key; did you mean 'train.learning_rate'?",
    ]
    with pytest.raises(UsageError, match="'mapping' is a layer, which is applied to a recipe"):
        tunesmith.load_recipe({**MINE, "layer": "what it is for"})
    with pytest.raises(RecipeError, match="there is no recipe or layer 'dolly'"):
        tunesmith.load_recipe("dolly")


def test_changes_belong_to_a_recipe_that_is_not_loaded_yet() -> None:
    with pytest.raises(UsageError, match="give them to load_recipe"):
        tunesmith.train_recipe(tunesmith.load_recipe(MINE), "train.epochs=1")
