"""Names, files and single values become one recipe, and every value has its origin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tunesmith.errors import MissingInputError, RecipeError, UsageError
from tunesmith.recipe.load import annotated_lines, dump, list_catalog, load, split_words
from tunesmith.recipe.problems import InvalidRecipeError


def test_words_are_names_files_or_single_values() -> None:
    words = ["dolly-v2-3b", "tiny", "train.epochs=1", "./a=b/c.yaml", "data.cache=/x/y", "data.sources+=[]"]
    assert split_words(words) == (
        ["dolly-v2-3b", "tiny", "./a=b/c.yaml"],
        ["train.epochs=1", "data.cache=/x/y", "data.sources+=[]"],
    )


def test_the_origin_of_a_value_is_a_file_a_layer_the_command_line_or_the_default(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: dolly-v2-7b\nname: mine\ntrain:\n  optimizer: {kind: muon}\n")
    loaded = load([str(mine), "tiny"], ["train.epochs=3", "data.sources.0.path=x.jsonl"])
    origins = {key: str(origin) for key, origin in loaded.origins.items()}
    assert origins["name"] == f"{mine}:2"
    assert origins["train.optimizer.kind"] == f"{mine}:4"
    assert origins["train.optimizer.momentum"] == "default"
    assert origins["model.resize"].startswith("dolly-v2-3b:")
    assert origins["about"].startswith("dolly-v2-7b:")
    assert origins["model.init.architecture"].startswith("tiny:")
    assert origins["train.epochs"] == "command line"
    assert origins["data.sources.0.path"] == "command line"
    assert origins["data.sources.0.reader"].startswith("dolly-v2-3b:")
    assert origins["run.directory"].startswith("tiny:")
    assert loaded.recipe.train.optimizer.kind == "muon"
    assert str(loaded.recipe.directory) == "runs/mine-tiny-x"


def test_the_origin_is_the_very_line_of_the_value(tmp_path: Path) -> None:
    path = tmp_path / "whole.yaml"
    path.write_text(dump(load(["oasst-sft-4-pythia-12b"]).recipe))
    lines = path.read_text().splitlines()
    loaded = load([str(path)])
    for key, origin in loaded.origins.items():
        assert origin.source == str(path)
        name, separator, _ = lines[origin.line - 1].lstrip(" -").partition(": ")
        assert separator or lines[origin.line - 1].endswith(":")
        assert key.endswith(name.removesuffix(":")), "names of files have points, too"


def test_a_written_recipe_loads_to_the_equal_recipe(tmp_path: Path) -> None:
    recipe = load(["dolly-v2-3b", "tiny"], ["train.epochs=0.5"]).recipe
    path = tmp_path / "recipe.yaml"
    path.write_text(dump(recipe))
    assert load([str(path)]).recipe == recipe


def test_annotated_lines_are_those_that_are_written() -> None:
    loaded = load(["dolly-v2-3b"])
    lines = list(annotated_lines(loaded))
    assert "".join(f"{text}\n" for text, _ in lines) == dump(loaded.recipe)
    assert ("train:", "") in lines
    assert all(origin for text, origin in lines if not text.endswith(":"))


def test_an_appended_source_follows_those_of_the_recipe() -> None:
    recipe = load(["dolly-v2-3b"], ["data.sources+=[{path: mine.jsonl, reader: dolly}]"]).recipe
    assert [source.name for source in recipe.data.sources] == ["dolly", "mine"]


def test_a_layer_alone_or_before_the_recipe_is_refused_with_the_right_order() -> None:
    for names in (["tiny"], ["tiny", "dolly-v2-3b"]):
        with pytest.raises(
            UsageError, match="'tiny' is a layer, which is applied to a recipe; name a recipe before it"
        ):
            load(names)


def test_no_name_a_wrong_name_and_a_missing_file_have_their_own_errors() -> None:
    with pytest.raises(UsageError, match="no recipe is given"):
        load([])
    with pytest.raises(RecipeError, match="did you mean 'dolly-v2-3b'"):
        load(["doly-v2-3b"])
    with pytest.raises(MissingInputError, match=r"there is no recipe file nowhere\.yaml$"):
        load(["nowhere.yaml"])


def test_a_missing_file_has_the_advice_of_a_similar_name_next_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.yaml", "mini.yml", "data.jsonl"):
        Path(name).touch()
    for word, meant in (("mine.yml", "mine.yaml"), ("minee.yaml", "mine.yaml"), ("./mini.yaml", "mini.yml")):
        with pytest.raises(MissingInputError, match=f"there is no recipe file .*; did you mean {re.escape(meant)}\\?$"):
            load([word])


def test_problems_of_several_single_values_are_reported_together() -> None:
    with pytest.raises(InvalidRecipeError) as caught:
        load(["dolly-v2-3b"], ["data.sources.7.path=x", "=3", "train.clip=[1"])
    assert len(str(caught.value).splitlines()) == 3


def test_the_catalog_lists_recipes_then_layers() -> None:
    entries = [(entry.name, entry.kind) for entry in list_catalog()]
    assert ("dolly-v2-3b", "recipe") in entries
    assert entries[-3:] == [("tiny", "layer"), ("tiny-ppo", "layer"), ("tiny-t5", "layer")]
    assert all(entry.about for entry in list_catalog())


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("extends=dpo", "extends is a key of files; name the recipe first: `tunesmith train dpo dolly-v2-3b tiny`"),
        ("layer=mine", "layer is a key of files; write it in the file"),
    ],
)
def test_a_key_of_files_on_the_command_line_says_what_to_write_instead(word: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        load(["dolly-v2-3b", "tiny"], ["train.epochs=1", word])
    assert str(refused.value) == f"command line: {message}"


def test_null_removes_the_fields_of_a_file_so_that_the_reader_can_be_recognised(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "extends: sft\nmodel: {path: m}\n"
        "data: {sources: [{path: a.csv, reader: alpaca, fields: {instruction: question, output: answer}}]}\n"
    )
    with pytest.raises(InvalidRecipeError, match=r"or append data\.sources\.0\.fields=null$"):
        load([str(path)], ["data.sources.0.reader=auto"])
    loaded = load([str(path)], ["data.sources.0.reader=auto", "data.sources.0.fields=null"])
    assert loaded.recipe.data.sources[0].fields == {}
    assert str(loaded.origins["data.sources.0.fields"]) == "command line"
