"""The campaign names every way to store moments whose loss differs from float32 moments."""

from __future__ import annotations

import pytest

from tests.campaigns.storage import ALLOWED, STORED, find_costs, table


@pytest.mark.parametrize("change", [0.0, ALLOWED / 2, 2 * ALLOWED, -2 * ALLOWED, float("nan")])
def test_a_cost_above_the_limit_is_named(change: float) -> None:
    losses = {storage.name: {"1e-3": 3.0} for storage in STORED}
    losses["split / float32 / 8bit"]["1e-3"] += change
    found = find_costs(losses)
    assert [line.partition(" at ")[0] for line in found] == (
        [] if abs(change) <= ALLOWED else ["split / float32 / 8bit"]
    )
    assert len(table(losses, ["1e-3"]).splitlines()) == len(STORED) + 1


def test_every_way_with_8_bits_has_one_with_float32_moments_to_compare_with() -> None:
    names = {storage.name for storage in STORED}
    assert all(storage.reference in names for storage in STORED)
