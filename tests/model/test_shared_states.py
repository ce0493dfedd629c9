"""Log-probabilities after shared states equal a softmax over all logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tunesmith.model import shared_states
from tunesmith.model.shared_states import _block_size, shared_log_probabilities


@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize("with_bias", [False, True])
def test_every_target_has_the_value_of_a_whole_softmax(
    cap: float | None, with_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_states, "ROWS", 4)
    monkeypatch.setattr(shared_states, "COLUMNS", 7)
    draw = torch.Generator().manual_seed(1)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=draw)

    states, weight, bias = normal(10, 5) * 4, normal(33, 5), normal(33) if with_bias else None
    state = torch.randint(10, (60,), generator=draw)
    target = torch.randint(33, (60,), generator=draw)
    logits = torch.nn.functional.linear(states.double(), weight.double(), None if bias is None else bias.double())
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    best = logits.argmax(-1)
    target[:10], state[:10] = best, torch.arange(10)
    found, correct = shared_log_probabilities(states, weight, bias, state, target, cap=cap)
    expected = torch.log_softmax(logits, -1)[state, target]
    assert torch.allclose(found.double(), expected, atol=1e-5, rtol=1e-6)
    assert correct.tolist() == (target == best[state]).tolist()


def test_a_very_small_probability_keeps_its_digits() -> None:
    states, weight = torch.tensor([[1.0]]), torch.tensor([[0.0], [-300.0]])
    zero, one = torch.tensor([0]), torch.tensor([1])
    assert shared_log_probabilities(states, weight, None, zero, one)[0].item() == -300.0


@pytest.mark.parametrize(("count", "size"), [(0, 1), (1, 1), (512, 512), (513, 257), (1025, 342)])
def test_blocks_are_of_equal_size(count: int, size: int) -> None:
    assert _block_size(count, 512) == size
