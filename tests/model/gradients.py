"""What an objective gives over some batches: its loss and every gradient, and when two of them are the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from torch import Tensor, nn

RELATIVE = 1e-5
RELATIVE_GRADIENT = 2e-5
"""T5 adds up float32 rounding in an order that depends on the processor: 1.3e-5 was measured on an AMD EPYC, where the
four cases that exceed 1e-5 do so in the code of every version. test_preference_faults.py finds its faults with it."""

Found = tuple[float, dict[str, Tensor]]


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def loss_and_gradients(policy: Any, objective: Any, batches: Sequence[Any]) -> Found:
    """As a step of the loop makes them: units first, then one backward pass for each batch."""
    units = sum(objective.units(batch) for batch in batches)
    policy.model.zero_grad()
    policy.train()
    total = 0.0
    for batch in batches:
        part = objective(policy, batch, units)
        part.loss.backward()
        total += part.loss.item()
    return total, gradients(policy.model)


def assert_same(found: Found, expected: Found) -> None:
    assert found[0] == pytest.approx(expected[0], rel=RELATIVE)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        difference = (found[1][name] - gradient).norm() / gradient.norm().clamp_min(1e-12)
        # Key biases have a gradient of zero in exact arithmetic; what is left there is rounding.
        assert difference < RELATIVE_GRADIENT or gradient.norm() < 1e-7, name
