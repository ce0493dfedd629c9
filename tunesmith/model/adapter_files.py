"""The files of peft: our adapters in them, and adapters of others on the model that they were trained on.

base_model.model.NAME.lora_A.weight                            A of the linear layer NAME
base_model.model.NAME.lora_B.weight                            B
base_model.model.NAME.token_adapter.trainable_tokens_delta     rows of the embedding or head NAME
base_model.model.score.weight                                  the head of a reward model
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunesmith.errors import DataError, StorageError
from tunesmith.files import write_json
from tunesmith.model.adapter_config import CLASSIFICATION, Task
from tunesmith.model.adapters import AdapterSettings, LowRank, NewRows, features
from tunesmith.model.directory import ADAPTER_WEIGHTS, AdapterDirectory
from tunesmith.model.finite import find_not_finite
from tunesmith.model.names import ADAPTER_CONFIG
from tunesmith.model.vocabulary import rows_of
from tunesmith.text.visible import visible

PREFIX = "base_model.model."
MATRIX = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
ROWS = re.compile(r"base_model\.model\.(.+)\.token_adapter\.trainable_tokens_delta")
HEAD = "score.weight"
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
FETCH_AGAIN = "fetch the adapter again"


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """Adapters as peft stores them.

    config: content of adapter_config.json.
    tensors: of adapter_model.safetensors, in float32 on the CPU.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def write(self, directory: Path) -> None:
        """Write both files into a directory that exists. Raises StorageError."""
        try:
            save_file(dict(self.tensors), directory / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        except SafetensorError as error:  # its form of an error of the disk
            raise StorageError(
                f"the adapter cannot be written: {error}", where=directory, advice="free disk space and start again"
            ) from error
        write_json(directory / ADAPTER_CONFIG, self.config)


def peft_adapter(
    model: PreTrainedModel, settings: AdapterSettings, base: str, revision: str | None, task: Task
) -> PeftAdapter:
    """The adapters of a model, before they are merged.

    settings: of the adapters.
    base, revision: the base model, as peft is to find it.
    task: what the model does, in the words of peft.
    """
    tensors: dict[str, Tensor] = {}
    names: set[str] = set()
    tokens: dict[str, list[int]] = {}
    transposed = False
    written: set[nn.Parameter] = set()
    for name, layer in model.named_modules():
        adapter = getattr(layer, "adapter", None)
        if isinstance(adapter, LowRank):
            names.add(name.rpartition(".")[2])
            transposed |= isinstance(layer, Conv1D)
            tensors |= {f"{name}.lora_A.weight": adapter.lora_a, f"{name}.lora_B.weight": adapter.lora_b}
        elif isinstance(adapter, NewRows) and adapter.rows not in written:  # peft ties the rows where weights are tied
            written.add(adapter.rows)
            tokens[name.rpartition(".")[2]] = list(range(adapter.first, adapter.first + len(adapter.rows)))
            tensors[f"{name}.token_adapter.trainable_tokens_delta"] = adapter.rows
    if task == CLASSIFICATION:
        tensors[HEAD] = model.get_parameter(HEAD)
    config = {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base,
        "revision": revision,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "use_rslora": settings.rank_stabilized,
        "target_modules": sorted(names),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "modules_to_save": ["score"] if task == CLASSIFICATION else None,
        "trainable_token_indices": tokens or None,
        "inference_mode": True,
    }
    copies = {f"{PREFIX}{name}": each.detach().float().cpu().clone().contiguous() for name, each in tensors.items()}
    return PeftAdapter(config, copies)


@torch.no_grad()
def apply_adapter(model: PreTrainedModel, found: AdapterDirectory) -> frozenset[str]:
    """Add adapters from files to the weights of their base, in float32.

    model: the base, whose embedding is resized where the adapters need it.
    Returns the names of weights that come from the adapter alone.
    Raises DataError for tensors that do not belong to the model, or are not finite.
    """

    def refuse(what: str, advice: str = "name the base model that the adapter was trained on") -> DataError:
        return DataError(what, where=found.where / ADAPTER_WEIGHTS, advice=advice)

    try:
        tensors = _read_tensors(found)
    except SafetensorError as error:
        raise refuse(f"the adapter cannot be read: {visible(str(error))}", FETCH_AGAIN) from error
    matrices: dict[str, dict[str, Tensor]] = {}
    rows: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS or tensor.ndim != 2 or not tensor.numel():
            raise refuse(f"{name!r} is not a matrix of numbers", FETCH_AGAIN)
        if (match := MATRIX.fullmatch(name)) is not None:
            matrices.setdefault(match[1], {})[match[2]] = tensor
        elif (match := ROWS.fullmatch(name)) is not None:
            rows[match[1]] = tensor
        elif name != f"{PREFIX}{HEAD}" or not found.config.is_classifier:
            raise refuse(f"the adapter holds {name!r}, which is not supported", "merge the adapter with peft")
    if (wrong := find_not_finite(tensors)) is not None:
        raise refuse(f"the weight {wrong!r} holds numbers that are not finite (NaN or infinity)", FETCH_AGAIN)
    embedding: nn.Module = model.get_input_embeddings()
    modules = dict(model.named_modules())
    for name, pair in matrices.items():
        layer = modules.get(name)
        if not isinstance(layer, nn.Linear | Conv1D):
            raise refuse(f"{type(model).__name__} has no linear layer {name!r}")
        if layer.weight is embedding.weight:
            what = f"the adapter changes {name!r}, whose weight is also that of the embedding, which it does not change"
            raise refuse(what, "train it without an adapter of the head")
        inputs, outputs = features(layer)
        a, b = pair.get("A"), pair.get("B")
        if a is None or b is None or len(a) != b.shape[1] or (a.shape[1], b.shape[0]) != (inputs, outputs):
            raise refuse(f"the matrices of {name!r} do not fit a layer with {inputs} inputs and {outputs} outputs")
        product = (found.config.scale(len(a)) * (b.double() @ a.double())).float()
        layer.weight.add_(product.T if isinstance(layer, Conv1D) else product)
    _replace_rows(model, found, rows, refuse)
    if found.config.is_classifier:
        return _replace_head(model, tensors, refuse)
    return frozenset()


def _read_tensors(found: AdapterDirectory) -> dict[str, Tensor]:
    with safe_open(found.weights, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _replace_rows(model: PreTrainedModel, found: AdapterDirectory, rows: Mapping[str, Tensor], refuse: Any) -> None:
    """Put the rows of tokens into embedding and head, which are resized first where that is necessary."""
    present = rows_of(model)
    given = {each for ids in found.config.tokens.values() for each in ids}
    wanted = found.rows or max(present, max(given, default=0) + 1)
    if missing := sorted(set(range(present, wanted)) - given):
        raise refuse(f"the adapter needs a row for token {missing[0]:,}, which neither it nor its base has")
    if wanted != present:
        model.resize_token_embeddings(wanted, mean_resizing=False)
    for name, values in rows.items():
        ids = next((each for key, each in found.config.tokens.items() if _matches(key, name)), ())
        layer = dict(model.named_modules()).get(name)
        if layer is None and model.get_output_embeddings() is None:  # type: ignore[no-untyped-call]
            continue  # of the head over the vocabulary, which a reward model does not have
        if not isinstance(layer, nn.Embedding | nn.Linear) or values.shape[1] != layer.weight.shape[1]:
            raise refuse(f"{type(model).__name__} has no embedding or head {name!r} with rows of this size")
        if len(ids) != len(values) or max(ids) >= len(layer.weight):
            raise refuse(f"the {len(values)} rows of {name!r} are not those of trainable_token_indices", FETCH_AGAIN)
        layer.weight[list(ids)] = values.float()
    if len(rows) != len(found.config.tokens):
        raise refuse("trainable_token_indices names rows that the adapter does not hold", FETCH_AGAIN)


def _matches(key: str, name: str) -> bool:
    """Whether an entry of ``trainable_token_indices`` is for a layer."""
    return not key or name == key or name.endswith(f".{key}")


def _replace_head(model: PreTrainedModel, tensors: Mapping[str, Tensor], refuse: Any) -> frozenset[str]:
    """Put the head of a reward model into it; returns its name."""
    values, weight = tensors.get(f"{PREFIX}{HEAD}"), model.get_parameter(HEAD)
    if values is None or values.shape != weight.shape:
        raise refuse("the adapter holds no head that gives one number per text")
    weight.copy_(values)
    return frozenset({HEAD})
