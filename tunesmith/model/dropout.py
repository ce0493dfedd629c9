"""Residual dropout: noise on the output of every attention and every MLP before it is added to the stream.

The noise of an example is a function of (its seed, the place in the model), not of the batch it happens to be in, of
micro-batches or of a global generator; so resuming and re-splitting a step change nothing, and recomputation under gradient checkpointing
meets the same noise.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from tunesmith.errors import RecipeError

ATTENTION_NAMES = ("attention", "self_attn", "attn")
MLP_NAMES = ("mlp", "feed_forward", "ffn")
PRIME = 0x9E3779B97F4A7C15


class ResidualDropout:
    """Forward hooks on the decoder layers of a stock model; silent until ``begin`` gives them a batch."""

    def __init__(self, model: nn.Module, probability: float, shape: Literal["uniform", "rising"]) -> None:
        """rising: p * i / (L - 1) in layer i of L (LIMA, Zhou et al. 2023). Raises RecipeError for an unknown family."""
        self._sizes: tuple[int, ...] = ()
        self._seeds: tuple[int, ...] = ()
        layers = decoder_layers(model, "model.residual_dropout")
        for index, layer in enumerate(layers):
            share = 1.0 if shape == "uniform" else index / max(1, len(layers) - 1)
            for place, names in enumerate((ATTENTION_NAMES, MLP_NAMES)):
                module = _child(layer, names)
                module.register_forward_hook(_Noise(self, probability * share, 2 * index + place))

    def begin(self, sizes: tuple[int, ...], seeds: tuple[int, ...]) -> None:
        """The next forward passes hold examples of these sizes with these seeds."""
        self._sizes, self._seeds = sizes, seeds

    def end(self) -> None:
        """No noise from here on (evaluation)."""
        self._sizes = self._seeds = ()

    def mask(self, place: int, probability: float, like: Tensor) -> Tensor | None:
        """Factors 0 or 1 / (1 - p), [1, T, D], or None when there is no noise."""
        if not self._seeds or probability == 0.0:
            return None
        parts = []
        for size, seed in zip(self._sizes, self._seeds, strict=True):
            generator = torch.Generator(like.device).manual_seed((seed ^ ((place + 1) * PRIME)) & (2**63 - 1))
            kept = torch.empty(size, like.shape[-1], device=like.device).bernoulli_(
                1.0 - probability, generator=generator
            )
            parts.append(kept)
        return (torch.cat(parts).unsqueeze(0) / (1.0 - probability)).to(like.dtype)


class _Noise:
    """One hook: multiplies the module's first output."""

    def __init__(self, owner: ResidualDropout, probability: float, place: int) -> None:
        self.owner, self.probability, self.place = owner, probability, place

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        mask = self.owner.mask(self.place, self.probability, states)
        if mask is None:
            return output
        noisy = states * mask
        return (noisy, *output[1:]) if isinstance(output, tuple) else noisy


def decoder_layers(model: nn.Module, wanted_by: str) -> nn.ModuleList:
    """The list of decoder layers: the module list whose members have an attention and an MLP.

    wanted_by: the key of the recipe that needs them. Raises RecipeError for a family that is built otherwise.
    """
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) and all(_has_parts(layer) for layer in module):
            return module
    raise RecipeError(
        f"the decoder layers of {type(model).__name__} are not known",
        where=wanted_by,
        advice="this setting cannot be used with this family",
    )


def _has_parts(layer: nn.Module) -> bool:
    children = {name for name, _ in layer.named_children()}
    return bool(children.intersection(ATTENTION_NAMES)) and bool(children.intersection(MLP_NAMES))


def _child(layer: nn.Module, names: tuple[str, ...]) -> nn.Module:
    return next(child for name, child in layer.named_children() if name in names)
