"""Whether the packages of trackers are installed, which is known without importing them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

from tunesmith.errors import RecipeError

KEY = "run.trackers"
PACKAGES: Mapping[str, str] = {"tensorboard": "tensorboard", "wandb": "wandb"}
"""Name of a tracker in a recipe -> the package that it needs."""


def check_trackers(names: Sequence[str]) -> None:
    """Raises RecipeError for a tracker that is unknown or whose package is not installed."""
    for name in names:
        if name not in PACKAGES:
            known = ", ".join(sorted(PACKAGES))
            raise RecipeError(f"there is no tracker {name!r}", where=KEY, advice=f"known are {known}")
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise missing_package(name)


def missing_package(name: str) -> RecipeError:
    """The error for a tracker whose package is not installed."""
    return RecipeError(
        f"the tracker {name!r} needs the package {PACKAGES[name]!r}, which is not installed",
        where=KEY,
        advice=f"pip install {PACKAGES[name]}, or remove it from the recipe; metrics.jsonl has all numbers anyway",
    )
