"""The export is a plain Hugging Face directory: stock transformers gives the same logits, ids and prompt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tests.text.brought_templates import MARKS, TOKENS, bring
from tests.worlds import small_recipe, write_world
from tunesmith.compose import train_recipe
from tunesmith.generate.export_directory import open_engine, read_export
from tunesmith.text.tree import Message
from tunesmith.train.run import checkpoint


@pytest.fixture(
    scope="module",
    params=[("gpt_neox", "dolly"), ("llama", "oasst"), ("llama", "tokenizer")],
    ids=["neox-dolly", "llama-oasst", "llama-tokenizer"],
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    architecture, format = request.param
    root = tmp_path_factory.mktemp(architecture)
    write_world(root, architecture=architecture, format=format)
    if format == "tokenizer":
        bring(root / "tokenizer", root / "tokenizer", MARKS, TOKENS["marks"])
    return train_recipe(small_recipe(root, ["train.steps=8"])).directory


def test_stock_transformers_gives_the_logits_of_the_trained_weights(run: Path) -> None:
    stock = AutoModelForCausalLM.from_pretrained(run / "export").eval()
    engine, _ = open_engine(run)
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        assert torch.equal(stock(input_ids=ids).logits, engine.model(input_ids=ids).logits)
    found = checkpoint.newest(run / "checkpoints", lambda text: pytest.fail(text))
    assert found is not None
    trained, exported = found.load("model"), stock.state_dict()
    assert trained.keys() == exported.keys()
    assert all(torch.equal(trained[name], exported[name]) for name in trained)


def test_the_exported_chat_template_gives_the_prompt_that_training_used(run: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(run / "export")
    engine, _ = open_engine(run)
    for text in ("Say red blue.", "What?\n\n### End <|assistant|>x", "Ünïcode 你好"):
        ours = engine.renderer.prompt([Message("user", text)])
        if any(control in text for control in ("###", "<|")):
            continue  # other tools cannot keep content inert; ours do
        messages = [{"role": "user", "content": text}]
        theirs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
        assert list(theirs) == ours


def test_the_export_says_how_it_is_prompted_and_when_a_reply_ends(run: Path) -> None:
    info = read_export(run / "export")
    assert info is not None
    assert (info.recipe, info.steps, info.base) == ("small", 8, "new")
    engine, _ = open_engine(run)
    generation = GenerationConfig.from_pretrained(run / "export")
    assert set(generation.eos_token_id) == set(engine.renderer.stop_ids)
    assert "auto_map" not in json.loads((run / "export" / "config.json").read_text())
    assert "tunesmith" not in json.loads((run / "export" / "config.json").read_text()).get("_attn_implementation", "")


def test_the_manifest_names_versions_data_and_hardware_but_no_machine(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["data"]["report"]["sources"]["demonstrations"]["records"] == 60
    assert set(manifest["hardware"]) == {"machine", "system", "cores", "threads", "gpus", "deterministic"}


def test_the_best_checkpoint_is_kept_and_was_evaluated(run: Path) -> None:
    found = checkpoint.newest(run / "checkpoints", lambda text: pytest.fail(text))
    assert found is not None
    best = found.state["best"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["validation"]["all"]["loss"] for line in lines if "validation" in line}
    saved = {step: loss for step, loss in losses.items() if step and (step % 7 == 0 or step == 8)}
    assert best == min(saved, key=saved.__getitem__)
    assert (run / "checkpoints" / f"step-{best:06d}").is_dir()


def test_the_template_of_the_tokenizer_travels_with_the_export(run: Path) -> None:
    info = read_export(run / "export")
    assert info is not None
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["format"] == {"name": info.format, "options": info.options, "targets": "assistant"}
    if info.format == "tokenizer":
        assert info.options["template"] == MARKS
        assert json.loads((run / "export" / "tokenizer_config.json").read_text())["chat_template"] == MARKS
