"""The exact weights of a checkpoint, however the run stores them: for a model in float32, and for the run itself.

A weight is stored as float32, or as a bfloat16 in the group of its module and a rest in the state of the optimizer
(``model.split``). These are the same number, so either is read as the other one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tunesmith.model.local_rows import local_part, local_rows
from tunesmith.model.split import join, split, widen
from tunesmith.train.optim.storage import REST
from tunesmith.train.run.checkpoint_files import Checkpoint
from tunesmith.train.run.shards import GroupReader
from tunesmith.train.tensors import check_same_tensors

OPTIMIZER = "optimizer"
"""Name of the optimizer's state in a checkpoint, next to the names of the modules."""

FROM_FLOAT32, FROM_SPLIT = (torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)
"""(type in the checkpoint, type of the parameter) of a weight that is split, or joined, when it is loaded."""


def exact_weights(found: Checkpoint, group: str) -> dict[str, Tensor]:
    """Name -> tensor of one group of weights, on the CPU; all weights in bfloat16 are made float32.

    group: whose parameters have the same names in the optimizer. Tied names share one tensor. Raises StorageError.
    """
    stored = found.load(group)
    rests = {name.removesuffix(REST): rest for name, rest in found.load(OPTIMIZER, ending=REST).items()}
    exact = {id(stored[name]): join(stored[name], rest) for name, rest in rests.items() if name in stored}
    for tensor in stored.values():
        if tensor.dtype == torch.bfloat16 and id(tensor) not in exact:
            exact[id(tensor)] = tensor.float()
    return {name: exact.get(id(tensor), tensor) for name, tensor in stored.items()}


def load_exact_weights(found: Checkpoint, group: str, model: nn.Module) -> None:
    """Load the exact weights of a checkpoint into a model, which becomes float32. Raises StorageError."""
    widen(model)
    model.load_state_dict(exact_weights(found, group), strict=True)


@torch.no_grad()
def load_state(
    found: Checkpoint,
    modules: Mapping[str, nn.Module],
    optimizer: Mapping[str, Tensor],
    parameters: Mapping[str, nn.Parameter],
) -> None:
    """Load weights and optimizer state of a checkpoint; of sharded tensors only the rows of this process are read.

    Where the run now stores weights as float32 and the checkpoint has them split, or the other way round, they are
    joined or split.

    modules: group -> the module whose weights it holds.
    optimizer: state of the optimizer.
    parameters: those that the optimizer updates, by the names in its state.
    Raises StorageError, before anything of a group is copied, if names, shapes or types differ in another way.
    """
    with found.open(OPTIMIZER) as reader:
        stored = reader.describe()
        # Those whose rest is only in the checkpoint, or only in the state.
        rests = {
            id(parameter): rest
            for name, parameter in parameters.items()
            if ((rest := f"{name}{REST}") in stored) != (rest in optimizer)
        }
        if not rests:
            for group, module in modules.items():
                found.load_into(group, module.state_dict(), "weights")
            found.load_into(OPTIMIZER, optimizer, "optimizer state")
            return
        done = set[str]()
        for group, module in modules.items():
            with found.open(group) as weights:
                done |= _load_weights(weights, module, rests, reader, optimizer)
        common = {name: tensor for name, tensor in optimizer.items() if name not in done}
        check_same_tensors({name: stored[name] for name in stored if name not in done}, common, "optimizer state")
        for name, target in common.items():
            reader.copy_rows(name, local_rows(target), local_part(target))


def _load_weights(
    weights: GroupReader,
    module: nn.Module,
    rests: Mapping[int, str],
    state: GroupReader,
    optimizer: Mapping[str, Tensor],
) -> set[str]:
    """Load the weights of a module; returns the names of the rests that were joined or made.

    rests: identity of a parameter that is stored in the other form -> name of its rest.
    state: of the optimizer in the checkpoint. optimizer: its state now.
    """
    tensors, stored = module.state_dict(), weights.describe()
    other = {
        name: found
        for name, parameter in module.named_parameters(remove_duplicate=False)
        if (found := rests.get(id(parameter))) is not None
        and name in stored
        and (stored[name][0], parameter.dtype) == (FROM_FLOAT32 if found in optimizer else FROM_SPLIT)
    }
    exchanged = {name: (tensors[name].dtype, stored[name][1]) for name in other}
    check_same_tensors({**stored, **exchanged}, tensors, "weights")
    for name, tensor in tensors.items():
        rows, target = local_rows(tensor), local_part(tensor)
        if name not in other:
            weights.copy_rows(name, rows, target)
            continue
        read = torch.empty(target.shape, dtype=stored[name][0])
        weights.copy_rows(name, rows, read)
        if target.dtype == torch.float32:
            rest = torch.empty(target.shape, dtype=torch.int16)
            state.copy_rows(other[name], rows, rest)
            target.copy_(join(read, rest))
        else:
            half, rest = split(read)
            target.copy_(half)
            local_part(optimizer[other[name]]).copy_(rest)
    return set(other.values())
