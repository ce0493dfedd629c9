"""The rows of a causal model with a cache that is written in place; a row begins as soon as another one ends.

The logits of a row do not depend on the other rows, bit for bit (measured with float32 on a CPU, ``docs/design.md``):

- the number of rows of every matrix product is a multiple of ``ROW_BLOCK``, because smaller products have separate
  kernels, which add in another order;
- a row begins in column 0 and the number of columns is a multiple of ``slot_cache.COLUMN_BLOCK``;
- prompts are padded on the right to a multiple of ``PROMPT_BLOCK``, and only prompts of the same padded length are read
  together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from tunesmith.generate.decoding import find_cache_argument
from tunesmith.generate.placed_rows import PROMPT_BLOCK, ROW_BLOCK, PlacedRows, copy_states, multiple, passes
from tunesmith.generate.slot_cache import SlotCache, block_width
from tunesmith.model.context import NO_LIMIT, attention_limits, context_length


class SlotRows(PlacedRows):
    """Rows with a slot each. Row i is in slot i.

    A prompt without its last token is read once for all its rows, also for those that begin later. The first step of a
    row processes the last token, so a reply of n tokens takes n steps.

    model: a causal model in eval mode.
    rows: the largest number of rows.
    reuse: whether a prompt reuses what the slots of ended rows have in common with it, as in a conversation. It saves
        time; its numbers are then rounded as in the rows before and not as in a prompt that is read as a whole.

    Raises ValueError if the model does not keep every key and value, or a token does not see all tokens before it.
    """

    def __init__(self, model: PreTrainedModel, rows: int, *, reuse: bool = False) -> None:
        assert not model.training, "dropout would change the replies; call model.eval() first"
        layers = DynamicCache(config=model.config).layers
        if find_cache_argument(model) != "past_key_values" or any(type(layer) is not DynamicLayer for layer in layers):
            raise ValueError(f"{type(model).__name__} has layers that do not keep every key and value")
        if limits := attention_limits(model.config):  # they count columns, and a row ends before the last column
            raise ValueError(f"{type(model).__name__} has tokens that do not see all others: {', '.join(limits)}")
        super().__init__(rows, model.device)
        self._model, self._reuse = model, reuse
        self._positions = context_length(model.config) or NO_LIMIT
        self._cache = SlotCache(len(layers), self._slots)
        self._held: list[list[int]] = [[] for _ in range(self._slots)]  # of every slot the tokens whose keys are in it

    def history(self, prompt: Sequence[int]) -> Sequence[int]:
        """The prompt itself, which the reply continues."""
        return prompt

    @torch.no_grad()
    def step(self, ids: Sequence[int]) -> Tensor:
        """See ``RunningRows.step``. The slots up to a multiple of ``ROW_BLOCK`` are computed with the rows."""
        device, count = self.device, len(ids)
        rows = multiple(count, ROW_BLOCK)
        lengths = [len(held) for held in self._held[:count]] + [0] * (rows - count)
        place = self._cache.place
        place.width = block_width(max(lengths) + 1, self._positions)
        place.slots = torch.arange(rows, device=device)
        place.columns = torch.tensor(lengths, device=device)
        mask = torch.arange(place.width, device=device) <= place.columns[:, None]
        output = self._model(
            input_ids=torch.tensor([*ids, *[0] * (rows - count)], device=device)[:, None],
            attention_mask=mask.long(),
            position_ids=place.columns[:, None],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._held[count:rows] = [[] for _ in range(count, rows)]  # column 0 was written
        for held, token in zip(self._held, ids, strict=False):
            held.append(token)  # last: an interrupted pass changes nothing
        logits: Tensor = output.logits[:count, -1].float()
        return logits

    def _head(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        return prompt[:-1]

    def _begin(self, slot: int, head: tuple[int, ...]) -> None:
        self._cache.write(slot, self._read[head] if head else [])
        self._held[slot] = list(head)

    def _move(self, source: int, target: int) -> None:
        self._cache.move(source, target, len(self._held[source]))
        self._held[target], self._held[source] = self._held[source], []

    def _read_prompts(self, heads: Sequence[tuple[int, ...]], free: Sequence[int]) -> None:
        """Compute keys and values of prompts without their last token."""
        for head in heads if self._reuse else ():
            self._read_further(head, free)
        for batch in passes([head for head in heads if head not in self._read]):
            states = self._forward([list(head) for head in batch], DynamicCache(config=self._model.config))
            for row, head in enumerate(batch):
                self._read[head] = [copy_states(keys, values, row, len(head)) for keys, values in states]

    def _read_further(self, head: tuple[int, ...], free: Sequence[int]) -> None:
        """Read a prompt behind the longest beginning of it that the slot of an ended row holds, if there is one."""
        shared = {slot: _shared(self._held[slot], head) for slot in free}
        slot = max(shared, key=lambda each: shared[each], default=None)
        if slot is None or shared[slot] == 0:
            return
        tokens, cache = shared[slot], DynamicCache(config=self._model.config)
        for index, layer in enumerate(self._cache.slot_layers):
            cache.update(*layer.read(slot, tokens), index)
        further = self._forward([list(head[tokens:])], cache) if tokens < len(head) else _states(cache)
        self._read[head] = [copy_states(keys, values, 0, len(head)) for keys, values in further]

    @torch.no_grad()
    def _forward(self, rows: list[list[int]], cache: DynamicCache) -> list[tuple[Tensor, Tensor]]:
        """Keys and values [rows, heads, tokens, units] after reading these ids behind those of the cache.

        Padding is on the right, where a causal model cannot see it, and ends at the last position of the model.
        """
        device, begin = self.device, cache.get_seq_length()
        longest = max(map(len, rows))
        width = max(longest, min(multiple(longest, PROMPT_BLOCK), self._positions - begin))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
        positions = torch.arange(begin, begin + width, device=device)
        self._model(
            input_ids=ids,
            position_ids=positions[None].expand(len(rows), -1),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return _states(cache)


def _states(cache: DynamicCache) -> list[tuple[Tensor, Tensor]]:
    found = []
    for layer in cache.layers:
        assert isinstance(layer, DynamicLayer)
        assert layer.keys is not None
        assert layer.values is not None
        found.append((layer.keys, layer.values))
    return found


def _shared(held: Sequence[int], head: Sequence[int]) -> int:
    """The number of equal ids at the beginning of both."""
    most = min(len(held), len(head))
    return next((index for index in range(most) if held[index] != head[index]), most)
