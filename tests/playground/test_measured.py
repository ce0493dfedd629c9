"""What the demo tells of runs that are not compared by their replies alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunesmith.playground.measured import told_of_runs, validations
from tunesmith.playground.stages import ASSISTANT, PPO, REWARD


def written(directory: Path, *records: dict[str, Any]) -> Path:
    directory.mkdir()
    (directory / "metrics.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in records), encoding="utf-8")
    return directory


def test_a_reward_model_is_told_by_its_pairs_in_order(tmp_path: Path) -> None:
    ranked = {"tones": {"accuracy/pairs": 0.9, "pairs": 50.0}, "mistakes": {"accuracy/pairs": 1.0, "pairs": 10.0}}
    run = written(tmp_path / "reward", {"step": 0, "validation": {}}, {"step": 1, "validation": ranked})
    lines = list(told_of_runs(tmp_path, [REWARD], {"reward": validations(run)}))
    assert lines == [
        "reward: held-out pairs in the right order: tones 90.0% (79 to 96, n=50), mistakes 100.0% (72 to 100, n=10) "
        "(Wilson's 95 % intervals)"
    ]


def test_practice_is_told_by_its_reward_before_and_after_and_by_how_far_it_went(tmp_path: Path) -> None:
    run = written(
        tmp_path / "ppo",
        {"step": 0, "validation": {"all": {"rewards/mean": 0.4}}},
        {"step": 1, "reference_kl/reply": 1.5},
        {"step": 2, "reference_kl/reply": 1.25},
        {"step": 3, "reference_kl": 0.1},
        {"step": 3, "validation": {"all": {"rewards/mean": 0.85}}},
    )
    lines = list(told_of_runs(tmp_path, [PPO], {"ppo": validations(run)}))
    assert lines == [
        "ppo: mean reward of held-out replies 0.400 before, 0.850 after (+0.450); "
        "KL of a reply to the model before 1.25 at the end, 1.50 at most"
    ]


def test_other_stages_have_nothing_to_add(tmp_path: Path) -> None:
    assert not list(told_of_runs(tmp_path, [ASSISTANT], {"assistant": []}))
