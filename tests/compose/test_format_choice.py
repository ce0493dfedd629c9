"""``text.format: auto`` takes the format of an export, or the chat template of the tokenizer, or ChatML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.worlds import small_recipe
from tunesmith.compose.components.format_choice import with_chosen_format
from tunesmith.compose.components.tokenizer import check_start_format, prompt_format
from tunesmith.compose.train import train_recipe
from tunesmith.recipe.load import load
from tunesmith.recipe.problems import InvalidRecipeError
from tunesmith.recipe.schema import Recipe

AUTO = ["text.format=auto", "text.options={}"]
TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|endoftext|>{% endfor %}"


def test_documents_are_plain(tmp_path: Path) -> None:
    recipe = automatic(tmp_path, "data.sources.0.reader=text", "text.targets=all")
    chosen, reason = with_chosen_format(recipe)
    assert (chosen.text.format, reason) == ("plain", "prompt format: plain (documents have no turns)")


def automatic(root: Path, *words: str) -> Recipe:
    return small_recipe(root, [*AUTO, *words]).recipe


def test_a_tokenizer_without_a_chat_template_gets_chatml(tmp_path: Path) -> None:
    chosen, reason = with_chosen_format(automatic(tmp_path))
    assert (chosen.text.format, chosen.text.options) == ("chatml", {})
    assert reason == "prompt format: chatml (the tokenizer has no chat template)"


def test_a_chat_template_is_used(tmp_path: Path) -> None:
    recipe = automatic(tmp_path)
    path = tmp_path / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": TEMPLATE}))
    chosen, _ = with_chosen_format(recipe)
    assert chosen.text.format == "tokenizer"
    assert prompt_format(chosen).chat_template() != ""


def test_an_export_goes_on_with_its_own_format(tmp_path: Path) -> None:
    recipe = automatic(tmp_path)
    export = tmp_path / "export"
    export.mkdir()
    info = {"format": "tulu", "options": {"strip": False}, "max_length": 9, "sampling": {}, "base": "", "recipe": ""}
    (export / "tunesmith.json").write_text(json.dumps({**info, "steps": 1, "kind": "assistant"}))
    model = recipe.model.model_copy(update={"path": str(export), "init": None})
    (export / "model.safetensors").touch()
    (export / "config.json").write_text(json.dumps({"model_type": "llama"}))
    chosen, _ = with_chosen_format(recipe.model_copy(update={"model": model}))
    assert (chosen.text.format, chosen.text.options) == ("tulu", {"strip": False})
    check_start_format(chosen)


def test_a_chat_template_that_cannot_be_used_is_replaced_by_chatml(tmp_path: Path) -> None:
    recipe = automatic(tmp_path)
    path = tmp_path / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": "{{ raise_exception('no') }}"}))
    chosen, reason = with_chosen_format(recipe)
    assert chosen.text.format == "chatml"
    assert "the tokenizer's own chat template cannot be used" in reason


def test_an_encoder_decoder_gets_its_own_format(tmp_path: Path) -> None:
    recipe = automatic(tmp_path, "model.init.architecture=t5")
    chosen, reason = with_chosen_format(recipe)
    assert (chosen.text.format, reason) == ("t5-dolly", "prompt format: t5-dolly (the format for encoder-decoders)")


def test_a_named_format_stays(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path).recipe
    assert with_chosen_format(recipe) == (recipe, "")


def test_a_run_stores_the_format_that_was_chosen(tmp_path: Path) -> None:
    run = train_recipe(small_recipe(tmp_path, [*AUTO, "train.epochs=null", "train.steps=1", "model.resize=grow"]))
    assert load([str(run.directory / "recipe.yaml")]).recipe.text.format == "chatml"


def test_options_need_the_name_of_a_format(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipeError, match=r"text\.options: options belong to one format"):
        automatic(tmp_path, "text.options={bos: true}")
