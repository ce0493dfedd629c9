"""Decoding without a cache: every step computes the whole text again. Slower, and right for every causal model."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel


class RecomputingState:
    """The decoding state of a model whose cache cannot be used: the ids of its rows and nothing else.

    Rows are padded on the right, after their last token, where a causal model cannot see the padding. The model must be
    in evaluation mode.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        assert not model.training, "dropout would change the replies; call model.eval() first"
        self._model = model
        self._rows: list[tuple[int, ...]] = []
        self._selects = "logits_to_keep" in inspect.signature(model.forward).parameters

    def history(self, prompt: Sequence[int]) -> Sequence[int]:
        """The prompt itself, which the reply continues."""
        return prompt

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """See ``DecodingState.prefill``."""
        return self._forward([tuple(prompt) for prompt in prompts])

    def prefill_cached(self, prompt: Sequence[int]) -> Tensor:
        """See ``DecodingState.prefill_cached``; there is no cache to use again."""
        return self.prefill([prompt])

    def append(self, ids: Tensor) -> Tensor:
        """See ``DecodingState.append``."""
        return self._forward([(*row, *new) for row, new in zip(self._rows, ids.tolist(), strict=True)])

    def select(self, rows: Sequence[int]) -> None:
        """See ``DecodingState.select``."""
        self._rows = [self._rows[row] for row in rows]

    @torch.no_grad()
    def _forward(self, rows: list[tuple[int, ...]]) -> Tensor:
        """The logits after the last id of each row, float32 [rows, vocabulary]."""
        width, device = max(map(len, rows)), self._model.device
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
        last = torch.tensor([len(row) - 1 for row in rows], device=device)
        places, index = torch.unique(last, return_inverse=True)
        if self._selects:
            logits = self._model(input_ids=ids, use_cache=False, logits_to_keep=places).logits
        else:
            logits = self._model(input_ids=ids, use_cache=False).logits[:, places]
        self._rows = rows  # last: an interrupted pass changes nothing
        found: Tensor = logits[torch.arange(len(rows), device=device), index]
        return found.float()
