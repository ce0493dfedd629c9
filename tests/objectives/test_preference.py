"""Preference optimisation over groups of ranked replies: exact on pairs, the same however a step is cut up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model.rankings import changed_replies
from tests.objectives.given import GivenBatch, GivenLogits, GivenLogProbabilities, batch_of, part_of
from tunesmith.batch.example import preference_pairs
from tunesmith.batch.protocols import BlockwiseGradient, Loss
from tunesmith.errors import DataError
from tunesmith.objectives.preference import PreferenceOptimization

Golden = Callable[[str], dict[str, Any]]

SETTINGS: list[dict[str, Any]] = [
    {},
    {"beta": 0.5, "label_smoothing": 0.2},
    {"loss": "hinge"},
    {"loss": "ipo", "beta": 0.3},
    {"length_normalized": True, "beta": 2.0},
    {"reference_free": True, "length_normalized": True, "beta": 2.0, "target_margin": 0.6},
    {"margin_scale": 0.3},
    {"policy_weighted": True},
    {"sft_weight": 0.7},
]
GROUPS = [[0, 1], [1, 0, 2], [0, 0, 1], [2, 0, 1, 1], [0, 3]]
LENGTHS = [3, 1, 4, 2, 2, 5, 1, 3, 2, 2, 1, 4, 3, 2]
PAIRS = 1 + 3 + 2 + 5 + 1


def example(seed: int = 1) -> tuple[GivenBatch, Tensor]:
    """Five groups with ties, and log-probabilities in double precision."""
    draw = torch.Generator().manual_seed(seed)
    log_probability = -torch.rand(sum(LENGTHS), generator=draw, dtype=torch.float64)
    reference = -torch.rand(len(LENGTHS), generator=draw, dtype=torch.float64) * 3
    scores = torch.randn(len(LENGTHS), generator=draw).tolist()
    return batch_of(GROUPS, LENGTHS, scores=scores, reference=reference), log_probability


def run(
    objective: PreferenceOptimization, log_probability: Tensor, batch: GivenBatch, units: float | None = None
) -> Loss:
    if units is None:
        units = objective.units(batch)  # type: ignore[arg-type]
    return objective(GivenLogProbabilities(log_probability), batch, units)  # type: ignore[arg-type]


def forward_batch(case: dict[str, Any]) -> tuple[GivenBatch, Tensor, Tensor]:
    """A case of EasyLM's forward pass: its batch, the policy's logits at the targets, and which positions these are."""
    given = case["input"]
    ids = torch.tensor(given["chosen_input_ids"] + given["rejected_input_ids"])
    trained = torch.tensor(given["chosen_loss_mask"] + given["rejected_loss_mask"])[:, 1:] > 0
    pairs = len(given["chosen_input_ids"])
    batch = batch_of([[0, 1]] * pairs, [0] * (2 * pairs))
    row = trained.nonzero()[:, 0]
    batch.owner = 2 * (row % pairs) + row // pairs
    batch.target = ids[:, 1:][trained]
    policy, reference_logits = (
        torch.tensor(given[f"{name}_logits"], dtype=torch.float64)[:, :-1][trained] for name in ("policy", "reference")
    )
    own = torch.log_softmax(reference_logits, -1).gather(1, batch.target[:, None])[:, 0]
    batch.columns["reference"] = torch.zeros(2 * pairs, dtype=torch.float64).index_add(0, batch.owner, own)
    return batch, policy, trained


@pytest.mark.parametrize("exact", [True, False], ids=["double", "head"])
def test_loss_measures_and_gradient_of_the_logits_are_those_of_easylm(golden: Golden, exact: bool) -> None:
    found_cases = [case for case in golden("losses")["cases"] if case["kind"] == "dpo_easylm_forward"]
    assert len(found_cases) == 6
    for case in found_cases:
        batch, logits, trained = forward_batch(case)
        settings, expected = case["settings"], case["expected"]
        objective = PreferenceOptimization(
            loss="ipo" if settings["use_ipo"] else "sigmoid",
            beta=settings["beta"],
            label_smoothing=settings["label_smoothing"],
        )
        policy = GivenLogits(logits if exact else logits.float(), exact=exact)
        units = objective.units(batch)  # type: ignore[arg-type]
        found = objective(policy, batch, units)  # type: ignore[arg-type]
        found.loss.backward()  # type: ignore[no-untyped-call]
        relative, absolute = (1e-9, 1e-12) if exact else (1e-5, 1e-6)
        assert found.loss.item() == pytest.approx(expected["loss"], rel=relative, abs=absolute), case["id"]
        names = {
            "loss": "loss",
            "reward_accuracy": "rewards/accuracies",
            "score_chosen": "rewards/chosen",
            "score_rejected": "rewards/rejected",
            "score_margin": "rewards/margins",
        }
        assert set(names) == set(expected["metrics"])
        if exact:  # the head's float32 may break the exact tie of a policy that is its reference
            for theirs, ours in names.items():
                assert float(found.sums[ours]) / units == pytest.approx(
                    expected["metrics"][theirs], rel=1e-6, abs=1e-12
                )
        for side in ("chosen", "rejected"):
            mean = sum(expected[f"policy_{side}_logps"]) / units
            assert float(found.sums[f"logps/{side}"]) / units == pytest.approx(mean, rel=1e-5)
        gradient = torch.zeros(*trained.shape, logits.shape[-1], dtype=policy.logits.dtype)
        assert policy.logits.grad is not None
        gradient[trained] = policy.logits.grad
        all_of_it = torch.tensor(expected["gradient_policy_logits"], dtype=gradient.dtype)
        tight = (1e-9, 1e-12) if exact else (1e-4, 1e-6)
        torch.testing.assert_close(gradient, all_of_it[:, :-1], rtol=tight[0], atol=tight[1])
        assert not all_of_it[:, -1].any()


def test_pairs_are_all_of_one_group_that_differ_in_rank_better_first() -> None:
    batch, _ = example()
    better, worse = preference_pairs(batch.replies.group, batch.replies.rank)
    by_hand = [
        (i, j)
        for i in range(len(LENGTHS))
        for j in range(len(LENGTHS))
        if batch.replies.group[i] == batch.replies.group[j] and batch.replies.rank[i] < batch.replies.rank[j]
    ]
    assert list(zip(better.tolist(), worse.tolist(), strict=True)) == by_hand
    assert len(by_hand) == PAIRS
    assert PreferenceOptimization().units(batch) == PAIRS  # type: ignore[arg-type]


def by_hand(settings: dict[str, Any], batch: GivenBatch, log_probability: Tensor) -> float:
    """The loss, pair by pair in plain arithmetic."""
    s = PreferenceOptimization(**settings)
    replies = range(len(LENGTHS))
    total = [float(log_probability[batch.owner == reply].sum()) for reply in replies]
    mean = [total[reply] / LENGTHS[reply] for reply in replies]
    reference = [0.0 if s.reference_free else float(batch.columns["reference"][reply]) for reply in replies]
    divisor = [LENGTHS[reply] if s.length_normalized else 1 for reply in replies]
    h = [(total[reply] - reference[reply]) / divisor[reply] for reply in replies]
    group, rank, score = batch.replies.group.tolist(), batch.replies.rank.tolist(), batch.replies.score.tolist()
    pairs = [(i, j) for i in replies for j in replies if group[i] == group[j] and rank[i] < rank[j]]
    result = 0.0
    for i, j in pairs:
        x = s.beta * (h[i] - h[j]) - s.target_margin - s.margin_scale * (score[i] - score[j])
        form = {
            "sigmoid": lambda x: math.log1p(math.exp(-x)),
            "hinge": lambda x: max(0.0, 1 - x),
            "ipo": lambda x: (x / s.beta - 1 / (2 * s.beta)) ** 2,
        }[s.loss]
        loss = (1 - s.label_smoothing) * form(x) + s.label_smoothing * form(-x)
        if s.policy_weighted:
            loss *= math.exp(mean[i] + mean[j])
        if s.sft_weight:
            least = min(rank[k] for k in replies if group[k] == group[i])
            best = [k for k in replies if group[k] == group[i] and rank[k] == least]
            loss -= s.sft_weight * sum(mean[k] for k in best) / len(best)
        result += loss
    return result / len(pairs)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_loss_of_groups_is_the_mean_over_their_pairs_by_hand(settings: dict[str, Any]) -> None:
    batch, log_probability = example()
    found = run(PreferenceOptimization(**settings), log_probability, batch)
    assert found.loss.item() == pytest.approx(by_hand(settings, batch, log_probability), rel=1e-12)
    assert float(found.sums["loss"]) / PAIRS == pytest.approx(found.loss.item(), rel=1e-12)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_gradient_is_that_of_finite_differences(settings: dict[str, Any]) -> None:
    batch, log_probability = example()
    if settings.get("policy_weighted"):  # the weights are numbers: the gradient is not that of the loss
        return
    objective = PreferenceOptimization(**settings)
    assert torch.autograd.gradcheck(
        lambda values: run(objective, values, batch).loss, log_probability.requires_grad_(), atol=1e-6
    )


def test_the_gradient_of_wpo_is_that_of_the_pairs_times_their_weights() -> None:
    batch, log_probability = example()
    log_probability.requires_grad_()
    plain = PreferenceOptimization()
    better, worse = preference_pairs(batch.replies.group, batch.replies.rank)
    means = torch.stack([log_probability.detach()[batch.owner == reply].mean() for reply in range(len(LENGTHS))])
    expected = torch.zeros_like(log_probability)
    for number, (i, j) in enumerate(zip(better.tolist(), worse.tolist(), strict=True)):
        alone = batch_of([[0, 1]], [LENGTHS[i], LENGTHS[j]], reference=batch.columns["reference"][[i, j]])
        alone.numbers = torch.cat([(batch.owner == i).nonzero()[:, 0], (batch.owner == j).nonzero()[:, 0]])
        (gradient,) = torch.autograd.grad(run(plain, log_probability, alone).loss, log_probability)
        expected += float((means[i] + means[j]).exp()) * gradient / len(better)
        assert number < PAIRS
    (found,) = torch.autograd.grad(
        run(PreferenceOptimization(policy_weighted=True), log_probability, batch).loss, log_probability
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_neither_the_cut_into_micro_batches_nor_the_order_of_groups_changes_anything(settings: dict[str, Any]) -> None:
    batch, log_probability = example()
    objective = PreferenceOptimization(**settings)
    whole_values = log_probability.clone().requires_grad_()
    whole = run(objective, whole_values, batch)
    whole.loss.backward()  # type: ignore[no-untyped-call]
    for split in ([[0], [1, 2], [3, 4]], [[4, 2, 0, 3, 1]], [[3], [], [1, 0, 4, 2]]):
        parts = [part_of(batch, groups) for groups in split]
        assert sum(objective.units(part) for part in parts) == PAIRS  # type: ignore[arg-type]
        values = log_probability.clone().requires_grad_()
        found = [run(objective, values, part, PAIRS) for part in parts]
        for part in found:
            part.loss.backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(values.grad, whole_values.grad)
        for name in objective.metrics:
            added = sum(float(part.sums[name]) for part in found)
            assert added == pytest.approx(float(whole.sums[name]), rel=1e-12), name


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_micro_batch_without_a_pair_adds_nothing_and_can_be_differentiated(settings: dict[str, Any]) -> None:
    objective = PreferenceOptimization(**settings)
    for groups, lengths in (([[0, 0]], [2, 3]), ([[0]], [2]), ([], [])):
        batch = batch_of(groups, lengths, reference=torch.zeros(len(lengths)))
        assert objective.units(batch) == 0.0  # type: ignore[arg-type]
        values = torch.randn(sum(lengths), requires_grad=True)
        found = run(objective, values, batch, 4.0)
        found.loss.backward()  # type: ignore[no-untyped-call]
        assert found.loss.item() == 0.0
        assert values.grad is not None
        assert not values.grad.any()
        assert {name: float(value) for name, value in found.sums.items()} == dict.fromkeys(objective.metrics, 0.0)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_what_is_measured_is_known_beforehand(settings: dict[str, Any]) -> None:
    batch, log_probability = example()
    objective = PreferenceOptimization(**settings)
    assert tuple(run(objective, log_probability, batch).sums) == objective.metrics


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, math.log(2)),
        ({"label_smoothing": 0.3}, math.log(2)),
        ({"loss": "hinge"}, 1.0),
        ({"loss": "ipo", "beta": 0.1}, 25.0),
        ({"target_margin": 0.5}, math.log1p(math.exp(0.5))),
        ({"length_normalized": True}, math.log(2)),
        ({"reference_free": True}, None),
        ({"margin_scale": 1.0}, None),
        ({"policy_weighted": True}, None),
        ({"sft_weight": 1.0}, None),
    ],
    ids=str,
)
def test_a_policy_that_is_its_reference_has_the_initial_loss(settings: dict[str, Any], expected: float | None) -> None:
    objective = PreferenceOptimization(**settings)
    assert objective.initial_loss == (None if expected is None else pytest.approx(expected, rel=1e-12))
    batch, values = example()
    # As in a run: float32 log-probabilities, whose sums are kept in float32.
    own = values.float()
    sums = torch.zeros(len(LENGTHS), dtype=torch.float64).index_add(0, batch.owner, own.double())
    batch.columns["reference"] = sums.float()
    found = run(objective, own, batch)
    if expected is not None:
        assert found.loss.item() == pytest.approx(expected, rel=1e-12)
    if not objective.reference_free:
        for name in ("rewards/margins", "rewards/accuracies", "logps/improved", "rewards/chosen"):
            assert float(found.sums[name]) == 0.0, "a tie counts as wrong"


def test_a_margin_from_data_without_scores_is_refused_with_advice() -> None:
    batch, _ = example()
    batch.replies.score[3] = torch.nan
    with pytest.raises(DataError, match=r"margin_scale needs a score.*set margin_scale to 0"):
        PreferenceOptimization(margin_scale=0.5).units(batch)  # type: ignore[arg-type]
    assert PreferenceOptimization().units(batch) == PAIRS  # type: ignore[arg-type]
    rank = torch.where(batch.replies.group == batch.replies.group[3], 0, batch.replies.rank)
    batch.replies = changed_replies(batch.replies, rank=rank)  # tied: in no pair, so nobody asks
    assert PreferenceOptimization(margin_scale=0.5).units(batch) == PAIRS - 3  # type: ignore[arg-type]


def test_learning_raises_the_better_reply_over_the_worse() -> None:
    batch, values = example()
    objective = PreferenceOptimization(beta=1.0)
    for _ in range(300):
        values = values.detach().requires_grad_()
        run(objective, values, batch).loss.backward()  # type: ignore[no-untyped-call]
        assert values.grad is not None
        values = values - 0.5 * values.grad
    found = run(objective, values, batch)
    assert float(found.sums["rewards/accuracies"]) == PAIRS
    assert found.loss.item() < 0.05


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(settings) or "default")
def test_the_gradient_hint_of_a_group_is_exact_from_its_own_log_probabilities(
    settings: dict[str, Any],
) -> None:
    batch, log_probability = example()
    policy = GivenLogProbabilities(log_probability.float().requires_grad_())
    objective = PreferenceOptimization(**settings)
    objective(policy, batch, 12.0).loss.backward()  # type: ignore[arg-type, no-untyped-call]
    gradient, hint = policy.log_probability.grad, policy.hint
    assert gradient is not None
    assert gradient.any()
    assert isinstance(hint, BlockwiseGradient)
    assert torch.equal(hint.block, batch.replies.group[batch.owner])
    for group in range(len(GROUPS)):
        own = hint.block == group
        known = torch.where(own, policy.log_probability.detach(), 0.0)
        assert torch.equal(hint.gradient(known)[own], gradient[own])
