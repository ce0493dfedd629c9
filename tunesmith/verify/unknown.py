"""Targets that are characters outside of the vocabulary: a model that is trained on them learns no text."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.text.targets import target_mask
from tunesmith.text.tokenizer.codec import IDENTITY
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Tree


@dataclass(slots=True)
class UnknownTargets:
    """Targets of one source that are characters outside the vocabulary.

    tokens: how many do.
    targets: of all kinds.
    most: in the record that has most of them.
    place: of that record.
    """

    tokens: int = 0
    targets: int = 0
    most: int = 0
    place: str = ""

    def add(self, place: str, tokens: int, targets: int) -> None:
        """Count one record."""
        self.tokens, self.targets = self.tokens + tokens, self.targets + targets
        if tokens > self.most:
            self.most, self.place = tokens, place

    @property
    def share(self) -> float:
        """The part of all targets."""
        return self.tokens / max(self.targets, 1)


def count_unknown_targets(renderer: Renderer, tree: Tree, tokens: TokenTree) -> int:
    """Return how many targets of a tree are text that the vocabulary does not have, each counted once.

    The codec of a format may write marks on purpose of which a part is not in the vocabulary; these do not count.

    renderer: rendered it.
    tree: the messages.
    tokens: the rendering of ``tree``.
    """
    unknown = renderer.tokenizer.unknown_ids
    if not unknown:
        return 0
    found = sum(
        token in unknown for start, end, *_ in tokens.spans.tolist() for token in tokens.ids[start:end].tolist()
    )
    if not found or renderer.format.codec is IDENTITY:
        return found
    mask = target_mask(tree, renderer.targets)
    messages = [message for message, trained in zip(tree.messages, mask, strict=True) if trained]
    texts = [message.text for message in messages if renderer.targets == "all" or message.role == "assistant"]
    plain = renderer.tokenizer.encode_many(texts, continuing=True)
    return min(found, sum(token in unknown for ids in plain for token in ids))
