"""The prompts of a store as a list: a token tree may have several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.data.dataset.store import Store
from tunesmith.text.tokens.prompts import prompt_ids

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PromptList:
    """All prompts of a store.

    store: that has them.
    example: int64 [P], for every prompt the number of its token tree in the store.
    span: int64 [P], the number of its span in that tree.
    source: int64 [P], the index of its data source in ``store.sources``.
    """

    store: Store
    example: Integers
    span: Integers
    source: Integers

    def __len__(self) -> int:
        return len(self.example)

    def ids(self, number: int) -> tuple[int, ...]:
        """The token ids of one prompt. Raises IndexError."""
        tree = self.store.tree(int(self.example[number]))
        return prompt_ids(tree, int(tree.spans[self.span[number], 2]))


def list_prompts(store: Store) -> PromptList:
    """Every prompt of the token trees of a store, in their order."""
    counts = np.array([len(store.tree(number).spans) for number in range(len(store))], np.int64)
    example = np.repeat(np.arange(len(store), dtype=np.int64), counts)
    span = np.arange(len(example), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
    return PromptList(store, example, span, np.asarray(store.source, np.int64)[example])
