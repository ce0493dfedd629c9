"""What the memory formula is a function of: counts of models, how their states are stored, and what is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tunesmith.model.footprint import ActivationBytes
from tunesmith.model.split import WeightFormat
from tunesmith.recipe.training import ShardKind
from tunesmith.train.optim.storage import BLOCK

FLOAT, HALF = 4, 2
"""Bytes of a number in float32, and in 16 bits."""


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
