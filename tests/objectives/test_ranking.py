"""The loss of reward models is that of OpenAssistant and of EasyLM, the same however a step is cut up."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.objectives.given import GivenBatch, GivenScores, batch_of, part_of
from tunesmith.batch.example import preference_pairs
from tunesmith.batch.protocols import Loss
from tunesmith.errors import DataError
from tunesmith.evaluate.ranking import ranking_metrics
from tunesmith.objectives.ranking import RewardRanking, ranking_losses

Golden = Callable[[str], dict[str, Any]]
GROUPS = [[0, 1], [1, 0, 2], [0, 0, 1], [1, 1], [2, 0, 1, 1]]


def run(objective: RewardRanking, scores: Tensor, batch: GivenBatch, units: float | None = None) -> Loss:
    if units is None:
        units = objective.units(batch)  # type: ignore[arg-type]
    return objective(GivenScores(scores), batch, units)  # type: ignore[arg-type]


def expect(found: Tensor, expected: Any) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def groups_of(case: dict[str, Any]) -> list[list[int]]:
    ends = case["settings"]["cu_lengths"] or [0, len(case["input"]["scores"])]
    return [list(range(stop - start)) for start, stop in pairwise(ends)]


def test_the_loss_is_that_of_openassistant_with_and_without_its_hold_on_the_scores(golden: Golden) -> None:
    cases = [case for case in golden("oasst_rm")["cases"] if case["kind"] == "loss"]
    assert len(cases) == 21
    seen = {"RMLoss": 0, "RMCLSLoss": 0}
    for case in cases:
        seen[case["settings"]["loss"]] += 1
        expected, scores = case["expected"], torch.tensor(case["input"]["scores"], dtype=torch.float64)
        batch = batch_of(groups_of(case), [1] * len(scores))
        values = scores.clone().requires_grad_()
        if case["settings"]["loss"] == "RMLoss":
            objective = RewardRanking(l2=case["settings"]["beta"])
            found = run(objective, values, batch).loss
            parts = [part_of(batch, [number]) for number in range(len(groups_of(case)))]
            if "per_group" in expected:
                expect(torch.stack([run(objective, scores, part).loss for part in parts]), expected["per_group"])
            in_float = run(objective, scores.float(), batch).loss
        else:  # two-way cross-entropy over all pairs alike: the same loss of a pair, another mean
            better, worse = preference_pairs(batch.replies.group, batch.replies.rank)
            pairs = ranking_losses(values[better], values[worse])
            expect(pairs.detach(), expected["per_pair"])
            found, in_float = pairs.mean(), ranking_losses(scores[better].float(), scores[worse].float()).mean()
        assert found.item() == pytest.approx(expected["value"], rel=1e-9), case["id"]
        if "value_float32" in expected:
            assert in_float.item() == pytest.approx(expected["value_float32"], rel=1e-6)
        found.backward()  # type: ignore[no-untyped-call]
        if "gradient" in expected:
            assert values.grad is not None
            expect(values.grad, expected["gradient"])
    assert seen == {"RMLoss": 16, "RMCLSLoss": 5}


def easylm(case: dict[str, Any]) -> tuple[GivenBatch, Tensor]:
    """The pairs of a case as groups of two; its margins as the scores in the data."""
    chosen, rejected, margin = (case["input"][name] for name in ("scores_chosen", "scores_rejected", "margin"))
    interleaved = [score for pair in zip(chosen, rejected, strict=True) for score in pair]
    data = [score for each in margin for score in (each, 0.0)]
    batch = batch_of([[0, 1]] * len(chosen), [1] * len(interleaved), scores=data)
    return batch, torch.tensor(interleaved, dtype=torch.float64)


def test_the_loss_of_pairs_with_margins_is_that_of_easylm(golden: Golden) -> None:
    cases = [case for case in golden("losses")["cases"] if case["kind"] == "easylm_reward_model"]
    assert len(cases) == 2
    for case in cases:
        batch, scores = easylm(case)
        objective = RewardRanking(margin_scale=float(case["settings"]["use_margin"]))
        expected, values = case["expected"], scores.clone().requires_grad_()
        units = objective.units(batch)  # type: ignore[arg-type]
        found = run(objective, values, batch)
        found.loss.backward()  # type: ignore[no-untyped-call]
        # The margins pass through the float32 of a batch.
        assert found.loss.item() == pytest.approx(expected["loss"], rel=1e-7)
        assert values.grad is not None
        for side, name in enumerate(("gradient_chosen", "gradient_rejected")):
            torch.testing.assert_close(
                values.grad[side::2], torch.tensor(expected[name]).double(), rtol=1e-6, atol=1e-9
            )
        measured = {name: float(value) / units for name, value in found.sums.items()}
        assert measured == pytest.approx(
            {
                "loss": expected["loss"],
                "accuracy": expected["accuracy"],
                "margin": expected["margin"],
                "score/chosen": expected["chosen_mean"],
                "score/rejected": expected["rejected_mean"],
            },
            rel=1e-6,
        )


def test_groups_count_alike_whatever_their_size_and_ties_form_no_pair() -> None:
    scores = torch.randn(14, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    batch = batch_of(GROUPS, [1] * 14)
    group, rank = batch.replies.group.tolist(), batch.replies.rank.tolist()
    means = []
    for number in range(len(GROUPS)):
        own = [
            float(ranking_losses(scores[i], scores[j], l2=0.1))
            for i in range(14)
            for j in range(14)
            if group[i] == group[j] == number and rank[i] < rank[j]
        ]
        means += [sum(own) / len(own)] if own else []
    objective = RewardRanking(l2=0.1)
    assert len(means) == objective.units(batch) == 4, "the group of equals has no pair"  # type: ignore[arg-type]
    assert run(objective, scores, batch).loss.item() == pytest.approx(sum(means) / 4, rel=1e-12)


@pytest.mark.parametrize("settings", [{}, {"l2": 0.05}, {"margin_scale": 0.7}], ids=str)
def test_neither_the_cut_into_micro_batches_nor_the_order_of_groups_changes_anything(settings: dict[str, Any]) -> None:
    draw = torch.Generator().manual_seed(3)
    batch = batch_of(GROUPS, [2] * 14, scores=torch.randn(14, generator=draw).tolist())
    scores = torch.randn(14, generator=draw, dtype=torch.float64)
    objective = RewardRanking(**settings)
    values = scores.clone().requires_grad_()
    whole = run(objective, values, batch)
    assert tuple(whole.sums) == objective.metrics
    whole.loss.backward()  # type: ignore[no-untyped-call]
    assert torch.autograd.gradcheck(lambda given: run(objective, given, batch).loss, scores.clone().requires_grad_())
    for split in ([[0], [1, 2], [3, 4]], [[4, 2, 0, 3, 1]], [[3], [], [1, 0, 4, 2]]):
        parts = [part_of(batch, groups) for groups in split]
        assert sum(objective.units(part) for part in parts) == 4  # type: ignore[arg-type]
        again = scores.clone().requires_grad_()
        found = [run(objective, again, part, 4.0) for part in parts]
        for part in found:
            part.loss.backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(again.grad, values.grad)
        for name in objective.metrics:
            assert sum(float(part.sums[name]) for part in found) == pytest.approx(float(whole.sums[name]), rel=1e-12)


def test_equal_scores_are_wrong_and_far_ones_still_numbers() -> None:
    batch = batch_of([[0, 1], [0, 1]], [1] * 4)
    found = run(RewardRanking(), torch.zeros(4), batch)
    assert float(found.sums["accuracy"]) == 0.0
    far = torch.tensor([1e5, -1e5, -1e5, 1e5], requires_grad=True)
    loss = run(RewardRanking(), far, batch).loss
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 1e5
    assert far.grad is not None
    assert far.grad.isfinite().all()


def test_a_margin_from_data_without_scores_is_refused() -> None:
    with pytest.raises(DataError, match="margin_scale needs a score"):
        RewardRanking(margin_scale=1.0).units(batch_of([[0, 1]], [1, 1]))  # type: ignore[arg-type]


def test_what_training_measures_evaluation_calls_by_the_same_names() -> None:
    scores = torch.randn(14, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    batch = batch_of(GROUPS, [1] * 14)
    found = run(RewardRanking(), scores, batch)
    evaluated = ranking_metrics(scores.numpy(), batch.replies.group.numpy(), batch.replies.rank.numpy())
    for name in set(found.sums) - {"loss"}:
        assert float(found.sums[name]) / evaluated["groups"] == pytest.approx(evaluated[name], rel=1e-12), name
