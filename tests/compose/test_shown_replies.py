"""Prompts and replies on the screen at each evaluation: what is shown, and that showing them changes no result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import pytest
from transformers import PreTrainedModel

from tests.runs import digests
from tests.text.small_tokenizers import t5_like, write_tokenizer
from tests.worlds import ppo_recipe, preference_recipe, small_recipe
from tunesmith.batch.protocols import MicroBatch
from tunesmith.compose import reply_evaluation
from tunesmith.compose.components.tokenizer import build_renderer
from tunesmith.compose.models.building import build_language_model
from tunesmith.compose.models.families import LanguagePolicy, prepare_language_policy
from tunesmith.compose.reply_evaluation import PromptText, TrainingEngine
from tunesmith.compose.train import train_recipe
from tunesmith.errors import DataError
from tunesmith.generate.engine import Engine
from tunesmith.model.attention_choice import use_stock_attention, uses_stock_attention
from tunesmith.recipe.load import LoadedRecipe
from tunesmith.text.formats.registry import FORMATS, build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message
from tunesmith.world import SingleProcess

SHORT = ["train.steps=4", "train.evaluate_every=2", "train.save_every=null"]


def sft(root: Path, words: Sequence[str]) -> LoadedRecipe:
    return small_recipe(root, words)


def encoder_decoder(root: Path, words: Sequence[str]) -> LoadedRecipe:
    return small_recipe(root, words, architecture="t5")


def dpo(root: Path, words: Sequence[str]) -> LoadedRecipe:
    return preference_recipe(root, words)


def reward(root: Path, words: Sequence[str]) -> LoadedRecipe:
    return preference_recipe(root, ["objective={kind: reward}", *words])


def ppo(root: Path, words: Sequence[str]) -> LoadedRecipe:
    return ppo_recipe(root, words)


@pytest.mark.parametrize(
    ("recipe", "labels"),
    [
        (sft, ["prompt", "reply"]),
        (encoder_decoder, ["prompt", "reply"]),
        (dpo, ["prompt", "reply"]),
        (reward, ["prompt", "chosen", "rejected"]),
        (ppo, ["prompt", "reward"]),
    ],
)
def test_every_method_shows_prompts_and_replies_and_no_number_changes(
    recipe: Callable[[Path, Sequence[str]], LoadedRecipe],
    labels: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = train_recipe(recipe(tmp_path, [*SHORT, "evaluate.show=3"])).directory
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  ")]
    for label in labels:
        assert sum(label in line.partition(":")[0] for line in lines) >= 9, "3 prompts at 3 evaluations"
    prompts = [line for line in lines if "prompt" in line]
    assert prompts[:3] == prompts[3:6] == prompts[6:], "always the same"
    hidden = train_recipe(recipe(tmp_path, [*SHORT, "evaluate.show=0", f"run.directory={tmp_path / 'hidden'}"]))
    assert not [line for line in capsys.readouterr().err.splitlines() if line.startswith("  ")]
    assert digests(shown) == digests(hidden.directory)


def test_documents_have_no_prompt_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = ["data.sources.0.reader=text", "data.sources.0.fields={text: response}", "text.format=plain"]
    unread = "data.sources.0.ignore=[instruction, context]"
    train_recipe(sft(tmp_path, [*SHORT, *documents, unread, "text.options={}"]))
    assert "prompt:" not in capsys.readouterr().err


def test_a_model_that_cannot_generate_trains_and_says_once_why_no_replies_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Refused(Engine):
        def __init__(self, model: PreTrainedModel, renderer: Renderer) -> None:
            raise DataError("replies of a Model cannot be generated here")

    monkeypatch.setattr(reply_evaluation, "Engine", Refused)
    train_recipe(sft(tmp_path, SHORT))
    assert capsys.readouterr().err.count("no replies are shown at evaluations: replies of a Model cannot") == 1
    with pytest.raises(DataError, match="replies of a Model cannot"):
        train_recipe(sft(tmp_path, [*SHORT, "evaluate.replies=2", f"run.directory={tmp_path / 'other'}"]))


def test_a_model_that_generates_with_its_stock_attention_keeps_its_own_for_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``choose_decoding`` changes the model where only its stock attention generates exactly."""
    recipe = sft(tmp_path, []).recipe
    renderer = build_renderer(recipe)
    built = build_language_model(recipe, recipe.objective, renderer.tokenizer)
    policy = cast(LanguagePolicy[MicroBatch], prepare_language_policy(recipe, built.opened, renderer.tokenizer).policy)
    used: list[bool] = []

    class StockEngine(Engine):
        def __init__(self, model: PreTrainedModel, renderer: Renderer) -> None:
            super().__init__(model, renderer)
            use_stock_attention(model)

        def continuations(self, *arguments: object) -> list[object]:  # type: ignore[override]
            used.append(uses_stock_attention(self.model))
            return []

    monkeypatch.setattr(reply_evaluation, "Engine", StockEngine)
    engine = TrainingEngine(policy, renderer, SingleProcess())
    assert not uses_stock_attention(built.model)
    engine.replies([], 4, 2)
    assert used == [True]
    assert not uses_stock_attention(built.model)


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("tokenizer", "t5-dolly")])
def test_the_text_of_a_prompt_is_that_of_its_message_in_every_format(name: str, tmp_path: Path) -> None:
    sft(tmp_path, [])
    format = build_format(name)
    renderer = Renderer(format, Tokenizer.load(str(tmp_path / "tokenizer"), format.controls))
    text = PromptText(renderer)
    assert text(renderer.prompt([Message("user", "Why is the sky blue?")])) == "Why is the sky blue?"
    assert text(renderer.prompt([Message("user", "a")])) == "a"


def test_the_prompt_of_an_encoder_decoder_is_shown_without_the_marks_of_line_breaks(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, t5_like(), eos="</s>", unk="<unk>", pad="<pad>")
    format = build_format("t5-dolly")
    renderer = Renderer(format, Tokenizer.load(str(tmp_path), format.controls))
    prompt = renderer.prompt([Message("user", "one\ntwo\tthree?")])
    assert "_LB_" in renderer.tokenizer.decode(prompt)
    assert PromptText(renderer)(prompt) == "one\ntwo\tthree?"


@pytest.mark.parametrize("name", ["oasst", "tulu", "vicuna", "chatml", "llama-2", "zephyr"])
def test_the_messages_of_a_conversation_are_shown_with_their_roles(name: str, tmp_path: Path) -> None:
    sft(tmp_path, [])
    format = build_format(name)
    renderer = Renderer(format, Tokenizer.load(str(tmp_path / "tokenizer"), format.controls))
    messages = [Message("user", "Hi."), Message("assistant", "What is it?"), Message("user", "Go on.")]
    found = PromptText(renderer)(renderer.prompt(messages))
    assert found == "Hi.\n[assistant] What is it?\n[user] Go on."
