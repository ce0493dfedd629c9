"""A model that is divided among processes: each keeps a part of every weight, gradient and state (FSDP2 of PyTorch).

The weights of a layer are gathered when it computes, and its gradients are added over all processes and divided again.
All processes therefore run the same number of forward and backward passes. Modules and names of weights stay those of
the stock model; its parameters become ``DTensor``, divided by rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from tunesmith.errors import RecipeError
from tunesmith.model.dropout import decoder_layers

SHARD = "train.shard"
"""The recipe key, for errors."""

ShardKind = Literal["none", "zero2", "zero3"]
"""zero3 divides weights, gradients and states; zero2 keeps gathered weights until the backward pass; none nothing."""

ResultT = TypeVar("ResultT")


class ShardedModel(nn.Module):
    """The root of a sharded model. Every computation with the model runs within ``run`` or ``gathered``.

    model: its layers are sharded already.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._running = False

    def forward(self, computation: Callable[[], ResultT]) -> tuple[ResultT, list[Tensor]]:
        """The result of a computation, and the tensors in it, which PyTorch looks for in what a module returns."""
        result = computation()
        return result, list(_tensors_in(result))

    def run(self, computation: Callable[[], ResultT]) -> ResultT:
        """Run a computation with the model; all processes do so at the same time. One inside another is part of it."""
        if self._running:
            return computation()
        self._running = True
        try:
            result: ResultT = self(computation)[0]
        finally:
            self._running = False
        return result

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """In the block, which all processes enter and leave, every process has all weights, as plain tensors.

        The model then computes as one that is not sharded, and processes may run different numbers of passes, without
        gradients. One block inside another is part of it.
        """
        if self._running:
            yield
            return
        self._running = True
        parts = [(part, _reshards(part)) for part in self.modules() if isinstance(part, FSDPModule)]
        try:
            for part, _ in parts:
                part.set_reshard_after_forward(False, recurse=False)
                part.unshard()
            with torch.no_grad():
                yield
        finally:
            self._running = False
            for part, reshards in parts:
                part.reshard()
                part.set_reshard_after_forward(reshards, recurse=False)


def shard_model(
    model: PreTrainedModel,
    mesh: DeviceMesh,
    kind: Literal["zero2", "zero3"],
    compute: torch.dtype,
    whole: Collection[nn.Parameter] = (),
) -> ShardedModel:
    """Divide the weights of a model, in place, among the processes of a mesh; returns its root.

    Gradients are sums over all processes, in float32.

    model: with the same float32 weights in every process.
    compute: number format of the forward pass, in which weights are gathered.
    whole: parameters that every process keeps whole. Their gradients are not added.
    Raises RecipeError for a model whose layers are not known, or share weights.
    """
    layers = layers_of(model)
    _check_unshared(model, layers)
    # Inputs stay as they are: casting them would also round the weights and columns of a batch.
    precision = MixedPrecisionPolicy(
        param_dtype=None if compute == torch.float32 else compute,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    kept, gathered_again = {*whole}, kind == "zero3"
    for layer in layers:
        fully_shard(
            layer, mesh=mesh, mp_policy=precision, reshard_after_forward=gathered_again, ignored_params=kept or None
        )
    root = ShardedModel(model)
    fully_shard(root, mesh=mesh, mp_policy=precision, reshard_after_forward=False, ignored_params=kept or None)
    for part in root.modules():
        if isinstance(part, FSDPModule):
            # A loss is divided by the units of all processes before, so gradients are added, and not averaged.
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)
    root.run(lambda: None)  # fixes which module is the root
    root.reshard()  # type: ignore[operator]
    return root


def layers_of(model: PreTrainedModel) -> list[nn.Module]:
    """The layers of a model, each of which is gathered as a whole. Raises RecipeError where they are not known."""
    if model.config.is_encoder_decoder:
        stacks = (model.get_encoder(), model.get_decoder())  # type: ignore[no-untyped-call]
        blocks = [block for stack in stacks for block in getattr(stack, "block", ())]
        if blocks:
            return blocks
    return list(decoder_layers(model, SHARD))


def _check_unshared(model: PreTrainedModel, layers: Collection[nn.Module]) -> None:
    """Raises RecipeError if a weight of a layer is also one of another layer or of the rest of the model."""
    owners = dict[nn.Parameter, int]()
    for number, layer in enumerate(layers):
        for parameter in layer.parameters():
            if owners.setdefault(parameter, number) != number:
                raise RecipeError(
                    f"layers of {type(model).__name__} share weights",
                    where=SHARD,
                    advice=f"append {SHARD}=none",
                )


def is_sharded(tensor: Tensor) -> bool:
    """Whether the processes have different parts of a tensor."""
    return isinstance(tensor, DTensor)


def local_part(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process has: the same memory. A tensor that is not sharded is its own part."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_tensor(tensor: Tensor) -> Tensor:
    """The whole of a tensor, gathered from all processes, each of which must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _reshards(part: FSDPModule) -> bool:
    """Whether a module drops gathered weights after its forward pass."""
    groups = part._get_fsdp_state()._fsdp_param_groups
    return any(group.post_forward_mesh_info is not None for group in groups)


def _tensors_in(value: object) -> Iterator[Tensor]:
    """All tensors in nested dataclasses, tuples and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors_in(each)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors_in(getattr(value, field.name))
