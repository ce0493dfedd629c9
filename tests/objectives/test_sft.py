"""The loss of supervised fine-tuning with its options is that of t5x, and independent of micro-batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from tunesmith.batch.protocols import LogProbabilities, Loss, StatisticsGradient
from tunesmith.model import logit_statistics
from tunesmith.model.head import target_log_probabilities
from tunesmith.model.logit_statistics import target_statistics
from tunesmith.objectives.sft import SupervisedFineTuning

Golden = Callable[[str], dict[str, Any]]


@dataclass
class Weighted:
    """As much of a batch as the objective reads."""

    target: Tensor
    weight: Tensor


class GivenLogits:
    """A policy whose logits are given: the hidden states, before a head that is the identity."""

    def __init__(self, logits: Tensor, *, hints: bool = True) -> None:
        self.logits, self.hints = logits.requires_grad_(), hints

    def log_probabilities(
        self, batch: Any, gradient_hint: Tensor | None = None, *, statistics_gradient: StatisticsGradient | None = None
    ) -> LogProbabilities:
        identity = torch.eye(self.logits.shape[1])
        if statistics_gradient is not None:
            hint = statistics_gradient if self.hints else None
            return target_statistics(self.logits, identity, None, batch.target, hint)
        return LogProbabilities(*target_log_probabilities(self.logits, identity, None, batch.target, gradient_hint))


def run(objective: SupervisedFineTuning, logits: Tensor, target: Tensor, weight: Tensor) -> tuple[Loss, Tensor]:
    policy, batch = GivenLogits(logits), Weighted(target, weight)
    units = objective.units(batch)  # type: ignore[arg-type]
    found = objective(policy, batch, units)  # type: ignore[arg-type]
    found.loss.backward()  # type: ignore[no-untyped-call]
    assert policy.logits.grad is not None
    return found, policy.logits.grad


def of_case(case: dict[str, Any], **changed: Any) -> tuple[SupervisedFineTuning, Tensor, Tensor, Tensor]:
    settings = {**case["settings"], **changed}
    logits = torch.tensor(case["input"]["logits"])
    weights = case["input"]["weights"]
    weight = torch.ones(logits.shape[:2]) if weights is None else torch.tensor(weights)
    objective = SupervisedFineTuning(
        z_loss=settings["z_loss"],
        label_smoothing=settings["label_smoothing"],
        normalize=settings["loss_normalizing_factor"] or "sum",
    )
    target = torch.tensor(case["input"]["targets"]).flatten()
    return objective, logits.flatten(0, 1).float(), target, weight.flatten()


def t5x(golden: Golden) -> list[dict[str, Any]]:
    found = [case for case in golden("losses")["cases"] if case["kind"] == "t5x_cross_entropy"]
    assert len(found) == 8
    return found


def test_loss_z_loss_and_gradient_are_those_of_t5x(golden: Golden) -> None:
    for case in t5x(golden):
        expected, of = case["expected"], of_case(case)
        found, gradient = run(*of)
        assert found.loss.item() == pytest.approx(expected["loss"], rel=1e-5), case["id"]
        theirs = torch.tensor(expected["gradient"]).flatten(0, 1)
        torch.testing.assert_close(gradient, theirs, rtol=1e-4, atol=1e-6 * float(theirs.abs().max()))
        if "z_loss" in found.sums:
            divisor = case["settings"]["loss_normalizing_factor"] or 1.0
            assert found.sums["z_loss"].item() / divisor == pytest.approx(expected["z_loss"], rel=1e-5)
        assert of[0].units(Weighted(of[2], of[3])) == expected["weight_sum"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change", [{"z_loss": 0.02}, {"label_smoothing": 0.3}, {"loss_normalizing_factor": 5.0}], ids=str
)
def test_a_changed_option_is_seen(golden: Golden, change: dict[str, Any]) -> None:
    for case in t5x(golden):
        found, _ = run(*of_case(case, **change))
        assert found.loss.item() != pytest.approx(case["expected"]["loss"], rel=1e-5), case["id"]


def test_the_number_of_real_targets_is_the_divisor_by_default(golden: Golden) -> None:
    cases = [
        case
        for case in golden("losses")["cases"]
        if case["kind"] == "t5x_normalizing_factor"
        and case["settings"]["loss_normalizing_factor"] == "NUM_REAL_TARGET_TOKENS"
    ]
    assert len(cases) == 4
    for case in cases:
        weight = torch.tensor(case["expected"]["weights"]).flatten()
        units = SupervisedFineTuning().units(Weighted(weight, weight))  # type: ignore[arg-type]
        assert units == case["expected"]["factor"]


def values() -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(12, 7, generator=draw), torch.arange(12) % 7, torch.rand(12, generator=draw)


@pytest.mark.parametrize(("z_loss", "label_smoothing"), [(0.0, 0.0), (1e-2, 0.0), (0.0, 0.1), (1e-2, 0.1)])
@pytest.mark.parametrize("normalize", ["targets", "sum", 5.0])
def test_what_is_measured_is_a_mean_whatever_the_loss_is_divided_by(
    z_loss: float, label_smoothing: float, normalize: Any
) -> None:
    logits, target, weight = values()
    objective = SupervisedFineTuning(z_loss=z_loss, label_smoothing=label_smoothing, normalize=normalize)
    found, _ = run(objective, logits, target, weight)
    reference = SupervisedFineTuning(z_loss=z_loss, label_smoothing=label_smoothing)
    same, _ = run(reference, logits.detach(), target, weight)
    assert set(found.sums) == set(objective.metrics)
    units = float(weight.double().sum())
    assert {name: float(value) for name, value in found.sums.items()} == pytest.approx(
        {name: float(value) for name, value in same.sums.items()}
    )
    assert same.loss.item() == pytest.approx(float(same.sums["loss"]) / units, rel=1e-5)
    divisor = {"targets": units, "sum": 1.0}.get(normalize, 5.0)
    assert found.loss.item() * divisor == pytest.approx(same.loss.item() * units, rel=1e-5)


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    logits, target, weight = values()
    objective = SupervisedFineTuning(z_loss=1e-2, label_smoothing=0.1)
    whole, gradient = run(objective, logits, target, weight)
    units = float(weight.double().sum())
    losses, gradients = [], []
    for part in (slice(0, 5), slice(5, 12)):
        policy = GivenLogits(logits.detach()[part].clone())
        found = objective(policy, Weighted(target[part], weight[part]), units)  # type: ignore[arg-type]
        found.loss.backward()  # type: ignore[no-untyped-call]
        losses.append(found.loss.item())
        gradients.append(policy.logits.grad)
    assert sum(losses) == pytest.approx(whole.loss.item(), rel=1e-6)
    torch.testing.assert_close(torch.cat(gradients), gradient)  # type: ignore[arg-type]


@pytest.mark.parametrize(("z_loss", "label_smoothing"), [(1e-2, 0.0), (0.0, 0.1), (1e-2, 0.1)])
def test_the_gradient_hint_of_the_loss_is_its_gradient(
    z_loss: float, label_smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, target, weight = values()
    objective, batch = SupervisedFineTuning(z_loss=z_loss, label_smoothing=label_smoothing), Weighted(target, weight)
    calls = []
    logit_gradient = logit_statistics._logit_gradient
    monkeypatch.setattr(
        logit_statistics,
        "_logit_gradient",
        lambda *given, **options: calls.append(1) or logit_gradient(*given, **options),
    )
    gradients = []
    for hints, expected in ((True, 1), (False, 1)):
        policy = GivenLogits(logits.clone(), hints=hints)
        objective(policy, batch, 3.0).loss.backward()  # type: ignore[arg-type, no-untyped-call]
        gradients.append(policy.logits.grad)
        assert len(calls) == expected, "one pass computes the gradient"
        calls.clear()
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-7)


def test_smoothing_has_its_least_loss_of_zero_at_the_smoothed_target() -> None:
    probability = torch.full((1, 5), 0.05)
    probability[0, 2] = 0.8
    found, gradient = run(
        SupervisedFineTuning(label_smoothing=0.2), probability.log(), torch.tensor([2]), torch.ones(1)
    )
    assert abs(found.loss.item()) < 1e-6
    assert gradient.abs().max() < 1e-6
