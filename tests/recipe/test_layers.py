"""Layers: the later file wins, mappings merge, lists replace, ``key+`` appends, another ``kind`` replaces it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import MissingInputError, RecipeError
from tunesmith.recipe.layers import RecipeFiles, is_file, merge
from tunesmith.recipe.problems import InvalidRecipeError
from tunesmith.recipe.reading import read_text, to_plain


def merged(*texts: str) -> Any:
    result = None
    for number, text in enumerate(texts):
        result = merge(result, read_text(text, f"{number}.yaml"))
    assert result is not None
    return to_plain(result)


@pytest.mark.parametrize(
    ("lower", "upper", "result"),
    [
        ("{a: 1, b: 2}", "{b: 3, c: 4}", {"a": 1, "b": 3, "c": 4}),
        ("{a: {b: 1, c: 2}}", "{a: {c: 3}}", {"a": {"b": 1, "c": 3}}),
        ("{a: {b: 1}}", "{a: null}", {"a": None}),
        ("{a: null}", "{a: {b: 1}}", {"a": {"b": 1}}),
        ("{a: [1, 2]}", "{a: [3]}", {"a": [3]}),
        ("{a: [1, 2]}", "{a+: [3]}", {"a": [1, 2, 3]}),
        ("{}", "{a+: [3]}", {"a": [3]}),
        ("{a: null}", "{a+: [3]}", {"a": [3]}),
        ("{a: [1]}", "{a+: [3], a: [2]}", {"a": [2, 3]}),
        ("{x: 1}", "{x: {a+: [3]}}", {"x": {"a": [3]}}),
        ("{o: {kind: p, x: 1}}", "{o: {kind: q, y: 2}}", {"o": {"kind": "q", "y": 2}}),
        ("{o: {kind: p, x: 1}}", "{o: {kind: p, y: 2}}", {"o": {"kind": "p", "x": 1, "y": 2}}),
        ("{o: {kind: p, x: 1}}", "{o: {y: 2}}", {"o": {"kind": "p", "x": 1, "y": 2}}),
    ],
)
def test_the_later_file_wins(lower: str, upper: str, result: object) -> None:
    assert merged(lower, upper) == result


REST = "model: {path: base}, data: {sources: []}, train: {epochs: 1}"
CARD = "card: {title: T, summary: S, intended_use: U, limitations: L, sections: {A: B}, license: mit}"


@pytest.mark.parametrize(
    ("lower", "upper", "kept"),
    [
        (f"{{{CARD}}}", "{objective: {kind: reward}}", True),  # a file that several recipes extend
        (f"{{{CARD}, model: {{path: base}}}}", "{objective: {kind: reward}}", True),
        (f"{{{CARD}, {REST}}}", "{objective: {kind: reward}}", False),  # supervised fine-tuning without saying so
        (f"{{{CARD}, objective: {{kind: dpo}}}}", "{objective: {kind: reward}}", False),
        (f"{{{CARD}, objective: {{kind: reward}}}}", "{objective: {kind: dpo}}", False),
        (f"{{{CARD}, objective: {{kind: reward}}}}", "{objective: {kind: reward}}", True),
        (f"{{{CARD}, objective: {{kind: reward}}}}", "{objective: {margin: 1}}", True),
        (f"{{{CARD}, {REST}}}", "{objective: {kind: dpo}}", True),
    ],
)
def test_texts_of_a_card_are_left_out_only_where_a_recipe_becomes_one_of_another_kind(
    lower: str, upper: str, kept: bool
) -> None:
    card = {"title": "T", "summary": "S", "intended_use": "U", "limitations": "L", "sections": {"A": "B"}}
    assert merged(lower, upper)["card"] == ({**card, "license": "mit"} if kept else {"license": "mit"})
    own = f"{upper[:-1]}, card: {{title: Mine}}}}"
    assert merged(lower, own)["card"]["title"] == "Mine"


@pytest.mark.parametrize(
    ("lower", "upper"), [("{a: 1}", "{a+: [1]}"), ("{a: [1]}", "{a+: 1}"), ("{a: {}}", "{a+: [1]}")]
)
def test_only_a_list_is_appended_to_a_list(lower: str, upper: str) -> None:
    with pytest.raises(InvalidRecipeError, match=r"^1\.yaml:1 a\+: "):
        merged(lower, upper)


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def test_a_file_overrides_what_it_extends(tmp_path: Path) -> None:
    write(tmp_path, a="x: 1\ny: 1\nz: 1\n", b="extends: a.yaml\ny: 2\nz: 2\n", c="layer: more\nz: 3\n")
    write(tmp_path, d="extends: [b.yaml, ./c.yaml]\nw: 4\n")
    assert to_plain(RecipeFiles().load(str(tmp_path / "d.yaml")).content) == {"x": 1, "y": 2, "z": 3, "w": 4}


def test_extends_is_relative_to_the_file_that_has_it(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    write(tmp_path, a="x: 1\n")
    write(tmp_path / "inner", b="extends: ../a.yaml\n")
    assert to_plain(RecipeFiles().load(str(tmp_path / "inner" / "b.yaml")).content) == {"x": 1}


def test_a_file_may_extend_a_built_in_recipe(tmp_path: Path) -> None:
    write(tmp_path, a="extends: dolly-v2-3b\nname: mine\n")
    assert to_plain(RecipeFiles().load(str(tmp_path / "a.yaml")).content)["text"]["format"] == "dolly"


@pytest.mark.parametrize(
    "files", [{"a": "extends: a.yaml"}, {"a": "extends: b.yaml", "b": "extends: [c.yaml]", "c": "extends: a.yaml"}]
)
def test_a_cycle_is_an_error_that_shows_it(tmp_path: Path, files: dict[str, str]) -> None:
    write(tmp_path, **files)
    cycle = " -> ".join(f"{name}.yaml" for name in [*files, "a"])
    with pytest.raises(RecipeError, match=f"extends itself: {cycle}"):
        RecipeFiles().load(str(tmp_path / "a.yaml"))


def test_thirty_levels_of_doubling_are_read_once_each(tmp_path: Path) -> None:
    write(tmp_path, f0="x: 1\n", **{f"f{i}": f"extends: [f{i - 1}.yaml, f{i - 1}.yaml]\n" for i in range(1, 31)})
    assert to_plain(RecipeFiles().load(str(tmp_path / "f30.yaml")).content) == {"x": 1}


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("dolly-v2-3", "did you mean 'dolly-v2-3b'?"),
        ("train.epochs", "a single value is written as train.epochs=VALUE"),
        ("qqqqqq", "`tunesmith recipes` lists all"),
    ],
)
def test_an_unknown_name_is_reported_with_the_most_similar_one(name: str, advice: str) -> None:
    with pytest.raises(RecipeError) as caught:
        RecipeFiles().load(name)
    assert str(caught.value).startswith(f"there is no recipe or layer {name!r}; {advice}")


@pytest.mark.parametrize("word", ["mine.jsonl", "./mine.jsonl", "data/mine.parquet", "mine.jsonl.gz"])
def test_a_data_file_is_not_a_recipe_but_the_path_of_a_source(word: str) -> None:
    with pytest.raises(RecipeError) as caught:
        RecipeFiles().load(word)
    advice = f"append data.sources.0.path={word} to a recipe, or let `tunesmith init {word}` write one"
    assert str(caught.value) == f"'{word}' is a data file, not a recipe; {advice}"


def test_a_forgotten_suffix_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, mine="x: 1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=r"did you mean 'mine\.yaml'\?"):
        RecipeFiles().load("mine")


def test_a_wrong_name_in_extends_is_reported_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, a="# first\nextends: dolly\n", b="extends: nowhere.yaml\n", c="extends: {a: b}\n", d="layer: [1]\n")
    with pytest.raises(RecipeError, match=r"a\.yaml:2: there is no recipe or layer 'dolly'"):
        RecipeFiles().load(str(tmp_path / "a.yaml"))
    with pytest.raises(MissingInputError, match=r"b\.yaml:1: there is no recipe file .*nowhere\.yaml"):
        RecipeFiles().load(str(tmp_path / "b.yaml"))
    with pytest.raises(InvalidRecipeError, match=r"c\.yaml:1 extends: expected a name or a list of names"):
        RecipeFiles().load(str(tmp_path / "c.yaml"))
    with pytest.raises(InvalidRecipeError, match=r"d\.yaml:1 layer: expected one line"):
        RecipeFiles().load(str(tmp_path / "d.yaml"))


def test_a_directory_is_not_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="is a directory"):
        RecipeFiles().load(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("word", "file"), [("a.yaml", True), ("a.yml", True), ("./a", True), ("a", False), ("a.b", False)]
)
def test_a_word_is_a_file_by_its_spelling(word: str, file: bool) -> None:
    assert is_file(word) is file
