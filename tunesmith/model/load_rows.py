"""Loading a model whose processes each read their own rows of its files.

The weights are made without numbers. Memory that nothing is written to takes none, so sharding frees what this process
does not keep, and then every process reads its rows from the files. At no time does a process hold a whole model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.initialization import no_init_weights, no_tie_weights

from tunesmith.errors import TunesmithError
from tunesmith.model.config_size import check_config_size
from tunesmith.model.directory import ModelDirectory, find_model
from tunesmith.model.export_manifest import check_weights_unchanged
from tunesmith.model.load import (
    LoadedModel,
    ModelKind,
    check_finite_weights,
    finalize,
    load_error,
    quiet_transformers,
)
from tunesmith.model.local_rows import local_part, local_rows

SINGLE_FILE = "model.safetensors"
"""The file with all weights of a model without an index."""


@dataclass(frozen=True, slots=True)
class _Match:
    """How the tensors of the files belong to the weights of a model.

    named: name in the model -> name in the files.
    missing, unexpected: as of ``LoadedModel``.
    """

    named: Mapping[str, str]
    missing: frozenset[str]
    unexpected: frozenset[str]


def load_rows(
    path: str, revision: str | None, kind: ModelKind, shard: Callable[[LoadedModel], object]
) -> PreTrainedModel | None:
    """A pretrained model in float32, sharded, with the same weights as ``read_model`` gives.

    shard: divides the weights of the model, whose numbers are not there yet, in place. It may change their numbers of
        rows before. What it writes into a weight that the files lack, or into further rows, stays.
    Returns None, without a call of ``shard``, if the files do not hold the weights one by one, so that the model has to
    be loaded whole. Raises as ``read_model``, and what ``shard`` raises.
    """
    source = find_model(path, revision)
    if source.adapter is not None:
        return None
    if source.commit is None:
        check_weights_unchanged(Path(path))
    with source.view() as view:
        with quiet_transformers():
            try:
                model = _without_numbers(source, view, kind)
            except TunesmithError:
                raise
            except Exception as error:  # a foreign file makes the library fail in any way
                raise load_error(source, view, error) from error
        model.config.name_or_path = model.name_or_path = path
        with ExitStack() as stack:
            places = _open_files(view, source.weight_map, stack)
            with quiet_transformers():
                found = _match(model, places)
            if found is None:
                return None
            finalize(model)
            shard(LoadedModel(model, found.missing, found.unexpected))
            _copy(model, found.named, places)
    check_finite_weights(model, path)
    return model


@torch.no_grad()
def _without_numbers(source: ModelDirectory, view: Path, kind: ModelKind) -> PreTrainedModel:
    """A model with the buffers of its configuration and weights that nothing was written to, none of which are tied."""
    configuration = AutoConfig.from_pretrained(str(view), **kind.config)
    check_config_size(source, configuration, kind.auto_class, kind.attention)
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


def _match(model: PreTrainedModel, places: Mapping[str, Any]) -> _Match | None:
    """Find the tensor of every weight, and tie what ``from_pretrained`` ties.

    None if a weight has another shape or is computed from several, or if ``from_pretrained`` would make one up.
    """
    weights, found, unexpected = model.state_dict(keep_vars=True), dict[str, str](), set[str]()
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
        else:
            unexpected.add(name)
    for further, first in list(model.all_tied_weights_keys.items()):
        if further in found and first in found:
            one, other = (places[found[name]].get_tensor(found[name]) for name in (further, first))
            if torch.equal(one, other):
                del found[further]
            else:  # the configuration is wrong
                del model.all_tied_weights_keys[further]
    names = SimpleNamespace(missing_keys=weights.keys() - found.keys(), unexpected_keys=unexpected)
    model.tie_weights(missing_keys=names.missing_keys, recompute_mapping=False)  # takes away what it ties
    missing = frozenset(names.missing_keys)
    model._adjust_missing_and_unexpected_keys(names)  # type: ignore[arg-type]
    if missing != names.missing_keys or not missing <= dict(model.named_parameters()).keys():
        return None
    return _Match(found, missing, frozenset(names.unexpected_keys))


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
