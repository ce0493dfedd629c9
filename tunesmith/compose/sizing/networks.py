"""Counts of a model and of its activations, from its configuration alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed
from tunesmith.batch.padded import collate_padded
from tunesmith.compose.sizing.settings import Network
from tunesmith.model.backbone import Backbone
from tunesmith.model.failures import FAMILY_ERRORS
from tunesmith.model.footprint import (
    ActivationBytes,
    Run,
    StackBytes,
    count_activations,
    register_counted_attention,
)
from tunesmith.model.outline import META, depth_of, outline
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.recipe.training import AdafactorConfig
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.train.optim.adafactor import factoring

TYPICAL_KEPT, TYPICAL_PEAK = 40, 60
"""Activations of a layer where a family cannot be counted, as numbers for each token and hidden unit."""


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """A configuration of which models can be built on the device ``meta``.

    entries: of config.json, with the architecture as ``model_type``.
    scores: whether it is a reward model.
    """

    entries: Mapping[str, Any]
    scores: bool = False

    def network(self, optimizer: AdafactorConfig | None = None) -> Network:
        """The counts. optimizer: given, it decides which second moments are factored. Raises RecipeError."""
        model = outline(self.entries, scores=self.scores)
        head = None if self.scores else model.get_output_embeddings()  # type: ignore[no-untyped-call]
        parameters = [*model.parameters()]
        inside = {id(each) for layer in _layers(model) for each in layer.parameters()}
        matrices = [each for each in parameters if id(each) in inside and each.ndim == 2]
        least = 2**63 if optimizer is not None and not optimizer.factored else 128
        least = optimizer.min_dim_size_to_factor if optimizer is not None and optimizer.factored else least
        return Network(
            parameters=sum(each.numel() for each in parameters),
            matrices=sum(each.numel() for each in matrices),
            sides=sum(sum(each.shape) for each in matrices),
            outside=sum(each.numel() for each in parameters if id(each) not in inside),
            largest=max(each.numel() for each in parameters),
            factored=sum(_second_moment(each, least) for each in parameters),
            layers=depth_of(model.config),
            hidden=int(model.config.get_text_config().hidden_size),
            rows=0 if head is None else int(head.weight.shape[0]),
            cached=_cached(model.config),
        )

    def activations(
        self, compute: torch.dtype, tokens: int, rows: tuple[int, int] | None, recomputed: float
    ) -> ActivationBytes:
        """What the backbone holds for one micro-batch; a typical number where the family cannot run without memory.

        compute: number format of weights and forward pass.
        tokens: of the micro-batch.
        rows: tokens of the inputs and of the replies of an encoder-decoder; None for a causal model.
        recomputed: share of the layers whose activations are recomputed.
        """
        run = _causal_run(compute, tokens) if rows is None else _padded_run(compute, tokens, *rows)
        attention = register_counted_attention()

        def build(layers: int) -> PreTrainedModel:
            return outline(self.entries, dtype=compute, layers=layers, attention=attention)

        try:
            return count_activations(build, run, recomputed)
        except FAMILY_ERRORS:
            config = outline(self.entries, layers=1).config.get_text_config()
            states = tokens * int(config.hidden_size) * compute.itemsize
            peak = TYPICAL_PEAK // 2 * states
            kept, again = (StackBytes(2 * states, each, peak) for each in (TYPICAL_KEPT // 2 * states, states))
            return ActivationBytes(kept, again)


def _causal_run(compute: torch.dtype, tokens: int) -> Run:
    ids = np.zeros(tokens, np.int32)
    tree = TokenTree(ids, np.array([(0, tokens, -1)], np.int32), np.array([(1, tokens, 0, 1, 1)], np.int32), 1)
    batch = assemble_packed([Example(0, tree)], "messages").to(META)

    def run(model: PreTrainedModel) -> Tensor:
        return Backbone(model, compute=compute).hidden(batch)

    return run


def _padded_run(compute: torch.dtype, tokens: int, given: int, produced: int) -> Run:
    """given, produced: tokens of an input and of its reply."""
    size = given + produced
    spans = np.array([(given, size, given - 1, 1, 1)], np.int32)
    tree = TokenTree(np.zeros(size, np.int32), np.array([(0, size, -1)], np.int32), spans, 1)
    examples = [Example(number, tree) for number in range(max(1, tokens // size))]
    batch = next(collate_padded(examples, "messages", tokens, start=0, padding=0)).to(META)

    def run(model: PreTrainedModel) -> Tensor:
        return Seq2SeqPolicy(model, compute=compute).hidden(batch)

    return run


def _layers(model: PreTrainedModel) -> Iterator[nn.Module]:
    """The layers of a model, as far as transformers can recompute them."""
    return (module for module in model.modules() if isinstance(module, GradientCheckpointingLayer))


def _second_moment(parameter: Tensor, least: int) -> int:
    """Numbers that Adafactor keeps of one parameter. least: size of the sides that are factored."""
    found = factoring(parameter.shape, min_dim_size=least)
    if not found.rows:
        return parameter.numel()
    shape = parameter.shape
    return sum(parameter.numel() // shape[dimension] for dimension in (*found.rows, *found.columns))


def _cached(config: PretrainedConfig) -> int:
    """Keys and values of one token in all layers; an encoder-decoder has those of the input as well."""
    text = config.get_text_config()
    heads = int(getattr(text, "num_key_value_heads", None) or text.num_attention_heads)
    units = getattr(text, "head_dim", None) or getattr(text, "d_kv", None)
    units = int(units or text.hidden_size // text.num_attention_heads)
    return 2 * heads * units * depth_of(config) * (2 if config.is_encoder_decoder else 1)
