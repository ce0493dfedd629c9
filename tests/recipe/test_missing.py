"""All missing values of a recipe are in one line, with the words that give them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recipe.good_recipe import PPO, good, problems
from tunesmith.recipe.load import load, load_incomplete
from tunesmith.recipe.missing import EXAMPLES, EXTENDED, find_missing
from tunesmith.recipe.overrides import override
from tunesmith.recipe.problems import InvalidRecipeError, Origin
from tunesmith.recipe.reading import LocatedValue, read_text, to_plain
from tunesmith.recipe.validation import validate


def message(names: list[str], words: list[str] | None = None) -> str:
    with pytest.raises(InvalidRecipeError) as refused:
        load(names, words or [])
    return str(refused.value)


def test_what_only_the_user_knows_of_a_generic_recipe_is_one_line() -> None:
    given = "append model.path=DIRECTORY_OR_HUB_NAME data.sources.0.path=YOUR_FILE"
    assert message(["sft"]) == f"sft: 2 values are missing; {given}"
    assert message(["ppo"]) == f"ppo: 3 values are missing; {given} objective.rewards.0.path=RUN_OF_A_REWARD_MODEL"
    assert message(["dpo"], ["model.path=m"]) == "dpo: 1 value is missing; append data.sources.0.path=YOUR_FILE"
    assert "append model.tokenizer=DIRECTORY_OR_HUB_NAME data.sources.0.path=YOUR_FILE" in message(["sft", "tiny"])


@pytest.mark.parametrize("name", ["sft", "dpo", "reward", "ppo", "smollm2-135m"])
def test_an_incomplete_recipe_has_the_words_of_the_message_as_placeholders(name: str) -> None:
    words = message([name]).partition("append ")[2].split()
    loaded = load_incomplete([name])
    assert loaded.recipe == load([name], words).recipe
    missing = {key: str(origin) for key, origin in loaded.origins.items() if str(origin).startswith("missing")}
    assert missing == {word.partition("=")[0]: f"missing: append {word}" for word in words}


def test_an_incomplete_recipe_with_other_mistakes_or_an_unusual_missing_value_is_refused() -> None:
    with pytest.raises(InvalidRecipeError, match=r"^command line train\.clip: expected a number, got 'high'$"):
        load_incomplete(["sft"], ["train.clip=high"])
    unusual = ["train.best={metrics: [{mode: min}]}"]
    with pytest.raises(InvalidRecipeError, match=r"3 values are missing; .*train\.best\.metrics\.0\.name=VALUE"):
        load_incomplete(["sft"], unusual)


def test_a_complete_recipe_has_no_placeholders() -> None:
    assert load_incomplete(["dolly-v2-3b", "tiny"]) == load(["dolly-v2-3b", "tiny"])


def test_the_keys_of_sections_that_are_not_there_are_named_as_well(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ntrain: {batch_size: 8}\nrun: {export: latest}\n")
    first, second = message([str(path)]).splitlines()
    assert first == (
        f"{path}: 7 values are missing; append model.path=DIRECTORY_OR_HUB_NAME text.format=auto "
        "text.max_length=1024 data.sources.0.path=YOUR_FILE data.sources.0.reader=auto train.epochs=3 "
        "train.learning_rate=2e-5 (or write them in the file, or begin it with `extends: sft`, which has most of them)"
    )
    assert second == f"{path}:3 run.export: expected 'last' or 'best', got 'latest'"


@pytest.mark.parametrize("kind", EXTENDED)
def test_the_recipe_that_has_most_of_them_is_the_one_of_the_objective(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\nobjective: {{kind: {kind}}}\n")
    hint = f"or begin it with `extends: {kind}`, which has most of them)"
    assert hint in message([str(path)])
    path.write_text(f"extends: {kind}\nname: mine\n")
    own = message([str(path)])
    assert own.startswith(f"{path}: {3 if kind == 'ppo' else 2} values are missing; append model.path=")


def test_a_file_that_extends_another_one_is_not_advised_to_do_so(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("seed: 1\n")
    path = tmp_path / "mine.yaml"
    path.write_text("extends: base.yaml\nname: mine\n")
    text = message([str(path)])
    assert ": 8 values are missing; append " in text
    assert text.splitlines()[0].endswith("(or write them in the file)")


def test_the_first_word_for_a_source_begins_the_list_of_sources(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nmodel: {path: m}\ntext: {format: chatml, max_length: 9}\n")
    words = ["data.sources.0.path=x.jsonl", "data.sources.0.reader=alpaca"]
    words += ["train.epochs=1", "train.batch_size=1", "train.learning_rate=1"]
    (source,) = load([str(path)], words).recipe.data.sources
    assert (source.name, source.path, source.reader) == ("x", "x.jsonl", "alpaca")


def test_a_value_of_the_wrong_type_is_not_missing() -> None:
    assert problems(good("model=3", "data.sources={}")) == [
        "data.sources: expected a list, got a mapping",
        "model: expected a mapping of key: value lines, got 3",
    ]


COMPLETE: dict[str, Any] = to_plain(good(f"objective={PPO}", "train.best={metrics: [{name: validation/x, mode: min}]}"))


def keys_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    own = [(*path, key) for key in value] if isinstance(value, dict) else []
    return [*own, *(found for key, child in children for found in keys_of(child, (*path, key)))]


def located(value: Any) -> LocatedValue:
    if isinstance(value, dict):
        return LocatedValue({key: located(child) for key, child in value.items()}, Origin("x", 1))
    if isinstance(value, list):
        return LocatedValue([located(child) for child in value], Origin("x", 1))
    return LocatedValue(value, Origin("x", 1))


@settings(max_examples=200, deadline=None)
@given(st.sets(st.sampled_from([path for path in keys_of(COMPLETE) if path[-1] != "kind"])))
def test_whatever_is_removed_the_words_of_the_message_complete_the_recipe(removed: set[tuple[Any, ...]]) -> None:
    """Nothing is missing any more with them: pydantic, which looks for missing keys on its own, finds none either."""
    values = copy.deepcopy(COMPLETE)
    for path in removed:
        inside: Any = values
        for part in path[:-1]:
            inside = {} if isinstance(inside, dict) and part not in inside else inside[part]
        inside.pop(path[-1], None)
    recipe = located(values)
    for path in find_missing(values):
        key = ".".join(path)
        examples = {**EXAMPLES, "data.sources.0.reader": "alpaca", "train.best.metrics.0.mode": "min"}
        recipe = override(recipe, f"{key}={examples.get(key, 'validation/loss')}")
    try:
        validate(recipe)
    except InvalidRecipeError as error:
        text = str(error)
        assert text, "pydantic found something missing that is in no message"
        assert "missing" not in text


def test_the_examples_are_values_that_the_schema_accepts() -> None:
    words = [f"{key}={value}" for key, value in EXAMPLES.items() if key.partition(".")[0] != "objective"]
    assert validate(override_all(good("data.sources.0.reader=alpaca"), words)).name == "my-recipe"


def override_all(recipe: LocatedValue, words: list[str]) -> LocatedValue:
    for word in words:
        recipe = override(recipe, word)
    return recipe


def test_a_text_without_any_key_lacks_everything() -> None:
    assert [".".join(path) for path in find_missing(to_plain(read_text("{}", "x.yaml")))] == [
        "name",
        "model.path",
        "text.format",
        "text.max_length",
        "data.sources.0.path",
        "data.sources.0.reader",
        "train.epochs",
        "train.batch_size",
        "train.learning_rate",
    ]
