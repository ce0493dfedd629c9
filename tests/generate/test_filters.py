"""Filters that look at a part of the vocabulary, against their definition over the sorted vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.generate.reference_filters import keep, keep_top_p
from tunesmith.generate.filters import (
    Candidates,
    Filters,
    draw,
    filter_tokens,
    find_boundary,
    find_highest,
    find_maximum,
)

WIDTHS = (1, 2, 9, 64, 512, None)


def _filters(rows: int, *values: float | None) -> Filters:
    return Filters(*(None if value is None else torch.full((rows, 1), value, dtype=torch.float64) for value in values))


def _kept(candidates: Candidates, vocabulary: int) -> Tensor:
    kept = torch.zeros(len(candidates.ids), vocabulary, dtype=torch.bool)
    return kept.scatter(1, candidates.ids, candidates.weights > 0)


@st.composite
def _logits(draw: st.DrawFn) -> Tensor:
    """Rows of one distribution: peaked or flat, with distinct logits or with many ties, some excluded."""
    size = draw(st.sampled_from([1, 2, 7, 63, 64, 65, 300, 1500, 3000, 17000]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    logits = torch.randn(2, size, generator=generator) * draw(st.sampled_from([0.01, 1.0, 3.0, 8.0]))
    grid = draw(st.sampled_from([0.0, 0.5, 4.0]))
    if grid:
        logits = (logits / grid).round() * grid
    excluded = draw(st.sampled_from([0, 1, size // 2]))
    logits[:, torch.randperm(size, generator=generator)[:excluded]] = float("-inf")
    assume(bool((logits > float("-inf")).any(dim=-1).all()))
    return logits


_top_k = st.one_of(st.none(), st.sampled_from([1, 2, 5, 50, 400, 5000]))
_mass = st.one_of(st.none(), st.floats(0.001, 0.9999))


@settings(max_examples=200, deadline=None)
@given(_logits(), _top_k, _mass, _mass)
def test_every_width_that_resolves_a_row_keeps_what_the_definition_keeps(
    logits: Tensor, top_k: float | None, top_p: float | None, typical_p: float | None
) -> None:
    wanted, doubtful = keep(logits, top_k, top_p, typical_p)
    for factor in (1 - 1e-5, 1 + 1e-5):  # a threshold that rounding cannot move across a sum
        other = [None if value is None else min(value * factor, 1.0) for value in (top_p, typical_p)]
        assume(torch.equal(keep(logits, top_k, *other)[0] | doubtful, wanted | doubtful))
    wanted &= logits - logits.amax(dim=-1, keepdim=True) > -80
    for width in WIDTHS:
        candidates = filter_tokens(logits, _filters(2, top_k, top_p, typical_p), width)
        differs = (_kept(candidates, logits.shape[1]) != wanted) & ~doubtful
        assert not differs[candidates.resolved].any(), width
        if width is None:
            assert candidates.resolved.all()


@settings(max_examples=100, deadline=None)
@given(_logits(), st.integers(1, 600))
def test_the_highest_keys_are_found_with_a_bound_for_all_others(logits: Tensor, width: int) -> None:
    ids, bound = find_highest(logits, width)
    assert ids.shape[1] == min(width, logits.shape[1])
    assert (ids.diff(dim=1) > 0).all()
    inside = torch.zeros_like(logits, dtype=torch.bool).scatter(1, ids, True)
    assert (logits <= bound)[~inside].all()
    assert torch.equal(logits.gather(1, ids).sort(dim=1, descending=True).values, logits.topk(ids.shape[1]).values)


@pytest.mark.parametrize("size", [1, 64, 4095, 4096, 5000, 50277])
@pytest.mark.parametrize("values", [2, 200_000])
def test_of_equal_highest_keys_the_lowest_id_is_the_maximum(size: int, values: int) -> None:
    generator = torch.Generator().manual_seed(size)
    for columns in (size, size + 27):  # also rows with padding of the vocabulary behind them
        keys = torch.randint(0, values, (5, columns), generator=generator).float()[:, :size]
        keys[0, -1] = values  # after the last whole block
        expected = [row.index(max(row)) for row in keys.tolist()]
        assert find_maximum(keys).tolist() == expected


@settings(max_examples=100, deadline=None)
@given(_logits(), st.floats(0.001, 1.2), st.integers(0, 2**32))
def test_the_boundary_is_where_the_sorted_weights_reach_the_goal(keys: Tensor, share: float, seed: int) -> None:
    weights = torch.randint(0, 2**20, keys.shape, generator=torch.Generator().manual_seed(seed)).double()  # exact sums
    goal = weights.sum(dim=1, keepdim=True) * share + 0.5
    ordered, order = keys.sort(dim=1, descending=True)
    place = (weights.gather(1, order).cumsum(dim=1) < goal).sum(dim=1).tolist()
    expected = [row[i] if i < keys.shape[1] else float("-inf") for i, row in zip(place, ordered.tolist(), strict=True)]
    assert find_boundary(keys, weights, goal).squeeze(1).tolist() == expected


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [8, 2000])
def test_of_equally_likely_tokens_the_nucleus_keeps_those_with_the_highest_ids(size: int, width: int | None) -> None:
    logits = torch.full((1, size), -30.0)
    logits[0, [1, 2, 4, 6]] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    candidates = filter_tokens(logits, _filters(1, None, 0.6, None), width)
    assert torch.equal(_kept(candidates, size)[candidates.resolved], keep_top_p(logits, 0.6)[candidates.resolved])
    assert _kept(filter_tokens(logits, _filters(1, None, 0.6, None), None), size).nonzero()[:, 1].tolist() == [2, 6]
    if width is None or width > 4:
        assert candidates.resolved.all()


def test_a_row_is_not_resolved_while_a_token_outside_may_be_kept() -> None:
    logits = torch.zeros(1, 100)
    logits[0, 10:12] = 3.0
    for filters in (_filters(1, 2, None, None), _filters(1, None, 0.2, None)):
        assert not filter_tokens(logits, filters, 2).resolved.any()  # a third token could have the same logit
        assert filter_tokens(logits, filters, 3).resolved.all()


def test_distributions_of_trained_models_are_resolved_with_few_tokens() -> None:
    logits = torch.randn(16, 50257, generator=torch.Generator().manual_seed(1)) * 8
    assert filter_tokens(logits, _filters(16, 50, 0.95, None), 64).resolved.all()
    assert filter_tokens(logits, _filters(16, None, 0.9, None), 512).resolved.all()


@settings(max_examples=100, deadline=None)
@given(_logits(), st.floats(0, 1, exclude_max=True))
def test_a_draw_does_not_depend_on_tokens_of_weight_0(logits: Tensor, uniform: float) -> None:
    filters, uniforms = _filters(2, 3, None, None), torch.full((2,), uniform, dtype=torch.float64)
    found = [filter_tokens(logits, filters, width) for width in WIDTHS]
    ids = draw(found[-1], uniforms)
    for candidates in found:
        assert torch.equal(draw(candidates, uniforms)[candidates.resolved], ids[candidates.resolved])


@pytest.mark.parametrize("values", [(50, 0.95, None), (None, 0.9, None), (None, None, 0.3), (20, None, 0.2)])
@pytest.mark.parametrize("size", [37, 301, 20011])
def test_the_weights_of_a_row_do_not_depend_on_the_other_rows_bit_for_bit(
    values: tuple[float | None, ...], size: int
) -> None:
    logits = torch.randn(9, size, generator=torch.Generator().manual_seed(size)) * 3
    for width in (64, None):
        together = filter_tokens(logits, _filters(9, *values), width)
        for row in range(9):
            alone = filter_tokens(logits[row : row + 1], _filters(1, *values), width)
            assert torch.equal(alone.ids[0], together.ids[row])
            assert torch.equal(alone.weights[0], together.weights[row])


def test_every_reference_vector_keeps_the_same_tokens(golden: Callable[[str], dict[str, Any]]) -> None:
    names = {"TopKLogitsWarper": "top_k", "TopPLogitsWarper": "top_p", "TypicalLogitsWarper": "typical_p"}
    checked = 0
    for case in golden("sampling_filters")["cases"]:
        stages = case["expected"]["stages"]
        chosen = [stage for stage in stages if stage["name"] in names]
        if not chosen:
            continue
        rows = case["input"]["logits"] if case["kind"] == "batch" else [case["input"]["logits"]]
        first = stages.index(chosen[0])
        if first > 0:
            rows = stages[first - 1]["logits"] if case["kind"] == "batch" else [stages[first - 1]["logits"]]
        logits = torch.tensor([[float(value) for value in row] for row in rows])
        values = {names[stage["name"]]: next(iter(stage["parameters"].values())) for stage in chosen}
        filters = _filters(len(logits), values.get("top_k"), values.get("top_p"), values.get("typical_p"))
        wanted = chosen[-1]["kept"] if case["kind"] == "batch" else [chosen[-1]["kept"]]
        for width in WIDTHS:
            found = filter_tokens(logits, filters, width)
            for kept, expected in zip(
                _kept(found, logits.shape[1])[found.resolved],
                [w for w, r in zip(wanted, found.resolved, strict=True) if r],
                strict=True,
            ):
                ids = kept.nonzero()[:, 0].tolist()
                if "only the number of kept tokens is portable" in case.get("note", ""):
                    assert len(ids) == len(expected), case["id"]
                else:
                    assert ids == expected, case["id"]
        checked += 1
    assert checked > 30
