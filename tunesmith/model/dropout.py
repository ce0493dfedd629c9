"""Residual dropout: noise on the output of every attention and every MLP before it is added to the residual stream.

The noise of an example is a function of its seed and the module, not of the batch, of micro-batches or of a global
generator. So neither resuming nor another split of a step changes it, and recomputation under gradient checkpointing
gets the same noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tunesmith.draws import module_seed
from tunesmith.errors import RecipeError

ATTENTION_NAMES = ("attention", "self_attn", "attn")
MLP_NAMES = ("mlp", "feed_forward", "ffn")
T5_BRANCHES = ("SelfAttention", "EncDecAttention", "DenseReluDense")


class ResidualDropout:
    """Forward hooks on the decoder layers of a stock model, without effect until ``begin`` gives them a batch.

    model: a causal model with any head.
    probability: probability p that a number becomes 0.
    shape: "uniform" uses p in every layer, "rising" uses p * i / (L - 1) in layer i of L (LIMA, Zhou et al. 2023).
    Raises RecipeError for a family whose layers are not known.
    """

    def __init__(self, model: nn.Module, probability: float, shape: Literal["uniform", "rising"]) -> None:
        self._sizes: tuple[int, ...] = ()
        self._seeds: tuple[int, ...] = ()
        layers = decoder_layers(model, "model.residual_dropout")
        for index, layer in enumerate(layers):
            share = 1.0 if shape == "uniform" else index / max(1, len(layers) - 1)
            for place, names in enumerate((ATTENTION_NAMES, MLP_NAMES)):
                module = _child(layer, names)
                module.register_forward_hook(_Noise(self, probability * share, 2 * index + place))

    def begin(self, sizes: tuple[int, ...], seeds: tuple[int, ...]) -> None:
        """Announce the next forward passes: the tokens and the seed of each example in the row."""
        self._sizes, self._seeds = sizes, seeds

    def end(self) -> None:
        """Switch the noise off, for evaluation."""
        self._sizes = self._seeds = ()

    def mask(self, place: int, probability: float, like: Tensor) -> Tensor | None:
        """Factors 0 or 1 / (1 - p), [1, T, D] in the format of ``like``; None when there is no noise.

        place: number of the module in the model.
        probability: p of this module.
        like: the states that are multiplied, [1, T, D].
        """
        if not self._seeds or probability == 0.0:
            return None
        parts = _kept(self._sizes, self._seeds, place, probability, like)
        return (torch.cat(parts).unsqueeze(0) / (1.0 - probability)).to(like.dtype)


class Seq2SeqDropout:
    """The same for an encoder-decoder: on the output of every self-attention, cross-attention and MLP of both stacks.

    The noise of a row depends on the seed of the row and not on padding.
    stacks: encoder and decoder.
    probability, shape: as of ``ResidualDropout``.
    Raises RecipeError for a family whose layers are not known.
    """

    def __init__(self, stacks: Sequence[nn.Module], probability: float, shape: Literal["uniform", "rising"]) -> None:
        self._sizes: tuple[tuple[int, ...], ...] = ()
        self._seeds: tuple[tuple[int, ...], ...] = ()
        place = 0
        for stack, layers in enumerate(_stack_layers(stack) for stack in stacks):
            for index, branches in enumerate(layers):
                share = 1.0 if shape == "uniform" else index / max(1, len(layers) - 1)
                for branch in branches:
                    branch.register_forward_hook(_Noise(_Stack(self, stack), probability * share, place))
                    place += 1

    def begin(self, sizes: tuple[tuple[int, ...], ...], seeds: tuple[tuple[int, ...], ...]) -> None:
        """Announce the next forward passes: for encoder and decoder the tokens and the seed of each row."""
        self._sizes, self._seeds = sizes, seeds

    def end(self) -> None:
        """Switch the noise off, for evaluation."""
        self._sizes = self._seeds = ()

    def mask(self, stack: int, place: int, probability: float, like: Tensor) -> Tensor | None:
        """Factors 0 or 1 / (1 - p), [rows, longest, D] in the format of ``like``; None when there is no noise.

        stack: 0 for the encoder, 1 for the decoder.
        place, probability, like: as of ``ResidualDropout.mask``.
        """
        if not self._seeds or probability == 0.0:
            return None
        parts = _kept(self._sizes[stack], self._seeds[stack], place, probability, like)
        return (nn.utils.rnn.pad_sequence(parts, batch_first=True) / (1.0 - probability)).to(like.dtype)


class _Stack:
    """One stack of a ``Seq2SeqDropout``, with the interface that its hooks use."""

    def __init__(self, owner: Seq2SeqDropout, stack: int) -> None:
        self._owner, self._stack = owner, stack

    def mask(self, place: int, probability: float, like: Tensor) -> Tensor | None:
        return self._owner.mask(self._stack, place, probability, like)


def _kept(sizes: Sequence[int], seeds: Sequence[int], place: int, probability: float, like: Tensor) -> list[Tensor]:
    """For every row float32 [size, D], 1 where its states are kept and 0 where not."""
    parts = []
    for size, seed in zip(sizes, seeds, strict=True):
        generator = torch.Generator(like.device).manual_seed(module_seed(seed, place))
        kept = torch.empty(size, like.shape[-1], device=like.device).bernoulli_(1.0 - probability, generator=generator)
        parts.append(kept)
    return parts


class _Noise:
    """A forward hook that multiplies the first output of a module by noise."""

    def __init__(self, owner: ResidualDropout | _Stack, probability: float, place: int) -> None:
        self.owner, self.probability, self.place = owner, probability, place

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        mask = self.owner.mask(self.place, self.probability, states)
        if mask is None:
            return output
        noisy = states * mask
        return (noisy, *output[1:]) if isinstance(output, tuple) else noisy


def decoder_layers(model: nn.Module, wanted_by: str) -> nn.ModuleList:
    """The decoder layers of a model: the module list whose members have an attention and an MLP.

    wanted_by: the recipe key that needs them, for the error.
    Raises RecipeError for a family whose layers are not known.
    """
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) and all(_has_parts(layer) for layer in module):
            return module
    raise RecipeError(
        f"the decoder layers of {type(model).__name__} are not known",
        where=wanted_by,
        advice="this setting cannot be used with this family",
    )


def _stack_layers(stack: nn.Module) -> list[list[nn.Module]]:
    """For every layer of an encoder or decoder of the T5 family its attentions and its MLP, in order."""
    layers = [
        [module for part in block.layer for name, module in part.named_children() if name in T5_BRANCHES]
        for block in getattr(stack, "block", ())
    ]
    if not layers or not all(layers):
        raise RecipeError(
            f"the layers of {type(stack).__name__} are not known",
            where="model.residual_dropout",
            advice="this setting cannot be used with this family",
        )
    return layers


def _has_parts(layer: nn.Module) -> bool:
    children = {name for name, _ in layer.named_children()}
    return bool(children.intersection(ATTENTION_NAMES)) and bool(children.intersection(MLP_NAMES))


def _child(layer: nn.Module, names: tuple[str, ...]) -> nn.Module:
    return next(child for name, child in layer.named_children() if name in names)
