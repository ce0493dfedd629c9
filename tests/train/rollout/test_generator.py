"""The values that rollouts store are those of the formulas for each reply alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.small_rollouts import LOW, PROMPTS, STOPS, actor_critic, frozen, generator
from tunesmith.batch.columns import OLD_LOG_PROBABILITY, OLD_VALUE, REFERENCE
from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed
from tunesmith.data.dataset.plan import PlannedStep
from tunesmith.errors import InternalError
from tunesmith.model.actor_critic import ActorCritic
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.train.rollout.generator import AdvantageSettings, RewardSource, RolloutGenerator
from tunesmith.train.rollout.rollouts import PromptReplies, Rollouts, SampledReply

PLANNED = PlannedStep(0, 0, (4, 1, 3, 8, 0))


def alone(prompt: Sequence[int], reply: SampledReply) -> TokenTree:
    return PromptReplies(0, 0, tuple(prompt), (reply,)).tree()


def every_reply(rollouts: Rollouts) -> list[tuple[tuple[int, ...], SampledReply]]:
    return [(each.prompt, reply) for each in rollouts.answered for reply in each.replies]


def per_reply(rollouts: Rollouts, name: str) -> list[np.ndarray[Any, Any]]:
    cuts = np.cumsum([len(reply.ids) for _, reply in every_reply(rollouts)])[:-1]
    return list(np.split(rollouts.columns[name], cuts))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_stored_log_probabilities_are_those_of_the_stock_model_at_the_temperature(temperature: float) -> None:
    actor = actor_critic(temperature=temperature)
    rollouts = generator(actor)(0, PLANNED, 0.1)
    for (prompt, reply), old in zip(every_reply(rollouts), per_reply(rollouts, "old_log_probability"), strict=True):
        with torch.no_grad():
            logits = actor.model(input_ids=torch.tensor([[*prompt, *reply.ids]]), use_cache=False).logits[0]
        table = torch.log_softmax(logits / temperature, dim=-1)
        expected = [table[len(prompt) - 1 + k, token] for k, token in enumerate(reply.ids)]
        assert old == pytest.approx(np.array(expected), abs=1e-5)


def test_rewards_advantages_and_returns_follow_their_formulas() -> None:
    actor = actor_critic()
    reference = frozen(actor_critic("llama"))
    with torch.no_grad():
        for parameter in reference.model.parameters():
            parameter.mul_(0.9)
    settings = AdvantageSettings(unfinished=-3.0, discount=0.98, gae_lambda=0.9)
    rollouts = generator(actor, advantages=settings, reference=reference)(0, PLANNED, 0.2)
    replies = every_reply(rollouts)
    assert {reply.stopped for _, reply in replies} == {True, False}
    columns = [
        per_reply(rollouts, name) for name in ("old_log_probability", "reference", "old_value", "advantage", "return")
    ]
    for index, (_, reply) in enumerate(replies):
        old, base, value, advantage, returns = (column[index].astype(np.float64) for column in columns)
        low = 2.0 * sum(token < 12 for token in reply.ids) / len(reply.ids) - 0.5
        rewards = -0.2 * (old - base)
        rewards[-1] += low if reply.stopped else -3.0
        assert rollouts.rewards[index] == pytest.approx(low if reply.stopped else -3.0, abs=1e-6)
        expected, later = np.zeros(len(rewards)), 0.0
        for time in reversed(range(len(rewards))):
            following = value[time + 1] if time + 1 < len(value) else 0.0
            later = rewards[time] + 0.98 * following - value[time] + 0.98 * 0.9 * later
            expected[time] = later
        assert advantage == pytest.approx(expected, abs=1e-5)
        assert returns == pytest.approx(expected + value, abs=1e-5)
    metrics = rollouts.metrics
    total = sum(float((old - base).sum()) for old, base in zip(columns[0], columns[1], strict=True))
    assert metrics["reference_kl/reply"] == pytest.approx(total / len(replies), abs=1e-5)
    assert metrics["rewards/mean"] == pytest.approx(float(rollouts.rewards.mean()), abs=1e-6)
    assert metrics["rewards/finished"] == sum(reply.stopped for _, reply in replies) / len(replies)
    assert metrics["kl_coefficient"] == 0.2


def test_the_kl_to_a_reference_that_is_the_policy_is_zero() -> None:
    metrics = generator(actor_critic())(0, PLANNED, 0.1).metrics
    assert abs(metrics["reference_kl/token"]) < 1e-6


def test_samples_of_a_prompt_do_not_depend_on_the_other_prompts() -> None:
    actor = actor_critic()
    together = generator(actor, samples=3, batch_size=7)(2, PLANNED, 0.1)
    for number in PLANNED.examples:
        one = generator(actor, samples=3, batch_size=1)(2, PlannedStep(0, 0, (number,)), 0.1)
        index = PLANNED.examples.index(number)
        assert one.answered[0] == together.answered[index]
        for name, values in one.columns.items():
            assert values == pytest.approx(together.columns[name][together.prompt_slices()[index]], abs=1e-5)


def test_copies_of_a_prompt_and_iterations_have_different_random_numbers() -> None:
    actor = actor_critic()
    twice = generator(actor)(0, PlannedStep(0, 0, (4, 4), (0, 1)), 0.1).answered
    later = generator(actor)(1, PlannedStep(0, 0, (4,), (0,)), 0.1).answered
    assert twice[0].replies != twice[1].replies
    assert later[0].replies != twice[0].replies


def test_micro_batches_change_only_rounding() -> None:
    actor = actor_critic()
    small, large = (generator(actor, tokens=tokens)(0, PLANNED, 0.1) for tokens in (1, 10_000))
    assert small.answered == large.answered
    for name, values in large.columns.items():
        assert small.columns[name] == pytest.approx(values, abs=1e-5)


def test_the_same_weights_write_the_same_rollouts_to_the_bit() -> None:
    one, two = (generator(actor_critic())(3, PLANNED, 0.1) for _ in range(2))
    assert one.answered == two.answered
    assert all(np.array_equal(one.columns[name], two.columns[name]) for name in one.columns)


def test_an_adaptive_coefficient_moves_towards_its_target() -> None:
    actor = actor_critic()
    reference = _other(actor)
    kl = generator(actor, reference=reference)(0, PLANNED, 0.1).metrics["reference_kl/reply"]
    assert kl > 0.01
    for target, error in ((kl / 10, 0.2), (kl * 10, -0.2), (kl / 1.1, 0.1)):
        found = generator(actor, reference=reference, advantages=AdvantageSettings(kl_target=target, kl_horizon=300))(
            0, PLANNED, 0.1
        )
        assert found.next_coefficient == pytest.approx(0.1 * (1 + error * 15 / 300))
    assert generator(actor, reference=reference)(0, PLANNED, 0.1).next_coefficient == 0.1


def _other(actor: ActorCritic) -> Any:
    reference = frozen(actor)
    with torch.no_grad():
        for parameter in reference.model.parameters():
            parameter.mul_(0.8)
    return reference


def test_whitened_rewards_have_a_deviation_of_one() -> None:
    actor = actor_critic()
    settings = AdvantageSettings(whiten_rewards=True, gae_lambda=0.0, discount=0.0)
    with torch.no_grad():
        actor.value.head.weight.zero_()
    advantages = generator(actor, advantages=settings, reference=_other(actor))(0, PLANNED, 0.3).columns["advantage"]
    assert float(advantages.std(ddof=1)) == pytest.approx(1.0, abs=1e-3)


def test_rewards_are_added_up() -> None:
    actor = actor_critic()
    one = RewardSource(
        "one", lambda batch, answered: torch.ones(sum(len(each.replies) for each in answered)), scale=4.0
    )
    both, low = generator(actor, rewards=(LOW, one))(0, PLANNED, 0.1), generator(actor)(0, PLANNED, 0.1)
    assert both.rewards == pytest.approx(low.rewards + 4.0, abs=1e-6)
    assert both.metrics["rewards/one"] == 1.0
    assert both.metrics["rewards/low"] == low.metrics["rewards/low"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_reward_that_is_not_finite_names_the_prompt(bad: float) -> None:
    def score(batch: Any, answered: Sequence[PromptReplies]) -> torch.Tensor:
        return torch.tensor([bad if each.number == 3 else 1.0 for each in answered for _ in each.replies])

    with pytest.raises(InternalError, match=r"a reply to prompt 3 is (nan|inf)"):
        generator(actor_critic(), rewards=(RewardSource("bad", score),))(0, PLANNED, 0.1)


def test_logits_that_are_not_finite_name_the_iteration() -> None:
    actor = actor_critic()
    with torch.no_grad():
        next(iter(actor.model.parameters())).fill_(math.nan)
    with pytest.raises(InternalError, match=r"not finite when the replies of iteration 2 are sampled; .* is valid"):
        generator(actor)(2, PLANNED, 0.1)


@pytest.mark.parametrize(
    ("name", "planted", "said"),
    [
        (OLD_LOG_PROBABILITY, [math.nan], "log-probability of a reply to prompt 4 is nan"),
        (OLD_VALUE, [math.inf], "value of a reply to prompt 4 is inf"),
        (REFERENCE, [-math.inf], "reference log-probability of a reply to prompt 4 is -inf"),
        (OLD_VALUE, [3e38, -3e38], "advantage of a reply to prompt 4 is -?inf"),
    ],
)
def test_what_is_not_finite_names_the_prompt_before_rollouts_are_written(
    name: str, planted: list[float], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = RolloutGenerator._measure

    def planting(self: RolloutGenerator, answered: Any, idle: Any) -> Any:
        found = measure(self, answered, idle)
        found[name][: len(planted)] = torch.tensor(planted)
        return found

    monkeypatch.setattr(RolloutGenerator, "_measure", planting)
    with pytest.raises(InternalError, match=rf"the {said} in iteration 2; .* the last checkpoint is valid"):
        generator(actor_critic())(2, PLANNED, 0.1)


def test_a_tree_of_rollouts_holds_its_replies_and_their_ends() -> None:
    replies = (SampledReply((5, 6, 1), True), SampledReply((7,), False), SampledReply((8, 2), True))
    for chosen in (replies, replies[:1]):
        batch = assemble_packed([Example(0, PromptReplies(0, 0, (3, 4), chosen).tree())] * 2, "messages")
        tokens = [token for reply in chosen for token in reply.ids] * 2
        assert batch.target.tolist() == tokens
        assert batch.ids[batch.replies.end].tolist() == [reply.ids[-1] for reply in chosen] * 2
        assert len(batch.replies) == 2 * len(chosen) == int(batch.owner.max()) + 1
        assert batch.replies.group.tolist() == [0] * len(chosen) + [1] * len(chosen)
        starts = [place for place, token in enumerate(batch.ids.tolist()) if token == 4]
        assert sorted(set(batch.source.tolist()) & set(starts)) == starts


@pytest.mark.parametrize("tokens", [1, 6, 9, 100])
def test_many_replies_to_a_prompt_are_laid_out_in_pieces(tokens: int) -> None:
    replies = (
        SampledReply((5, 6, 1), True),
        SampledReply((7,), False),
        SampledReply((8, 2), True),
        SampledReply((9,) * 8, False),
    )
    pieces = PromptReplies(4, 1, (3, 4), replies).split(tokens)
    assert tuple(reply for piece in pieces for reply in piece.replies) == replies
    assert all((piece.number, piece.copy, piece.prompt) == (4, 1, (3, 4)) for piece in pieces)
    assert all(len(piece.replies) == 1 or len(piece.tree().ids) <= tokens for piece in pieces)
    assert len(pieces) == {1: 4, 6: 3, 9: 2, 100: 1}[tokens]


def test_prompts_and_stops_of_these_tests_differ() -> None:
    assert len(set(PROMPTS)) == len(PROMPTS)
    assert not {token for prompt in PROMPTS for token in prompt} & set(STOPS)
