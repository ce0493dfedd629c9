"""Loading a model whose processes each read their own rows of its files.

The weights are made without numbers. Memory that nothing is written to takes none, so sharding frees what this process
does not keep, and then every process reads its rows from the files. At no time does a process hold a whole model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.initialization import no_init_weights, no_tie_weights

from tunesmith.model.directory import find_model
from tunesmith.model.export_manifest import check_weights_unchanged
from tunesmith.model.load import (
    COMPUTED_BUFFERS,
    ModelKind,
    check_finite_weights,
    finalize,
    load_error,
    quiet_transformers,
)
from tunesmith.model.local_rows import local_part, local_rows

SINGLE_FILE = "model.safetensors"
"""The file with all weights of a model without an index."""


def load_rows(
    path: str, revision: str | None, kind: ModelKind, shard: Callable[[PreTrainedModel], object]
) -> PreTrainedModel | None:
    """A pretrained model in float32, sharded, with the same weights as ``read_model`` gives.

    shard: divides the weights of the model, whose numbers are not there yet, in place.
    Returns None if the files do not hold the weights one by one, so that the model has to be loaded whole. Raises as
    ``read_model``.
    """
    source = find_model(path, revision)
    if source.adapter is not None:
        return None
    if source.commit is None:
        check_weights_unchanged(Path(path))
    with source.view() as view:
        with quiet_transformers():
            try:
                model = _without_numbers(view, kind)
            except Exception as error:  # a foreign file makes the library fail in any way
                raise load_error(source, view, error) from error
        model.config.name_or_path = model.name_or_path = path
        with ExitStack() as stack:
            places = _open_files(view, source.weight_map, stack)
            with quiet_transformers():
                named = _match(model, places)
            if named is None:
                return None
            finalize(model)
            shard(model)
            _copy(model, named, places)
    check_finite_weights(model, path)
    return model


@torch.no_grad()
def _without_numbers(view: Path, kind: ModelKind) -> PreTrainedModel:
    """A model with the buffers of its configuration and weights that nothing was written to, none of which are tied."""
    configuration = AutoConfig.from_pretrained(str(view), **kind.config)
    with no_init_weights(), no_tie_weights():
        model: PreTrainedModel = kind.auto_class.from_config(
            configuration, attn_implementation=kind.attention, dtype=torch.float32
        )
    model.train(False)
    return model


def _open_files(view: Path, weight_map: Mapping[str, str] | None, stack: ExitStack) -> dict[str, Any]:
    """Name of a tensor -> the opened file that has it. weight_map: as of ``ModelDirectory``."""
    names = {SINGLE_FILE} if weight_map is None else set(weight_map.values())
    opened = {name: stack.enter_context(safe_open(view / name, framework="pt", device="cpu")) for name in names}
    return {
        tensor: file
        for name, file in opened.items()
        for tensor in file.keys()  # noqa: SIM118 - it is no mapping
        if weight_map is None or weight_map.get(tensor) == name
    }


def _match(model: PreTrainedModel, places: Mapping[str, Any]) -> dict[str, str] | None:
    """Name in the model -> name in the files, and tie what ``from_pretrained`` ties.

    None if a weight is missing, has another shape or is computed from several, or if a tensor is left over.
    """
    weights, found = model.state_dict(keep_vars=True), dict[str, str]()
    transforms = get_model_conversion_mapping(model)
    renamings = [each for each in transforms if isinstance(each, WeightRenaming)]
    converters = [each for each in transforms if isinstance(each, WeightConverter)]
    for stored, file in places.items():
        name, converter = rename_source_key(stored, renamings, converters, model.base_model_prefix, weights)
        if name in weights:
            shape = tuple(file.get_slice(stored).get_shape())
            if converter is not None or name in found or shape != tuple(weights[name].shape):
                return None
            found[name] = stored
        elif not stored.endswith(COMPUTED_BUFFERS):
            return None
    for further, first in list(model.all_tied_weights_keys.items()):
        if further in found and first in found:
            one, other = (places[found[name]].get_tensor(found[name]) for name in (further, first))
            if torch.equal(one, other):
                del found[further]
            else:  # the configuration is wrong
                del model.all_tied_weights_keys[further]
    missing = weights.keys() - found.keys()
    model.tie_weights(missing_keys=missing, recompute_mapping=False)  # takes away what it ties
    return None if missing else found


@torch.no_grad()
def _copy(model: PreTrainedModel, named: Mapping[str, str], places: Mapping[str, Any]) -> None:
    """Copy the rows of this process from the files; rows that the files do not have stay as they are."""
    tensors: dict[str, Tensor] = model.state_dict()
    for name, stored in named.items():
        part, target = places[stored].get_slice(stored), local_part(tensors[name])
        if not target.ndim:
            target.copy_(places[stored].get_tensor(stored))
            continue
        first, end = local_rows(tensors[name]) or (0, len(target))
        end = min(end, part.get_shape()[0])
        if first < end:
            target[: end - first].copy_(part[first:end])
