"""The demo from end to end, made so small that it learns nothing in a few seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.playground.test_world import SMALL
from tunesmith.generate.exported import open_engine
from tunesmith.playground.demo import run
from tunesmith.playground.stages import ENCODER_DECODER


def test_the_demo_goes_the_whole_road(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    tiny = ["train.epochs=null", "train.steps=4", "train.batch_size=50", "sampling.max_new_tokens=12"]
    result = run(tmp_path / "demo", 1, tiny, SMALL)
    assert json.loads((tmp_path / "demo" / "demo.json").read_text()) == result
    assert result["held_out"] == 30
    assert set(result["rates"]["exact answers"]) == {"base", "assistant", "dpo"}
    assert result["gains"]["exact answers"]["assistant"]["over"] == "base"
    assert set(result["gains"]["courteous replies"]) == {"assistant", "dpo"}
    assert list(result["seconds"]) == ["world", "base", "assistant", "dpo", "questions", "all"]
    shown = capsys.readouterr().out
    assert "stopped by themselves" in shown
    assert f"chat {tmp_path / 'demo' / 'dpo'}" in shown
    engine, _ = open_engine(tmp_path / "demo" / "dpo")
    assert engine.renderer.format.name == "dolly"


def test_the_demo_with_an_encoder_decoder_goes_the_whole_road(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    tiny = ["train.epochs=null", "train.steps=4", "train.batch_size=50", "sampling.max_new_tokens=12"]
    result = run(tmp_path / "demo", 1, tiny, SMALL, ENCODER_DECODER)
    assert set(result["rates"]["exact answers"]) == {"assistant"}
    assert f"chat {tmp_path / 'demo' / 'assistant'}" in capsys.readouterr().out
    engine, _ = open_engine(tmp_path / "demo" / "assistant")
    assert engine.renderer.format.name == "t5-dolly"
