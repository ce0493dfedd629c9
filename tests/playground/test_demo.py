"""The whole demo, with files and runs so small that it takes seconds and learns nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.playground.test_world import SMALL
from tunesmith.generate.export_directory import open_engine
from tunesmith.playground.demo import run
from tunesmith.playground.stages import CAUSAL, ENCODER_DECODER, FULL

pytestmark = pytest.mark.slow  # the whole demo world is written for each seed

TINY = ["train.epochs=null", "train.steps=2", "train.batch_size=30", "sampling.max_new_tokens=12"]
PPO_SETTINGS = ("train.batch_size=4", "objective.prompts_per_iteration=8", "objective.max_new_tokens=8")


def test_the_full_demo_trains_and_compares_all_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("COLUMNS", "80")  # whatever terminal the tests run in
    stages = (*FULL[:-1], replace(FULL[-1], settings=PPO_SETTINGS))
    result = run(tmp_path / "demo", 1, TINY, SMALL, stages)
    assert json.loads((tmp_path / "demo" / "demo.json").read_text()) == result
    assert result["held_out"] == 18
    assert set(result["rates"]["exact answers"]) == {"base", "assistant", "dpo", "ppo"}
    assert {model: gain["over"] for model, gain in result["gains"]["exact answers"].items()} == {
        "assistant": "base",
        "dpo": "assistant",
        "ppo": "assistant",
    }
    assert set(result["validation"]) == {"base", "assistant", "dpo", "reward", "ppo"}
    assert set(result["seconds"]) == {"world", "base", "assistant", "dpo", "reward", "ppo", "questions", "pages", "all"}
    shown = capsys.readouterr().out
    assert "stopped by themselves" in shown
    for line in ("assistant: exact answers ", "dpo: courteous replies ", "ppo: exact and courteous "):
        assert f"\n{line}" in shown
    assert "Questions that ppo does not answer" in shown
    table = shown[shown.index("\nassistant: exact answers") : shown.index("Questions that")]
    assert not [line for line in table.splitlines() if ":" not in line and len(line) > 80]
    assert "reward: accuracy on held-out pairs: held-out-tones" in shown
    assert "ppo: mean reward of held-out replies: 0.0" in shown
    assert f"chat {tmp_path / 'demo' / 'ppo'}" in shown
    assert f"serve {tmp_path / 'demo' / 'ppo'}" in shown
    pages = [*(f"{name}/index.html" for name in ("base", "assistant", "dpo", "reward", "ppo")), "compare.html"]
    assert [Path(line.strip()) for line in shown.splitlines()[-6:]] == [tmp_path / "demo" / page for page in pages]
    assert all((tmp_path / "demo" / page).is_file() for page in pages)
    engine, _ = open_engine(tmp_path / "demo" / "ppo")
    assert engine.renderer.format.name == "dolly"


def test_every_stage_starts_from_an_earlier_one_and_the_full_demo_extends_the_short_one() -> None:
    assert FULL[: len(CAUSAL)] == CAUSAL
    for stages in (CAUSAL, FULL, ENCODER_DECODER):
        names = [stage.name for stage in stages]
        assert len(set(names)) == len(names)
        assert all(stage.before in (None, *names[:index]) for index, stage in enumerate(stages))
        assert stages[-1].replies
        assert all(stage.path.is_file() for stage in stages)


def test_the_demo_trains_an_encoder_decoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    result = run(tmp_path / "demo", 1, TINY, SMALL, ENCODER_DECODER)
    assert set(result["rates"]["exact answers"]) == {"assistant"}
    assert f"chat {tmp_path / 'demo' / 'assistant'}" in capsys.readouterr().out
    engine, _ = open_engine(tmp_path / "demo" / "assistant")
    assert engine.renderer.format.name == "t5-dolly"
