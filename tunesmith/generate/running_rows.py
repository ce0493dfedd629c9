"""The rows of a running batch, as the scheduler uses them; and rows that only begin together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from tunesmith.generate.decoding import DecodingState


class RunningRows(Protocol):
    """Prompts and the replies to them, each in a row of a batch.

    joins: whether a prompt can be added while other rows are running; otherwise only when there are no rows.
    device: of the model.
    """

    joins: bool
    device: torch.device

    def history(self, prompt: Sequence[int]) -> Sequence[int]:
        """The ids before the first id of the reply; they count for the repetition penalty and for the context."""
        ...

    def replace(self, ended: Sequence[int], prompts: Sequence[tuple[int, ...]]) -> list[int]:
        """Remove the rows ``ended`` and add one row for each prompt.

        Returns the new order: for every row its number among the rows of before followed by those of ``prompts``.
        """
        ...

    def clear(self) -> None:
        """Remove all rows."""
        ...

    def step(self, ids: Sequence[int]) -> Tensor:
        """Process one id in every row, which is the last one of ``history`` in a new row.

        Returns the logits of the next token, float32 [rows, vocabulary].
        """
        ...


class StaticRows:
    """Rows that begin together, for every model that has a decoding state.

    new_state: makes an empty decoding state.
    device: of the model.
    reuse: whether a single prompt reuses the cache of the row before it (``DecodingState.prefill_cached``).
    """

    joins = False

    def __init__(self, new_state: Callable[[], DecodingState], device: torch.device, *, reuse: bool = False) -> None:
        self._new_state, self.device, self._reuse = new_state, device, reuse
        self._state = new_state()
        self._count = 0
        self._waiting: tuple[tuple[int, ...], ...] = ()  # prompts that the next step processes

    def history(self, prompt: Sequence[int]) -> Sequence[int]:
        """See ``RunningRows.history``."""
        return self._state.history(prompt)

    def replace(self, ended: Sequence[int], prompts: Sequence[tuple[int, ...]]) -> list[int]:
        """See ``RunningRows.replace``."""
        gone = set(ended)
        kept = [row for row in range(self._count) if row not in gone]
        if prompts:
            assert not kept, "these rows begin together"
            order = list(range(self._count, self._count + len(prompts)))
            self._waiting, self._count = tuple(prompts), len(prompts)
            return order
        if gone and kept:
            self._state.select(kept)
        self._count = len(kept)
        return kept

    def clear(self) -> None:
        """See ``RunningRows.clear``."""
        self._count, self._waiting = 0, ()

    def step(self, ids: Sequence[int]) -> Tensor:
        """See ``RunningRows.step``; the prompts of new rows are processed here, each once."""
        if not self._waiting:
            return self._state.append(torch.tensor(ids, device=self.device)[:, None])
        prompts, self._waiting = self._waiting, ()
        if self._reuse and len(prompts) == 1:
            return self._state.prefill_cached(prompts[0])
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
        self._state = self._new_state()
        logits = self._state.prefill(list(numbers))
        if len(numbers) == len(prompts):
            return logits
        owners = [numbers[prompt] for prompt in prompts]
        self._state.select(owners)
        return logits[owners]
