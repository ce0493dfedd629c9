"""The part of a run's directory that names its data, so that one recipe with two data sets has two directories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunesmith.recipe.data import DataSourceConfig, source_name

DATA_PLACE = "{data}"
"""Where ``run.directory`` has the name of the data."""

LONGEST = 60  # characters

USUAL_NAMES = ("data", "dataset", "records", "train", "training")
"""Names of files that say nothing, so the name of their directory precedes them."""


def data_suffix(own: Any, sources: Sequence[DataSourceConfig]) -> str:
    """``-`` and a name of the data, for data that are not those of the recipe; otherwise nothing.

    own: the plain value of ``data.sources`` in the recipe itself, without layers and single values.
    sources: those of the run.
    """
    if _places(own) == [(source.path, source.split) for source in sources]:
        return ""
    further = f"-and-{len(sources) - 1}" if len(sources) > 1 else ""
    return f"-{_data_name(sources[0])}{further}"


def _places(own: Any) -> list[tuple[Any, Any]]:
    sources = own if isinstance(own, list) else []
    return [(source.get("path"), source.get("split")) for source in sources if isinstance(source, dict)]


def _data_name(source: DataSourceConfig) -> str:
    """The name of its file or repository, with its split, and with the directory of a file whose name says nothing.

    The name of the source itself may be that of the recipe's own data.
    """
    name, parent = source_name(source.path), Path(source.path).parent.name
    parts = [source_name(parent), name] if name in USUAL_NAMES and parent else [name]
    if source.split not in (None, "train"):
        parts.append(source_name(source.split))
    return "-".join(parts)[:LONGEST]
