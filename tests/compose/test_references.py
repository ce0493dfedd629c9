"""The cache of reference log-probabilities, with a small model and without a run: what it is taken for, and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.model.rankings import FIVE, PAIR, SWAPPED, TWO_DEPTHS, dialogue
from tests.model.trees import small_model
from tunesmith.batch.columns import REFERENCE
from tunesmith.batch.packed import collate_packed
from tunesmith.compose.models import reference_cache
from tunesmith.compose.models.reference_cache import ReferenceModel, References, cached_references, weights_digest
from tunesmith.data.dataset.store import Store, open_store, open_writer, pack, read_index
from tunesmith.errors import InternalError
from tunesmith.model.policy import Policy

Reference = ReferenceModel[Any]


def stored(directory: Path, first: int = 0) -> Store:
    """Four dialogues with ranked replies. first: number of the first, which decides its texts and those of the next."""
    trees = [dialogue(number, shape).tree() for number, shape in enumerate((PAIR, FIVE, SWAPPED, TWO_DEPTHS), first)]
    directory.mkdir()
    with open_writer(directory) as writer:
        writer.append(pack(trees, [0] * len(trees), [bytes([first + place] * 16) for place in range(len(trees))]))
        writer.finish("key", ["one"], {})
    index = read_index(directory, "key")
    assert index is not None
    return open_store(directory, index)


def reference(seed: int = 0, name: str = "a model") -> Reference:
    """name: what the model is called in the key of the cache."""
    return ReferenceModel(Policy(small_model("llama", seed=seed)), collate_packed, 200, {"weights": name})


def found(model: Reference, store: Store, cache: Path, *, computed: bool) -> References:
    """The references of a store. computed: whether they must be computed, or else be read."""
    told: list[int] = []
    values = cached_references(model, store, cache, lambda done, total, label: told.append(done))
    assert bool(told) == computed
    return values


def test_values_are_computed_once_and_read_back_to_the_bit(tmp_path: Path) -> None:
    model, store = reference(), stored(tmp_path / "s")
    first = found(model, store, tmp_path, computed=True)
    assert len(first.values) == int(store.replies.sum()) > 8
    assert np.array_equal(found(model, store, tmp_path, computed=False).values, first.values)
    assert [len(first.columns(number)[REFERENCE]) for number in range(4)] == store.replies.tolist()


def test_damaged_values_are_computed_again(tmp_path: Path) -> None:
    model, store = reference(), stored(tmp_path / "s")
    first = found(model, store, tmp_path, computed=True)
    (path,) = tmp_path.glob("references/*/values.bin")
    content = bytearray(path.read_bytes())
    content[0] ^= 1  # the lowest bit of a value, far below what a comparison with the model allows
    path.write_bytes(content)
    assert np.array_equal(found(model, store, tmp_path, computed=True).values, first.values)


def test_values_of_another_model_are_refused(tmp_path: Path) -> None:
    """A model that has the name of the first one, as after a defect in the key."""
    store = stored(tmp_path / "s")
    found(reference(), store, tmp_path, computed=True)
    with pytest.raises(InternalError, match="do not belong to this model and data"):
        found(reference(seed=1), store, tmp_path, computed=False)


def test_values_that_are_not_numbers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored(tmp_path / "s")
    compute: Callable[..., Any] = reference_cache._computed

    def broken(*given: Any) -> Any:
        values = compute(*given)
        values[-1] = np.nan
        return values

    monkeypatch.setattr(reference_cache, "_computed", broken)
    with pytest.raises(InternalError, match=r"1 of .* replies differ; the first is nan"):
        found(reference(), store, tmp_path, computed=True)


def test_other_records_have_other_values(tmp_path: Path) -> None:
    model = reference()
    found(model, stored(tmp_path / "s"), tmp_path, computed=True)
    found(model, stored(tmp_path / "t", first=9), tmp_path, computed=True)
    found(model, stored(tmp_path / "u"), tmp_path, computed=False)


def test_the_digest_of_a_model_is_that_of_its_weights() -> None:
    model = small_model("llama")
    before = weights_digest(model)
    assert before == weights_digest(small_model("llama"))
    with torch.no_grad():
        next(model.parameters()).view(-1)[-1] += 1e-3
    assert weights_digest(model) != before
