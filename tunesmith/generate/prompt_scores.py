"""Log-probabilities of the tokens of a text, as the model gives them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import DynamicCache, PreTrainedModel

from tunesmith.generate.decoding import find_cache_argument
from tunesmith.generate.row_sampler import TokenLogProbability, check_finite

PART_TOKENS = 512
"""Longer texts are read in parts of so many tokens, so that the logits of one part are in memory at a time."""


def score_text(
    model: PreTrainedModel, ids: Sequence[int], alternatives: int, vocabulary: int
) -> list[TokenLogProbability]:
    """What the model gave every token but the first, which it only reads.

    model: a causal model in eval mode.
    ids: the text, not longer than the context of the model.
    alternatives: the number of most likely tokens that are wanted with each token.
    vocabulary: the number of ids; higher ones, which pad the embedding, are no alternatives. They count in the sum of
        all probabilities, as in lm-evaluation-harness.
    Raises InternalError if the logits are not finite.
    """
    return [score for part in score_parts(model, ids, alternatives, vocabulary) for score in part]


@torch.no_grad()
def score_parts(
    model: PreTrainedModel, ids: Sequence[int], alternatives: int, vocabulary: int
) -> Iterator[list[TokenLogProbability]]:
    """As ``score_text``, part by part, so that something else can be done between two parts.

    A part has ``PART_TOKENS`` ids; all of them for a model without the usual cache.
    """
    in_parts = len(ids) > PART_TOKENS and find_cache_argument(model) == "past_key_values"
    size = PART_TOKENS if in_parts else len(ids)
    cache = {"past_key_values": DynamicCache(config=model.config), "use_cache": True} if in_parts else {}
    for start in range(0, len(ids), size):
        part = torch.tensor([ids[start : start + size]], device=model.device)
        logits = model(input_ids=part, **(cache or {"use_cache": False})).logits[0].float()
        check_finite(logits)
        targets = ids[start + 1 : start + size + 1]
        values = logits[: len(targets)].log_softmax(dim=-1)
        own = values.gather(1, torch.tensor(targets, dtype=torch.long, device=model.device)[:, None])[:, 0].tolist()
        top = torch.topk(values[:, :vocabulary], min(alternatives, vocabulary))
        yield [
            TokenLogProbability(chosen, tuple(zip(numbers, likely, strict=True)))
            for chosen, numbers, likely in zip(own, top.indices.tolist(), top.values.tolist(), strict=True)
        ]
