"""A model that is divided among processes: each keeps a part of every weight, gradient and state (FSDP2 of PyTorch).

The weights of a layer are gathered when it computes, and its gradients are added over all processes and divided again.
All processes therefore run the same number of forward and backward passes. Modules and names of weights stay those of
the stock model; its parameters become ``DTensor``, divided by rows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import TypeVar

import torch
import torch.distributed as distributed
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
    division: how its weights are divided.
    """

    def __init__(self, model: nn.Module, division: Division) -> None:
        super().__init__()
        self.model, self.division = model, division
        self._format = division.compute
        self._running = False

    def forward(self, computation: Callable[[], ResultT]) -> tuple[ResultT, list[Tensor]]:
        """The result of a computation, and the tensors in it, which PyTorch looks for in what a module returns."""
        result = computation()
        return result, list(_tensors_in(result))

    def run(self, computation: Callable[[], ResultT], compute: torch.dtype) -> ResultT:
        """Run a computation with the model; all processes do so at the same time. One inside another is part of it.

        compute: number format in which weights are gathered.
        """
        if self._running:
            return computation()
        self._gather_in(compute)
        self._running = True
        try:
            result: ResultT = self(computation)[0]
        except BaseException:
            self._reset()
            raise
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
    def gathered(self, compute: torch.dtype) -> Iterator[None]:
        """In the block, which all processes enter and leave, every process has all weights, as plain tensors.

        The model then computes as one that is not sharded, and processes may run different numbers of passes, without
        gradients. One block inside another is part of it.

        compute: their number format.
        """
        if self._running:
            yield
            return
        self._gather_in(compute)
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

    @contextmanager
    def without_sums(self) -> Iterator[None]:
        """In the block a backward pass gathers weights, and adds no gradients of weights over the processes."""
        assert isinstance(self, FSDPModule), "it is sharded"
        self.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self.set_requires_gradient_sync(True)

    def largest(self, value: float) -> float:
        """The largest of the values that all processes have; NaN if one of them is."""
        found = torch.tensor([0.0 if math.isnan(value) else value, float(math.isnan(value))], dtype=torch.float64)
        distributed.all_reduce(found, op=distributed.ReduceOp.MAX)
        return math.nan if bool(found[1]) else float(found[0])

    def _gather_in(self, compute: torch.dtype) -> None:
        """Let weights be gathered in a number format from now on. PyTorch takes it from the first gathering on."""
        if compute == self._format:
            return
        self._format = compute
        for part in self._parts():
            part.reshard()
            for group in part._get_fsdp_state()._fsdp_param_groups:
                group.mp_policy = _precision(compute)
                for parameter in group.fsdp_params:  # what holds gathered numbers
                    parameter.all_gather_outputs = []
                    if hasattr(parameter, "_unsharded_param"):
                        del parameter._unsharded_param
                group._init_mp_dtypes()

    def _reset(self) -> None:
        """After a failure inside of a computation, make the next one possible: no weight stays gathered."""
        if isinstance(self, FSDPModule) and hasattr(self, "reset_iter_state"):  # not in all versions of PyTorch
            self.reset_iter_state()
        for part in self._parts():
            part.reshard()
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
    if device.type == "cuda":
        torch.cuda.set_device(device)  # a mesh has types of devices only, and FSDP2 takes the present GPU
    if replicas == 1:
        return init_device_mesh(device.type, (processes,))
    return init_device_mesh(device.type, (replicas, processes // replicas), mesh_dim_names=("copies", "parts"))


@dataclass(frozen=True, slots=True)
class Division:
    """How the processes of a run divide the weights of a model.

    mesh: of ``process_mesh``, for the device of the model.
    kind, compute: as of ``shard_model``.
    """

    mesh: DeviceMesh
    kind: ShardedKind
    compute: torch.dtype

    def divide(self, model: PreTrainedModel, whole: Collection[nn.Parameter] = ()) -> ShardedModel:
        """Divide the weights of a model on the host, in place, and put all of it on the device; returns its root.

        whole: parameters that every process keeps whole. Raises RecipeError as ``shard_model``.
        """
        root = shard_model(model, self.mesh, self.kind, self.compute, whole)
        for parameter in whole:  # the others have been moved layer by layer
            parameter.data = parameter.data.to(self.mesh.device_type)
        return root


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
    precision, kept, gathered_again = _precision(compute), {*whole}, kind == "zero3"
    for layer in layers:
        fully_shard(
            layer, mesh=mesh, mp_policy=precision, reshard_after_forward=gathered_again, ignored_params=kept or None
        )
    root = ShardedModel(model, Division(mesh, kind, compute))
    fully_shard(root, mesh=mesh, mp_policy=precision, reshard_after_forward=False, ignored_params=kept or None)
    for part in root._parts():
        # A loss is divided by the units of all processes before, so gradients are added, and not averaged.
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
        if hasattr(part, "set_reduce_scatter_unused_params"):  # not in all versions of PyTorch
            part.set_reduce_scatter_unused_params(True)  # experts that no token of this process has chosen
    root.run(lambda: None, compute)  # fixes which module is the root
    root.reshard()  # type: ignore[operator]
    return root


def _precision(compute: torch.dtype) -> MixedPrecisionPolicy:
    """Weights are gathered in the format of the computation, and gradients added in float32.

    Inputs stay as they are: casting them would also round the weights and columns of a batch.
    """
    gathered = None if compute == torch.float32 else compute
    return MixedPrecisionPolicy(param_dtype=gathered, reduce_dtype=torch.float32, cast_forward_inputs=False)


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
