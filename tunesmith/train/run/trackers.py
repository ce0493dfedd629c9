"""Adapters that send a copy of the metrics to TensorBoard or Weights & Biases.

Both libraries are optional, so they are imported where they are opened.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tunesmith.files import write_file
from tunesmith.train.run.tracker_packages import check_trackers, missing_package


class Tracker(Protocol):
    """A service that displays metrics."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send named values of a step."""

    def close(self) -> None:
        """Wait until everything is sent."""


class TensorBoard:
    """Event files in ``tensorboard/`` of the run. After a resume, values of later steps than ``start`` are hidden."""

    def __init__(self, directory: Path, recipe: Mapping[str, Any], start: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise missing_package("tensorboard") from error
        self.writer: Any = SummaryWriter(str(directory / "tensorboard"), purge_step=start + 1 if start else None)
        if not start:
            self.writer.add_text("recipe", "\n".join(f"    {key}: {value}" for key, value in recipe.items()))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run of W&B named after the directory. Its id is stored in ``wandb-id``, so a resumed run continues it.

    Project, account and offline mode are set as usual for W&B: WANDB_PROJECT (default "tunesmith"), WANDB_MODE=offline.
    """

    def __init__(self, directory: Path, recipe: Mapping[str, Any], start: int) -> None:
        try:
            import wandb
        except ImportError as error:
            raise missing_package("wandb") from error
        id_file = directory / "wandb-id"
        if not (start and id_file.is_file()):
            write_file(id_file, secrets.token_hex(4) + "\n")
        self.run: Any = wandb.init(
            project=wandb.Settings().project or "tunesmith",
            name=directory.name,
            id=id_file.read_text(encoding="ascii").strip(),
            resume="allow",
            dir=str(directory),
            config=dict(recipe),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


TRACKERS: dict[str, Callable[[Path, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}
"""Name in a recipe -> factory, which takes (directory of the run, recipe, steps that are done already)."""


def open_trackers(names: Sequence[str], directory: Path, recipe: Mapping[str, Any], start: int = 0) -> list[Tracker]:
    """Open the trackers that a recipe names.

    directory: of the run.
    recipe: shown with the run.
    start: steps that are done already.
    Raises RecipeError for a tracker that is unknown or not installed.
    """
    check_trackers(names)
    return [TRACKERS[name](directory, recipe, start) for name in names]
