"""A model that is divided among processes: each keeps a part of every weight, gradient and state (FSDP2 of PyTorch).

The weights of a layer are gathered when it computes, and its gradients are added over all processes and divided again.
All processes therefore run the same number of forward and backward passes. Modules and names of weights stay those of
the stock model; its parameters become ``DTensor``, divided by rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from transformers import PreTrainedModel

from tunesmith.errors import RecipeError
from tunesmith.model.dropout import decoder_layers
from tunesmith.recipe.training import ShardedKind

SHARD = "train.shard"
"""The recipe key, for errors."""

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
        if not torch.is_grad_enabled():  # no backward pass will drop what was gathered
            for part in self._parts():
                part.reshard()
            self._forget_passes()
        return result

    def _parts(self) -> list[FSDPModule]:
        """The modules whose weights are gathered as a whole."""
        return [part for part in self.modules() if isinstance(part, FSDPModule)]

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
        parts = [(part, _reshards(part)) for part in self._parts()]
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
            self._forget_passes()

    def _forget_passes(self) -> None:
        """Drop PyTorch's records of passes without a backward pass.

        The next backward pass would gather ahead what they have used last. Processes that have run other passes, or
        none, would gather other weights, and all would wait for each other.
        """
        for part in self._parts():
            state = part._get_fsdp_state()
            state._comm_ctx.post_forward_order.clear()
            for group in state._fsdp_param_groups:
                group._post_forward_indices.clear()


def process_mesh(device: torch.device, processes: int, replicas: int = 1) -> DeviceMesh:
    """The processes that share a model, in two dimensions if there are several copies of its weights.

    Processes with neighbouring numbers, as those of a machine have, share a copy.

    device: of this process.
    replicas: copies of the weights; ``processes`` is a multiple of it.
    """
    if replicas == 1:
        return init_device_mesh(device.type, (processes,))
    return init_device_mesh(device.type, (replicas, processes // replicas), mesh_dim_names=("copies", "parts"))


def shard_model(
    model: PreTrainedModel,
    mesh: DeviceMesh,
    kind: ShardedKind,
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
    # Nothing changes these outputs in place, which would make gradients wrong; other modules are still warned of.
    warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module \(FSDP(ShardedModel|T5Block)\) returned a view")
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
    for part in root._parts():
        # A loss is divided by the units of all processes before, so gradients are added, and not averaged.
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
        if hasattr(part, "set_reduce_scatter_unused_params"):  # not in all versions of PyTorch
            part.set_reduce_scatter_unused_params(True)  # experts that no token of this process has chosen
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
