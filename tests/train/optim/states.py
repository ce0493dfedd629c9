"""Restoring the state of an optimizer; runs do so with ``Checkpoint.load_into``."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tunesmith.model.local_rows import local_part, own_rows
from tunesmith.train.optim.optimizers import Optimizer


def restore_state(optimizer: Optimizer, state: Mapping[str, Tensor]) -> None:
    """Copy a state with the same names; of sharded tensors this process takes its rows."""
    own = optimizer.state_dict()
    assert own.keys() == state.keys()
    for name, target in own.items():
        local_part(target).copy_(own_rows(state[name], target))
