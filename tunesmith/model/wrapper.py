"""What all wrappers of a stock transformers model have in common: device, parameters, modes and number format."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial, wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from transformers import PreTrainedModel

from tunesmith.model.dropout import ResidualDropout, Seq2SeqDropout
from tunesmith.model.shard import Division, ShardedModel, shard_model
from tunesmith.recipe.training import ShardedKind

Parameters = ParamSpec("Parameters")
ResultT = TypeVar("ResultT")


class ModelWrapper:
    """A stock model with the number format of its forward pass and its optional residual dropout.

    model: the parameters keep their own number format.
    compute: number format of the forward pass.
    dropout: residual dropout, which is active in training mode only.
    sharded: the root of the model, if its weights are divided among processes.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        compute: torch.dtype = torch.float32,
        dropout: ResidualDropout | Seq2SeqDropout | None = None,
        sharded: ShardedModel | None = None,
    ) -> None:
        self.model, self.compute, self.dropout = model, compute, dropout
        self.sharded: ShardedModel | None = sharded

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.model.device

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters of the whole model by name; tied ones once."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def train(self) -> None:
        """Training mode of the model as a whole; its modules stay in evaluation mode.

        The training mode of a module adds noise that depends on the batch: dropout, jitter of inputs, random choice of
        experts. Only modules that recompute activations are in training mode, because they recompute in no other.
        """
        self.model.eval()  # type: ignore[no-untyped-call]
        self.model.training = True
        for module in self.model.modules():
            if getattr(module, "gradient_checkpointing", False):
                module.training = True

    def eval(self) -> None:
        """Evaluation mode: no noise of any kind."""
        self.model.eval()  # type: ignore[no-untyped-call]
        if self.dropout is not None:
            self.dropout.end()

    def networks(self) -> Sequence[ModelWrapper]:
        """The wrappers whose models are trained; no two have weights in common."""
        return [self]

    def whole_parameters(self) -> Collection[nn.Parameter]:
        """Trainable parameters that no process keeps only a part of, because they are small and need float32."""
        return ()

    def shard(self, mesh: DeviceMesh, kind: ShardedKind) -> None:
        """Divide all weights that are not divided yet among the processes of a mesh.

        Raises RecipeError as ``model.shard.shard_model``.
        """
        for network in self.networks():
            if network.sharded is None:
                whole = network.whole_parameters()
                network.sharded = shard_model(network.model, mesh, kind, network.compute, whole)

    def run(self, computation: Callable[[], ResultT]) -> ResultT:
        """Run a computation with the model.

        On a sharded model all processes do so together. Its weights are gathered in the format ``compute``, so that
        nothing is cast as ``autocast`` does it, and what layers add up has this format, too.
        """
        return computation() if self.sharded is None else self.sharded.run(computation, self.compute)

    @property
    def division(self) -> Division | None:
        """How the weights are divided; None for a whole model."""
        return None if self.sharded is None else self.sharded.division

    def without_sums(self) -> AbstractContextManager[object]:
        """A context whose backward passes give no weight a gradient; see ``ShardedModel.without_sums``."""
        return nullcontext() if self.sharded is None else self.sharded.without_sums()

    def largest(self, value: float) -> float:
        """A value, or of a sharded model the largest of those that all processes have, so that they decide alike."""
        return value if self.sharded is None else self.sharded.largest(value)

    def gathered(self) -> AbstractContextManager[object]:
        """A context without gradients in which this process has all weights; see ``ShardedModel.gathered``."""
        stack = ExitStack()
        for network in self.networks():
            if network.sharded is not None:
                stack.enter_context(network.sharded.gathered(network.compute))
        return stack

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which the forward pass runs in the format ``compute``; weights in it need no cast."""
        if self.compute in (torch.float32, self.model.dtype):
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute)


WrapperT = TypeVar("WrapperT", bound=ModelWrapper)


def forward_pass(
    method: Callable[Concatenate[WrapperT, Parameters], ResultT],
) -> Callable[Concatenate[WrapperT, Parameters], ResultT]:
    """Mark a method that computes with the model: on a sharded model its weights are gathered for the call."""

    @wraps(method)
    def run(self: WrapperT, *args: Parameters.args, **kwargs: Parameters.kwargs) -> ResultT:
        return self.run(partial(method, self, *args, **kwargs))

    return run  # type: ignore[return-value]
