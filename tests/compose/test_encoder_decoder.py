"""Whole runs of an encoder-decoder: the export in stock transformers, the proof, and recipes of the wrong family."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig, T5ForConditionalGeneration

from tests.worlds import small_recipe, write_world
from tunesmith.batch import padded as padded_batches
from tunesmith.compose.check.recipe import collect_checks
from tunesmith.compose.train import train_recipe
from tunesmith.errors import InternalError, RecipeError
from tunesmith.generate.export_directory import read_export
from tunesmith.model.load import load_model
from tunesmith.recipe.families import ENCODER_DECODER_FORMATS
from tunesmith.report.check import CheckReport
from tunesmith.text.formats.registry import ENCODER_DECODER
from tunesmith.train.run import checkpoint

BATCHES = "batches"
TIED = "model.init={architecture: t5, d_model: 32, d_kv: 8, d_ff: 64, num_layers: 2, num_heads: 4}"


@pytest.fixture(scope="module", params=["own head", "tied head"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("t5")
    write_world(root, architecture="t5")
    overrides = ["train.steps=8", *([TIED] if request.param == "tied head" else [])]
    return train_recipe(small_recipe(root, overrides)).directory


def test_stock_transformers_gives_the_logits_of_the_trained_weights(run: Path) -> None:
    stock, ours = T5ForConditionalGeneration.from_pretrained(run / "export").eval(), load_model(str(run / "export"))
    ids, starts = torch.arange(3, 40)[None], torch.tensor([[0, 5, 6, 7]])
    with torch.no_grad():
        expected = stock(input_ids=ids, decoder_input_ids=starts).logits
        assert torch.allclose(expected, ours.eval()(input_ids=ids, decoder_input_ids=starts).logits, atol=1e-5)
    found = checkpoint.newest(run / "checkpoints", lambda text: pytest.fail(text))
    assert found is not None
    trained, exported = found.load("model"), stock.state_dict()
    assert trained.keys() == exported.keys()
    assert all(torch.equal(trained[name], exported[name]) for name in trained)


def test_stock_generation_begins_and_ends_as_training_did(run: Path) -> None:
    stock = AutoModelForSeq2SeqLM.from_pretrained(run / "export").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "export")
    generation = GenerationConfig.from_pretrained(run / "export")
    assert (generation.decoder_start_token_id, generation.eos_token_id) == (0, [1])
    inputs = tokenizer("Say red blue.", return_tensors="pt").input_ids
    replies = stock.generate(inputs, do_sample=False, max_new_tokens=12)
    assert replies[0, 0] == 0
    written = [0]
    for _ in range(replies.shape[1] - 1):
        logits = stock(input_ids=inputs, decoder_input_ids=torch.tensor([written])).logits
        written.append(int(logits[0, -1].argmax()))
    assert replies[0].tolist() == written


def test_the_export_says_how_it_is_prompted(run: Path) -> None:
    info = read_export(run / "export")
    assert info is not None
    assert (info.format, info.steps) == ("t5-dolly", 8)
    config = json.loads((run / "export" / "config.json").read_text())
    own = "lm_head.weight" in load_file(run / "export" / "model.safetensors")
    assert config["tie_word_embeddings"] is (not own)
    assert config["scale_decoder_outputs"] is (not own)


def test_a_run_goes_on_from_its_own_export(run: Path, tmp_path: Path) -> None:
    """model.path, with rows as they are."""
    write_world(tmp_path, architecture="t5")
    path = [f"model.path={run}/export", "model.init=null", "model.tokenizer=null", "model.resize=none"]
    again = train_recipe(small_recipe(tmp_path, [*path, "train.steps=3", "model.gradient_checkpointing=true"]))
    losses = [json.loads(line)["loss"] for line in _steps(again.directory)]
    assert losses[0] < json.loads(_steps(run)[0])["loss"]


def _steps(run: Path) -> list[str]:
    return [
        line for line in (run / "metrics.jsonl").read_text().splitlines() if '"loss"' in line and "valid" not in line
    ]


def checked(root: Path, *overrides: str, with_model: bool = True) -> CheckReport:
    loaded = small_recipe(root, overrides, architecture="t5")
    return collect_checks(loaded, lambda done, total, label: None, with_model=with_model).report


@pytest.mark.parametrize("with_model", [True, False])
def test_a_sound_recipe_passes_the_check(tmp_path: Path, with_model: bool) -> None:
    report = checked(tmp_path, with_model=with_model)
    assert [check.summary for check in report.having("fail")] == []


def not_shifted(replies: Any, start: int, padding: int) -> Any:
    return padded_batches._padded_rows(replies, padding)


def mixed_up(original: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(*arguments: Any, **named: Any) -> Any:
        batch = original(*arguments, **named)
        return replace(batch, input_ids=batch.input_ids.flip(0))

    return wrong


FAULTS = {
    "the decoder does not read the reply one place late": ("_decoder_rows", not_shifted),
    "in the threads alone": ("assemble_padded", mixed_up(padded_batches.assemble_padded)),
    "is in no batch": ("_cheapest_groups", lambda shapes, tokens: [range(1)]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_in_the_batches_fails_check_and_run(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_world(tmp_path, architecture="t5")
    monkeypatch.setattr(padded_batches, *FAULTS[fault])
    found = {check.name: check.summary for check in checked(tmp_path, with_model=False).having("fail")}
    assert fault in found[BATCHES]
    with pytest.raises((InternalError, RecipeError), match=rf"{fault}|in padded batches as alone"):
        train_recipe(small_recipe(tmp_path))


WRONG = [
    ("text.format=dolly", r"text\.format: 'dolly' is for causal models, and t5 is an encoder-decoder; use t5-dolly"),
    ("text.targets=all", r"text\.targets: 'all' would train the input"),
    ("text.truncation=window", r"text\.truncation: 'window' truncates one text"),
    ("text.truncation=left", r"text\.truncation: 'left' truncates one text"),
    ("model.layout=tree", r"model\.layout: 'tree' is a layout of causal models"),
]


@pytest.mark.parametrize(("override", "message"), WRONG)
def test_causal_settings_on_a_new_t5_are_refused_with_the_recipe(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        small_recipe(tmp_path, [override], architecture="t5")


@pytest.mark.parametrize(("override", "message"), WRONG)
def test_causal_settings_on_a_loaded_t5_are_refused_once_its_configuration_is_read(
    tmp_path: Path, override: str, message: str
) -> None:
    recipe = small_recipe(tmp_path, [*_directory(tmp_path, "t5"), override], architecture="t5")
    with pytest.raises(RecipeError, match=message):
        train_recipe(recipe)
    report = collect_checks(recipe, lambda done, total, label: None).report
    assert [check.status for check in report.checks] == ["fail"]


def test_t5_dolly_on_a_causal_model_is_refused(tmp_path: Path) -> None:
    message = r"text\.format: 't5-dolly' is for encoder-decoders \(mt5, t5\), and llama is a causal model"
    with pytest.raises(RecipeError, match=message):
        small_recipe(tmp_path, ["text.format=t5-dolly"])
    with pytest.raises(RecipeError, match=message):
        train_recipe(small_recipe(tmp_path, ["text.format=t5-dolly", *_directory(tmp_path, "llama")]))


def test_a_limit_of_replies_on_a_causal_model_is_refused(tmp_path: Path) -> None:
    message = r"text\.max_target_length: this limit is for encoder-decoders; for llama, text\.max_length limits"
    with pytest.raises(RecipeError, match=message):
        small_recipe(tmp_path, ["text.max_target_length=20"])


def test_inputs_and_replies_are_cut_at_their_own_limits_and_counted(tmp_path: Path) -> None:
    """The world's longest inputs and replies are longer than both."""
    overrides = ["text.max_length=30", "text.max_target_length=20", "text.truncation=right", "train.steps=3"]
    run = train_recipe(small_recipe(tmp_path, overrides, architecture="t5"))
    report = json.loads((run.directory / "manifest.json").read_text())["data"]["report"]
    tally = report["sources"]["demonstrations"]
    assert tally["tokens"] == tally["trained"] + tally["context"] + tally["cut"]
    assert tally["cut"] > 0
    assert tally["trained"] < 60 * 20
    assert tally["context"] < 60 * 30


def _directory(root: Path, architecture: str) -> list[str]:
    """Overrides for a model directory of which no more is read than its configuration."""
    model = root / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": architecture}))
    (model / "model.safetensors").write_bytes(np.zeros(8, np.uint8).tobytes())
    return [f"model.path={model}", "model.init=null"]


def test_recipe_and_text_name_the_same_formats() -> None:
    assert set(ENCODER_DECODER_FORMATS) == ENCODER_DECODER
