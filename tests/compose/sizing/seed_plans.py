"""The plans of the built-in recipes on three kinds of machines, as they are written into documents and layers.

python -m tests.compose.sizing.seed_plans    writes docs/scale.md and the headers of the layers again
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from tests.conftest import REPOSITORY
from tunesmith.compose.sizing.advice import fits
from tunesmith.compose.sizing.hardware import GPUS, Gpu
from tunesmith.compose.sizing.memory import GIB, MemoryEstimate
from tunesmith.compose.sizing.model_sources import find_model_sizes
from tunesmith.compose.sizing.networks import ModelSizes
from tunesmith.compose.sizing.run import DataCounts, Passes, SizedRun, size_run
from tunesmith.compose.sizing.settings import Distribution
from tunesmith.model.footprint import ActivationBytes
from tunesmith.recipe.load import load
from tunesmith.recipe.schema import Recipe

SEEDS = (
    "dolly-v2-3b",
    "dolly-v2-7b",
    "dolly-v2-12b",
    "oasst-sft-1-pythia-12b",
    "oasst-sft-4-pythia-12b",
    "flan-t5-dolly-xxl",
    "tulu-2.5-dpo-13b-uf-mean",
)
OTHERS = (
    "tulu-2-13b",
    "oasst-rm-pythia-1.4b",
    "oasst-rlhf-pythia-12b",
    "tulu-2.5-13b-uf-rm",
    "tulu-2.5-70b-uf-rm",
    "tulu-2.5-ppo-13b-uf-mean",
    "tulu-2.5-ppo-13b-uf-mean-70b-uf-rm",
)
LAYERS: Mapping[str, tuple[Gpu, Distribution]] = {
    "one-h200": (GPUS["h200"], Distribution()),
    "one-h100": (GPUS["h100"], Distribution()),
    "eight-80gb": (GPUS["h100"], Distribution(8, "zero3")),
}
TITLES = {"one-h200": "one H200 (139 GiB)", "one-h100": "one H100 (79 GiB)", "eight-80gb": "8 x 80 GB (79 GiB each)"}
CATALOG = REPOSITORY / "tunesmith" / "recipe" / "catalog" / "layers"
DOCUMENT = REPOSITORY / "docs" / "scale.md"
BEGIN, END = "<!-- plans -->\n", "<!-- end of plans -->\n"
HEADER = "# What a GPU needs, of "
ADAPTERS = ("lora", "qlora")
"""Layers for one GPU of any kind, whose headers have figures without another layer."""
ADAPTER_HEADER = "# What one GPU needs, by `tunesmith plan`:\n"


@cache
def _activations(model: str, passes: Passes) -> ActivationBytes:
    return ModelSizes(json.loads(model)).activations(*passes)


class _Shared(dict[Passes, ActivationBytes]):
    """The activations of models that differ only in the length of their context are the same."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        super().__init__()
        kept = {key: value for key, value in entries.items() if key != "max_position_embeddings"}
        self.model = json.dumps(kept, sort_keys=True)

    def __contains__(self, passes: object) -> bool:
        return True

    def __missing__(self, passes: Passes) -> ActivationBytes:
        return _activations(self.model, passes)


def sized(recipe: Recipe) -> SizedRun:
    """As ``size_run``, which counts every model again."""
    run = size_run(recipe, DataCounts())
    return replace(run, counted=_Shared(find_model_sizes(recipe.model).entries))


@cache
def planned(name: str) -> Mapping[str, MemoryEstimate]:
    """Layer -> the memory of one GPU."""
    run = sized(load([name]).recipe)
    return {layer: run.changed(load([name, layer]).recipe).memory(spread) for layer, (_, spread) in LAYERS.items()}


def figures(names: Sequence[str] = (*SEEDS, *OTHERS)) -> dict[str, tuple[float, ...]]:
    """Recipe -> GiB of one GPU with each layer."""
    return {name: tuple(round(each.needed / GIB, 1) for each in planned(name).values()) for name in names}


def table() -> str:
    """The table of the document, in Markdown."""
    lines = [
        f"| recipe | {' | '.join(f'`{layer}`, {TITLES[layer]}' for layer in LAYERS)} |",
        f"|---|{'---|' * len(LAYERS)}",
    ]
    for name in (*SEEDS, *OTHERS):
        cells = [_cell(layer, memory) for layer, memory in planned(name).items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(layer: str, memory: MemoryEstimate) -> str:
    number = f"{memory.needed / GIB:.1f}"
    return number if fits(memory, LAYERS[layer][0]) else f"no: {number}"


def header(layer: str) -> str:
    """The comment of a layer that has the figures."""
    gpu, _ = LAYERS[layer]
    lines = [f"{HEADER}{gpu.memory / GIB:.0f} GiB, by `tunesmith plan` (runs start up to 95 %):"]
    for name in (*SEEDS, *OTHERS):
        memory = planned(name)[layer]
        note = "" if fits(memory, gpu) else "   does not fit"
        lines.append(f"#   {name:<36}{memory.needed / GIB:>6.1f} GiB{note}")
    return "\n".join(lines) + "\n"


@cache
def planned_adapter(name: str, layer: str) -> MemoryEstimate:
    """The memory of one GPU with adapters."""
    return sized(load([name]).recipe).changed(load([name, layer]).recipe).memory(Distribution())


def adapter_header(layer: str) -> str:
    """The comment of a layer of adapters that has the figures."""
    figures = ((name, planned_adapter(name, layer).needed / GIB) for name in (*SEEDS, *OTHERS))
    return ADAPTER_HEADER + "".join(f"#   {name:<36}{number:>6.1f} GiB\n" for name, number in figures)


def with_header(text: str, layer: str) -> str:
    """The text of a layer with the present figures."""
    if layer in ADAPTERS:
        return re.sub(rf"{ADAPTER_HEADER}(#   .*GiB\n)*", lambda match: adapter_header(layer), text)
    return re.sub(rf"{HEADER}.*\n(#   .*GiB.*\n)+", lambda match: header(layer), text)


def with_table(text: str) -> str:
    """The text of the document with the present table."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    for layer in (*LAYERS, *ADAPTERS):
        path = CATALOG / f"{layer}.yaml"
        path.write_text(with_header(path.read_text(encoding="utf-8"), layer), encoding="utf-8")
    print(figures())
