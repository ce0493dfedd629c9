"""Dialogues with ranked replies, as token trees and as plain sequences without trees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tunesmith.batch.example import Replies
from tunesmith.text.targets import ranked_replies
from tunesmith.text.tokens.ranking import reply_table
from tunesmith.text.tokens.segments import MessageTokens, assemble_tree
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Message, Tree

VOCABULARY = 211
HEADER = (7, 8)  # precedes every reply and is no target

# parents and ranks of the messages; a message without a rank asks, or answers without being compared
PAIR = ((-1, 0, 0), (None, 0, 1))
SWAPPED = ((-1, 0, 0), (None, 1, 0))
FIVE = ((-1, 0, 0, 0, 0, 0), (None, 2, 0, 1, 1, 3))
TWO_DEPTHS = ((-1, 0, 1, 2, 2, 2, 0), (None, 0, None, 1, 0, 2, 1))
UNRANKED = ((-1, 0, 1, 2, 2, 1, 5), (None, None, None, 0, 4, None, None))
SHAPES = (PAIR, SWAPPED, FIVE, TWO_DEPTHS, UNRANKED)
Shape = tuple[tuple[int, ...], tuple[int | None, ...]]


def changed_replies(replies: Replies, **columns: Tensor) -> Replies:
    """The replies with other columns, and the pairs that belong to them."""
    present = {name: getattr(replies, name) for name in ("group", "rank", "score", "end")}
    return Replies.of(**{**present, **columns})


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A dialogue with ranked replies. Messages without a rank are never targets.

    contents: the token ids of every message; those of a reply include its header.
    """

    parents: tuple[int, ...]
    ranks: tuple[int | None, ...]
    scores: tuple[float, ...]
    contents: tuple[tuple[int, ...], ...]

    def tree(self) -> TokenTree:
        """As the renderer lays it out."""
        messages = [
            Message("user" if rank is None else "assistant", "?", rank=rank, score=None if np.isnan(score) else score)
            for rank, score in zip(self.ranks, self.scores, strict=True)
        ]
        tree = Tree(tuple(messages), self.parents)
        replies, scores = reply_table(ranked_replies(tree))
        chosen = set(replies[:, 0].tolist())
        tokens = [
            MessageTokens(ids[: len(HEADER)], ids[len(HEADER) :], 0, True)
            if number in chosen
            else MessageTokens(ids, (), 0, False)
            for number, ids in enumerate(self.contents)
        ]
        found = assemble_tree(tree, tokens)
        assert found is not None
        return replace(found, replies=replies, scores=scores)

    def sequence(self, message: int) -> tuple[Tensor, int]:
        """The ids from the root to the end of a reply, and where the reply begins behind its header."""
        ids: list[int] = []
        above = self.parents[message]
        while above >= 0:
            ids = [*self.contents[above], *ids]
            above = self.parents[above]
        return torch.tensor([*ids, *self.contents[message]]), len(ids) + len(HEADER)

    def groups(self) -> Iterator[list[int]]:
        """The ranked replies to every message that has some."""
        for parent in sorted(set(self.parents)):
            group = [
                number
                for number, above in enumerate(self.parents)
                if above == parent and self.ranks[number] is not None
            ]
            if group:
                yield group


def dialogue(seed: int, shape: Shape, size: int = 9, vocabulary: int = VOCABULARY) -> Dialogue:
    """Random contents for a shape."""
    draw = np.random.default_rng(seed)
    parents, ranks = shape
    contents = []
    for rank in ranks:
        words = draw.integers(2, vocabulary, int(draw.integers(1, size))).tolist()
        contents.append((*(HEADER if rank is not None else ()), *words))
    # a better rank has a higher score, as in the data
    scores = [float("nan") if rank is None else 3.0 - rank - 0.5 * draw.random() for rank in ranks]
    return Dialogue(parents, ranks, tuple(scores), tuple(contents))


def dialogues(count: int = 6) -> list[Dialogue]:
    return [dialogue(number, SHAPES[number % len(SHAPES)]) for number in range(count)]
