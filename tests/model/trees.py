"""Small models and random token trees for tests of equivalence."""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedModel

from tunesmith.model.load import new_model
from tunesmith.text.tokens.token_tree import TokenTree

VOCABULARY = 211
SIZES = {
    "gpt_neox": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "llama": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
    },
}


def small_model(
    architecture: str, *, tied: bool = False, checkpointing: bool = False, seed: int = 0
) -> PreTrainedModel:
    sizes = {**SIZES[architecture], "architecture": architecture, "tie_word_embeddings": tied}
    model = new_model(sizes, VOCABULARY, seed)
    with torch.no_grad():
        for parameter in model.parameters():  # a fresh model predicts nothing; give differences room to show
            parameter.mul_(2.5)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def random_tree(seed: int, messages: int = 6, size: int = 9) -> TokenTree:
    """A tree of random shape: every message but the root is a target or not by chance, the last always is."""
    draw = np.random.default_rng(seed)
    parents = [-1]
    path = [0]
    for index in range(1, messages):
        path = path[: int(draw.integers(1, len(path) + 1))]
        parents.append(path[-1])
        path.append(index)
    sizes = draw.integers(2, size, messages)
    ends = np.cumsum(sizes)
    through = np.zeros(messages, np.int64)
    leaves = [index for index in range(messages) if index not in parents]
    for leaf in leaves:
        while leaf >= 0:
            through[leaf] += 1
            leaf = parents[leaf]
    spans = []
    for index in range(1, messages):
        if index == messages - 1 or draw.random() < 0.7:
            source = ends[parents[index]] - 1
            spans.append((ends[index] - sizes[index], ends[index], source, index, through[index]))
    return TokenTree(
        draw.integers(0, VOCABULARY, int(ends[-1])).astype(np.int32),
        np.stack([ends - sizes, ends, np.array(parents)], axis=1).astype(np.int32),
        np.array(spans, np.int32),
        len(leaves),
    )
