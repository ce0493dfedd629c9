"""Records that say what an earlier one said: the same to the letter, or nearly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tunesmith.data.dataset.similarity import NearDuplicates, Signature, signature
from tunesmith.text.tree import Tree

Policy = Literal["keep", "exact", "near"]


@dataclass(frozen=True, slots=True)
class DuplicateSettings:
    """policy: keep all, or drop what repeats an earlier record exactly, or nearly. threshold: the least similarity, for near."""

    policy: Policy = "keep"
    threshold: float = 0.8


KEEP_ALL = DuplicateSettings()


def signatures(tree: Tree) -> Signature:
    """What ``near`` compares, uint32 [2, 128]: everything that user and assistant say, and the replies alone.

    Both must be alike: questions about one long passage are not the same because the passage is, and neither are two
    passages with the reply "positive". What the system says is left out, as whole data sets share it. The order of
    replies to one message does not matter.
    """
    children = tree.children()
    texts: list[str] = []
    replies: list[str] = []
    waiting = [0]
    while waiting:
        index = waiting.pop()
        message = tree.messages[index]
        if message.role != "system":
            texts += [message.context, message.text]
        if message.role == "assistant":
            replies.append(message.text)
        waiting += sorted(children[index], key=lambda child: tree.messages[child].text, reverse=True)
    return np.stack([signature("\n".join(texts)), signature("\n".join(replies))])


class Duplicates:
    """Knows the records so far, and tells of the next one whether it repeats one of those that were kept."""

    def __init__(self, settings: DuplicateSettings) -> None:
        self.drops = settings.policy != "keep"
        self._keys: set[bytes] = set()
        self._near = NearDuplicates(settings.threshold) if settings.policy == "near" else None

    def repeats(self, key: bytes, signature: Signature | None) -> bool:
        """key: ``content_key`` of the record. signature: needed where near duplicates are looked for."""
        if key in self._keys:
            return True
        if self._near is not None:
            assert signature is not None
            if self._near.add(key.hex(), signature) is not None:
                return True
        self._keys.add(key)
        return False
