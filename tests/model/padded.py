"""Small encoder-decoders and token trees of inputs with replies, for tests of equivalence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from tunesmith.batch.example import Example
from tunesmith.model.load import new_model
from tunesmith.text.tokens.token_tree import TokenTree

VOCABULARY = 211
START = 0
V11 = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
T5 = {
    "architecture": "t5",
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
}


def small_t5(*, tied: bool = False, checkpointing: bool = False, seed: int = 0) -> PreTrainedModel:
    """Of the shape of version 1.1 (gated, head of its own), or of the first version (tied head, scaled)."""
    model = new_model(T5 if tied else {**T5, **V11}, VOCABULARY, seed)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    with torch.no_grad():
        for parameter in model.parameters():  # a fresh model predicts nothing; give differences room to show
            parameter.mul_(1.5)
    return model


def seq2seq_tree(seed: int, replies: Sequence[int] = (5,), size: int = 7) -> TokenTree:
    """An input of ``size`` tokens with replies of these sizes below it, as the renderer lays them out."""
    draw = np.random.default_rng(seed)
    ids = draw.integers(2, VOCABULARY, size + sum(replies)).astype(np.int32)
    ends = size + np.cumsum(replies)
    spans = [
        (end - own, end, size - 1, number + 1, 1) for number, (end, own) in enumerate(zip(ends, replies, strict=True))
    ]
    segments = [(0, size, -1), *((start, end, 0) for start, end, *_ in spans)]
    if len(replies) == 1:
        segments = [(0, int(ends[-1]), -1)]
    return TokenTree(ids, np.array(segments, np.int32), np.array(spans, np.int32), len(replies))


def seq2seq_examples(count: int = 7, *, several: bool = True) -> list[Example]:
    """Inputs and replies of many lengths; every third input has three replies."""
    draw = np.random.default_rng(count)
    found = []
    for number in range(count):
        replies = draw.integers(1, 14, 3 if several and number % 3 == 1 else 1).tolist()
        found.append(Example(number, seq2seq_tree(number, replies, int(draw.integers(2, 30))), seed=number + 1))
    return found
