"""The whole chain: demonstrations, a reward model, and replies that get better by its judgement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.reward_worlds import judge_recipe
from tunesmith.compose import train_recipe
from tunesmith.evaluate.reward_scorer import open_reward_scorer
from tunesmith.train.rollout.files import load_rollouts

LOWEST = "train.best.metrics=[{name: validation/loss, mode: min}]"
BEST = [f"data.sources.{index}.options.replies=best" for index in (0, 1)]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world with three finished runs: ``run`` (the reward model), ``sft`` and ``ppo``."""
    root = tmp_path_factory.mktemp("chain")
    train_recipe(judge_recipe(root, ["train.evaluate_every=null"]))
    length = ["train.steps=60", "train.learning_rate=1e-2", "train.save_every=null", "train.evaluate_every=null"]
    train_recipe(judge_recipe(root, ["objective={kind: sft}", *BEST, LOWEST, *length, f"run.directory={root}/sft"]))
    objective = {
        "kind": "ppo",
        "prompts_per_iteration": 16,
        "samples": 4,
        "epochs_per_iteration": 2,
        "max_new_tokens": 24,
        "rewards": [{"kind": "model", "path": str(root / "run")}],
        "unfinished_reward": -4,
        "value": "shared",
    }
    start = ["model.init=null", "model.tokenizer=null", f"model.path={root}/sft/export"]
    length = ["train.steps=32", "train.learning_rate=5e-3", "train.schedule={kind: constant}", "train.save_every=null"]
    given = [f"objective={json.dumps(objective)}", *start, *length, LOWEST, "train.evaluate_every=null"]
    train_recipe(judge_recipe(root, [*given, "train.micro_batch_tokens=4000", f"run.directory={root}/ppo"]))
    return root


def rollouts(root: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (root / "ppo" / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "kl_coefficient" in line]


def test_replies_get_better_by_the_judgement_of_the_reward_model(chain: Path) -> None:
    means = [record["rewards/mean"] for record in rollouts(chain)]
    assert len(means) == 9
    assert sum(means[-3:]) / 3 > means[0] + 0.7
    assert rollouts(chain)[0]["reference_kl/token"] == 0.0
    assert rollouts(chain)[-1]["reference_kl/token"] > 0.01


def test_rewards_of_rollouts_are_the_scores_that_the_reward_model_gives_elsewhere(chain: Path) -> None:
    found = load_rollouts(chain / "ppo" / "rollouts", 8)
    judge = open_reward_scorer(chain / "run")
    scores = [score for scored in judge.scores([each.tree() for each in found.answered]) for score in scored.replies]
    replies = [reply for each in found.answered for reply in each.replies]
    assert len(scores) == len(found.rewards) == 64
    for reply, score, reward in zip(replies, scores, found.rewards, strict=True):
        assert reward == pytest.approx(score if reply.stopped else -4.0, abs=1e-4)
