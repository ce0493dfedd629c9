"""Replies that a policy wrote to prompts, with all that PPO needs to know of them as they were written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.text.tokens.token_tree import TokenTree

Integers = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Reply:
    """ids: all that was generated, the stop token included; never empty. stopped: whether the policy ended it itself."""

    ids: tuple[int, ...]
    stopped: bool


@dataclass(frozen=True, slots=True)
class PromptReplies:
    """number: of the prompt in the list of all prompts. copy: which of its copies in the epoch it is. prompt: token ids."""

    number: int
    copy: int
    prompt: tuple[int, ...]
    replies: tuple[Reply, ...]

    @property
    def targets(self) -> int:
        """Tokens of all replies."""
        return sum(len(reply.ids) for reply in self.replies)

    def split(self, tokens: int) -> list[PromptReplies]:
        """The same in pieces, in order, whose trees have at most ``tokens`` tokens each, or a single reply."""
        pieces: list[list[Reply]] = []
        filled = 0
        for reply in self.replies:
            if not pieces or filled + len(reply.ids) > tokens:
                pieces.append([])
                filled = len(self.prompt)
            pieces[-1].append(reply)
            filled += len(reply.ids)
        return [PromptReplies(self.number, self.copy, self.prompt, tuple(piece)) for piece in pieces]

    def tree(self) -> TokenTree:
        """The prompt with its replies as branches; every token of a reply is a target. Reply k is message k."""
        size, count = len(self.prompt), len(self.replies)
        lengths = np.array([len(reply.ids) for reply in self.replies], np.int32)
        ends = size + np.cumsum(lengths, dtype=np.int32)
        starts = ends - lengths
        ids = np.array([*self.prompt, *(token for reply in self.replies for token in reply.ids)], np.int32)
        segments = np.array([[0, size, -1]], np.int32)
        if count == 1:  # a chain of only children is one segment
            segments[0, 1] = ends[0]
        else:
            branches = np.stack([starts, ends, np.zeros_like(starts)], axis=1)
            segments = np.concatenate([segments, branches])
        zero, one = np.zeros_like(starts), np.ones_like(starts)
        messages = np.arange(count, dtype=np.int32)
        spans = np.stack([starts, ends, zero + size - 1, messages, one], axis=1)
        replies = np.stack([messages, zero, zero], axis=1)  # of one group and, so far, of one rank
        return TokenTree(ids, segments, spans, count, replies=replies, scores=np.full(count, np.nan, np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Rollouts:
    """The replies of one iteration. R replies with N tokens, in the order of ``answered``.

    columns: float32 [N] under every name of ``batch.columns.PPO_COLUMNS``, but advantages as they are before a step whitens them.
    rewards: float32 [R], what every reply earned at its end. coefficient: of the KL penalty that was used; following: the
    one of the next iteration. measures: what is told of the iteration.
    """

    iteration: int
    answered: tuple[PromptReplies, ...]
    columns: Mapping[str, Floats]
    rewards: Floats
    coefficient: float
    following: float
    metrics: Mapping[str, float]

    def parts(self) -> list[slice]:
        """Where the tokens of every prompt are in the columns."""
        ends = np.cumsum([each.targets for each in self.answered]).tolist()
        return [slice(end - each.targets, end) for each, end in zip(self.answered, ends, strict=True)]


def reply_lengths(answered: Sequence[PromptReplies]) -> npt.NDArray[np.int64]:
    """[R] the tokens of every reply."""
    return np.array([len(reply.ids) for each in answered for reply in each.replies], np.int64)
