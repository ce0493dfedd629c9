"""The memory formula: bytes of one GPU, as a pure function of counts and settings.

    weights, moments and further models      always
    whole models, or layers in float32       while a model that is divided among GPUs is loaded and tested
    gradients, activations, head             while a micro-batch is computed
    gradients, copies of the update          while the weights are updated
    cache of keys and values                 while replies are generated, when there are no gradients

The need of a run is what is always there plus the largest of the others, plus a reserve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tunesmith.compose.sizing.memory import MemoryEstimate, MemoryLine
from tunesmith.model.footprint import ActivationBytes
from tunesmith.model.split import WeightFormat
from tunesmith.recipe.training import ShardKind
from tunesmith.train.optim.storage import BLOCK, PART

TABLE = 52_000_000
"""Logits in one chunk of the head (``model.head``)."""
COPIES = 3
"""Copies of the hidden states of a chunk that the head makes."""
UPDATE_COPIES = 6
"""float32 copies of a part, or of a whole tensor, that an update makes at the most."""
FLOAT, HALF = 4, 2


@dataclass(frozen=True, slots=True)
class Network:
    """The counts of one model, as numbers and not as bytes.

    parameters: all of them, tied ones once.
    matrices: those in the matrices inside of the layers, which Muon updates.
    sides: rows and columns of these matrices together; an adapter of rank r has r times as many parameters.
    outside: those outside of the layers: embedding, head, last norm.
    largest: in the largest tensor.
    factored: what Adafactor keeps of the second moments.
    layers: in each stack of an encoder-decoder.
    hidden: units of a hidden state.
    rows: tokens that the head scores; 0 for a reward model, which has no such head.
    cached: keys and values of one token in all layers.
    """

    parameters: int
    matrices: int
    sides: int
    outside: int
    largest: int
    factored: int
    layers: int
    hidden: int
    rows: int
    cached: int

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        return (self.parameters - self.outside) // max(1, self.layers)


@dataclass(frozen=True, slots=True)
class StateSettings:
    """How weights, gradients and moments of trained weights are stored.

    weights, gradients, moments, offload: see ``recipe.training.TrainConfig``.
    optimizer: kind of the optimizer.
    first_moment: whether Adafactor keeps a running mean of updates.
    compute: number format of the forward pass.
    """

    weights: WeightFormat
    gradients: Literal["float32", "bfloat16"] = "float32"
    moments: Literal["float32", "8bit"] = "float32"
    offload: bool = False
    optimizer: Literal["adamw", "muon", "adafactor"] = "adamw"
    first_moment: bool = False
    compute: Literal["float32", "bfloat16", "float16"] = "bfloat16"

    @property
    def weight_bytes(self) -> int:
        """Bytes of a trained weight, its rest included."""
        return HALF if self.weights == "bfloat16-stochastic" else FLOAT

    @property
    def gradient_bytes(self) -> int:
        """Bytes of a gradient."""
        return HALF if self.gradients == "bfloat16" else FLOAT

    @property
    def compute_bytes(self) -> int:
        """Bytes of a number in the forward pass, and of a weight that is not trained."""
        return FLOAT if self.compute == "float32" else HALF

    def moment_bytes(self, network: Network) -> int:
        """Bytes of the moments of a whole model, wherever they are kept."""
        if self.optimizer == "adafactor":
            return FLOAT * (network.factored + (network.parameters if self.first_moment else 0))
        single = network.matrices if self.optimizer == "muon" else 0
        count = 2 * network.parameters - single
        return count + FLOAT * count // BLOCK if self.moments == "8bit" else FLOAT * count


@dataclass(frozen=True, slots=True)
class Distribution:
    """How a run is spread over GPUs.

    processes: one for each GPU.
    shard: what they divide among them: nothing; gradients and optimizer (zero2: the weights are whole during a step);
        or the weights, too (zero3: whole for one layer at a time).
    replicas: copies of what they divide.
    """

    processes: int = 1
    shard: ShardKind = "none"
    replicas: int = 1

    @property
    def parts(self) -> int:
        """Into how many parts weights, gradients and moments are divided."""
        return 1 if self.shard == "none" else self.processes // self.replicas


@dataclass(frozen=True, slots=True)
class TrainedAdapter:
    """Low-rank matrices that are trained in place of the weights.

    parameters: of all these matrices, which are float32; those of a separate value function included.
    base_bytes: bytes of a weight of the frozen model: 4, 2, or about 0.6 where it is quantised to 4 bits.
    """

    parameters: int
    base_bytes: float = HALF


@dataclass(frozen=True, slots=True)
class FurtherModel:
    """A model next to the one that is trained.

    name: what it is for.
    network: its counts.
    trained: whether it has gradients and moments, too, like a separate value function.
    copied: whether it starts as a copy of the trained model. With an adapter it is the frozen model itself.
    """

    name: str
    network: Network
    trained: bool = False
    copied: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """What a run computes at a time.

    tokens: of the largest micro-batch, padding included.
    targets: in it, whose log-probabilities are computed.
    recomputed: share of the layers whose activations are recomputed.
    activations: of the trained model, for these tokens.
    value_activations: of a separate value function, whose activations are kept at the same time.
    dropout: whether there is residual dropout.
    replies: rows of replies that are generated together; 0 if none are generated.
    reply_length: tokens that such a row may come to hold.
    by_rows: whether a model that is divided is loaded by rows, so that no process ever has all of it.
    """

    tokens: int
    targets: int
    recomputed: float
    activations: ActivationBytes
    value_activations: ActivationBytes | None = None
    dropout: bool = False
    replies: int = 0
    reply_length: int = 0
    by_rows: bool = False


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
    found = [
        *kept,
        *(_test_lines(tested, kept, spread) if by_rows else _whole_lines(own, kept, spread, adapter)),
        *_gathered_lines(own, states, spread, adapter),
        *_pass_lines(trained, states, work, adapter),
    ]
    if work.replies:
        size = network.cached * states.compute_bytes * work.replies * work.reply_length
        note = f"{work.replies} replies of {work.reply_length:,} tokens, while they are generated"
        everything = states.compute_bytes * network.parameters if spread.parts > 1 else 0
        found.append(MemoryLine("cache", size, "replies", note))
        found.append(MemoryLine("gathered", everything, "replies", "all weights, for replies"))
    return MemoryEstimate(tuple(line for line in found if line.bytes))


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
            MemoryLine("adapter", (FLOAT * adapter.parameters + moments) // parts, "always", "weights and moments"),
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
        return "Adafactor's rows and columns"
    each = "2 x 4 bytes each" if states.moments == "float32" else "2 x 1.03 bytes each"
    return f"{each} ({states.optimizer}, {states.moments})"


def _divided_lines(frozen: Sequence[FurtherModel], states: StateSettings, spread: Distribution) -> list[MemoryLine]:
    """Models that are not trained, where they are divided in float32 and gathered layer by layer."""
    weights = [(each.name, FLOAT * each.network.parameters // spread.parts) for each in frozen]
    layers = max((states.compute_bytes * _gathered_at_once(each.network, spread) for each in frozen), default=0)
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


def _gathered_at_once(network: Network, spread: Distribution) -> int:
    """Parameters of a divided model that a pass gathers: of two layers, or all with zero2, and those outside."""
    return network.parameters if spread.shard == "zero2" else 2 * network.layer + network.outside


def _test_lines(tested: Sequence[Network], kept: Sequence[MemoryLine], spread: Distribution) -> list[MemoryLine]:
    """Models that are loaded by rows are tested with layers gathered in float32, before there are moments.

    kept: lines of what stays.
    """
    largest = max(_gathered_at_once(each, spread) for each in tested)
    later = sum(line.bytes for line in kept if line.phase == "always" and line.name == "moments")
    note = "layers, embedding and head in float32, for the test of the model"
    return [MemoryLine("tested", max(0, FLOAT * largest - later), "loading", note)]


def _whole_lines(
    own: Sequence[Network], kept: Sequence[MemoryLine], spread: Distribution, adapter: TrainedAdapter | None
) -> list[MemoryLine]:
    """Models are whole in every process until they have been tested, and only then divided.

    own: networks with separate weights that are trained or adapted. kept: lines of what stays.
    """
    if spread.parts == 1:
        return []
    size = FLOAT if adapter is None else adapter.base_bytes
    whole, divided = round(size * sum(each.parameters for each in own)), ("weights", "adapter", "moments")
    later = sum(line.bytes for line in kept if line.phase == "always" and line.name in divided)
    note = "whole models, until they are tested and divided"
    return [MemoryLine("whole", max(0, whole - later), "loading", note)]


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
        MemoryLine("head", beyond, "training", f"{work.targets:,} targets, beyond the activations"),
        MemoryLine("update", update_bytes(trained, states, adapter), "update"),
    ]


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
