"""The lines of the demo about reward models and PPO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunesmith.playground.run_reports import read_validations, report_runs
from tunesmith.playground.stages import ASSISTANT, PPO, REWARD


def written(directory: Path, *records: dict[str, Any]) -> Path:
    directory.mkdir()
    (directory / "metrics.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in records), encoding="utf-8")
    return directory


def test_the_line_of_a_reward_model_has_the_accuracy_on_pairs(tmp_path: Path) -> None:
    ranked = {"tones": {"accuracy/pairs": 0.9, "pairs": 50.0}, "mistakes": {"accuracy/pairs": 1.0, "pairs": 10.0}}
    run = written(tmp_path / "reward", {"step": 0, "validation": {}}, {"step": 1, "validation": ranked})
    lines = list(report_runs(tmp_path, [REWARD], {"reward": read_validations(run)}))
    assert lines == [
        "reward: accuracy on held-out pairs: tones 90.0% (79 to 96, n=50), mistakes 100.0% (72 to 100, n=10) "
        "(95 % Wilson intervals)"
    ]


def test_the_line_of_ppo_has_the_rewards_before_and_after_and_the_kl(tmp_path: Path) -> None:
    run = written(
        tmp_path / "ppo",
        {"step": 0, "validation": {"all": {"rewards/mean": 0.4}}},
        {"step": 1, "reference_kl/reply": 1.5},
        {"step": 2, "reference_kl/reply": 1.25},
        {"step": 3, "reference_kl": 0.1},
        {"step": 3, "validation": {"all": {"rewards/mean": 0.85}}},
    )
    lines = list(report_runs(tmp_path, [PPO], {"ppo": read_validations(run)}))
    assert lines == [
        "ppo: mean reward of held-out replies: 0.400 before and 0.850 after training (+0.450); "
        "mean KL per reply to the model before training: 1.25 at the end, at most 1.50"
    ]


def test_other_stages_have_no_line(tmp_path: Path) -> None:
    assert not list(report_runs(tmp_path, [ASSISTANT], {"assistant": []}))
