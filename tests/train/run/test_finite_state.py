"""A number that is not finite is found wherever it is in weights, buffers, optimizer state and metrics."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tunesmith.errors import InternalError, StorageError
from tunesmith.model.finite import find_not_finite
from tunesmith.train.run.finite_state import (
    check_finite_checkpoint,
    check_finite_export,
    check_finite_metrics,
    check_finite_state,
)

BAD = (math.nan, math.inf, -math.inf)
TENSORS = ("first", "whole number", "empty", "half", "last")


def tensors() -> dict[str, Tensor]:
    return {
        "first": torch.ones(3, 4),
        "whole number": torch.tensor(7),
        "empty": torch.zeros(0),
        "half": torch.full((5,), 2.0, dtype=torch.bfloat16),
        "last": torch.tensor(1.5),
    }


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["first", "half", "last"])
def test_a_single_number_is_found_by_the_name_of_its_tensor(name: str, bad: float) -> None:
    assert find_not_finite(tensors()) is None
    for place in range(tensors()[name].numel()):
        found = tensors()
        found[name].view(-1)[place] = bad
        assert find_not_finite(found) == name


def test_finite_numbers_whose_sum_overflows_are_no_fault() -> None:
    assert find_not_finite({"large": torch.full((4,), 3e38)}) is None
    assert find_not_finite({"large": torch.tensor([3e38, 3e38, math.inf])}) == "large"


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", ["model", "value", "optimizer"])
def test_neither_saved_nor_continued_nor_exported(place: str, bad: float) -> None:
    modules = {"model": nn.Linear(2, 2), "value": nn.Linear(2, 1)}
    optimizer = {"weight.exp_avg": torch.ones(3), "weight.step": torch.tensor(4.0)}
    check_finite_state(modules, optimizer, 2, 1)
    with torch.no_grad():
        if place == "optimizer":
            optimizer["weight.exp_avg"][-1] = bad
        else:
            modules[place].bias[-1] = bad  # type: ignore[index]
    with pytest.raises(InternalError, match=r"not finite .* after step 2.*checkpoint of step 1 is valid"):
        check_finite_state(modules, optimizer, 2, 1)
    with pytest.raises(StorageError, match="not finite"):
        check_finite_checkpoint(modules, optimizer, __file__)  # type: ignore[arg-type]
    if place != "optimizer":
        with pytest.raises(InternalError, match="nothing was exported"):
            check_finite_export(modules[place], 2)


@pytest.mark.parametrize("bad", BAD)
def test_a_metric_that_is_not_finite_is_named(bad: float) -> None:
    check_finite_metrics({"all": {"loss": 1.0}}, 3)
    with pytest.raises(InternalError, match=r"validation/one/loss is not finite .* after step 3"):
        check_finite_metrics({"all": {"loss": 1.0}, "one": {"loss": bad}}, 3)
