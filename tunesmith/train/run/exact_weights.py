"""The exact weights of a checkpoint, however the run stores them, for a model in float32."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tunesmith.model.split import join, widen
from tunesmith.train.optim.storage import REST
from tunesmith.train.run.callbacks import OPTIMIZER
from tunesmith.train.run.checkpoint_files import Checkpoint


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
