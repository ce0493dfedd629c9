"""Checks that weights and optimizer state are finite before they are saved, and after they were read.

The loop looks at loss and gradients before a step. The step itself can still overflow, and what no later loss depends
on, such as the row of a token that no text has, is never seen by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from tunesmith.errors import InternalError, StorageError
from tunesmith.model.finite import find_not_finite
from tunesmith.train.loop import first_numbers
from tunesmith.train.run.validation import ValidationMetrics, find_not_finite_metric

NEW_RUN = "lower train.learning_rate, set train.clip or raise the epsilon of the optimizer, and start a new run"


def find_fault(modules: Mapping[str, nn.Module], optimizer: Mapping[str, Tensor]) -> str | None:
    """What is not finite, in words; None if everything is.

    modules: name of a group of weights -> the module that has them.
    optimizer: the state of the optimizer.
    """
    for group, module in modules.items():
        if (name := find_not_finite(module.state_dict())) is not None:
            return f"the weight {name!r} ({group})"
    name = find_not_finite(optimizer)
    return None if name is None else f"the state {name!r} of the optimizer"


def check_finite_state(
    modules: Mapping[str, nn.Module],
    optimizer: Mapping[str, Tensor],
    step: int,
    saved: int,
    examples: Sequence[int] = (),
) -> None:
    """Raises InternalError before a state is saved in which a number is not finite.

    step: that is about to be saved.
    saved: step of the checkpoint before; 0 if there is none.
    examples: of the step.
    """
    if (fault := find_fault(modules, optimizer)) is not None:
        kept = f"the checkpoint of step {saved} is valid" if saved else "no checkpoint was written yet"
        named = f" (examples of step {step}: {first_numbers(examples)})" if examples else ""
        raise InternalError(
            f"{fault} holds numbers that are not finite (NaN or infinity) after step {step}, so nothing was saved",
            advice=f"{kept}; {NEW_RUN}{named}",
        )


def check_finite_checkpoint(modules: Mapping[str, nn.Module], optimizer: Mapping[str, Tensor], path: Path) -> None:
    """Raises StorageError for a checkpoint, saved without the check above, with numbers that are not finite."""
    if (fault := find_fault(modules, optimizer)) is not None:
        raise StorageError(
            f"{fault} holds numbers that are not finite (NaN or infinity)",
            where=path,
            advice="move this checkpoint away, and the same command continues from the one before it",
        )


def check_finite_export(module: nn.Module, step: int) -> None:
    """Raises InternalError before weights are exported in which a number is not finite. step: that they are of."""
    if (name := find_not_finite(module.state_dict())) is not None:
        raise InternalError(
            f"the weight {name!r} of step {step} holds numbers that are not finite (NaN or infinity), so nothing was "
            "exported",
            advice=NEW_RUN,
        )


def check_finite_metrics(metrics: ValidationMetrics, step: int) -> None:
    """Raises InternalError for an evaluation with a metric that is not finite."""
    if (name := find_not_finite_metric(metrics)) is not None:
        raise InternalError(
            f"{name} is not finite (NaN or infinity) after step {step}",
            advice=f"checkpoints of earlier steps are valid; look at the validation data, or {NEW_RUN}",
        )
