"""One recipe with two data sets has two run directories, and with its own data the name of the recipe alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.recipe.load import dump, load

MINE = "data.sources.0.path=data/mine.jsonl"


@pytest.mark.parametrize(
    ("names", "words", "directory"),
    [
        (["dolly-v2-3b"], [], "dolly-v2-3b"),
        (["dolly-v2-3b", "tiny"], ["train.epochs=3"], "dolly-v2-3b-tiny"),
        (["dolly-v2-3b", "tiny"], [MINE], "dolly-v2-3b-tiny-mine"),
        (["dolly-v2-3b"], ["data.sources.0.name=other"], "dolly-v2-3b"),
        (["sft"], ["model.path=m", MINE], "sft-mine"),
        (["sft"], ["model.path=m", "data.sources.0.path=shop/train.jsonl"], "sft-shop-train"),
        (["sft"], ["model.path=m", "data.sources.0.path=train.jsonl"], "sft-train"),
        (["sft"], ["model.path=m", "data.sources.0.path=../../x/data.csv"], "sft-x-data"),
        (["sft"], ["model.path=m", "data.sources.0.path=a/b c", "data.sources.0.split=test[:5]"], "sft-b-c-test-5"),
        (["dolly-v2-3b"], ["data.sources+=[{path: a.jsonl, reader: dolly}]"], "dolly-v2-3b-databricks-dolly-15k-and-1"),
        (["dolly-v2-3b"], [MINE, "run.directory=elsewhere/{name}"], "../elsewhere/dolly-v2-3b"),
        (["dolly-v2-3b"], [MINE, "run.directory=runs/{data}"], "-mine"),
        (["flan-t5-dolly-xxl", "tiny-t5"], [MINE], "flan-t5-dolly-xxl-tiny-t5-mine"),
        (["sft"], ["model.path=m", f"data.sources.0.path={'long' * 40}.jsonl"], "sft-" + "long" * 15),
    ],
)
def test_data_that_are_not_those_of_the_recipe_are_part_of_the_name(
    names: list[str], words: list[str], directory: str
) -> None:
    recipe = load(names, words).recipe
    assert recipe.directory.resolve() == Path("runs", directory).resolve()


def test_the_data_of_a_recipe_file_are_its_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: sft\nname: mine\nmodel: {path: m}\ndata: {sources: [{path: a.jsonl, reader: dolly}]}\n")
    assert str(load([str(path)]).recipe.directory) == "runs/mine"
    assert str(load([str(path)], [MINE]).recipe.directory) == "runs/mine-mine"


def test_the_recipe_that_a_run_stores_has_the_directory_of_the_run(tmp_path: Path) -> None:
    recipe = load(["sft"], ["model.path=m", MINE]).recipe
    path = tmp_path / "recipe.yaml"
    path.write_text(dump(recipe))
    assert load([str(path)]).recipe == recipe
    assert "data" not in recipe.run.directory
