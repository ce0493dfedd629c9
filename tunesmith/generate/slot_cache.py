"""A key-value cache that is written in place: every row has a slot, and the tokens of a slot begin in column 0.

A step writes one key and one value in each slot, at the length that its row has, and copies nothing else. A row can
therefore begin and end while the other rows stay where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

COLUMN_BLOCK = 64
"""The number of columns that a step reads is a multiple of this. The sums of attention are then computed in the same
order for a row whatever the lengths of the other rows are, because the columns behind its end have weight 0."""


@dataclass(slots=True)
class StepPlace:
    """Where the step that is computed writes, and how much it reads.

    slots: int64 [rows], the slot of every row: 0, 1, 2, ...
    columns: int64 [rows], where the new token of every row is written.
    width: the number of columns that are read, more than any of ``columns``.
    """

    slots: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    columns: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    width: int = 0


class SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """The keys and values of one layer, [slots, heads, capacity, units of a head].

    slots: the number of slots.
    place: shared by all layers; it is set before every forward pass.
    """

    is_croppable = False

    def __init__(self, slots: int, place: StepPlace) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._slots, self._place = slots, place
        self._states: tuple[Tensor, Tensor] | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make the buffers as wide as the next step needs, with the heads, units and types of these states."""
        self._widened(key_states, value_states)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the states of one new token of every row, [rows, heads, 1, units].

        Returns keys and values of all columns that are read, [rows, heads, width, units]; these are views.
        """
        keys, values = self._widened(key_states, value_states)
        place, rows = self._place, key_states.shape[0]
        keys[place.slots, :, place.columns] = key_states[:, :, 0].to(keys.dtype)  # under autocast types may differ
        values[place.slots, :, place.columns] = value_states[:, :, 0].to(values.dtype)
        return keys[:rows, :, : place.width], values[:rows, :, : place.width]

    def write(self, slot: int, key_states: Tensor, value_states: Tensor) -> None:
        """Write the first tokens of a slot, [heads, tokens, units]; ``place.width`` is at least their number."""
        keys, values = self._widened(key_states[None], value_states[None])
        keys[slot, :, : key_states.shape[1]] = key_states
        values[slot, :, : value_states.shape[1]] = value_states

    def read(self, slot: int, tokens: int) -> tuple[Tensor, Tensor]:
        """Views of keys and values of the first tokens of a slot, [1, heads, tokens, units]."""
        assert self._states is not None, "nothing was written"
        keys, values = self._states
        return keys[slot : slot + 1, :, :tokens], values[slot : slot + 1, :, :tokens]

    def show(self, rows: int) -> None:
        """Let ``keys`` and ``values`` be views of all columns that are read, [rows, heads, width, units]."""
        assert self._states is not None, "nothing was written"
        keys, values = self._widened(*self._states)
        self.keys, self.values = keys[:rows, :, : self._place.width], values[:rows, :, : self._place.width]

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first tokens of one slot to another, which is cleared behind them."""
        for states in self._states or ():
            states[target, :, :tokens] = states[source, :, :tokens]
        self.clear(target, tokens)

    def clear(self, slot: int, tokens: int) -> None:
        """Write 0 behind the first tokens of a slot, where the numbers of its last row may be NaN."""
        for states in self._states or ():
            states[slot, :, tokens:] = 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(columns that a mask has, first column)."""
        return self._place.width, 0

    def get_seq_length(self) -> int:
        """As if the new token were in the last column; which of the columns before it count is said by the mask."""
        return self._place.width - 1

    def get_max_length(self) -> int:
        """No limit."""
        return -1

    def _widened(self, key_states: Tensor, value_states: Tensor) -> tuple[Tensor, Tensor]:
        """The buffers, or wider copies of them. New columns are 0, so that a weight of 0 never meets NaN."""
        old = self._states
        capacity = 0 if old is None else old[0].shape[2]
        if old is not None and capacity >= self._place.width:
            return old
        wider = max(self._place.width, capacity * 3 // 2)
        keys, values = (
            states.new_zeros(self._slots, states.shape[1], wider, states.shape[3])
            for states in (key_states, value_states)
        )
        if old is not None:
            keys[:, :, :capacity], values[:, :, :capacity] = old
        self._states, self.is_initialized = (keys, values), True
        return keys, values


class SlotCache(Cache):
    """The cache of a model whose layers all keep every key and value.

    layers: the number of layers.
    slots: the largest number of rows.
    """

    def __init__(self, layers: int, slots: int) -> None:
        self.place = StepPlace()
        self.slot_layers = [SlotLayer(slots, self.place) for _ in range(layers)]
        super().__init__(layers=list(self.slot_layers))

    def write(self, slot: int, states: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Write the keys and values of a prompt, [heads, tokens, units] for every layer, into a slot.

        The slot is cleared behind them, because a weight of 0 times NaN is NaN.
        """
        tokens = states[0][0].shape[1] if states else 0
        for layer in self.slot_layers:
            layer.clear(slot, tokens)
        if not tokens:
            return
        self.place.width = max(self.place.width, tokens)
        for layer, (keys, values) in zip(self.slot_layers, states, strict=True):
            layer.write(slot, keys, values)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first tokens of one slot to another."""
        for layer in self.slot_layers:
            layer.move(source, target, tokens)


def block_width(tokens: int, positions: int) -> int:
    """The number of columns for rows of at most so many tokens, with one column more at least, so that some column is
    masked in every step and the attention function takes the same path for all of them.

    positions: of the model. There are no columns behind it, because masks and tables of ALiBi may end there; rows of
        so many tokens are as wide as they are.
    """
    return max(tokens, min(-(-(tokens + 1) // COLUMN_BLOCK) * COLUMN_BLOCK, positions))
