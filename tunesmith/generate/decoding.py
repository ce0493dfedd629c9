"""Batched decoding with a key-value cache, for causal models: rows begin together, and each may leave the batch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from tunesmith.model.context import NO_LIMIT, context_length

CACHE_ARGUMENTS = {"past_key_values": True, "cache_params": False}
"""Name under which families take their cache -> whether the attention mask covers the text before the new ids. A
recurrent model reads the new ids only."""


class DecodingState(Protocol):
    """The tokens that a model has processed so far, with its cache. Each row is a prompt and the reply to it."""

    def history(self, prompt: Sequence[int]) -> Sequence[int]:
        """The ids before the first id of the reply; they count for the repetition penalty and for the context."""
        ...

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Process one prompt per row with an empty cache.

        Returns the logits of the next token, float32 [rows, vocabulary].
        """
        ...

    def prefill_cached(self, prompt: Sequence[int]) -> Tensor:
        """Process one prompt in a single row, reusing the cache of that row where its tokens are the same.

        Returns the logits of the next token, float32 [1, vocabulary].
        """
        ...

    def append(self, ids: Tensor) -> Tensor:
        """Process further ids, int64 [rows, columns].

        Returns the logits after the last column, float32 [rows, vocabulary].
        """
        ...

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order; a row that is named several times is repeated with its cache."""
        ...


class CausalState:
    """The decoding state of a causal model: its ids and their keys and values.

    Rows are padded on the left, so that all of them end in the same column. The model must be in eval mode.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        assert not model.training, "dropout would change the replies; call model.eval() first"
        self._model = model
        self._positions = context_length(model.config) or NO_LIMIT
        self._cache = DynamicCache(config=model.config)
        self._argument = find_cache_argument(model)
        self._ids = torch.empty(0, 0, dtype=torch.long, device=model.device)  # [rows, columns]
        self._real = torch.empty(0, 0, dtype=torch.bool, device=model.device)  # False on padding

    def history(self, prompt: Sequence[int]) -> Sequence[int]:
        """The prompt itself, which the reply continues."""
        return prompt

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """See ``DecodingState.prefill``."""
        width = max(map(len, prompts))
        ids = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        real = [[False] * (width - len(prompt)) + [True] * len(prompt) for prompt in prompts]
        device = self._model.device
        return self._forward(torch.tensor(ids, device=device), torch.tensor(real, device=device))

    def prefill_cached(self, prompt: Sequence[int]) -> Tensor:
        """See ``DecodingState.prefill_cached``."""
        kept = self._crop_cache(prompt)
        if kept == 0:
            return self.prefill([prompt])
        return self.append(torch.tensor([prompt[kept:]], device=self._model.device))

    def append(self, ids: Tensor) -> Tensor:
        """See ``DecodingState.append``.

        Where the columns would pass the last position of the model, the rows are read again without the columns that
        belonged to longer rows: masks and tables of positions may end there.
        """
        if self._ids.shape[1] + ids.shape[1] > self._positions and not self._real[:, 0].any():
            rows = [row[real].tolist() for row, real in zip(self._ids, self._real, strict=True)]
            self._empty()
            return self.prefill([row + new for row, new in zip(rows, ids.tolist(), strict=True)])
        return self._forward(ids, torch.ones_like(ids, dtype=torch.bool))

    def select(self, rows: Sequence[int]) -> None:
        """See ``DecodingState.select``."""
        index = torch.tensor(rows, device=self._model.device)
        # Unlike batch_select_indices, every kind of layer has this method, also those with recurrent states.
        self._cache.reorder_cache(cast(torch.LongTensor, index))
        self._ids, self._real = self._ids[index], self._real[index]

    @torch.no_grad()
    def _forward(self, ids: Tensor, real: Tensor) -> Tensor:
        """The logits after new ids, int64 [rows, columns]; ``real`` is bool of that shape and False on padding."""
        if self._ids.numel() > 0:
            ids_so_far, real_so_far = torch.cat([self._ids, ids], 1), torch.cat([self._real, real], 1)
        else:
            ids_so_far, real_so_far = ids, real
        positions = (real_so_far.long().cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = self._model(
            input_ids=ids,
            attention_mask=(real_so_far if CACHE_ARGUMENTS[self._argument] else real).long(),
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{self._argument: self._cache},
        )
        self._ids, self._real = ids_so_far, real_so_far  # last: an interrupted pass changes nothing
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _empty(self) -> None:
        self._cache = DynamicCache(config=self._model.config)
        self._ids, self._real = self._ids[:0, :0], self._real[:0, :0]

    def _crop_cache(self, prompt: Sequence[int]) -> int:
        """Crop the cache of the single row to the ids that it shares with ``prompt``; returns their number.

        At least one id of the prompt is left to process, since its logits are needed. A layer with a sliding window
        does not hold all keys and values and cannot be cropped; then the cache is emptied.
        """
        held = self._ids[0].tolist() if self._ids.shape[0] == 1 else []
        most = min(len(held), len(prompt) - 1)
        shared = next((i for i in range(most) if held[i] != prompt[i]), most)
        layers = [layer for layer in self._cache.layers if type(layer) is DynamicLayer]
        if shared == 0 or len(layers) < len(self._cache.layers):
            self._empty()
            return 0
        self._ids, self._real = self._ids[:, :shared], self._real[:, :shared]
        for layer in layers:  # an interrupted forward pass leaves layers of different lengths
            layer.crop(shared - layer.get_seq_length())
        return shared


def find_cache_argument(model: PreTrainedModel) -> str:
    """The name under which a family takes its cache. Raises ValueError if it takes none of transformers."""
    parameters = inspect.signature(model.forward).parameters
    for name in CACHE_ARGUMENTS:
        if name in parameters:
            return name
    raise ValueError(f"{type(model).__name__} does not take a cache of transformers")
