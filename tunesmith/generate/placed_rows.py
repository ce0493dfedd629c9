"""Rows that begin and end one by one, each in a slot of caches that are written in place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

ROW_BLOCK = 8
PROMPT_BLOCK = 16
PASS_TOKENS = 4096
"""The largest number of tokens of several prompts that are read in one pass."""
KEPT_TOKENS = 16_384
"""Prompts with at most so many tokens together are kept for further requests; the last one is always kept."""

States = list[tuple[Tensor, Tensor]]
"""For every layer keys and values, [heads, tokens, units of a head]."""


class PlacedRows(ABC):
    """Rows of which number i is in slot i. What a prompt needs is read once for all its rows, also for later ones.

    rows: the largest number of rows; there is a multiple of ``ROW_BLOCK`` of slots.
    device: of the model.
    """

    joins = True

    def __init__(self, rows: int, device: torch.device) -> None:
        self.device = device
        self._slots = multiple(rows, ROW_BLOCK)
        self._count = 0
        self._read: OrderedDict[tuple[int, ...], States] = OrderedDict()  # what was read of prompts

    def replace(self, ended: Sequence[int], prompts: Sequence[tuple[int, ...]]) -> list[int]:
        """See ``RunningRows.replace``; new rows take the slots of the ended ones, and the last rows fill the others."""
        heads = [self._head(prompt) for prompt in prompts]
        order: list[int | None] = list(range(self._count))
        for row in ended:
            order[row] = None
        free = [*sorted(ended), *range(self._count, self._slots)]
        assert len(prompts) <= len(free), "more rows than slots"
        unread = [head for head in dict.fromkeys(heads) if head and head not in self._read]
        for head in dict.fromkeys(heads):
            if head in self._read:
                self._read.move_to_end(head)
        self._read_prompts(unread, free)
        for number, (head, slot) in enumerate(zip(heads, free[: len(heads)], strict=True)):
            self._begin(slot, head)
            order[slot : slot + 1] = [self._count + number]
        self._drop_read()
        return self._close_gaps(order)

    def clear(self) -> None:
        """See ``RunningRows.clear``."""
        self._count = 0

    @abstractmethod
    def _head(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        """The part of a prompt that is read before its rows begin."""

    @abstractmethod
    def _read_prompts(self, heads: Sequence[tuple[int, ...]], free: Sequence[int]) -> None:
        """Read what is not in ``_read`` yet, and put it there. free: the slots without a row."""

    @abstractmethod
    def _begin(self, slot: int, head: tuple[int, ...]) -> None:
        """Write what was read of a prompt into a slot."""

    @abstractmethod
    def _move(self, source: int, target: int) -> None:
        """Move what a slot holds to another one."""

    def _close_gaps(self, order: list[int | None]) -> list[int]:
        """Move the last rows to the slots that are free, so that the rows have the first slots."""
        for slot in range(len(order)):
            while order and order[-1] is None:
                order.pop()
            if slot < len(order) and order[slot] is None:
                self._move(len(order) - 1, slot)
                order[slot] = order.pop()
        found = [row for row in order if row is not None]
        self._count = len(found)
        return found

    def _drop_read(self) -> None:
        """Keep at most ``KEPT_TOKENS`` of the prompts that were read, those that were used last."""
        total = sum(map(len, self._read))
        while total > KEPT_TOKENS and len(self._read) > 1:
            total -= len(self._read.popitem(last=False)[0])


def copy_states(keys: Tensor, values: Tensor, row: int, tokens: int) -> tuple[Tensor, Tensor]:
    """The first tokens of a row. A view would keep the whole pass, or change when its slot is written again."""
    return keys[row, :, :tokens].clone(), values[row, :, :tokens].clone()


def passes(heads: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Groups of prompts with the same padded length."""
    groups: dict[int, list[tuple[int, ...]]] = {}
    for head in heads:
        groups.setdefault(multiple(len(head), PROMPT_BLOCK), []).append(head)
    for width, members in groups.items():
        size = max(1, PASS_TOKENS // width)
        for start in range(0, len(members), size):
            yield members[start : start + size]


def multiple(count: int, block: int) -> int:
    """The smallest multiple of ``block`` that is at least ``count``."""
    return -(-count // block) * block
