"""Runs of families with sinks, hybrid caches, and scaled or capped logits, from training to replies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.worlds import small_recipe, write_world
from tunesmith.compose import train_recipe
from tunesmith.generate.export_directory import open_engine
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.text.tree import Message

SIZES = "hidden_size: 32, num_hidden_layers: 2, vocab_size: 600"
HEADS = f"{SIZES}, num_attention_heads: 4, num_key_value_heads: 2, intermediate_size: 64, pad_token_id: null"
FAMILIES = {
    "gpt_oss": f"{{architecture: gpt_oss, {HEADS}, head_dim: 8, num_local_experts: 2, num_experts_per_tok: 1}}",
    "lfm2": f"{{architecture: lfm2, {HEADS}, layer_types: [conv, full_attention], bos_token_id: 0, eos_token_id: 0}}",
    "cohere": f"{{architecture: cohere, {HEADS}, logit_scale: 0.25}}",
    "gemma2": f"{{architecture: gemma2, {HEADS}, head_dim: 8, final_logit_softcapping: 3.0}}",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_trains_writes_replies_and_exports_what_stock_transformers_continues(tmp_path: Path, family: str) -> None:
    torch.set_num_threads(1)
    overrides = [f"model.init={FAMILIES[family]}", "model.resize=none", "model.residual_dropout=0", "train.steps=6"]
    evaluation = ["evaluate.replies=4", "evaluate.max_new_tokens=12", "train.evaluate_every=3"]
    done = train_recipe(small_recipe(tmp_path, [*overrides, *evaluation]))
    lines = [json.loads(line) for line in (done.directory / "metrics.jsonl").read_text().splitlines()]
    losses = [line["validation"]["all"]["loss"] for line in lines if "validation" in line]
    assert losses[-1] < losses[0]
    engine, _ = open_engine(done.directory)
    assert engine.notice is None
    greedy = SamplingParameters(do_sample=False, max_new_tokens=8)
    prompts = [[Message("user", text)] for text in ("Say red.", "Say big old blue small new red words.")]
    replies = engine.complete(prompts, greedy, 0)
    size = engine.renderer.tokenizer.size
    stock = AutoModelForCausalLM.from_pretrained(done.export, attn_implementation="eager").eval()
    for prompt, reply in zip(prompts, replies, strict=True):
        ids = list(engine.renderer.prompt(prompt))
        with torch.no_grad():
            for token in reply.ids:
                logits = stock(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1, :size]
                assert int(logits.argmax()) == token
                ids.append(token)


def test_the_export_has_the_number_format_of_its_base_or_the_one_of_the_recipe(tmp_path: Path) -> None:
    write_world(tmp_path, architecture="llama")
    first = train_recipe(small_recipe(tmp_path, ["train.steps=2", "run.export_dtype=bfloat16"])).export
    assert {value.dtype for value in load_file(first / "model.safetensors").values()} == {torch.bfloat16}
    base = ["model.init=null", f"model.path={first}", f"run.directory={tmp_path}/second", "train.steps=2"]
    second = train_recipe(small_recipe(tmp_path, base)).export
    assert {value.dtype for value in load_file(second / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((second / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_tokenizer_that_transformers_would_replace_is_said_before_the_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init = f"{{architecture: qwen2, {HEADS}}}"
    overrides = [f"model.init={init}", "model.resize=none", "model.residual_dropout=0", "train.steps=1"]
    done = train_recipe(small_recipe(tmp_path, overrides))
    said = capsys.readouterr()
    text = said.out + said.err
    ids = AutoTokenizer.from_pretrained(done.export)("don't 12345", add_special_tokens=False)["input_ids"]
    engine, _ = open_engine(done.directory)
    equal = list(ids) == engine.renderer.tokenizer.encode("don't 12345")
    assert ("AutoTokenizer of transformers reads this tokenizer as that of qwen2" in text) != equal
