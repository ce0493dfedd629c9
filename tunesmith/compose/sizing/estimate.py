"""The memory formula: bytes of one GPU, as a pure function of counts and settings.

    weights, moments and further models      always
    whole models, or layers in float32       while models are loaded and tested (``loading``)
    gradients, activations, head             while a micro-batch is computed
    gradients, copies of the update          while the weights are updated
    cache of keys and values                 while replies are generated, when there are no gradients

The need of a run is what is always there plus the largest of the others, plus a reserve.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.compose.sizing.loading import gathered_at_once, lines_by_rows, lines_of_one_model, lines_of_whole_models
from tunesmith.compose.sizing.memory import GIB, MemoryEstimate, MemoryLine
from tunesmith.compose.sizing.settings import (
    FLOAT,
    HALF,
    Distribution,
    FurtherModel,
    Network,
    StateSettings,
    TrainedAdapter,
    Workload,
)
from tunesmith.train.optim.storage import PART

TABLE = 52_000_000
"""Logits in one chunk of the head (``model.head``)."""
COPIES = 3
"""Copies of the hidden states of a chunk that the head makes."""
UPDATE_COPIES = 6
"""float32 copies of a part, or of a whole tensor, that an update makes at the most."""


def estimate_memory(
    network: Network,
    states: StateSettings,
    work: Workload,
    spread: Distribution | None = None,
    *,
    further: Sequence[FurtherModel] = (),
    adapter: TrainedAdapter | None = None,
) -> MemoryEstimate:
    """The memory of one GPU.

    network: the model that is trained.
    states: how its weights, gradients and moments are stored; those of further trained models are stored alike.
    work: the largest micro-batch, and the replies that are generated.
    spread: None for one GPU.
    further: the other models.
    adapter: given, only these matrices are trained.
    """
    spread = spread or Distribution()
    trained = [network, *(each.network for each in further if each.trained)]
    further = [each for each in further if not (each.copied and adapter is not None)]
    own = [network, *(each.network for each in further if each.trained)]
    frozen, by_rows = [each for each in further if not each.trained], work.by_rows and spread.parts > 1
    kept = [
        *_state_lines(own if adapter is not None else trained, states, spread, adapter),
        *(_divided_lines(frozen, states, spread) if by_rows else _frozen_lines(frozen, states, spread, adapter)),
    ]
    tested = [*own, *(each.network for each in frozen)]
    if spread.parts == 1:
        loading = lines_of_one_model(own, frozen, kept, states, adapter)
    else:
        loading = lines_by_rows(tested, kept, spread) if by_rows else lines_of_whole_models(own, kept, adapter)
    found = [
        *kept,
        *loading,
        *_gathered_lines(own, states, spread, adapter),
        *_pass_lines(trained, states, work, adapter),
    ]
    if work.replies:
        size = network.cached * states.compute_bytes * work.replies * work.reply_length
        note = f"{work.replies} replies of {work.reply_length:,} tokens, while they are generated"
        everything = states.compute_bytes * network.parameters if spread.parts > 1 else 0
        found.append(MemoryLine("cache", size, "replies", note))
        found.append(MemoryLine("gathered", everything, "replies", "all weights, for replies"))
    return MemoryEstimate(tuple(line for line in found if line.bytes or line.name == "head"))


def _state_lines(
    trained: Sequence[Network], states: StateSettings, spread: Distribution, adapter: TrainedAdapter | None
) -> list[MemoryLine]:
    parts, count = spread.parts, sum(each.parameters for each in trained)
    if adapter is not None:
        frozen = round(count * adapter.base_bytes)
        moments = 2 * FLOAT * adapter.parameters
        is_cast = adapter.base_bytes == FLOAT and states.compute != "float32" and parts == 1
        return [
            *([_cast_line(count)] if is_cast else []),
            MemoryLine("weights", frozen // parts, "always", f"{adapter.base_bytes:g} bytes each, frozen"),
            MemoryLine("adapter", FLOAT * adapter.parameters // parts, "always", "its weights, 4 bytes each"),
            MemoryLine("moments", moments // parts, "always", "of the adapter"),
            MemoryLine("gradients", FLOAT * adapter.parameters // parts, "training", "of the adapter"),
            MemoryLine("gradients", FLOAT * adapter.parameters // parts, "update"),
        ]
    gradients = states.gradient_bytes * count // parts
    moments = sum(states.moment_bytes(each) for each in trained)
    found = [
        MemoryLine("weights", states.weight_bytes * count // parts, "always", _weight_note(states)),
        MemoryLine("gradients", gradients, "training", f"{states.gradient_bytes} bytes each ({states.gradients})"),
        MemoryLine("gradients", gradients, "update"),
    ]
    if not states.offload:
        found.append(MemoryLine("moments", moments // parts, "always", _moment_note(states)))
    if states.weights == "float32" and states.compute != "float32" and spread.parts == 1:
        found.append(_cast_line(count))
    return found


def _cast_line(count: int) -> MemoryLine:
    return MemoryLine("casts", HALF * count, "training", "copies of the weights in bfloat16")


def _weight_note(states: StateSettings) -> str:
    halves = "2 + 2 bytes each (split)"
    return halves if states.weights == "split" else f"{states.weight_bytes} bytes each ({states.weights})"


def _moment_note(states: StateSettings) -> str:
    if states.optimizer == "adafactor":
        return "Adafactor's rows and columns (float32)"
    each = "2 x 4 bytes each" if states.moments == "float32" else "2 x 1.03 bytes each"
    return f"{each} ({states.optimizer}, {states.moments})"


def _divided_lines(frozen: Sequence[FurtherModel], states: StateSettings, spread: Distribution) -> list[MemoryLine]:
    """Models that are not trained, where they are divided in float32 and gathered layer by layer."""
    weights = [(each.name, FLOAT * each.network.parameters // spread.parts) for each in frozen]
    layers = max((states.compute_bytes * gathered_at_once(each.network, spread) for each in frozen), default=0)
    return [
        *(MemoryLine(name, size, "always", "4 bytes each, frozen") for name, size in weights),
        MemoryLine("gathered", layers, "replies", "layers of a frozen model"),
    ]


def _frozen_lines(
    frozen: Sequence[FurtherModel], states: StateSettings, spread: Distribution, adapter: TrainedAdapter | None
) -> list[MemoryLine]:
    """Models that are not trained, where every GPU has them whole."""
    stored = states.weights != "float32" or spread.parts > 1
    if adapter is not None:
        stored = adapter.base_bytes < FLOAT or spread.parts > 1
    size = states.compute_bytes if stored else FLOAT
    return [
        MemoryLine(each.name, size * each.network.parameters, "always", f"{size} bytes each, frozen") for each in frozen
    ]


def _gathered_lines(
    trained: Sequence[Network], states: StateSettings, spread: Distribution, adapter: TrainedAdapter | None
) -> list[MemoryLine]:
    """Whole weights and gradients of the layers that a GPU works on, where they are divided among GPUs."""
    if spread.parts == 1:
        return []
    size, network = states.compute_bytes, max(trained, key=lambda each: each.layer)
    gradients = 0 if adapter is not None else (HALF + FLOAT) * network.layer
    if spread.shard == "zero2":
        whole, what = size * sum(each.parameters for each in trained), "all weights"
    else:
        whole, what = size * (2 * network.layer + sum(each.outside for each in trained)), "two layers, embedding, head"
    return [MemoryLine("gathered", whole + gradients, "training", f"{what}, and the gradient of one layer")]


def _pass_lines(
    trained: Sequence[Network], states: StateSettings, work: Workload, adapter: TrainedAdapter | None
) -> list[MemoryLine]:
    """Activations and head: the larger of the head after the forward pass, and of the backward pass after it."""
    network = trained[0]
    largest = work.activations.largest(network.layers, work.recomputed)
    forward = work.activations.after_forward(network.layers, work.recomputed)
    if work.value_activations is not None:
        of_value = work.value_activations.after_forward(trained[-1].layers, work.recomputed)
        largest, forward = largest + of_value, forward + of_value
    noise = dropout_bytes(network, states, work)
    head = head_bytes(network, states, work.targets, frozen=adapter is not None)
    beyond = max(0, forward + head - largest)  # the backward pass reuses the memory of the head
    how = f"{work.tokens:,} tokens" + (", recomputed" if work.recomputed >= 1.0 else "")
    if 0.0 < work.recomputed < 1.0:
        how += f", {work.recomputed:.0%} of layers recomputed"
    return [
        MemoryLine("activations", largest + noise, "training", how),
        MemoryLine("head", beyond, "training", _head_note(network, work, head, beyond)),
        MemoryLine("update", update_bytes(trained, states, adapter), "update"),
    ]


def _head_note(network: Network, work: Workload, head: int, beyond: int) -> str:
    """head: bytes of the head. beyond: those that the backward pass of the layers does not need as well."""
    if not network.rows:
        return "no vocabulary: one score for each reply"
    more = "this much more than" if beyond else "no more than"
    return f"{work.targets:,} targets: {head / GIB:,.1f} GiB, {more} what the layers need in the backward pass"


def dropout_bytes(network: Network, states: StateSettings, work: Workload) -> int:
    """Masks of residual dropout: two in each layer that is not recomputed, and those of the layer in work."""
    if not work.dropout:
        return 0
    kept = round(network.layers * (1.0 - work.recomputed)) + 1
    states_bytes = work.tokens * network.hidden
    return states_bytes * (2 * kept * states.compute_bytes + FLOAT)


def head_bytes(network: Network, states: StateSettings, targets: int, *, frozen: bool = False) -> int:
    """Buffers of the head in the forward pass, which also computes its gradients.

    targets: whose hidden states are projected.
    frozen: whether the head is not trained.
    """
    if not network.rows:
        return 0
    size, half = states.compute_bytes, states.compute != "float32"
    chunk = min(max(16, TABLE // network.rows), max(1, targets))
    table = chunk * network.rows * (FLOAT + (size if half else 0))
    weight = network.rows * network.hidden * (FLOAT + (size if half else 0))
    hidden = (2 * targets + COPIES * chunk) * network.hidden * size
    return table + (0 if frozen else weight) + hidden


def update_bytes(trained: Sequence[Network], states: StateSettings, adapter: TrainedAdapter | None) -> int:
    """Copies that an update makes: of a part of a tensor, or of a whole one with Adafactor and Muon."""
    largest = max(each.largest for each in trained)
    if adapter is not None or (states.optimizer == "adamw" and states.weights == "float32"):
        return 0
    return UPDATE_COPIES * FLOAT * (largest if states.optimizer != "adamw" else min(largest, PART))
