"""``text.format: auto`` takes the format of an export, or the chat template of the tokenizer, or ChatML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.worlds import small_recipe
from tunesmith.compose.components.tokenizer import check_start_format, choose_format, prompt_format
from tunesmith.compose.train import train_recipe
from tunesmith.recipe.load import load
from tunesmith.recipe.problems import InvalidRecipeError
from tunesmith.recipe.schema import Recipe

AUTO = ["text.format=auto", "text.options={}"]
TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|endoftext|>{% endfor %}"


def test_documents_are_plain(tmp_path: Path) -> None:
    recipe = automatic(tmp_path, "data.sources.0.reader=text", "text.targets=all")
    chosen = choose_format(recipe)
    assert (chosen.recipe.text.format, chosen.reason) == ("plain", "prompt format: plain (the data are documents)")


def automatic(root: Path, *words: str) -> Recipe:
    return small_recipe(root, [*AUTO, *words]).recipe


def test_a_tokenizer_without_a_chat_template_gets_chatml(tmp_path: Path) -> None:
    chosen = choose_format(automatic(tmp_path))
    assert (chosen.recipe.text.format, chosen.recipe.text.options) == ("chatml", {})
    assert chosen.reason == "prompt format: chatml (the tokenizer has no chat template)"


def test_a_chat_template_is_used(tmp_path: Path) -> None:
    recipe = automatic(tmp_path)
    path = tmp_path / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": TEMPLATE}))
    chosen = choose_format(recipe)
    assert chosen.recipe.text.format == "tokenizer"
    assert prompt_format(chosen.recipe).chat_template() != ""


def test_an_export_goes_on_with_its_own_format(tmp_path: Path) -> None:
    recipe = automatic(tmp_path)
    export = tmp_path / "export"
    export.mkdir()
    info = {"format": "tulu", "options": {"strip": False}, "max_length": 9, "sampling": {}, "base": "", "recipe": ""}
    (export / "tunesmith.json").write_text(json.dumps({**info, "steps": 1, "kind": "assistant"}))
    model = recipe.model.model_copy(update={"path": str(export), "init": None})
    chosen = choose_format(recipe.model_copy(update={"model": model}))
    assert (chosen.recipe.text.format, chosen.recipe.text.options) == ("tulu", {"strip": False})
    check_start_format(chosen.recipe)


def test_a_named_format_stays(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path).recipe
    chosen = choose_format(recipe)
    assert chosen.recipe is recipe
    assert chosen.reason == ""


def test_a_run_stores_the_format_that_was_chosen(tmp_path: Path) -> None:
    run = train_recipe(small_recipe(tmp_path, [*AUTO, "train.epochs=null", "train.steps=1", "model.resize=grow"]))
    assert load([str(run.directory / "recipe.yaml")]).recipe.text.format == "chatml"


def test_options_need_the_name_of_a_format(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipeError, match=r"text\.options: options belong to one format"):
        automatic(tmp_path, "text.options={bos: true}")
