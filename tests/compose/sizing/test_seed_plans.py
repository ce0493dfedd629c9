"""The plans of the built-in recipes: fixed numbers, the same in the document and in the layers."""

from __future__ import annotations

import pytest

from tests.compose.sizing.seed_plans import (
    ADAPTERS,
    CATALOG,
    DOCUMENT,
    LAYERS,
    OTHERS,
    SEEDS,
    figures,
    planned_adapter,
    with_header,
    with_table,
)
from tunesmith.compose.sizing.memory import GIB

GIBIBYTES: dict[str, tuple[float, float, float]] = {
    "dolly-v2-3b": (27.8, 25.7, 12.4),
    "dolly-v2-7b": (62.5, 58.9, 27.1),
    "dolly-v2-12b": (104.0, 99.1, 44.9),
    "oasst-sft-1-pythia-12b": (104.0, 99.1, 44.9),
    "oasst-sft-4-pythia-12b": (104.6, 99.4, 44.9),
    "flan-t5-dolly-xxl": (73.1, 69.5, 47.2),
    "tulu-2.5-dpo-13b-uf-mean": (114.7, 108.9, 52.5),
    "tulu-2-13b": (114.7, 108.9, 59.0),
    "oasst-rm-pythia-1.4b": (14.9, 13.3, 6.3),
    "oasst-rlhf-pythia-12b": (129.4, 124.5, 73.4),
    "tulu-2.5-13b-uf-rm": (113.4, 107.7, 35.6),
    "tulu-2.5-70b-uf-rm": (567.8, 553.0, 158.3),
    "tulu-2.5-ppo-13b-uf-mean": (272.4, 263.0, 104.7),
    "tulu-2.5-ppo-13b-uf-mean-70b-uf-rm": (526.3, 526.3, 133.7),
}
"""Recipe -> GiB that one GPU needs with the layers one-h200, one-h100 and eight-80gb."""


def test_plans_are_these_numbers() -> None:
    assert {*GIBIBYTES} == {*SEEDS, *OTHERS}
    found = figures()
    wrong = {name: values for name, values in found.items() if values != pytest.approx(GIBIBYTES[name], abs=0.11)}
    assert wrong == {}


def test_the_document_has_the_plans() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_table(text) == text, "run: python -m tests.compose.sizing.seed_plans"


def test_the_document_has_the_plans_with_adapters() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, layer in (("dolly-v2-12b", "lora"), ("dolly-v2-12b", "qlora"), ("tulu-2.5-ppo-13b-uf-mean", "lora")):
        assert f"| {name} | `{layer}` | {planned_adapter(name, layer).needed / GIB:.1f} |" in text


@pytest.mark.parametrize("layer", [*LAYERS, *ADAPTERS])
def test_the_header_of_a_layer_has_the_plans(layer: str) -> None:
    text = (CATALOG / f"{layer}.yaml").read_text(encoding="utf-8")
    assert with_header(text, layer) == text, "run: python -m tests.compose.sizing.seed_plans"
    assert all(f"#   {name} " in text for name in GIBIBYTES)
