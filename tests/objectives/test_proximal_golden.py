"""The losses of PPO are those of EasyLM and trlx; what was true when a reply was written is stored, not made anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.objectives.given import PROXIMAL_COLUMNS, GivenBatch, batch_of, proximal_loss
from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed
from tunesmith.batch.protocols import Loss
from tunesmith.objectives.advantages import reply_advantages, token_rewards, whiten
from tunesmith.objectives.proximal import ProximalPolicy
from tunesmith.text.tokens.token_tree import TokenTree

Golden = Callable[[str], dict[str, Any]]


def cases(golden: Golden, kind: str, number: int = 2) -> list[dict[str, Any]]:
    found = [case for case in golden("losses")["cases"] if case["kind"] == kind]
    assert len(found) == number
    return found


def numbers(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def flat_batch(kept: Tensor, **columns: Tensor) -> GivenBatch:
    """The kept places [R, T] as the tokens of R replies; columns [R, T] likewise, 0 where one is not given."""
    batch = batch_of([[0]] * len(kept), [int(row.sum()) for row in kept])
    batch.columns.update({name: columns.get(name, torch.zeros(kept.shape).double())[kept] for name in PROXIMAL_COLUMNS})
    return batch


def means(found: Loss, batch: GivenBatch) -> dict[str, float]:
    return {name: float(value) / batch.targets for name, value in found.sums.items()}


def continuation(case: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(logits [R, T, V], values [R, T], tokens [R, T], mask [R, T]) of the replies of a case of EasyLM."""
    given, begin = case["input"], case["input"]["prompt_length"]
    logits = numbers(given["policy_logits"])[:, begin - 1 : -1].requires_grad_()
    value = numbers(given["value_outputs"])[:, begin - 1 : -1].requires_grad_()
    tokens = torch.tensor(given["input_ids"])[:, begin:]
    return logits, value, tokens, torch.tensor(given["attn_mask"])[:, begin:] > 0


def chosen(logits: Tensor, tokens: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1).gather(-1, tokens[..., None])[..., 0]


def expect_gradients(case: dict[str, Any], logits: Tensor, value: Tensor) -> None:
    begin = case["input"]["prompt_length"]
    for given, name in ((logits, "grad_policy_logits"), (value, "grad_value_outputs")):
        theirs = numbers(case["expected"][name])
        assert given.grad is not None
        torch.testing.assert_close(given.grad, theirs[:, begin - 1 : -1], rtol=1e-9, atol=1e-12)
        assert not theirs[:, : begin - 1].any()
        assert not theirs[:, -1].any()


def test_loss_measures_and_gradients_are_those_of_easylm(golden: Golden) -> None:
    for case in cases(golden, "easylm_ppo_loss"):
        given, settings, expected = case["input"], case["settings"], case["expected"]
        logits, value, tokens, kept = continuation(case)
        batch = flat_batch(
            kept,
            old_log_probability=numbers(given["old_cont_logps"]),
            old_value=numbers(given["old_cont_values"]),
            advantage=numbers(given["advantages"]),
            **{"return": numbers(given["returns"])},
        )
        objective = ProximalPolicy(
            clip=settings["cliprange"], value_clip=settings["cliprange_value"], value_weight=settings["vf_coef"]
        )
        found = proximal_loss(objective, chosen(logits, tokens)[kept], value[kept], batch)
        found.loss.backward()  # type: ignore[no-untyped-call]
        assert found.loss.item() == pytest.approx(expected["loss"], rel=1e-9)
        measured, stats = means(found, batch), expected["stats"]
        theirs = {
            "loss": stats["ppo/loss/total"],
            "policy_loss": stats["ppo/loss/policy"],
            "value_loss": stats["ppo/loss/value"],
            "ratio": stats["ppo/policy/ratios_mean"],
            "value": stats["ppo/val/vpred"],
            "value_error": stats["ppo/val/error"],
            "return": stats["ppo/returns/mean"],
        }
        assert {name: measured[name] for name in theirs} == pytest.approx(theirs, rel=1e-9)
        assert stats["ppo/policy/advantages_mean"] == pytest.approx(float(batch.columns["advantage"].mean()), rel=1e-9)
        assert stats["ppo/val/mean"] == pytest.approx(float(batch.columns["old_value"].mean()), rel=1e-9)
        expect_gradients(case, logits, value)


def test_loss_measures_and_gradients_are_those_of_trlx(golden: Golden) -> None:
    for case in cases(golden, "trlx_ppo_loss"):
        given, settings, expected = case["input"], case["settings"], case["expected"]
        kept = torch.tensor(given["mask"]) > 0
        own, value = (numbers(given[name]).requires_grad_() for name in ("logprobs", "values"))
        batch = flat_batch(
            kept,
            old_log_probability=numbers(given["old_logprobs"]),
            old_value=numbers(given["old_values"]),
            advantage=numbers(given["advantages"]),
            **{"return": numbers(given["returns"])},
        )
        objective = ProximalPolicy(
            clip=settings["cliprange"], value_clip=settings["cliprange_value"], value_weight=settings["vf_coef"]
        )
        found = proximal_loss(objective, own[kept], value[kept], batch)
        found.loss.backward()  # type: ignore[no-untyped-call]
        assert found.loss.item() == pytest.approx(expected["loss"], rel=1e-9)
        measured, stats = means(found, batch), expected["stats"]
        theirs = {
            "loss": stats["losses/total_loss"],
            "policy_loss": stats["losses/policy_loss"],
            "value_loss": stats["losses/value_loss"],
            "value_error": stats["values/values_error"],
            "value_clipped": stats["values/clipfrac"],
            "value": stats["values/mean"],
            "return": stats["returns/mean"],
            "kl": stats["policy/approx_kl"] * kept.numel() / batch.targets,  # theirs counts padding, too
            "clipped": stats["policy/clipfrac"],
            "ratio": stats["ratio"],
        }
        assert {name: measured[name] for name in theirs} == pytest.approx(theirs, rel=1e-6), case["id"]
        for tensor, name in ((own, "grad_logprobs"), (value, "grad_values")):
            assert tensor.grad is not None
            torch.testing.assert_close(tensor.grad, numbers(expected[name]), rtol=1e-9, atol=1e-12)


def prepared(case: dict[str, Any]) -> tuple[GivenBatch, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A whole step of EasyLM made with the parts of this package.

    Returns (batch, logits, values, log-probabilities, rewards of the tokens, scores of the replies). The columns are
    computed with the parameters of the step, as in the original.
    """
    settings = case["settings"]
    logits, value, tokens, kept = continuation(case)
    reference = chosen(numbers(case["input"]["reference_logits"])[:, case["input"]["prompt_length"] - 1 : -1], tokens)
    own, owner = chosen(logits, tokens), kept.nonzero()[:, 0]
    last = [row[mask][-1] for row, mask in zip(tokens, kept, strict=True)]
    scores = numbers(
        [
            score if int(end) == settings["eos"] else -10.0
            for score, end in zip(case["input"]["reward_model_scores"], last, strict=True)
        ]
    )
    assert scores.tolist() == case["expected"]["reward"]
    gained = scores * settings["reward_gain"] + settings["reward_bias"]
    then, old_value = own.detach()[kept], value.detach()[kept]
    rewards = token_rewards(then, reference[kept], owner, gained, settings["kl_coef"])
    advantage, returns = reply_advantages(
        rewards, old_value, owner, discount=settings["gamma"], gae_lambda=settings["lam"]
    )
    batch = flat_batch(kept)
    batch.columns.update(
        old_log_probability=then,
        old_value=old_value,
        advantage=whiten(advantage),
        reference=reference[kept],
        **{"return": returns},
    )
    return batch, logits, value, own[kept], rewards, gained


def test_a_whole_step_is_that_of_easylm_when_the_old_policy_is_the_policy_itself(golden: Golden) -> None:
    for case in cases(golden, "easylm_ppo_step"):
        settings, stats = case["settings"], case["expected"]["stats"]
        batch, logits, value, own, rewards, gained = prepared(case)
        objective = ProximalPolicy(
            clip=settings["cliprange"], value_clip=settings["cliprange_value"], value_weight=settings["vf_coef"]
        )
        kept = torch.tensor(case["input"]["attn_mask"])[:, case["input"]["prompt_length"] :] > 0
        found = proximal_loss(objective, own, value[kept], batch)
        found.loss.backward()  # type: ignore[no-untyped-call]
        replies, measured = len(gained), means(found, batch)
        log_ratio = (own.detach() - batch.columns["reference"]).sum()
        ours = {
            "env/reward_mean": float(numbers(case["expected"]["reward"]).mean()),
            "objective/kl": float(log_ratio) / replies,
            "objective/kl_per_token": float(log_ratio) / batch.targets,
            "objective/kl_coef": settings["kl_coef"],
            "ppo/mean_score_total": float(rewards.sum()) / replies,
            "ppo/mean_non_score_reward": -settings["kl_coef"] * float(log_ratio) / batch.targets,
            "ppo/mean_non_score_reward_sum": -settings["kl_coef"] * float(log_ratio) / replies,
            "ppo/mean_scores": float(gained.mean()),
            "ppo/std_scores": float(gained.std(correction=0)),
            "tokens/responses_len_mean": batch.targets / replies,
            "ppo/loss/policy": measured["policy_loss"],
            "ppo/loss/total": measured["loss"],
            "ppo/loss/value": measured["value_loss"],
            "ppo/policy/advantages_mean": float(batch.columns["advantage"].mean()),
            "ppo/policy/ratios_mean": measured["ratio"],
            "ppo/returns/mean": measured["return"],
            "ppo/val/error": measured["value_error"],
            "ppo/val/mean": float(batch.columns["old_value"].mean()),
            "ppo/val/vpred": measured["value"],
        }
        assert ours == pytest.approx(stats, rel=1e-9, abs=1e-12), case["id"]
        expect_gradients(case, logits, value)
        assert measured["kl"] == measured["clipped"] == measured["value_clipped"] == 0.0
        assert measured["reference_kl"] > 0.0


def test_unlike_easylm_later_steps_on_a_rollout_see_how_far_the_policy_went(golden: Golden) -> None:
    """The original computes the old log-probabilities with the current parameters, so its ratio is always 1."""
    for case in cases(golden, "easylm_ppo_step"):
        assert case["original_defect"] == "24"
        assert case["expected"]["stats"]["ppo/policy/ratios_mean"] == pytest.approx(1.0)
        batch, _, value, own, _, _ = prepared(case)
        kept = torch.tensor(case["input"]["attn_mask"])[:, case["input"]["prompt_length"] :] > 0
        moved = own.detach() + 0.4 * batch.columns["advantage"].sign()
        found = proximal_loss(ProximalPolicy(), moved, value.detach()[kept], batch)
        measured = means(found, batch)
        assert measured["ratio"] != pytest.approx(1.0, abs=0.01)
        assert measured["clipped"] == 1.0, "every ratio went the way of its advantage, beyond the clip"
        assert measured["kl"] > 0.05


def test_a_rollout_lies_in_a_batch_as_the_original_reads_it_from_its_padding(golden: Golden) -> None:
    """The original finds the end of a reply by its padding, and writes an end token there if it fits.

    Here a reply is its tokens, and positions, targets and values follow from their number.
    """
    for case in cases(golden, "easylm_rollout"):
        expected, begin = case["expected"], case["input"]["prompt_length"]
        pad, eos = case["settings"]["pad"], case["settings"]["eos"]
        mask = torch.tensor(expected["attn_mask"]) > 0
        examples = []
        for number, (given, ids, row) in enumerate(
            zip(case["input"]["generated"], expected["input_ids"], mask, strict=True)
        ):
            whole = torch.tensor(ids)[row].numpy().astype(np.int32)
            written = [token for token in given if token != pad]
            assert whole.tolist() in (written, [*written, eos])
            prompt = int(row[:begin].sum())
            segments, spans = np.array([[0, len(whole), -1]]), np.array([[prompt, len(whole), prompt - 1, 1, 1]])
            examples.append(Example(number, TokenTree(whole, segments.astype(np.int32), spans.astype(np.int32), 1)))
        batch, kept = assemble_packed(examples, "messages"), mask[:, begin:]
        assert kept.tolist() == (torch.tensor(expected["cont_attn_mask"]) > 0).tolist()
        assert batch.target.tolist() == torch.tensor(expected["cont_input_ids"])[kept].tolist()
        assert batch.positions[batch.source + 1].tolist() == torch.tensor(expected["cont_position_ids"])[kept].tolist()
        assert ProximalPolicy().units(batch) == int(kept.sum())
        assert batch.owner.tolist() == kept.nonzero()[:, 0].tolist()
