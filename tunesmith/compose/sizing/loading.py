"""What a GPU needs while models are loaded and tested, before there are gradients and moments."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.compose.sizing.memory import MemoryLine
from tunesmith.compose.sizing.settings import (
    FLOAT,
    HALF,
    Distribution,
    FurtherModel,
    Network,
    StateSettings,
    TrainedAdapter,
)


def gathered_at_once(network: Network, spread: Distribution) -> int:
    """Parameters of a divided model that a pass gathers: of two layers, or all with zero2, and those outside."""
    return network.parameters if spread.shard == "zero2" else 2 * network.layer + network.outside


def lines_by_rows(tested: Sequence[Network], kept: Sequence[MemoryLine], spread: Distribution) -> list[MemoryLine]:
    """Models that are loaded by rows are tested with layers gathered in float32, before there are moments.

    kept: lines of what stays.
    """
    largest = max(gathered_at_once(each, spread) for each in tested)
    later = sum(line.bytes for line in kept if line.phase == "always" and line.name == "moments")
    note = "layers, embedding and head in float32, for the test of the model"
    return [MemoryLine("tested", max(0, FLOAT * largest - later), "loading", note)]


def lines_of_whole_models(
    own: Sequence[Network], kept: Sequence[MemoryLine], adapter: TrainedAdapter | None
) -> list[MemoryLine]:
    """Models are whole in every process until they have been tested, and only then divided.

    own: networks with separate weights that are trained or adapted. kept: lines of what stays.
    """
    size = FLOAT if adapter is None else adapter.base_bytes
    whole, divided = round(size * sum(each.parameters for each in own)), ("weights", "adapter", "moments")
    later = sum(line.bytes for line in kept if line.phase == "always" and line.name in divided)
    note = "whole models, until they are tested and divided"
    return [MemoryLine("whole", max(0, whole - later), "loading", note)]


def lines_of_one_model(
    own: Sequence[Network],
    frozen: Sequence[FurtherModel],
    kept: Sequence[MemoryLine],
    states: StateSettings,
    adapter: TrainedAdapter | None,
) -> list[MemoryLine]:
    """On one GPU every model is there in float32, with casts for its passes, until it is tested and stored.

    One model after the other is loaded, so the largest difference to what is kept of it counts. Adapters are tested on
    a base that is stored as it stays.

    own: networks with separate weights that are trained or adapted. frozen: the others. kept: lines of what stays.
    """
    casts = 0 if states.compute == "float32" else HALF
    stays = states.weight_bytes if adapter is None else FLOAT
    more = [(FLOAT + casts - stays) * each.parameters for each in own if adapter is None or adapter.base_bytes == FLOAT]
    halves = states.weights != "float32" if adapter is None else adapter.base_bytes < FLOAT
    stored = states.compute_bytes if halves else FLOAT
    more += [(FLOAT + casts - stored) * each.network.parameters for each in frozen if not each.copied]
    later = sum(line.bytes for line in kept if line.phase == "always" and line.name == "moments")
    note = "a model in float32 and its casts, until it is tested"
    return [MemoryLine("tested", max(0, max(more, default=0) - later), "loading", note)]
