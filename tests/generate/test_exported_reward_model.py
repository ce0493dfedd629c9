"""An exported reward model is an ordinary directory that stock transformers scores with, and nothing to chat with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.model.trees import SIZES
from tests.text.small_tokenizers import byte_level, prefixed, write_tokenizer
from tunesmith.errors import DataError, UsageError
from tunesmith.generate.export_directory import open_engine, read_export
from tunesmith.model.export import ExportInfo, export
from tunesmith.model.names import DESCRIPTION
from tunesmith.model.reward_model import head_of, load_reward_model, new_reward_model, padding_id, set_padding
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message, Tree

INFO = ExportInfo("oasst", {}, 64, {}, "base", "recipe", 3, kind="reward")
END = "<|endoftext|>"


@pytest.fixture(params=["byte_level", "prefixed"])
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Renderer]:
    """A reward model with a tokenizer that names no padding token; format oasst."""
    if request.param == "byte_level":
        source = write_tokenizer(tmp_path / "tokenizer", byte_level(), bos=END, eos=END, unk=END)
    else:
        source = write_tokenizer(tmp_path / "tokenizer", prefixed(), bos="<s>", eos="</s>", unk="<unk>")
    format = build_format("oasst")
    tokenizer = Tokenizer.load(str(source), format.controls)
    renderer = Renderer(format, tokenizer)
    model = new_reward_model({"architecture": "llama", **SIZES["llama"]}, tokenizer.size, 0)
    set_padding(model, padding_id(renderer))
    export(tmp_path / "run" / "export", model, tokenizer, format, INFO)
    return tmp_path / "run" / "export", renderer


def test_it_says_what_it_is_and_has_no_settings_of_sampling(exported: tuple[Path, Renderer]) -> None:
    directory, _ = exported
    assert read_export(directory) == INFO
    assert not (directory / "generation_config.json").exists()
    assert json.loads((directory / "config.json").read_text())["architectures"] == ["LlamaForSequenceClassification"]


def test_stock_model_and_tokenizer_score_padded_conversations_as_we_score_each_alone(
    exported: tuple[Path, Renderer],
) -> None:
    directory, renderer = exported
    stock, tokenizer = AutoModelForSequenceClassification.from_pretrained(directory).eval(), AutoTokenizer
    loaded = tokenizer.from_pretrained(directory)
    replies = ["yes", "no, not at all, and never again", "perhaps"]
    talks = [[{"role": "user", "content": "Well?"}, {"role": "assistant", "content": reply}] for reply in replies]
    batch = loaded.apply_chat_template(talks, tokenize=True, padding=True, return_dict=True, return_tensors="pt")
    ours = load_reward_model(str(directory)).eval()
    with torch.no_grad():
        scores = stock(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
        for reply, score in zip(replies, scores.tolist(), strict=True):
            ids = renderer.render(Tree.path([Message("user", "Well?"), Message("assistant", reply)])).ids
            states = ours.base_model(input_ids=torch.from_numpy(ids)[None].long()).last_hidden_state[0, -1]
            assert float(head_of(ours)(states)) == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("described", [True, False])
def test_it_cannot_be_talked_to(exported: tuple[Path, Renderer], described: bool) -> None:
    directory, _ = exported
    if not described:
        (directory / DESCRIPTION).unlink()
    with pytest.raises(
        UsageError, match=r"is a reward model: it scores replies and cannot write any; .*tunesmith score"
    ):
        open_engine(directory.parent)


def test_a_kind_of_the_future_is_refused(exported: tuple[Path, Renderer]) -> None:
    path = exported[0] / DESCRIPTION
    path.write_text(json.dumps({**json.loads(path.read_text()), "kind": "oracle"}))
    with pytest.raises(DataError, match="'kind' is 'oracle', but must be assistant or reward"):
        read_export(exported[0])
