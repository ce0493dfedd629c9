"""The kernels for CUDA as far as they can be tested without one: what they are called with, and what they compute.

FlexAttention is compiled by a compiler that generates no code, or replaced by a function with its arguments. In place
of the variable-length kernel there are two functions with the arguments that it has in different versions of PyTorch.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.attention.varlen import varlen_attn

from tests.model.kernels import plain_flex_attention, plain_varlen_attention
from tests.model.test_block_mask import random_row
from tests.model.trees import random_tree, small_model
from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch, assemble_packed
from tunesmith.batch.threads import split_into_threads
from tunesmith.errors import InternalError
from tunesmith.model.attention import AttentionLayout, segment_attention
from tunesmith.model.attention_cuda import (
    FlexAttention,
    VarlenAttention,
    compile_flex_attention,
    takes_grouped_heads,
    varlen_attention_layout,
)
from tunesmith.model.attention_scores import PLAIN, ScoreTerms
from tunesmith.model.policy import Policy


@pytest.fixture(autouse=True)
def _no_graphs() -> None:
    """All compiled functions share the graphs of FlexAttention, and their number is tested."""
    torch._dynamo.reset()


def varlen_of_2_11(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    return_aux: object = None,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    assert query.shape[1] == key.shape[1] == value.shape[1], "this version shares no heads"
    assert max_q == max_k == int(cu_seq_q.diff().max())
    assert query.dtype in (torch.bfloat16, torch.float16)
    return plain_varlen_attention(query, key, value, cu_seq_q, window_size, scale)


def varlen_of_2_13(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    *,
    return_aux: object = None,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
    seqused_k: Tensor | None = None,
    block_table: Tensor | None = None,
    num_splits: int | None = None,
) -> Tensor:
    assert enable_gqa == (query.shape[1] != key.shape[1])
    assert max_q == max_k == int(cu_seq_q.diff().max())
    assert query.dtype in (torch.bfloat16, torch.float16)
    return plain_varlen_attention(query, key, value, cu_seq_q, window_size, scale)


VERSIONS = {"2.11": varlen_of_2_11, "2.13": varlen_of_2_13}


def linear_row(count: int = 4) -> PackedBatch:
    threads = [thread.tree for number in range(count) for thread in split_into_threads(random_tree(number))]
    return assemble_packed([Example(number, tree) for number, tree in enumerate(threads)], "threads")


def states_of(tokens: int, heads: int, groups: int, size: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys in float32, values in bfloat16, as rotary embeddings leave them under autocast."""
    draw = torch.Generator().manual_seed(5)
    query, key, value = (torch.randn(1, number, tokens, size, generator=draw) for number in (heads, groups, groups))
    return query.requires_grad_(), key.requires_grad_(), value.bfloat16().requires_grad_()


def attended_and_gradients(
    layout: AttentionLayout, states: tuple[Tensor, Tensor, Tensor], terms: ScoreTerms
) -> list[Tensor]:
    found = layout.attend(*states, 0.25, terms)
    assert found.dtype == torch.bfloat16
    weights = torch.linspace(-1, 1, found.numel()).view(found.shape)
    return [found.float(), *(each.float() for each in torch.autograd.grad((found.float() * weights).sum(), states))]


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() <= 2e-2 * other.norm()


@pytest.mark.parametrize("terms", [PLAIN, ScoreTerms(window=5)], ids=["plain", "window"])
@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_variable_length_kernel_gets_16_bits_in_every_version(
    version: str, heads: int, groups: int, terms: ScoreTerms
) -> None:
    batch = linear_row()
    states = states_of(batch.tokens, heads, groups)
    layout = replace(varlen_attention_layout(batch.layout, torch.bfloat16), kernel=VERSIONS[version])
    query, key, value = (each.detach().bfloat16().requires_grad_() for each in states)
    rounded = query, key, value
    assert_close(
        attended_and_gradients(layout, states, terms),
        attended_and_gradients(segment_attention(batch.layout, torch.bfloat16), rounded, terms),
    )


def test_heads_are_shared_by_the_kernel_where_it_can() -> None:
    assert takes_grouped_heads(varlen_of_2_13)
    assert not takes_grouped_heads(varlen_of_2_11)
    assert takes_grouped_heads(varlen_attn) == (torch.__version__ >= "2.12")


@pytest.mark.parametrize("size", [4, 12, 264])
def test_heads_without_a_variable_length_kernel_use_flex_attention(size: int) -> None:
    batch = linear_row(2)

    def refuse(*arguments: object, **keywords: object) -> Tensor:
        raise AssertionError("there is no kernel of this size")

    flex = FlexAttention(batch.layout, torch.bfloat16, lambda: plain_flex_attention)
    layout = VarlenAttention(torch.zeros(2, dtype=torch.int32), 1, torch.bfloat16, flex, refuse)
    states = states_of(batch.tokens, 2, 2, size)
    assert torch.equal(layout.attend(*states, None), flex.attend(*states, None))


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2)])
def test_flex_attention_converts_what_autocast_would(heads: int, groups: int) -> None:
    batch = assemble_packed([Example(number, random_tree(number)) for number in range(3)], "threads")
    states = states_of(batch.tokens, heads, groups)
    query, key, value = (each.detach().bfloat16().requires_grad_() for each in states)
    rounded = query, key, value
    layout = FlexAttention(batch.layout, torch.bfloat16, lambda: plain_flex_attention)
    assert_close(
        attended_and_gradients(layout, states, PLAIN),
        attended_and_gradients(segment_attention(batch.layout, torch.bfloat16), rounded, PLAIN),
    )


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_a_model_that_computes_with_either_kernel_gives_the_numbers_of_its_segments(
    architecture: str, compute: torch.dtype
) -> None:
    policy = Policy(small_model(architecture), compute=compute)
    trees = assemble_packed([Example(number, random_tree(number)) for number in range(3)], "threads")
    flex = policy.with_kernels(lambda layout, dtype: FlexAttention(layout, dtype, lambda: plain_flex_attention))
    kinds = [(trees, flex)]
    if compute == torch.bfloat16:  # the kernel that is called so has 16 bits only
        varlen = policy.with_kernels(
            lambda layout, dtype: replace(varlen_attention_layout(layout, dtype), kernel=varlen_of_2_11)
        )
        kinds.append((linear_row(), varlen))
    for batch, other in kinds:
        expected = policy.log_probabilities(batch).log_probability
        found = other.log_probabilities(batch).log_probability
        assert (found - expected).abs().max() <= (1e-4 if compute == torch.float32 else 0.1)


def test_one_graph_serves_rows_of_any_length_and_any_layout() -> None:
    """Two, because a row of one block is a special case for the compiler."""
    kernel = compile_flex_attention("eager", 2)
    for seed in range(14):
        batch = random_row(seed)
        query = torch.randn(1, 2, batch.tokens, 16)
        found = FlexAttention(batch.layout, torch.float32, lambda: kernel).attend(query, query, query, None)
        unfused = FlexAttention(batch.layout, torch.float32, lambda: flex_attention).attend(query, query, query, None)
        assert torch.allclose(found, unfused, atol=1e-5)


def test_more_graphs_than_allowed_are_an_error_and_not_another_kernel() -> None:
    batch, kernel = random_row(2), compile_flex_attention("eager", 2)

    def attend(size: int) -> None:
        states = torch.randn(1, 2, batch.tokens, size)
        FlexAttention(batch.layout, torch.float32, lambda: kernel).attend(states, states, states, None)

    attend(8)
    with pytest.raises(InternalError, match="compiled 2 times in this process, and is asked for another"):
        list(map(attend, (16, 24, 32)))
