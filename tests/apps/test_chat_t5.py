"""The chat with an encoder-decoder: its export needs no further options, and replies may have several lines."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from tests.text.small_tokenizers import byte_level, t5_like, write_tokenizer
from tunesmith.apps import chat
from tunesmith.apps.chat_loop import ChatStreams
from tunesmith.errors import DataError, UsageError
from tunesmith.files import write_json
from tunesmith.generate.export_directory import open_engine
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.model.export import ExportInfo, export
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message, Tree

REPLY = "cat:\n\tsat\nat"
SAMPLING = {"do_sample": False, "max_new_tokens": 60}


@pytest.fixture(scope="module", params=["t5_like", "byte_level"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run whose model has memorised one reply."""
    root, end = tmp_path_factory.mktemp("t5"), "<|endoftext|>"
    if request.param == "t5_like":
        write_tokenizer(root / "tokenizer", t5_like(), eos="</s>", unk="<unk>", pad="<pad>")
    else:
        write_tokenizer(root / "tokenizer", byte_level(), bos=end, eos=end, pad="<|padding|>")
    format, tokenizer = build_format("t5-dolly"), Tokenizer.load(str(root / "tokenizer"))
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=tokenizer.size, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, dropout_rate=0.0,
        pad_token_id=tokenizer.pad_id, eos_token_id=tokenizer.eos_id, decoder_start_token_id=tokenizer.pad_id,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    tree = Renderer(format, tokenizer).render(Tree.path([Message("user", "Who?"), Message("assistant", REPLY)]))
    start, ids = int(tree.spans[0, 0]), torch.from_numpy(tree.ids).long()[None]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(600):
        loss = model(input_ids=ids[:, :start], labels=ids[:, start:]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.01:
            break
    info = ExportInfo("t5-dolly", {}, 64, SAMPLING, "new", "by heart", 600)
    export(root / "run" / "export", model.eval(), tokenizer, format, info)
    return root / "run"


def _chat(directory: Path, *lines: str, **options: Any) -> tuple[str, str]:
    output, errors = io.StringIO(), io.StringIO()
    streams = ChatStreams(io.StringIO("".join(f"{line}\n" for line in lines)), output, errors)
    chat.run(str(directory), streams=streams, **({"seed": 3} | options))
    return output.getvalue(), errors.getvalue()


def test_the_chat_prints_all_lines_of_every_reply(run: Path) -> None:
    output, errors = _chat(run, "Who?", "Who?")
    assert output == f"{REPLY}\n{REPLY}\n"
    assert "prompt format t5-dolly" in errors
    assert errors.count("prompt format 't5-dolly' is for single turns, so every message begins a new conversation") == 1


def test_the_engine_of_an_export_completes_and_samples(run: Path) -> None:
    engine, sampling = open_engine(run)
    assert sampling == SamplingParameters(**SAMPLING)  # type: ignore[arg-type]
    asked = [Message("user", "Who?")]
    first, second = engine.complete([asked, asked], sampling, 0)
    assert first == second
    assert (first.text, first.stopped) == (REPLY, True)
    limited = SamplingParameters(temperature=2.0, max_new_tokens=5)
    assert engine.complete([asked] * 3, limited, 1) == engine.complete([asked] * 3, limited, 1, batch_size=1)


def test_what_does_not_fit_together_is_reported(run: Path, model_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a system message, but format 't5-dolly' has no place for one"):
        _chat(run, "Who?", system="Be brief.")
    other = tmp_path / "other"
    other.symlink_to(model_directory)
    with pytest.raises(UsageError, match="was trained with prompt format 'plain', not 't5-dolly'"):
        open_engine(other, "t5-dolly")
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for file in (run / "export").iterdir():
        (mixed / file.name).write_bytes(file.read_bytes())
    write_json(mixed / "tunesmith.json", {"format": "plain"})
    with pytest.raises(DataError, match="the model is an encoder-decoder, but prompt format 'plain' is for a causal"):
        open_engine(mixed)
