"""Products for logits: what is asked of PyTorch on a GPU, and the numbers on a CPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tunesmith.model import products
from tunesmith.model.products import accumulator, gives_float32, logits_of


def matrices(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    states, weight, shift = (torch.randn(*shape, generator=draw).to(dtype) for shape in ((5, 16), (11, 16), (11,)))
    return states, weight, shift


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_logits_are_in_float32_and_as_of_a_linear_layer(dtype: torch.dtype, bias: bool) -> None:
    states, weight, shift = matrices(dtype)
    expected = torch.nn.functional.linear(states, weight, shift if bias else None).float()
    out = torch.empty(5, 11, dtype=dtype)
    for found in (
        logits_of(states, weight, shift if bias else None),
        logits_of(states, weight, shift if bias else None, out),
    ):
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [products.ROWS - 1, products.ROWS, products.ROWS + 3])
def test_products_by_columns_have_the_bits_of_one_product(rows: int, bias: bool) -> None:
    vocabulary = 2 * products.COLUMNS + 40
    states, weight, shift = torch.randn(rows, 48), torch.randn(vocabulary, 48), torch.randn(vocabulary)
    expected = torch.nn.functional.linear(states, weight, shift if bias else None)
    table = torch.full((rows + 2, vocabulary), torch.nan)
    assert torch.equal(logits_of(states, weight, shift if bias else None), expected)
    assert torch.equal(logits_of(states, weight, shift if bias else None, table[:rows]), expected)
    assert torch.isnan(table[rows:]).all()


def test_only_16_bit_products_on_cuda_give_float32() -> None:
    for dtype, kind, expected in (
        (torch.bfloat16, "cuda", True),
        (torch.float16, "cuda", True),
        (torch.float32, "cuda", False),
        (torch.bfloat16, "cpu", False),
    ):
        states: Any = SimpleNamespace(dtype=dtype, device=torch.device(kind))
        assert gives_float32(states) == expected


@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_where_pytorch_has_it_the_product_is_not_rounded(
    bias: bool, reused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``mm`` with ``out_dtype`` exists on CUDA only; its arguments are those of the operator of PyTorch."""
    assert {"mm.dtype", "mm.dtype_out"} <= {f"mm.{name}" for name in torch.ops.aten.mm.overloads()}
    product = torch.mm

    def mm(left: Tensor, right: Tensor, *, out_dtype: torch.dtype | None = None, out: Tensor | None = None) -> Tensor:
        assert out_dtype == torch.float32
        assert left.dtype == right.dtype == torch.bfloat16
        return product(left.float(), right.float(), out=out)

    states, weight, shift = matrices(torch.bfloat16)
    monkeypatch.setattr(products, "gives_float32", lambda states: True)
    monkeypatch.setattr(torch, "mm", mm)
    out = torch.empty(5, 11) if reused else None
    found = logits_of(states, weight, shift if bias else None, out)
    expected = torch.nn.functional.linear(states.float(), weight.float(), shift.float() if bias else None)
    assert torch.allclose(found, expected, atol=1e-6)
    assert out is None or found is out


def test_gradients_are_added_up_in_float32() -> None:
    formats = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
    assert [accumulator(torch.empty(1, dtype=each)) for each in formats] == [*[torch.float32] * 3, torch.float64]
