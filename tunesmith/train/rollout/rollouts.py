"""Replies that a policy sampled, with the values that PPO needs from the weights that sampled them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.text.tokens.token_tree import TokenTree

Integers = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SampledReply:
    """One reply of the policy.

    ids: all generated token ids, the stop token included; never empty.
    stopped: whether the reply ended with a stop token, not at the limit of tokens.
    """

    ids: tuple[int, ...]
    stopped: bool


@dataclass(frozen=True, slots=True)
class PromptReplies:
    """A prompt with its sampled replies.

    number: index of the prompt in the list of all prompts.
    copy: which copy of the prompt in the epoch this is, from 0.
    prompt: token ids.
    replies: at least one.
    """

    number: int
    copy: int
    prompt: tuple[int, ...]
    replies: tuple[SampledReply, ...]

    @property
    def targets(self) -> int:
        """Tokens of all replies together."""
        return sum(len(reply.ids) for reply in self.replies)

    def split(self, tokens: int) -> list[PromptReplies]:
        """The replies in order, divided into pieces whose trees have at most ``tokens`` tokens, or a single reply."""
        pieces: list[list[SampledReply]] = []
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
        prompt_length, count = len(self.prompt), len(self.replies)
        lengths = np.array([len(reply.ids) for reply in self.replies], np.int32)
        ends = prompt_length + np.cumsum(lengths, dtype=np.int32)
        starts = ends - lengths
        ids = np.array([*self.prompt, *(token for reply in self.replies for token in reply.ids)], np.int32)
        segments = np.array([[0, prompt_length, -1]], np.int32)
        if count == 1:  # a prompt with a single reply is one segment
            segments[0, 1] = ends[0]
        else:
            branches = np.stack([starts, ends, np.zeros_like(starts)], axis=1)
            segments = np.concatenate([segments, branches])
        zero, one = np.zeros_like(starts), np.ones_like(starts)
        messages = np.arange(count, dtype=np.int32)
        spans = np.stack([starts, ends, zero + prompt_length - 1, messages, one], axis=1)
        replies = np.stack([messages, zero, zero], axis=1)  # all replies of one group, and of equal rank
        return TokenTree(ids, segments, spans, count, replies=replies, scores=np.full(count, np.nan, np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Rollouts:
    """The replies of one iteration: R replies with N tokens together, in the order of ``answered``.

    iteration: from 0.
    answered: the prompts with their replies.
    columns: name -> float32 [N], for every name in ``PPO_COLUMNS``. Advantages are not whitened yet.
    rewards: float32 [R], the reward at the end of each reply, without the KL penalty.
    coefficient: coefficient of the KL penalty in this iteration.
    next_coefficient: the coefficient for the next iteration.
    metrics: reported with the first step of the iteration.
    """

    iteration: int
    answered: tuple[PromptReplies, ...]
    columns: Mapping[str, Floats]
    rewards: Floats
    coefficient: float
    next_coefficient: float
    metrics: Mapping[str, float]

    def prompt_slices(self) -> list[slice]:
        """For every prompt, the slice of the columns that its replies take."""
        ends = np.cumsum([each.targets for each in self.answered]).tolist()
        return [slice(end - each.targets, end) for each, end in zip(self.answered, ends, strict=True)]


def reply_lengths(answered: Sequence[PromptReplies]) -> npt.NDArray[np.int64]:
    """Tokens of every reply, int64 [R]."""
    return np.array([len(reply.ids) for each in answered for reply in each.replies], np.int64)
