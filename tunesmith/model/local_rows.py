"""The part of a tensor that this process has.

FSDP2 makes a sharded parameter a DTensor: its rows, the entries of dimension 0, are divided among the processes in
order, ceil(rows / processes) for each. What belongs to a parameter, such as a gradient or a moment, has the same rows.
Any other tensor is whole in every process. Functions that say so communicate: all processes have to call them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as distributed
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor._dtensor_spec import DTensorSpec, TensorMeta


class Rows(NamedTuple):
    """The rows of a tensor that this process has: ``first`` to ``end - 1``."""

    first: int
    end: int


def is_sharded(tensor: Tensor) -> bool:
    """Whether processes have different rows of a tensor."""
    return isinstance(tensor, DTensor)


def local_part(tensor: Tensor) -> Tensor:
    """The elements that this process has, without a gradient and in the same memory."""
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor.detach()


def local_rows(tensor: Tensor) -> Rows | None:
    """The rows of this process; None for a tensor that is whole in every process."""
    if not isinstance(tensor, DTensor):
        return None
    dimension = _mesh_dimension(tensor)
    rows, chunk = tensor.shape[0], -(-tensor.shape[0] // tensor.device_mesh.size(dimension))
    first = min(rows, chunk * tensor.device_mesh.get_local_rank(dimension))
    found = Rows(first, min(rows, first + chunk))
    assert len(tensor.to_local()) == found.end - found.first, "rows are divided as torch.chunk divides them"
    return found


def row_size(tensor: Tensor) -> int:
    """Elements of a row."""
    return tensor.shape[1:].numel()


def is_first_copy(tensor: Tensor) -> bool:
    """Whether this process is the first that has these rows, or the first of all for a tensor that is whole."""
    if not isinstance(tensor, DTensor):
        return not distributed.is_initialized() or distributed.get_rank() == 0
    dimension, coordinate = _mesh_dimension(tensor), tensor.device_mesh.get_coordinate()
    assert coordinate is not None, "this process has a part of the tensor"
    return all(place == 0 for index, place in enumerate(coordinate) if index != dimension)


def own_rows(tensor: Tensor, like: Tensor) -> Tensor:
    """The part of a tensor, sharded or not, that belongs to the rows that this process has of ``like``."""
    rows = local_rows(like)
    if rows is None or isinstance(tensor, DTensor):
        return local_part(tensor)
    return tensor.detach()[rows.first : rows.end]


def as_rows_of(local: Tensor, like: Tensor) -> Tensor:
    """A tensor whose rows are divided as those of ``like``, and of which this process has ``local``; its memory."""
    if not isinstance(like, DTensor):
        return local
    shape = torch.Size((like.shape[0], *local.shape[1:]))
    meta = TensorMeta(shape, torch.empty(shape, device="meta").stride(), local.dtype)
    # As FSDP2 does it; DTensor.from_local would copy what is offloaded to the host to the device of the mesh.
    spec = DTensorSpec(like.device_mesh, like.placements, tensor_meta=meta)
    return DTensor(local, spec, requires_grad=False)  # type: ignore[no-untyped-call]


def whole(tensor: Tensor) -> Tensor:
    """All rows, gathered from all processes; a tensor that is not sharded as it is. Communicates."""
    if not isinstance(tensor, DTensor):
        return tensor.detach()
    dimension, local = _mesh_dimension(tensor), local_part(tensor)
    count, chunk = tensor.device_mesh.size(dimension), -(-tensor.shape[0] // tensor.device_mesh.size(dimension))
    # As bytes, since gloo does not know every type. Only the last processes have fewer rows than a chunk.
    size = row_size(tensor) * tensor.element_size()
    part = local.new_zeros(chunk * size, dtype=torch.uint8)
    part[: len(local) * size] = local.contiguous().view(-1).view(torch.uint8)
    gathered = part.new_empty(count, chunk * size)
    distributed.all_gather(list(gathered), part, group=tensor.device_mesh.get_group(dimension))
    return gathered.view(-1)[: tensor.shape[0] * size].view(tensor.dtype).view(tensor.shape)


def sum_over_rows(values: Tensor, like: Tensor) -> Tensor:
    """Element-wise sum, over the processes that share the rows of ``like``, of whole tensors. Communicates."""
    if isinstance(like, DTensor):
        distributed.all_reduce(values, group=like.device_mesh.get_group(_mesh_dimension(like)))
    return values


def _mesh_dimension(tensor: DTensor) -> int:
    """The dimension of the mesh over which rows are divided; over the others they are copied."""
    found = [index for index, placement in enumerate(tensor.placements) if isinstance(placement, Shard)]
    assert len(found) == 1, "a parameter is divided once"
    placement = tensor.placements[found[0]]
    assert isinstance(placement, Shard), "found above"
    assert placement.dim == 0, "by its rows"
    return found[0]
