"""The losses of the DPO family are, to the last digit, those of the systems that they were taken from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tunesmith.objectives.preference_losses import (
    LOSSES,
    PreferenceLoss,
    implicit_rewards,
    log_ratios,
    policy_weights,
    preference_losses,
)
from tunesmith.objectives.replies import reply_log_probabilities

Golden = Callable[[str], dict[str, Any]]


def cases(golden: Golden, kind: str, number: int) -> list[dict[str, Any]]:
    found = [case for case in golden("losses")["cases"] if case["kind"] == kind]
    assert len(found) == number
    return found


def given(case: dict[str, Any]) -> dict[str, Tensor]:
    names = ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected")
    return {
        name: torch.tensor(case["input"][f"{name}_logps"], dtype=torch.float64)
        for name in names
        if f"{name}_logps" in case["input"]
    }


def losses(values: dict[str, Tensor], **settings: Any) -> Tensor:
    """The losses of a case with the names that the originals give to settings."""
    references = () if settings.get("reference_free") else (values["reference_chosen"], values["reference_rejected"])
    ratio = log_ratios(values["policy_chosen"], values["policy_rejected"], *references)
    loss: PreferenceLoss = "ipo" if settings.get("ipo") or settings.get("use_ipo") else "sigmoid"
    beta, smoothing = settings["beta"], settings.get("label_smoothing", 0.0)
    return preference_losses(beta * ratio, loss, beta=beta, label_smoothing=smoothing)


def expect(found: Tensor, expected: Any) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("kind", "number"), [("dpo_reference", 15), ("dpo_open_instruct", 12), ("dpo_easylm", 9)])
def test_losses_and_rewards_are_those_of_the_originals(golden: Golden, kind: str, number: int) -> None:
    for case in cases(golden, kind, number):
        values, settings, expected = given(case), case["settings"], case["expected"]
        expect(losses(values, **settings), expected["losses"])
        for side in ("chosen", "rejected"):
            rewards = implicit_rewards(values[f"policy_{side}"], values[f"reference_{side}"], settings["beta"])
            expect(rewards, expected[f"{side}_rewards"])


def test_gradients_margins_and_accuracies_are_those_of_the_reference_implementation(golden: Golden) -> None:
    for case in cases(golden, "dpo_reference", 15):
        values, settings, expected = given(case), case["settings"], case["expected"]
        for side in ("policy_chosen", "policy_rejected"):
            values[side].requires_grad_()
        loss = losses(values, **settings).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.item() == pytest.approx(expected["loss_mean"], rel=1e-9)
        for side in ("policy_chosen", "policy_rejected"):
            gradient = values[side].grad
            assert gradient is not None
            expect(gradient, expected[f"grad_{side}"])
        chosen, rejected = (
            implicit_rewards(values[f"policy_{side}"].detach(), values[f"reference_{side}"], settings["beta"])
            for side in ("chosen", "rejected")
        )
        expect(chosen - rejected, expected["margins"])
        assert (chosen > rejected).double().tolist() == expected["accuracies"]


@pytest.mark.parametrize("change", [{"beta": 0.3}, {"label_smoothing": 0.2}, {"ipo": True}], ids=str)
def test_a_changed_setting_is_seen(golden: Golden, change: dict[str, Any]) -> None:
    for case in cases(golden, "dpo_reference", 15):
        same = losses(given(case), **case["settings"])
        changed = losses(given(case), **{**case["settings"], **change})
        if case["settings"].items() >= change.items() or case["settings"]["ipo"] or not same.std():
            continue  # the change is none; ipo has no smoothing here; a policy that is the reference hides beta
        assert not torch.allclose(same, changed), case["id"]


def test_simpo_is_the_loss_without_a_reference_and_with_a_target_margin(golden: Golden) -> None:
    for case in cases(golden, "simpo", 6):
        values, settings, expected = given(case), case["settings"], case["expected"]
        chosen, rejected = (
            implicit_rewards(values[f"policy_{side}"], None, settings["beta"]) for side in ("chosen", "rejected")
        )
        logit = chosen - rejected - settings["beta"] * settings["gamma_beta_ratio"]
        smoothing = settings["label_smoothing"]
        expect(
            preference_losses(logit, "sigmoid", beta=settings["beta"], label_smoothing=smoothing), expected["losses"]
        )
        expect(chosen, expected["chosen_rewards"])
        expect(rejected, expected["rejected_rewards"])


def test_the_original_wpo_weighs_pairs_by_means_over_other_pairs_and_this_one_does_not(golden: Golden) -> None:
    """It multiplies sums [batch] by masks [batch, length]: that fails, or mixes the pairs if both sizes are equal."""
    fails, mixes = cases(golden, "wpo", 2)
    assert fails["expected"] == {"raises": "RuntimeError"}
    for case in (fails, mixes):
        values = given(case)
        masks = [torch.tensor(case["input"][f"{side}_loss_mask"]).double() for side in ("chosen", "rejected")]
        sums = [values["policy_chosen"], values["policy_rejected"]]
        weights = policy_weights(*(own / mask.sum(-1) for own, mask in zip(sums, masks, strict=True)))
        by_hand = [
            min(1.0, float((a / left.sum() + b / right.sum()).exp()))
            for a, b, left, right in zip(*sums, *masks, strict=True)
        ]
        assert weights.tolist() == pytest.approx(by_hand, rel=1e-12)
        found = weights * losses(values, **case["settings"])
        assert found.shape == sums[0].shape
        if case is mixes:
            mixed = [(own * mask).sum(-1) / mask.sum(-1) for own, mask in zip(sums, masks, strict=True)]
            expect(policy_weights(*mixed) * losses(values, **case["settings"]), case["expected"]["losses"])
            assert not torch.allclose(found, torch.tensor(case["expected"]["losses"], dtype=torch.float64), rtol=0.1)


def test_log_probabilities_of_replies_are_sums_or_means_over_their_targets(golden: Golden) -> None:
    for kind, number in (("batch_logps_reference", 3), ("batch_logps_open_instruct", 2)):
        for case in cases(golden, kind, number):
            labels = torch.tensor(case["input"]["labels"])[:, 1:]
            owner = (labels != -100).nonzero()[:, 0]
            if "logits" in case["input"]:
                logits = torch.tensor(case["input"]["logits"], dtype=torch.float64)[:, :-1]
                wanted = labels.clamp(min=0)[..., None]
                each = torch.log_softmax(logits, -1).gather(-1, wanted)[..., 0][labels != -100]
            else:
                each = torch.tensor(case["input"]["per_token_logps"], dtype=torch.float64)[:, : labels.shape[1]]
                each = each[labels != -100]
            sums, lengths = reply_log_probabilities(each, owner, len(labels))
            found = sums / lengths if case["settings"]["average_log_prob"] else sums
            for value, expected in zip(found.tolist(), case["expected"]["logps"], strict=True):
                if expected == "NaN":  # the original divides by 0
                    assert value == 0.0
                else:
                    assert value == pytest.approx(expected, rel=1e-9)


def test_smoothing_is_the_mean_over_labels_that_may_be_wrong() -> None:
    logit = torch.linspace(-3, 3, 7, dtype=torch.float64)
    for loss in LOSSES:
        kept, flipped = preference_losses(logit, loss, beta=0.5), preference_losses(-logit, loss, beta=0.5)
        found = preference_losses(logit, loss, beta=0.5, label_smoothing=0.25)
        torch.testing.assert_close(found, 0.75 * kept + 0.25 * flipped)


def test_hinge_is_satisfied_beyond_its_margin_and_ipo_nowhere_but_at_its_target() -> None:
    logit = torch.tensor([-1.0, 0.5, 1.0, 4.0], dtype=torch.float64)
    assert preference_losses(logit, "hinge", beta=0.1).tolist() == [2.0, 0.5, 0.0, 0.0]
    assert preference_losses(torch.tensor([0.5, 0.6]), "ipo", beta=0.1).tolist() == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [-1e6, 1e6])
def test_far_from_the_reference_losses_and_gradients_are_still_numbers(loss: PreferenceLoss, size: float) -> None:
    logit = torch.tensor([size], requires_grad=True)
    found = preference_losses(logit, loss, beta=0.1, label_smoothing=0.1).sum()
    found.backward()  # type: ignore[no-untyped-call]
    assert logit.grad is not None
    assert found.isfinite().all()
    assert logit.grad.isfinite().all()


def test_no_gradient_flows_through_the_weights_of_wpo() -> None:
    mean = torch.tensor([-1.0], requires_grad=True)
    assert not policy_weights(mean, mean).requires_grad
    assert policy_weights(torch.tensor([1e-3]), torch.tensor([0.0])).tolist() == [1.0]
