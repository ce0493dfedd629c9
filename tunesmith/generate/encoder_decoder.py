"""The decoding state of an encoder-decoder: the encoder processes every prompt once, the decoder writes the reply."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class EncoderDecoderState:
    """The hidden states of the encoder with the self-attention and cross-attention caches of the decoder.

    Prompts are the input of the encoder; rows with the same prompt share one forward pass. Replies begin after the
    start token of the decoder, so all rows are equally long. The model must be in eval mode.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        assert not model.training, "dropout would change the replies; call model.eval() first"
        self._model = model
        self._start = start_token(model)
        self._prompt: tuple[int, ...] | None = None  # the prompt of the single row; None for several rows
        self._states = torch.empty(0, 0, 0, device=model.device)  # [rows, columns, width], of the encoder
        self._real = torch.empty(0, 0, dtype=torch.long, device=model.device)  # 0 on padding
        self._cache = _empty_cache()

    def history(self, prompt: Sequence[int]) -> Sequence[int]:
        """The start token alone, since the decoder does not read the prompt."""
        return (self._start,)

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """See ``DecodingState.prefill``."""
        self._prompt = None
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
        states, real = self._encode(list(numbers))
        rows = torch.tensor([numbers[tuple(prompt)] for prompt in prompts], device=self._model.device)
        self._states, self._real = states[rows], real[rows]
        self._prompt = tuple(prompts[0]) if len(prompts) == 1 else None
        return self._start_decoder()

    def prefill_cached(self, prompt: Sequence[int]) -> Tensor:
        """See ``DecodingState.prefill_cached``; only a prompt that is the same as a whole is not encoded again."""
        return self._start_decoder() if self._prompt == tuple(prompt) else self.prefill([prompt])

    @torch.no_grad()
    def append(self, ids: Tensor) -> Tensor:
        """See ``DecodingState.append``."""
        output = self._model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self._states),
            attention_mask=self._real,
            decoder_input_ids=ids,
            past_key_values=self._cache,
            use_cache=True,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def select(self, rows: Sequence[int]) -> None:
        """See ``DecodingState.select``."""
        index = torch.tensor(rows, device=self._model.device)
        self._cache.batch_select_indices(index)
        self._states, self._real, self._prompt = self._states[index], self._real[index], None

    @torch.no_grad()
    def _encode(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """(hidden states [prompts, columns, width], attention mask int64 [prompts, columns]), padded on the right."""
        width = max(map(len, prompts))
        ids = [[*prompt, *[0] * (width - len(prompt))] for prompt in prompts]
        real = [[1] * len(prompt) + [0] * (width - len(prompt)) for prompt in prompts]
        mask = torch.tensor(real, device=self._model.device)
        encoder = self._model.get_encoder()
        output = encoder(input_ids=torch.tensor(ids, device=self._model.device), attention_mask=mask)
        states: Tensor = output.last_hidden_state
        return states, mask

    def _start_decoder(self) -> Tensor:
        """The logits of the first token, float32 [rows, vocabulary]."""
        self._cache = _empty_cache()  # which also drops an interrupted forward pass
        return self.append(torch.full((len(self._states), 1), self._start, device=self._model.device))


def start_token(model: PreTrainedModel) -> int:
    """The id that the decoder begins with: ``decoder_start_token_id``, or else the padding token, as for T5."""
    start = getattr(model.config, "decoder_start_token_id", None)
    return int(start if start is not None else model.config.pad_token_id)


def _empty_cache() -> EncoderDecoderCache:
    return EncoderDecoderCache(DynamicCache(), DynamicCache())
