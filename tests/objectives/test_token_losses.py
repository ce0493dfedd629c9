"""Token losses of other systems, computed from our log-probabilities; all vectors are counted, so none is skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.objectives.given import GivenBatch, GivenLogits, batch_of
from tunesmith.objectives.sft import SupervisedFineTuning

Golden = Callable[[str], dict[str, Any]]

COUNTED = {
    # tests/objectives/test_preference_losses.py and test_preference.py
    "dpo_reference": 15,
    "dpo_open_instruct": 12,
    "dpo_easylm": 9,
    "dpo_easylm_forward": 6,
    "simpo": 6,
    "wpo": 2,
    "batch_logps_reference": 3,
    "batch_logps_open_instruct": 2,
    # tests/objectives/test_ranking.py
    "easylm_reward_model": 2,
    # tests/objectives/test_advantages.py
    "easylm_whiten": 4,
    "easylm_gae": 6,
    "trlx_whiten": 2,
    "trlx_gae": 8,
    "adaptive_kl": 2,
    "running_moments": 1,
    # tests/objectives/test_proximal_golden.py
    "easylm_ppo_loss": 2,
    "easylm_ppo_step": 2,
    "easylm_rollout": 2,
    "trlx_ppo_loss": 2,
    # tests/objectives/test_sft.py, and of the factors what is not there below
    "t5x_cross_entropy": 8,
    "t5x_normalizing_factor": 20,
    # here
    "oa_token_loss": 9,
    "oa_accuracy": 1,
    "hf_causal_lm": 1,
    "easylm_cross_entropy": 2,
}


def cases(golden: Golden, kind: str) -> list[dict[str, Any]]:
    found = [case for case in golden("losses")["cases"] if case["kind"] == kind]
    assert len(found) == COUNTED[kind]
    return found


def test_every_vector_of_losses_and_reward_models_has_a_test(golden: Golden) -> None:
    """``collate`` of reward models is about texts and their limits, not about losses."""
    assert Counter(case["kind"] for case in golden("losses")["cases"]) == COUNTED
    kinds = Counter(case["kind"] for case in golden("oasst_rm")["cases"])
    assert kinds == {"loss": 21, "metrics": 5, "collate": 18}


def masked(logits: Tensor, target: Tensor, mask: Tensor) -> tuple[GivenLogits, GivenBatch]:
    """The policy and the batch of the positions that a mask keeps."""
    batch = batch_of([], [])
    batch.owner, batch.target = mask.nonzero()[:, 0], target[mask]
    return GivenLogits(logits[mask].detach()), batch


def gradient_at(policy: GivenLogits, mask: Tensor) -> Tensor:
    assert policy.logits.grad is not None
    found = torch.zeros(*mask.shape, policy.logits.shape[-1], dtype=policy.logits.dtype)
    found[mask] = policy.logits.grad
    return found


def of_case(case: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    target = torch.tensor(case["input"]["targets"])
    mask = case["input"]["mask"]
    kept = torch.ones_like(target) if mask is None else torch.tensor(mask)
    return torch.tensor(case["input"]["logits"], dtype=torch.float64), target, kept > 0


def test_cross_entropy_is_that_of_openassistant_and_poly_loss_is_a_function_of_it(golden: Golden) -> None:
    """PolyLoss, - log p + epsilon (1 - p), is no option of a recipe; it needs log-probabilities with gradients only."""
    seen: Counter[str] = Counter()
    for case in cases(golden, "oa_token_loss"):
        if "raises" in case["expected"]:
            assert case["original_defect"] == "N18", "the original cannot be built without weights for all classes"
            seen["unbuilt"] += 1
            continue
        logits, target, kept = of_case(case)
        policy, batch = masked(logits, target, kept)
        if not kept.any():
            assert SupervisedFineTuning().units(batch) == 0.0  # type: ignore[arg-type]
            assert case["expected"]["value"] == 0.0
            seen["empty"] += 1
            continue
        if case["settings"]["loss"] == "Poly":
            own = policy.log_probabilities(batch).log_probability
            loss = (-own + case["settings"]["epsilon"] * (1.0 - own.exp())).mean()
        else:
            loss = SupervisedFineTuning()(policy, batch, batch.targets).loss  # type: ignore[arg-type]
        loss.backward()
        seen[case["settings"]["loss"]] += 1
        assert loss.item() == pytest.approx(case["expected"]["value"], rel=1e-6), case["id"]
        if "gradient" in case["expected"]:
            theirs = torch.tensor(case["expected"]["gradient"], dtype=torch.float64)
            torch.testing.assert_close(gradient_at(policy, kept), theirs, rtol=1e-6, atol=1e-9)
    assert seen == {"CrossEntropyLoss": 3, "Poly": 4, "empty": 1, "unbuilt": 1}


def test_the_loss_is_that_of_a_causal_model_shifted_by_one(golden: Golden) -> None:
    (case,) = cases(golden, "hf_causal_lm")
    logits = torch.tensor(case["input"]["logits"], dtype=torch.float64)
    labels = torch.tensor(case["input"]["labels"])
    target = torch.cat([labels[:, 1:], torch.full((len(labels), 1), -100)], 1)
    policy, batch = masked(logits, target, target != -100)
    loss = SupervisedFineTuning()(policy, batch, batch.targets).loss  # type: ignore[arg-type]
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(case["expected"]["value"], rel=1e-6)
    theirs = torch.tensor(case["expected"]["gradient"], dtype=torch.float64)
    torch.testing.assert_close(gradient_at(policy, target != -100), theirs, rtol=1e-6, atol=1e-9)


def test_the_loss_of_easylm_is_the_same_mean_but_its_accuracy_is_one_of_sequences(golden: Golden) -> None:
    for case in cases(golden, "easylm_cross_entropy"):
        kept = torch.tensor(case["input"]["valid"]) > 0
        target, expected = torch.tensor(case["input"]["tokens"]), case["expected"]
        policy, batch = masked(torch.tensor(case["input"]["logits"]), target, kept)
        found = SupervisedFineTuning()(policy, batch, batch.targets)  # type: ignore[arg-type]
        assert found.loss.item() == pytest.approx(expected["loss"], rel=1e-5)
        assert float(found.sums["loss"]) == pytest.approx(-expected["metrics"]["token_logprob_sum"], rel=1e-5)
        assert batch.targets == expected["metrics"]["valid_sum"]
        right = policy.log_probabilities(batch).correct
        rows = [right[batch.owner == row].float() for row in range(len(kept))]
        theirs = sum(float(row.mean()) if len(row) else 0.0 for row in rows) / len(rows)
        assert theirs == pytest.approx(expected["metrics"]["accuracy"], rel=1e-6)
        assert float(found.sums["accuracy"]) == float(right.sum())


def test_accuracy_counts_the_token_of_id_0_unlike_the_original(golden: Golden) -> None:
    (case,) = cases(golden, "oa_accuracy")
    assert case["original_defect"] == "4"
    labels, predictions = torch.tensor(case["input"]["labels"]), torch.tensor(case["input"]["predictions"])
    for kept, original in ((labels > 0, True), (labels >= 0, False)):
        policy, batch = masked(torch.nn.functional.one_hot(predictions, 8).double(), labels, kept)
        loss = SupervisedFineTuning()(policy, batch, 1.0)  # type: ignore[arg-type]
        found = float(loss.sums["accuracy"]) / batch.targets
        by_hand = float((predictions[kept] == labels[kept]).double().mean())
        assert found == pytest.approx(by_hand)
        assert (found == pytest.approx(case["expected"]["accuracy"])) == original


def test_other_divisors_of_t5x_are_a_number_none_or_not_offered(golden: Golden) -> None:
    """Without padding there is no number of tokens in all; a mean for each sequence would depend on packing."""
    offered = {None: "sum", 7.5: 7.5, "NUM_REAL_TARGET_TOKENS": "targets"}
    seen: Counter[Any] = Counter()
    for case in cases(golden, "t5x_normalizing_factor"):
        factor = case["settings"]["loss_normalizing_factor"]
        seen[factor] += 1
        if factor in (None, 7.5):
            assert case["expected"]["factor"] == factor
            policy, batch = masked(torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3) > 0)
            found = SupervisedFineTuning(normalize=offered[factor])(policy, batch, 6.0)  # type: ignore[arg-type]
            assert found.loss.item() == pytest.approx(float(found.sums["loss"]) / (factor or 1.0), rel=1e-6)
        elif factor not in offered:
            assert factor in ("NUM_TOTAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE")
    assert set(seen.values()) == {4}
    assert len(seen) == 5
