"""The rows of an encoder-decoder with caches that are written in place; a row begins as soon as another one ends.

The keys and values that the decoder computes from the states of the encoder are in one cache, those of the reply in
another; in both a row begins in column 0, so that its logits do not depend on the other rows (``generate.slot_rows``).
A row adds its own bias by distance to the scores (``columns`` of ``model.attention``), because the model computes one
bias for all rows. Only families that know no other positions can be used; ``generate.cache_check`` finds out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutput

from tunesmith.generate.encoder_decoder import start_token
from tunesmith.generate.placed_rows import PROMPT_BLOCK, ROW_BLOCK, PlacedRows, copy_states, multiple, passes
from tunesmith.generate.slot_cache import SlotCache, block_width
from tunesmith.model.context import NO_LIMIT


class EncoderDecoderRows(PlacedRows):
    """Rows with a slot each. The encoder reads a prompt once for all its rows, also for those that begin later.

    model: an encoder-decoder in eval mode.
    rows: the largest number of rows.
    reuse: has no effect; prompts are kept in any case.
    """

    def __init__(self, model: PreTrainedModel, rows: int, *, reuse: bool = False) -> None:
        assert not model.training, "dropout would change the replies; call model.eval() first"
        super().__init__(rows, model.device)
        self._model, self._start = model, start_token(model)
        layers = int(getattr(model.config, "num_decoder_layers", None) or model.config.num_hidden_layers)
        self._replies, self._inputs = SlotCache(layers, self._slots), SlotCache(layers, self._slots)
        self._cache = EncoderDecoderCache(self._replies, self._inputs)
        self._cache.is_updated = dict.fromkeys(range(layers), True)  # keys of inputs are never computed in a step
        self._reply_sizes, self._input_sizes = [0] * self._slots, [1] * self._slots

    def history(self, prompt: Sequence[int]) -> Sequence[int]:
        """The start token alone, since the decoder does not read the prompt."""
        return (self._start,)

    @torch.no_grad()
    def step(self, ids: Sequence[int]) -> Tensor:
        """See ``RunningRows.step``. The slots up to a multiple of ``ROW_BLOCK`` are computed with the rows."""
        device, count = self.device, len(ids)
        rows = multiple(count, ROW_BLOCK)
        place, columns = self._replies.place, self._reply_sizes[:count] + [0] * (rows - count)
        place.width = block_width(max(columns) + 1, NO_LIMIT)
        place.slots, place.columns = torch.arange(rows, device=device), torch.tensor(columns, device=device)
        self._inputs.place.width = width = block_width(max(self._input_sizes[:count]), NO_LIMIT)
        for layer in self._inputs.slot_layers:
            layer.show(rows)
        sizes = torch.tensor(self._input_sizes[:count] + [1] * (rows - count), device=device)
        # The decoder reads the size of these states only; the keys and values in the cache were computed from them.
        states = torch.zeros(1, 1, 1, device=device, dtype=self._model.dtype).expand(rows, width, 1)
        output = self._model(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            attention_mask=(torch.arange(width, device=device) < sizes[:, None]).long(),
            decoder_input_ids=torch.tensor([*ids, *[0] * (rows - count)], device=device)[:, None],
            decoder_attention_mask=(torch.arange(place.width, device=device) <= place.columns[:, None]).long(),
            past_key_values=self._cache,
            use_cache=True,
            columns=place.columns,
        )
        for row in range(count):  # last: an interrupted pass changes nothing
            self._reply_sizes[row] += 1
        logits: Tensor = output.logits[:count, -1].float()
        return logits

    def _head(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        return prompt

    def _begin(self, slot: int, head: tuple[int, ...]) -> None:
        self._replies.write(slot, [])
        self._inputs.write(slot, self._read[head])
        self._reply_sizes[slot], self._input_sizes[slot] = 0, len(head)

    def _move(self, source: int, target: int) -> None:
        self._replies.move(source, target, self._reply_sizes[source])
        self._inputs.move(source, target, self._input_sizes[source])
        for sizes in (self._reply_sizes, self._input_sizes):
            sizes[target] = sizes[source]

    def _read_prompts(self, heads: Sequence[tuple[int, ...]], free: Sequence[int]) -> None:
        """Compute the keys and values that the decoder sees of prompts."""
        for batch in passes(heads):
            states = self._encode(batch)
            for row, head in enumerate(batch):
                self._read[head] = [copy_states(keys, values, row, len(head)) for keys, values in states]

    @torch.no_grad()
    def _encode(self, prompts: Sequence[tuple[int, ...]]) -> list[tuple[Tensor, Tensor]]:
        """For every layer the keys and values that the decoder sees, [prompts, heads, tokens, units].

        A step of the decoder computes them, whatever they are called in a family.
        """
        width = multiple(max(map(len, prompts)), PROMPT_BLOCK)
        ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=self.device)
        real = [[1] * len(prompt) + [0] * (width - len(prompt)) for prompt in prompts]
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self._model(
            input_ids=ids,
            attention_mask=torch.tensor(real, device=self.device),
            decoder_input_ids=torch.full((len(prompts), 1), self._start, device=self.device),
            past_key_values=cache,
            use_cache=True,
        )
        found = []
        for layer in cache.cross_attention_cache.layers:
            assert isinstance(layer, DynamicLayer)
            assert layer.keys is not None
            assert layer.values is not None
            found.append((layer.keys, layer.values))
        return found
