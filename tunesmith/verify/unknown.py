"""Targets that are characters outside of the vocabulary: a model that is trained on them learns no text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tunesmith.text.targets import target_mask
from tunesmith.text.tokenizer.codec import IDENTITY
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Tree

PLACES = 20  # of replies without a known character, that are kept


@dataclass(frozen=True, slots=True)
class UnknownCount:
    """Targets of one record that are characters outside of the vocabulary.

    tokens: how many.
    replies: how many of its spans of targets have no character of the vocabulary.
    """

    tokens: int = 0
    replies: int = 0


@dataclass(slots=True)
class UnknownTargets:
    """Targets of one source that are characters outside of the vocabulary.

    tokens: how many.
    targets: of all kinds.
    most: in the record that has most of them.
    place: of that record.
    replies: how many replies have no character of the vocabulary.
    places: of the first records with such a reply.
    """

    tokens: int = 0
    targets: int = 0
    most: int = 0
    place: str = ""
    replies: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, place: str, found: UnknownCount, targets: int) -> None:
        """Count one record."""
        self.tokens, self.targets = self.tokens + found.tokens, self.targets + targets
        if found.tokens > self.most:
            self.most, self.place = found.tokens, place
        if found.replies:
            self.replies += found.replies
            if len(self.places) < PLACES:
                self.places.append(place)

    @property
    def share(self) -> float:
        """The part of all targets."""
        return self.tokens / max(self.targets, 1)


def find_unknown_targets(renderer: Renderer, tree: Tree, tokens: TokenTree) -> UnknownCount:
    """Count the targets of a tree that are text outside of the vocabulary, each once.

    The codec of a format may write marks on purpose of which a part is not in the vocabulary; these do not count.

    renderer: rendered it.
    tree: the messages.
    tokens: the rendering of ``tree``.
    """
    unknown = renderer.tokenizer.unknown_ids
    if not unknown:
        return UnknownCount()
    spans = [tokens.ids[start:end].tolist() for start, end, *_ in tokens.spans.tolist()]
    found = sum(token in unknown for ids in spans for token in ids)
    if not found:
        return UnknownCount()
    replies = sum(_has_unknown_only(renderer, ids) for ids in spans)
    if renderer.format.codec is IDENTITY:
        return UnknownCount(found, replies)
    mask = target_mask(tree, renderer.targets)
    messages = [message for message, trained in zip(tree.messages, mask, strict=True) if trained]
    texts = [message.text for message in messages if renderer.targets == "all" or message.role == "assistant"]
    plain = renderer.tokenizer.encode_many(texts, continuing=True)
    found = min(found, sum(token in unknown for ids in plain for token in ids))
    return UnknownCount(found, replies if found else 0)


def _has_unknown_only(renderer: Renderer, ids: Sequence[int]) -> bool:
    """Whether targets have unknown tokens, and no text without them."""
    tokenizer = renderer.tokenizer
    known = [token for token in ids if token not in tokenizer.unknown_ids]
    text = renderer.format.codec.decode(tokenizer.decode(known, continuing=True))
    return len(known) < len(ids) and not text.strip()
