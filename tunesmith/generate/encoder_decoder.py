"""Rows of an encoder-decoder: every prompt goes through the encoder once, replies grow in the decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class EncoderDecoderRows:
    """What the decoder has written so far, row by row, with its keys and values and those of the input it looks at.

    Prompts are what the encoder reads; rows with the same prompt share one pass of it. Replies begin after the model's start
    token, so all rows are equally long. The model must be in evaluation mode.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        assert not model.training, "dropout would change the replies; call model.eval() first"
        self._model = model
        self._start = start_token(model)
        self._prompt: tuple[int, ...] | None = None  # whose states the single row holds
        self._states = torch.empty(0, 0, 0, device=model.device)  # [rows, columns, width], of the encoder
        self._real = torch.empty(0, 0, dtype=torch.long, device=model.device)  # 0 on padding
        self._cache = _empty_cache()

    def history(self, prompt: Sequence[int]) -> Sequence[int]:
        """The start token: the prompt is no part of what the decoder writes."""
        return (self._start,)

    def start(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Encode one prompt per row; returns the logits of the first token [rows, vocabulary]."""
        self._prompt = None
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
        states, real = self._encode(list(numbers))
        rows = torch.tensor([numbers[tuple(prompt)] for prompt in prompts], device=self._model.device)
        self._states, self._real = states[rows], real[rows]
        self._prompt = tuple(prompts[0]) if len(prompts) == 1 else None
        return self._begin()

    def resume(self, prompt: Sequence[int]) -> Tensor:
        """As ``start`` for a single row; a prompt that it holds already is not encoded again."""
        return self._begin() if self._prompt == tuple(prompt) else self.start([prompt])

    @torch.no_grad()
    def append(self, ids: Tensor) -> Tensor:
        """Write further ids int64 [rows, columns]; returns the logits after the last column [rows, vocabulary]."""
        output = self._model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self._states),
            attention_mask=self._real,
            decoder_input_ids=ids,
            past_key_values=self._cache,
            use_cache=True,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """See ``Rows.keep``."""
        index = torch.tensor(rows, device=self._model.device)
        self._cache.batch_select_indices(index)
        self._states, self._real, self._prompt = self._states[index], self._real[index], None

    @torch.no_grad()
    def _encode(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """(hidden states [prompts, columns, width], 1 where they are of a token [prompts, columns]), padded on the right."""
        width = max(map(len, prompts))
        ids = [[*prompt, *[0] * (width - len(prompt))] for prompt in prompts]
        real = [[1] * len(prompt) + [0] * (width - len(prompt)) for prompt in prompts]
        mask = torch.tensor(real, device=self._model.device)
        encoder = self._model.get_encoder()
        output = encoder(input_ids=torch.tensor(ids, device=self._model.device), attention_mask=mask)
        states: Tensor = output.last_hidden_state
        return states, mask

    def _begin(self) -> Tensor:
        """The logits of the first token. Whatever was written before is forgotten, an interrupted pass included."""
        self._cache = _empty_cache()
        return self.append(torch.full((len(self._states), 1), self._start, device=self._model.device))


def start_token(model: PreTrainedModel) -> int:
    """The id that the decoder begins with: the configuration's, or else its padding token, as for T5."""
    start = getattr(model.config, "decoder_start_token_id", None)
    return int(start if start is not None else model.config.pad_token_id)


def _empty_cache() -> EncoderDecoderCache:
    return EncoderDecoderCache(DynamicCache(), DynamicCache())
