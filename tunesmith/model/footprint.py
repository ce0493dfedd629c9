"""Bytes of the activations of a training step, counted by running the model on the device ``meta``.

The same modules run as in training, on tensors without memory, and every storage that they make is counted from its
birth to its end. Only attention is replaced: by a function that keeps what the fused kernels of a GPU keep. Two models
with few layers give what a further layer adds.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask

from tunesmith.model.recomputation import recompute_layers
from tunesmith.model.wrapper import ModelWrapper

DEPTHS = (2, 3)
"""Layers of the models that are run. In a model of one layer that layer is the first and the last one."""
COUNTED = "tunesmith-counted"
"""The name of the attention whose bytes are counted."""


@dataclass(frozen=True, slots=True)
class StackBytes:
    """What a model holds whose layers are all recomputed, or whose layers all keep their activations.

    outside: kept after the forward pass by embeddings and norms outside of the layers.
    layer: kept after it by each layer.
    peak: the largest number of bytes of a model with one layer during forward and backward pass.
    """

    outside: int
    layer: int
    peak: int


@dataclass(frozen=True, slots=True)
class ActivationBytes:
    """What the backbone of a model holds while one micro-batch is computed, without weights and their gradients.

    kept: if its layers keep their activations; None where this was not counted.
    recomputed: if they are recomputed; None where this was not counted.
    """

    kept: StackBytes | None = None
    recomputed: StackBytes | None = None

    def after_forward(self, layers: int, share: float) -> int:
        """Bytes that are kept between forward and backward pass.

        layers: of the model.
        share: of the layers that are recomputed, from 0 to 1, as it was counted for.
        """
        parts = [*self._parts(layers, share)]
        return parts[0][1].outside + sum(count * stack.layer for count, stack in parts)

    def largest(self, layers: int, share: float) -> int:
        """The largest number of bytes in forward and backward pass; arguments as of ``after_forward``."""
        parts = [*self._parts(layers, share)]
        layer_bytes = sum(count * stack.layer for count, stack in parts)
        return max(stack.peak - stack.layer + layer_bytes for _, stack in parts)

    def _parts(self, layers: int, share: float) -> Iterator[tuple[int, StackBytes]]:
        """(how many layers, what they hold) of the two kinds of layers, those that there are."""
        chosen = recomputed_layers(layers, share)
        for count, stack in ((chosen, self.recomputed), (layers - chosen, self.kept)):
            if count:
                assert stack is not None, "it was counted for this share"
                yield count, stack


def recomputed_layers(layers: int, share: float) -> int:
    """How many layers are recomputed, as ``recompute_layers`` chooses them. share: 0 for none."""
    return layers if share >= 1.0 else max(1, round(share * layers)) if share > 0.0 else 0


Run = Callable[[PreTrainedModel], Tensor]
"""run(model): the last hidden states of a micro-batch, from tensors on the device of the model."""


def count_activations(build: Callable[[int], PreTrainedModel], run: Run, share: float) -> ActivationBytes:
    """The bytes of the activations of a model.

    build: makes the model with this number of layers, on the device ``meta``.
    run: computes its hidden states.
    share: of the layers that are recomputed; what it does not need is not counted.
    Raises any error of a family that cannot run on ``meta``.
    """
    return ActivationBytes(
        kept=_count_stack(build, run, recompute=False) if share < 1.0 else None,
        recomputed=_count_stack(build, run, recompute=True) if share > 0.0 else None,
    )


def _count_stack(build: Callable[[int], PreTrainedModel], run: Run, *, recompute: bool) -> StackBytes:
    fewer, more = (_measure(build(layers), run, recompute=recompute) for layers in DEPTHS)
    layer = more.forward - fewer.forward
    return StackBytes(fewer.forward - DEPTHS[0] * layer, layer, fewer.peak - (DEPTHS[0] - 1) * layer)


@dataclass(frozen=True, slots=True)
class PassBytes:
    """forward: bytes that are kept after the forward pass. peak: the largest number during both passes."""

    forward: int
    peak: int


def measure_passes(model: PreTrainedModel, run: Run) -> PassBytes:
    """Count the bytes of one forward and backward pass, without those of parameters and their gradients."""
    parameters = [each for each in model.parameters() if each.requires_grad]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    ignored = [*model.parameters(), *model.buffers(), *(each.grad for each in parameters if each.grad is not None)]
    with StorageCount(ignored) as count:
        hidden = run(model)
        forward = count.live
        hidden.backward(torch.empty_like(hidden))  # type: ignore[no-untyped-call]
    return PassBytes(forward, count.peak)


def _measure(model: PreTrainedModel, run: Run, *, recompute: bool) -> PassBytes:
    if recompute:
        recompute_layers(model)
    ModelWrapper(model).train()  # modules that do not recompute are in evaluation mode
    return measure_passes(model, run)


class StorageCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that are made while it is active, until they are freed.

    ignored: tensors whose memory is not counted.
    """

    def __init__(self, ignored: Sequence[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self.sizes: dict[int, int] = {each.untyped_storage()._cdata: 0 for each in ignored}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.live -= self.sizes.pop(key)


class _KernelBytes(torch.autograd.Function):
    """The memory of a fused kernel: it keeps its inputs, its output and one float32 for each query and head."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        mixed = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, bias, mixed, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad
        return tuple(
            torch.empty_like(each) if wanted else None
            for each, wanted in zip(ctx.saved_tensors[:4], needed, strict=True)
        )


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    position_bias: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """transformers' attention protocol; only the shape of the result has a meaning.

    position_bias: added to the scores by T5; with a mask of padding there is one for every row.
    """
    if position_bias is not None and attention_mask is not None and attention_mask.ndim == 4:
        position_bias = torch.where(attention_mask, position_bias, 0.0)
    mixed: Tensor = _KernelBytes.apply(query, key, value, position_bias)  # type: ignore[no-untyped-call]
    return mixed.transpose(1, 2).contiguous(), None


def register_counted_attention() -> str:
    """Register an attention that keeps what a fused kernel keeps; returns the name for ``outline``."""
    AttentionInterface.register(COUNTED, _attend)
    AttentionMaskInterface.register(COUNTED, sdpa_mask)
    return COUNTED
