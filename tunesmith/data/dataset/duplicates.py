"""Duplicates: records with exactly or nearly the same content as an earlier one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tunesmith.data.dataset.similarity import NearDuplicates, Signature, signature
from tunesmith.text.tree import Tree

DuplicatePolicy = Literal["keep", "exact", "near"]


@dataclass(frozen=True, slots=True)
class DuplicateSettings:
    """What happens with duplicates.

    policy: ``keep`` all records, or drop those that repeat an earlier one: ``exact`` or ``near``.
    threshold: for near duplicates, the least similarity, 0 to 1.
    """

    policy: DuplicatePolicy = "keep"
    threshold: float = 0.8


KEEP_ALL = DuplicateSettings()


def signatures(tree: Tree) -> Signature:
    """What near duplicates are found by: one signature of all texts of user and assistant, one of the replies alone.

    Both must be similar: prompts with the same long passage are not the same, and neither are two passages with the
    reply "positive". Texts of the system are left out, as whole datasets share them. The order of replies to one
    message does not matter. Returns uint32 [2, 128].
    """
    children = tree.children()
    texts: list[str] = []
    replies: list[str] = []
    stack = [0]
    while stack:
        index = stack.pop()
        message = tree.messages[index]
        if message.role != "system":
            texts += [message.context, message.text, *message.extra_texts()]
        if message.role == "assistant":
            replies += [message.text, *message.extra_texts()]
        stack += sorted(children[index], key=lambda child: tree.messages[child].text, reverse=True)
    return np.stack([signature("\n".join(texts)), signature("\n".join(replies))])


class DuplicateFinder:
    """Holds the records so far, and finds out whether the next one repeats one of them."""

    def __init__(self, settings: DuplicateSettings) -> None:
        self.drops = settings.policy != "keep"
        self._keys: set[bytes] = set()
        self._near = NearDuplicates(settings.threshold) if settings.policy == "near" else None

    def add(self, key: bytes, signature: Signature | None) -> bool:
        """Whether a record repeats an earlier one; if not, it is added to these.

        key: ``content_key`` of the record.
        signature: its ``signatures``, uint32 [2, 128]; needed for near duplicates only.
        """
        if key in self._keys:
            return True
        if self._near is not None:
            assert signature is not None
            if self._near.add(key.hex(), signature) is not None:
                return True
        self._keys.add(key)
        return False
