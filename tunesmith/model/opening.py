"""Opening a pretrained model for the processes of a run: each of them loads its rows, or the whole model.

A model that is divided is loaded by rows (``load_rows``) where its files allow it, so no process ever holds all of its
weights. What changes a model before it is tested, such as further rows of its embedding, is an argument, because it has
to happen before its weights are divided.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from tunesmith.model.directory import find_model
from tunesmith.model.load import LoadedModel, ModelKind, check_language_model, language_kind, read_model
from tunesmith.model.load_rows import load_rows
from tunesmith.model.shard import Division, ShardedModel

Fit = Callable[[PreTrainedModel], None]
"""Changes a model in place before its weights are divided, when their numbers may not be there yet."""


def unchanged(model: PreTrainedModel) -> None:
    """The ``Fit`` that does nothing."""


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A pretrained model in float32.

    model: whole on the host, or divided and on its device.
    root: of a divided model; None for a whole one.
    """

    model: PreTrainedModel
    root: ShardedModel | None = None


def open_language_model(
    path: str, revision: str | None = None, division: Division | None = None, fit: Fit = unchanged
) -> OpenedModel:
    """A pretrained model that generates text, as ``load_model`` gives it. Raises as that does, and what ``fit`` raises.

    division: how its weights are divided, if all processes open it together; None for a whole model.
    """
    kind = language_kind(find_model(path, revision), path)

    def prepare(loaded: LoadedModel) -> Collection[nn.Parameter]:
        check_language_model(loaded, path)
        fit(loaded.model)
        return ()

    return open_model(path, revision, kind, prepare, division)


def open_model(
    path: str,
    revision: str | None,
    kind: ModelKind,
    prepare: Callable[[LoadedModel], Collection[nn.Parameter]],
    division: Division | None,
) -> OpenedModel:
    """A pretrained model of any kind.

    prepare: checks and changes the model before it is divided; returns the parameters that every process keeps whole.
    Raises as ``read_model``, RecipeError for a model that cannot be divided, and what ``prepare`` raises.
    """
    if division is not None:
        roots: list[ShardedModel] = []
        model = load_rows(
            path, revision, kind, lambda loaded: roots.append(division.divide(loaded.model, prepare(loaded)))
        )
        if model is not None:
            return OpenedModel(model, roots[0])
    loaded = read_model(path, revision, kind)
    prepare(loaded)
    return OpenedModel(loaded.model)
