"""`reader: auto`: the reader is recognised when a run begins, is written down, and is the same when it goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.compose.test_check_rows import ROWS, checked, find, write_rows
from tests.worlds import preference_recipe, small_recipe, write_world
from tunesmith.compose import train_recipe
from tunesmith.compose.check.recipe import collect_checks
from tunesmith.compose.components.recognition import name_readers
from tunesmith.errors import DataError, RecipeError, StoppedError, TunesmithError
from tunesmith.recipe.load import LoadedRecipe, load
from tunesmith.recipe.problems import InvalidRecipeError

AUTO = "data.sources.0.reader=auto"
QUESTIONS = [{"question": row["instruction"], "reply": row["response"], "id": "x"} for row in ROWS]


def auto_recipe(root: Path, *overrides: str) -> LoadedRecipe:
    write_world(root)
    return small_recipe(root, [AUTO, *overrides])


def refusal(loaded: LoadedRecipe) -> str:
    with pytest.raises(TunesmithError) as refused:
        name_readers(loaded, lambda line: None)
    return str(refused.value)


def test_a_run_names_the_reader_that_it_took_and_its_resumed_part_takes_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_rows(tmp_path, QUESTIONS)
    length = ["train.steps=4", "train.save_every=2", "train.evaluate_every=2"]
    with pytest.raises(StoppedError):
        train_recipe(auto_recipe(tmp_path, source, *length, "train.stop_after=2"))
    said = capsys.readouterr().err
    assert "mine: reader: alpaca (recognised from 40 rows: question, reply)\n" in said
    (recorded,) = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["data"]["sources"]
    assert (recorded["reader"], recorded["fields"]) == ("alpaca", {"instruction": "question", "output": "reply"})
    assert train_recipe(auto_recipe(tmp_path, source, *length)).steps == 4


def test_a_run_does_not_go_on_with_another_reader_than_it_began_with(tmp_path: Path) -> None:
    source = write_rows(tmp_path, QUESTIONS)
    length = ["train.steps=4", "train.save_every=2", "train.evaluate_every=2"]
    with pytest.raises(StoppedError):
        train_recipe(auto_recipe(tmp_path, source, *length, "train.stop_after=2"))
    write_rows(tmp_path, [{"prompt": row["question"], "completion": row["reply"]} for row in QUESTIONS])
    with pytest.raises(RecipeError, match=r"data\.sources\.0"):
        train_recipe(auto_recipe(tmp_path, source, *length))


def test_check_says_which_reader_was_taken(tmp_path: Path) -> None:
    report = checked(tmp_path, write_rows(tmp_path, QUESTIONS), AUTO)
    assert find(report, "reader").summary == "mine: reader: alpaca (recognised from 40 rows: question, reply)"
    assert not report.having("fail")


def test_what_is_ambiguous_is_refused_with_the_words_to_append(tmp_path: Path) -> None:
    rows = [{**row, "query": "what?"} for row in QUESTIONS]
    source = write_rows(tmp_path, rows)
    path = source.partition("=")[2]
    assert refusal(auto_recipe(tmp_path, source)) == (
        f"{path}: the rows can be read as alpaca (question, reply) or as alpaca (query, reply); "
        "append data.sources.0.reader=alpaca 'data.sources.0.fields={instruction: question, output: reply}' or "
        "data.sources.0.reader=alpaca 'data.sources.0.fields={instruction: query, output: reply}'"
    )
    report = checked(tmp_path, source, AUTO)
    assert find(report, "cannot begin: data").key == "data.sources"


def test_the_words_to_append_make_a_recipe_that_loads(tmp_path: Path) -> None:
    rows = [{"die frage": row["question"], "Antwort:": row["reply"]} for row in QUESTIONS]
    source = write_rows(tmp_path, rows)
    with pytest.raises(DataError) as refused:
        name_readers(auto_recipe(tmp_path, source), lambda line: None)
    assert refused.value.advice is not None
    words = refused.value.advice.removeprefix("append ").replace("'", "").split(" data.sources.0.fields")
    loaded = small_recipe(tmp_path, [source, words[0], f"data.sources.0.fields{words[1]}"])
    (taken,) = loaded.recipe.data.sources
    assert (taken.reader, taken.fields) == ("alpaca", {"instruction": "die frage", "output": "Antwort:"})
    assert not collect_checks(loaded, lambda *_: None, with_model=False).report.having("fail")


def test_ignored_columns_are_not_recognised(tmp_path: Path) -> None:
    source = write_rows(tmp_path, [{**row, "query": "what?"} for row in QUESTIONS])
    recipe = auto_recipe(tmp_path, source, "data.sources.0.ignore=[query]")
    assert name_readers(recipe, lambda line: None).recipe.data.sources[0].fields["instruction"] == "question"


def test_options_are_those_of_the_reader_that_is_recognised(tmp_path: Path) -> None:
    source = write_rows(tmp_path, QUESTIONS)
    recipe = auto_recipe(tmp_path, source, "data.sources.0.options={empty: drop}")
    assert name_readers(recipe, lambda line: None).recipe.data.sources[0].options == {"empty": "drop"}
    with pytest.raises(InvalidRecipeError, match=r"reader alpaca has no options\.strip"):
        name_readers(auto_recipe(tmp_path, source, "data.sources.0.options={strip: true}"), lambda line: None)


def test_preferences_for_fine_tuning_are_refused_with_the_option_that_keeps_the_best(tmp_path: Path) -> None:
    pairs = [{"prompt": row["question"], "chosen": row["reply"], "rejected": "No."} for row in QUESTIONS]
    source = write_rows(tmp_path, pairs)
    with pytest.raises(RecipeError, match=r"use the recipe dpo; .* append data\.sources\.0\.options\.replies=best$"):
        train_recipe(auto_recipe(tmp_path, source))
    assert not checked(tmp_path, source, AUTO, "data.sources.0.options={replies: best}").having("fail")


def test_trees_become_rankings_for_a_method_that_compares_replies(tmp_path: Path) -> None:
    preference_recipe(tmp_path)
    state = {"tree_state": "ready_for_export", "review_result": True, "message_tree_id": "t"}
    rows = [
        {**state, "message_id": "a", "parent_id": None, "text": "Hi", "role": "prompter"},
        {**state, "message_id": "b", "parent_id": "a", "text": "Hello.", "role": "assistant", "rank": 0},
        {**state, "message_id": "c", "parent_id": "a", "text": "Go.", "role": "assistant", "rank": 1},
    ]
    (tmp_path / "trees.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = f"data.sources=[{{path: {tmp_path}/trees.jsonl, reader: auto}}]"
    (taken,) = name_readers(preference_recipe(tmp_path, [source]), lambda line: None).recipe.data.sources
    assert (taken.reader, taken.options) == ("oasst-messages", {"keep": "rankings"})


def test_a_recipe_that_names_its_readers_stays_as_it_is(tmp_path: Path) -> None:
    loaded = load([str(write_world(tmp_path))])
    assert name_readers(loaded, lambda line: None) is loaded
