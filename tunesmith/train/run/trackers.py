"""Adapters that pass the metrics on to TensorBoard or W&B. The record of a run is ``metrics.jsonl``; these are a copy.

Both libraries are optional, which is why they are imported where they are opened.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tunesmith.errors import RecipeError
from tunesmith.files import write_file


class Tracker(Protocol):
    """Takes the numbers of a step; ``close`` waits until they have arrived."""

    def __call__(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in ``tensorboard/`` of the run. After a resume, what was written beyond ``start`` no longer shows."""

    def __init__(self, directory: Path, recipe: Mapping[str, Any], start: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _absent("tensorboard", error) from error
        self.writer: Any = SummaryWriter(str(directory / "tensorboard"), purge_step=start + 1 if start else None)
        if not start:
            self.writer.add_text("recipe", "\n".join(f"    {key}: {value}" for key, value in recipe.items()))

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run of W&B named after the directory. A resumed run continues its own: its id is kept in ``wandb-id``.

    Project, account and offline mode are W&B's own business: WANDB_PROJECT (default "tunesmith"), WANDB_MODE=offline.
    """

    def __init__(self, directory: Path, recipe: Mapping[str, Any], start: int) -> None:
        try:
            import wandb
        except ImportError as error:
            raise _absent("wandb", error) from error
        kept = directory / "wandb-id"
        if not (start and kept.is_file()):
            write_file(kept, secrets.token_hex(4) + "\n")
        self.run: Any = wandb.init(
            project=wandb.Settings().project or "tunesmith",
            name=directory.name,
            id=kept.read_text(encoding="ascii").strip(),
            resume="allow",
            dir=str(directory),
            config=dict(recipe),
        )

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


TRACKERS: dict[str, Callable[[Path, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}
"""Name in a recipe -> factory of (directory of the run, recipe, steps done already)."""


def open_trackers(names: Sequence[str], directory: Path, recipe: Mapping[str, Any], start: int = 0) -> list[Tracker]:
    """The trackers a recipe names. Raises RecipeError for one that is unknown or not installed."""
    for name in names:
        if name not in TRACKERS:
            known = ", ".join(sorted(TRACKERS))
            raise RecipeError(f"there is no tracker {name!r}", where="run.trackers", advice=f"known are {known}")
    return [TRACKERS[name](directory, recipe, start) for name in names]


def _absent(name: str, error: ImportError) -> RecipeError:
    return RecipeError(
        f"the tracker {name!r} cannot be loaded ({error})",
        where="run.trackers",
        advice="pip install 'tunesmith[trackers]', or take it out of the recipe; metrics.jsonl has every number anyway",
    )
