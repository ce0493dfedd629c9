"""The checks before the first step fail for a number that is not one, wherever among the others it comes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.small_rollouts import actor_critic, generator
from tunesmith.batch.columns import OLD_LOG_PROBABILITY, REFERENCE
from tunesmith.compose.methods import dpo, reward_gates
from tunesmith.compose.methods.ppo_gates import ratio_gate, reference_gate, stock_gate
from tunesmith.data.dataset.plan import PlannedStep
from tunesmith.model.actor_critic import ActorCritic
from tunesmith.objectives.preference import PreferenceOptimization
from tunesmith.train.rollout.rollouts import Rollouts
from tunesmith.train.steps import Step


@pytest.fixture
def actor() -> ActorCritic:
    torch.set_num_threads(1)
    return actor_critic()


@pytest.fixture
def rollouts(actor: ActorCritic) -> Rollouts:
    return generator(actor)(0, PlannedStep(0, 0, (0, 1, 2)), 0.1)


def batches(actor: ActorCritic, rollouts: Rollouts) -> list[Any]:
    """One for each prompt, with the log-probabilities that were stored."""
    made = generator(actor)
    found = []
    for each, part in zip(rollouts.answered, rollouts.prompt_slices(), strict=True):
        ((batch, _),) = made._batches([each])
        stored = torch.from_numpy(rollouts.columns[OLD_LOG_PROBABILITY][part].copy())
        batch.columns[OLD_LOG_PROBABILITY] = stored  # type: ignore[index]
        found.append(batch)
    return found


def test_the_gates_of_ppo_pass_the_numbers_of_the_policy(actor: ActorCritic, rollouts: Rollouts) -> None:
    checks = [ratio_gate(actor, batches(actor, rollouts)), stock_gate(actor, rollouts, 1.0)]
    assert [check.status for check in checks] == ["pass", "pass"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_ratio_that_is_not_a_number_fails(number: int, actor: ActorCritic, rollouts: Rollouts) -> None:
    planted = batches(actor, rollouts)
    planted[number].columns[OLD_LOG_PROBABILITY][-1] = math.nan
    check = ratio_gate(actor, planted)
    assert check.status == "fail"
    assert "nan" in check.summary


@pytest.mark.parametrize("place", [0, 2, -1])
def test_a_stored_log_probability_that_is_not_a_number_fails(
    place: int, actor: ActorCritic, rollouts: Rollouts
) -> None:
    compared = sum(len(reply.ids) for reply in [*rollouts.answered[0].replies, rollouts.answered[1].replies[0]])
    rollouts.columns[OLD_LOG_PROBABILITY][:compared][place] = np.nan
    assert stock_gate(actor, rollouts, 1.0).status == "fail"
    assert reference_gate(actor, rollouts).status == "fail"


def test_a_reference_that_is_not_a_number_fails(actor: ActorCritic, rollouts: Rollouts) -> None:
    rollouts.columns[REFERENCE][5] = np.nan
    assert reference_gate(actor, rollouts).status == "fail"
    assert stock_gate(actor, rollouts, 1.0).status == "pass"


@pytest.mark.parametrize("difference", [0.01, -0.01])
def test_numbers_that_are_a_little_off_fail(difference: float, actor: ActorCritic, rollouts: Rollouts) -> None:
    """Each of the three numbers that are compared, by ten times the tolerance."""
    planted = batches(actor, rollouts)
    planted[-1].columns[OLD_LOG_PROBABILITY][0] += difference
    assert ratio_gate(actor, planted).status == "fail"
    rollouts.columns[REFERENCE][-1] += difference
    assert reference_gate(actor, rollouts).status == "fail"
    assert stock_gate(actor, rollouts, 1.0).status == "pass"
    rollouts.columns[OLD_LOG_PROBABILITY][1] += difference
    assert stock_gate(actor, rollouts, 1.0).status == "fail"


def test_log_probabilities_of_another_temperature_fail(actor: ActorCritic, rollouts: Rollouts) -> None:
    assert stock_gate(actor, rollouts, 0.9).status == "fail"


class Scalars:
    """As much of a reward model as the gate reads."""

    compute = torch.float32

    def eval(self) -> None:
        """It has no dropout."""


SCORES = {
    "equal": ([(1.0, 1.0), (-2.0, -2.0)], "pass"),
    "ours first": ([(math.nan, 1.0), (-2.0, -2.0)], "fail"),
    "ours last": ([(1.0, 1.0), (math.nan, -2.0)], "fail"),
    "stock": ([(1.0, 1.0), (-2.0, math.nan)], "fail"),
    "both infinite": ([(1.0, 1.0), (math.inf, math.inf)], "fail"),
    "different": ([(1.0, 1.0), (-2.0, -2.1)], "fail"),
}


@pytest.mark.parametrize("case", SCORES)
def test_a_score_that_is_not_a_number_fails(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, status = SCORES[case]
    monkeypatch.setattr(reward_gates, "_both_scores", lambda policy, batch, world: scores)
    policy: Any = Scalars()
    steps: Any = [Step(0, 0, (0,), (object(),))]
    assert reward_gates.single_reply_gate(policy, steps).status == status


@pytest.mark.parametrize(
    ("margin", "loss", "status"),
    [
        (0.0, math.log(2), "pass"),
        (math.nan, math.log(2), "fail"),
        (0.0, math.nan, "fail"),
        (0.0, 0.7, "fail"),
        (0.01, math.log(2), "fail"),
    ],
)
def test_a_margin_or_loss_that_is_not_a_number_fails(
    margin: float, loss: float, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: Callable[..., dict[str, float]] = lambda *given: {"rewards/margins": margin, "loss": loss}  # noqa: E731
    monkeypatch.setattr(dpo, "accumulate_metrics", found)
    policy: Any = Scalars()
    steps: Any = [Step(0, 0, (0,), (object(),))]
    (check,) = dpo.reference_gates(policy, PreferenceOptimization(), steps)
    assert check.status == status
