"""Low-rank adapters (LoRA, E. Hu et al. 2021): small trained matrices next to the frozen ones of a stock model.

A layer y = W x + c becomes y = W x + c + s B A x, with A [r, in] drawn and B [out, r] zero before the first step. No
module is replaced: an adapter is a child of the stock layer with a forward hook, so every stock name stays and the
adapters can be switched off, which gives the base model to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunesmith.errors import RecipeError

CHILD = "adapter"
"""Name of an adapter among the children of its layer."""
ALL_LINEAR = "all-linear"
"""The targets that are all linear layers but the heads; peft uses the same word."""

AdaptedLayer: TypeAlias = nn.Linear | Conv1D
ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """What decides the shape and the size of adapters.

    rank: r.
    alpha: s = alpha / r, or with ``rank_stabilized`` alpha / sqrt(r) (D. Kalajdzievski 2023).
    targets: last parts of the names of the layers that get an adapter; None for ``ALL_LINEAR``.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] | None = None
    rank_stabilized: bool = False

    @property
    def scale(self) -> float:
        """s."""
        return self.alpha / (self.rank**0.5 if self.rank_stabilized else self.rank)


class LowRank(nn.Module):
    """The adapter of one linear layer. Its matrices are float32 and are computed with in the format of the input.

    layer: gets the adapter as its child ``CHILD``.
    scale: s.
    on: False switches it off.
    """

    def __init__(self, layer: AdaptedLayer, lora_a: Tensor, scale: float) -> None:
        super().__init__()
        outputs, device = features(layer)[1], layer.weight.device
        self.scale, self.on = scale, True
        self.lora_a = nn.Parameter(lora_a.to(device))
        self.lora_b = nn.Parameter(torch.zeros(outputs, len(lora_a), device=device))
        layer.add_module(CHILD, self)
        layer.register_forward_hook(self.add)

    def add(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The output of the layer with the adapter: a forward hook."""
        if not self.on:
            return output
        states = inputs[0]
        low = linear(states, self.lora_a.to(states.dtype)) * self.scale
        return output + linear(low, self.lora_b.to(states.dtype)).to(output.dtype)

    def product(self) -> Tensor:
        """float32 [out, in], s B A."""
        return (self.scale * (self.lora_b.detach().double() @ self.lora_a.detach().double())).float()


class NewRows(nn.Module):
    """Trained rows of an embedding, or of a head over the vocabulary, in place of the frozen ones.

    layer: an embedding or head, which gets this as its child ``CHILD``.
    first: token id of the first of these rows.
    rows: float32 [n, D], the parameter; a tied head has that of the embedding.
    on: False switches it off.
    """

    def __init__(self, layer: nn.Embedding | nn.Linear, first: int, rows: nn.Parameter) -> None:
        super().__init__()
        self.first, self.on, self.rows = first, True, rows
        layer.add_module(CHILD, self)
        layer.register_forward_hook(self._look_up if isinstance(layer, nn.Embedding) else self._project)

    def weight(self, frozen: Tensor) -> Tensor:
        """[V, D] in the format of the frozen weight, with these rows."""
        if not self.on:
            return frozen
        end = self.first + len(self.rows)
        return torch.cat([frozen[: self.first], self.rows.to(frozen.dtype), frozen[end:]])

    def _look_up(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not self.on:
            return output
        place = inputs[0] - self.first
        new = (place >= 0) & (place < len(self.rows))
        found = self.rows.to(output.dtype)[place.clamp(0, len(self.rows) - 1)]
        return torch.where(new[..., None], found * _embedding_scale(layer, output), output)

    def _project(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not self.on:
            return output
        end = self.first + len(self.rows)
        bias: Tensor | None = getattr(layer, "bias", None)
        found = linear(inputs[0], self.rows.to(inputs[0].dtype), None if bias is None else bias[self.first : end])
        return torch.cat([output[..., : self.first], found.to(output.dtype), output[..., end:]], -1)


def _embedding_scale(layer: nn.Module, like: Tensor) -> Tensor | float:
    """The factor of families whose embedding multiplies what it looks up, such as Gemma 3."""
    scale = getattr(layer, "embed_scale", None)
    return scale.to(like.dtype) if isinstance(scale, Tensor) else 1.0


def features(layer: AdaptedLayer) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer. The weight of a ``Conv1D`` is transposed, that of 4 bits is packed."""
    if isinstance(layer, Conv1D):
        return int(layer.weight.shape[0]), int(layer.weight.shape[1])
    return layer.in_features, layer.out_features


def find_layers(model: PreTrainedModel, targets: Sequence[str] | None) -> dict[str, AdaptedLayer]:
    """Name -> linear layer, of those that get an adapter.

    targets: as of ``AdapterSettings``.
    Raises RecipeError for a target that is the name of no linear layer.
    """
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head and "." in name
    }
    if targets is None:
        chosen = found
    else:
        known = sorted({_last(name) for name in found})
        for target in targets:
            if target not in known:
                raise RecipeError(
                    f"{type(model).__name__} has no linear layer named {target!r}",
                    where="model.adapter.targets",
                    advice=f"there are {', '.join(known)}; {ALL_LINEAR} means all of them",
                )
        chosen = {name: module for name, module in found.items() if _last(name) in targets}
    if not chosen:
        raise RecipeError(f"{type(model).__name__} has no linear layer for an adapter", where="model.adapter")
    return chosen


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def add_adapters(model: PreTrainedModel, settings: AdapterSettings, seed: int) -> None:
    """Freeze a model and give adapters to its layers.

    seed: the matrices A are drawn from it, uniformly in +-1 / sqrt(inputs) as in peft; B is zero.
    Raises RecipeError as ``find_layers``.
    """
    layers = find_layers(model, settings.targets)
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for layer in layers.values():
        inputs = features(layer)[0]
        bound = inputs**-0.5
        lora_a = torch.empty(settings.rank, inputs).uniform_(-bound, bound, generator=generator)
        LowRank(layer, lora_a, settings.scale)


def train_rows(model: PreTrainedModel, first: int, end: int, *, trained: bool = True) -> None:
    """Train the rows ``first`` to ``end - 1`` of the embedding and, where there is one, of the head of a frozen model.

    Embedding and head stay tied where they are.
    trained: False keeps the rows apart from the base without training them.
    """
    embedding: nn.Module = model.get_input_embeddings()
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    known: dict[int, nn.Parameter] = {}
    readers = [module for module in model.modules() if isinstance(module, nn.Embedding) and _shares(module, embedding)]
    for layer in (*readers, *([head] if head is not None else [])):
        weight: Tensor = layer.weight
        if id(weight) not in known:
            known[id(weight)] = nn.Parameter(weight.detach()[first:end].float().clone(), trained)
        NewRows(layer, first, known[id(weight)])


def _shares(module: nn.Embedding, embedding: nn.Module) -> bool:
    """Whether a module is the embedding, or has its weight: encoder and decoder of T5 have a module each."""
    return module is embedding or module.weight is embedding.weight


def head_weight(head: nn.Linear) -> Tensor:
    """[V, D], the weight of a head over the vocabulary with its trained rows, if it has any."""
    rows = getattr(head, CHILD, None)
    return rows.weight(head.weight) if isinstance(rows, NewRows) else head.weight


def adapters_of(model: nn.Module) -> list[LowRank | NewRows]:
    """All adapters and trained rows of a model; none if it was not adapted."""
    return [module for module in model.modules() if isinstance(module, LowRank | NewRows)]


def is_adapted(model: nn.Module) -> bool:
    """Whether a model has adapters."""
    return bool(adapters_of(model))


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """In the block a model computes as its base. It is for passes without gradients."""
    found = adapters_of(model)
    before = [adapter.on for adapter in found]
    try:
        for adapter in found:
            adapter.on = False
        yield
    finally:
        for adapter, on in zip(found, before, strict=True):
            adapter.on = on


def trained_module(model: ModuleT) -> ModuleT | nn.Module:
    """What a checkpoint holds of a model: the model itself, or of an adapted one its trained parameters alone.

    The parameters are those of the model, under their names.
    """
    if not is_adapted(model):
        return model
    root = nn.Module()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            *path, last = name.split(".")
            module = root
            for part in path:
                if part not in dict(module.named_children()):
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            module.register_parameter(last, parameter)
    return root


@torch.no_grad()
def merge_adapters(model: nn.Module) -> None:
    """Add the adapters to the weights of their layers, in float32, and remove them: the model is a stock model again.

    model: its weights are in float32.
    """
    for layer in list(model.modules()):
        adapter = getattr(layer, CHILD, None)
        if not isinstance(adapter, LowRank | NewRows):
            continue
        weight = layer.weight
        assert isinstance(weight, Tensor), layer
        if isinstance(adapter, LowRank):
            product = adapter.product()
            weight.add_(product.T if isinstance(layer, Conv1D) else product)
        else:
            weight[adapter.first : adapter.first + len(adapter.rows)] = adapter.rows
        hooks = layer._forward_hooks
        for key in [key for key, hook in hooks.items() if getattr(hook, "__self__", None) is adapter]:
            del hooks[key]
        delattr(layer, CHILD)
    model.requires_grad_(True)
