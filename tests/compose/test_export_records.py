"""Recipe and manifest in an export: no file of an export names a directory of this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.runs import files_with
from tests.worlds import small_recipe
from tunesmith.compose import train_recipe
from tunesmith.compose.export_records import LocalPaths
from tunesmith.recipe.load import load
from tunesmith.train.run.journal import JOURNAL, SEAL


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalPaths:
    """Those of a recipe below ``tmp_path``, with ``tmp_path/here`` and ``tmp_path/home`` as further directories."""
    for name in ("here", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    root = tmp_path / "world"
    places = ["model.init=null", f"model.path={tmp_path}/models/base/export", "model.tokenizer=/dev"]
    return LocalPaths.of(small_recipe(root, places).recipe)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{tmp}/models/base/export", "base"),
        ("{tmp}/models/base/export/", "base"),
        ("{tmp}//models/base/export", "base"),
        ("{tmp}/world/demonstrations.jsonl", "demonstrations.jsonl"),
        ("model.path={tmp}/world/cache x={tmp}/world/other", "model.path=cache x=other"),
        ("{tmp}/here/recipe.yaml", "recipe.yaml"),
        ("{tmp}/home/.cache/x", ".cache/x"),
        ("/dev", "dev"),
        ("</s>/dev", "</s>/dev"),
        ("https://host{tmp}/here/x", "https://host{tmp}/here/x"),
        ("org/model", "org/model"),
        ("/", "/"),
        ("", ""),
    ],
)
def test_known_paths_are_names_and_other_texts_stay(
    text: str, expected: str, paths: LocalPaths, tmp_path: Path
) -> None:
    given, expected = text.format(tmp=tmp_path), expected.format(tmp=tmp_path)
    assert paths.name(given) == expected
    assert paths.remove({given: [given, {"a": (given, 1, None)}]}) == {expected: [expected, {"a": [expected, 1, None]}]}


def test_a_text_that_only_looks_like_a_path_stays(tmp_path: Path) -> None:
    for text in ("/think", "/think step/by", "/think\nstep/by"):
        recipe = small_recipe(tmp_path, [f"about={json.dumps(text)}"]).recipe
        assert LocalPaths.of(recipe).name(text) == text


def test_paths_of_another_machine_are_known_by_their_key(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, ["data.cache=/elsewhere/me/cache", "about=/elsewhere/me/cache"]).recipe
    paths = LocalPaths.of(recipe)
    assert paths.name("/elsewhere/me/cache") == "cache"
    assert paths.name("see /elsewhere/me/notes") == "see notes"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("/elsewhere/faq.yaml", "faq.yaml"),
        ("~/recipes/faq.yaml", "faq.yaml"),
        ("faq.yaml", "faq.yaml"),
        ("model.path=/elsewhere/runs/base/export", "model.path=base"),
        ("model.path=~/runs/base/export", "model.path=base"),
        ("data.sources=[{path: /elsewhere/x.jsonl}]", "data.sources=[{path: x.jsonl}]"),
        ('data.sources+=[{"path":"/elsewhere/a b/x.jsonl","n":1}]', 'data.sources+=[{"path":"x.jsonl","n":1}]'),
        ("data.sources=[{path: ~/x.jsonl}, {path: /elsewhere/y}]", "data.sources=[{path: x.jsonl}, {path: y}]"),
        ("data.evaluation_sets=[/elsewhere/a.jsonl,/elsewhere/b.jsonl]", "data.evaluation_sets=[a.jsonl,b.jsonl]"),
        ("text.options.prefix=/think step/by", "text.options.prefix=/think step/by"),
        ("card.links={Code: https://host/elsewhere/x}", "card.links={Code: https://host/elsewhere/x}"),
    ],
)
def test_a_command_names_no_directory_of_the_machine(word: str, expected: str, tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path).recipe
    assert LocalPaths.of(recipe, [word]).command([word]) == [expected]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("../alice/sft/export", "sft"),
        ("../alice/sft/export/", "sft"),
        ("./../alice/sft", "sft"),
        ("models/../../alice/sft", "sft"),
        ("../sft", "sft"),
        ("../export", "export"),
        ("~/export", "export"),
        ("../..", "../.."),
        ("models/sft", "models/sft"),
        ("models/../sft", "models/../sft"),
        ("..sft/x", "..sft/x"),
    ],
)
def test_a_relative_path_that_leaves_the_current_directory_is_a_name(path: str, name: str, tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, ["model.init=null", f"model.path={path}", "model.tokenizer=/dev"]).recipe
    paths = LocalPaths.of(recipe)
    assert paths.name(path) == name
    assert paths.remove(recipe.model_dump(mode="json"))["model"]["path"] == name
    words = ["train", path, f"model.path={path}", f"data.sources=[{{path: {path}}}]"]
    expected = ["train", name, f"model.path={name}", f"data.sources=[{{path: {name}}}]"]
    assert LocalPaths.of(small_recipe(tmp_path).recipe, words).command(words) == expected


def test_what_is_below_a_directory_elsewhere_is_known_by_its_last_part(tmp_path: Path) -> None:
    words = ["data.evaluation_sets=[../alice/a.jsonl,../b.jsonl]", "about=../alice/a.jsonl"]
    paths = LocalPaths.of(small_recipe(tmp_path, words).recipe)
    assert paths.name("see ../alice/notes") == "see notes"
    assert paths.name("see ../notes") == "see ../notes"
    assert paths.command(words) == ["data.evaluation_sets=[a.jsonl,b.jsonl]", "about=a.jsonl"]
    assert LocalPaths.of(small_recipe(tmp_path, ["about=../alice/a.jsonl"]).recipe).name("../alice/a.jsonl") == (
        "../alice/a.jsonl"
    ), "this key has no paths"


def test_what_an_export_says_of_its_run_can_be_read(tmp_path: Path) -> None:
    """``files_with`` finds the directory in the files of the run, so a path in those of the export would be found."""
    words = ["train.steps=1", "train.evaluate_every=null", "train.save_every=null"]
    run = train_recipe(small_recipe(tmp_path, words)).directory
    assert "recipe.yaml" in files_with(run, str(tmp_path))
    assert files_with(run / "export", str(tmp_path)) == []
    found = load([str(run / "export" / "recipe.yaml")]).recipe
    assert (found.data.sources[0].path, found.run.directory) == ("demonstrations.jsonl", "run")
    assert found.train == load([str(run / "recipe.yaml")]).recipe.train
    recorded = json.loads((run / "manifest.json").read_text())
    manifest = {key: value for key, value in recorded.items() if key not in (*JOURNAL, SEAL)}
    assert json.loads((run / "export" / "run-manifest.json").read_text()) == manifest, "it has no paths here"
