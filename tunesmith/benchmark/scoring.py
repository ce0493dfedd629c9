"""Log-likelihoods of answers: the question is read once, the answers are its branches, many questions share a batch.

A plan divides the answers into batches. It depends on nothing but their tokens, so a plan whose first batches were done
by an earlier process continues with the same numbers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Generic, Protocol

import numpy as np
import torch

from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch, assemble_packed
from tunesmith.batch.padded import PaddedBatch, collate_padded
from tunesmith.batch.protocols import BatchT, LogProbabilities
from tunesmith.benchmark.tries import ScoredRow, Trie, build_trie
from tunesmith.model.policy import Policy
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.text.tokens.token_tree import TokenTree

BATCH_TOKENS = 2048
"""Tokens of one batch; a longer question is a batch alone."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to be scored.

    question: answers with the same number belong to one question, and are scored together.
    context: the token ids before it; at least one.
    continuation: the token ids of the answer; at least one.
    """

    question: int
    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """The score of one answer.

    log_likelihood: sum of the log-probabilities of its tokens.
    greedy: whether each of its tokens is the most likely one.
    """

    log_likelihood: float
    greedy: bool


@dataclass(frozen=True, slots=True)
class PlannedBatch(Generic[BatchT]):
    """A batch and what its targets belong to.

    batch: what the policy reads.
    answers: numbers of the answers that are scored by it.
    places: for each of these answers its targets, as indices into those of the batch.
    """

    batch: BatchT
    answers: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        """The number of tokens that the model reads."""
        return self.batch.tokens

    def scores(self, found: LogProbabilities) -> dict[int, AnswerScore]:
        """The scores of the answers, from what a policy computed for the batch."""
        values = found.log_probability.double().cpu().numpy()
        correct = found.correct.cpu().numpy()
        return {
            answer: AnswerScore(float(values[list(places)].sum()), bool(correct[list(places)].all()))
            for answer, places in zip(self.answers, self.places, strict=True)
        }


class PlannedWork(Protocol):
    """A batch of a plan, as whoever keeps the results of earlier processes sees it."""

    @property
    def answers(self) -> tuple[int, ...]: ...

    @property
    def tokens(self) -> int: ...


class AnswerScorer(Protocol):
    """A model that scores answers."""

    def truncated(self, answer: Answer) -> bool:
        """Whether the answer is too long for the model, so that the beginning of its context is not read."""
        ...

    def tokens_alone(self, answer: Answer) -> int:
        """How many tokens the model would read for this answer with its context, and nothing else."""
        ...

    def plan(self, answers: Sequence[Answer]) -> Iterator[tuple[PlannedWork, Callable[[], dict[int, AnswerScore]]]]:
        """The batches in order, each with the function that computes its scores by the number of the answer."""
        ...


class CausalScorer:
    """Scores answers by a causal model.

    policy: the model.
    max_length: the largest number of tokens that it reads at once. Of a longer text the last ``max_length`` + 1 tokens
        are kept (the last one is only predicted), as lm-evaluation-harness does.
    """

    def __init__(self, policy: Policy, max_length: int) -> None:
        self._policy, self._max_length = policy, max_length
        policy.eval()

    def truncated(self, answer: Answer) -> bool:
        """See ``AnswerScorer``."""
        return len(answer.context) + len(answer.continuation) > self._max_length + 1

    def tokens_alone(self, answer: Answer) -> int:
        """See ``AnswerScorer``."""
        return min(len(answer.context) + len(answer.continuation) - 1, self._max_length)

    def plan(self, answers: Sequence[Answer]) -> Iterator[tuple[PlannedWork, Callable[[], dict[int, AnswerScore]]]]:
        """See ``AnswerScorer``. Questions of similar length share a batch, the longest first."""
        questions = _by_question(answers)
        tries = [build_trie([self._row(answers[index]) for index in members]) for members in questions]
        order = sorted(range(len(tries)), key=lambda index: (-len(tries[index].tree.ids), index))
        for group in _fill([len(tries[index].tree.ids) for index in order], BATCH_TOKENS):
            chosen = [order[place] for place in group]
            planned = _pack([tries[index] for index in chosen], [questions[index] for index in chosen])
            yield planned, lambda planned=planned: planned.scores(self._compute(planned.batch))  # type: ignore[misc]

    def _row(self, answer: Answer) -> ScoredRow:
        ids = (answer.context + answer.continuation)[-(self._max_length + 1) :]
        return ScoredRow(ids, max(1, len(ids) - len(answer.continuation)))

    @torch.no_grad()
    def _compute(self, batch: PackedBatch) -> LogProbabilities:
        with self._policy.autocast():
            return self._policy.shared_log_probabilities(batch.to(self._policy.device))


class Seq2SeqScorer:
    """Scores answers by an encoder-decoder: the encoder reads a context once, the decoder every answer to it.

    policy: the model.
    max_length: the largest number of tokens of a context, of which the last are kept, and of an answer.
    start, padding: the token ids that the decoder reads first, and of padding.
    """

    def __init__(self, policy: Seq2SeqPolicy, max_length: int, *, start: int, padding: int) -> None:
        self._policy, self._max_length = policy, max_length
        self._start, self._padding = start, padding
        policy.eval()

    def truncated(self, answer: Answer) -> bool:
        """See ``AnswerScorer``."""
        return max(len(answer.context), len(answer.continuation)) > self._max_length

    def tokens_alone(self, answer: Answer) -> int:
        """See ``AnswerScorer``."""
        return sum(min(len(ids), self._max_length) for ids in (answer.context, answer.continuation))

    def plan(self, answers: Sequence[Answer]) -> Iterator[tuple[PlannedWork, Callable[[], dict[int, AnswerScore]]]]:
        """See ``AnswerScorer``."""
        contexts: dict[tuple[int, ...], list[int]] = {}
        for index, answer in enumerate(answers):
            contexts.setdefault(answer.context[-self._max_length :], []).append(index)
        members = list(contexts.values())
        examples = [
            Example(number, self._tree(context, [answers[index] for index in indices]))
            for number, (context, indices) in enumerate(contexts.items())
        ]
        for batch in collate_padded(examples, "messages", BATCH_TOKENS, start=self._start, padding=self._padding):
            indices = [index for number in batch.examples for index in members[number]]
            ends = np.cumsum([0, *batch.reply_sizes]).tolist()
            places = tuple(tuple(range(begin, end)) for begin, end in pairwise(ends))
            planned = PlannedBatch(batch, tuple(indices), places)
            yield planned, lambda planned=planned: planned.scores(self._compute(planned.batch))  # type: ignore[misc]

    def _tree(self, context: tuple[int, ...], answers: Sequence[Answer]) -> TokenTree:
        ids, segments, spans = list(context), [(0, len(context), -1)], []
        for number, answer in enumerate(answers):
            start = len(ids)
            ids.extend(answer.continuation[-self._max_length :])
            segments.append((start, len(ids), 0))
            spans.append((start, len(ids), len(context) - 1, number, 1))
        rows = np.array(segments, np.int32), np.array(spans, np.int32)
        return TokenTree(np.array(ids, np.int32), *rows, threads=len(answers))

    @torch.no_grad()
    def _compute(self, batch: PaddedBatch) -> LogProbabilities:
        return self._policy.log_probabilities(batch.to(self._policy.device))


def _by_question(answers: Sequence[Answer]) -> list[list[int]]:
    """The numbers of the answers to each question."""
    found: dict[int, list[int]] = {}
    for index, answer in enumerate(answers):
        found.setdefault(answer.question, []).append(index)
    return list(found.values())


def _fill(sizes: Sequence[int], limit: int) -> Iterator[range]:
    """Consecutive groups whose sizes add up to at most ``limit``; a larger size is a group alone."""
    begin = filled = 0
    for index, size in enumerate(sizes):
        if index > begin and filled + size > limit:
            yield range(begin, index)
            begin = index
            filled = 0
        filled += size
    if sizes:
        yield range(begin, len(sizes))


def _pack(tries: Sequence[Trie], questions: Sequence[Sequence[int]]) -> PlannedBatch[PackedBatch]:
    """Tries as one packed row, whose targets are theirs.

    questions: for each trie the numbers of the answers that its rows are.
    """
    batch = assemble_packed([Example(number, trie.tree) for number, trie in enumerate(tries)], "messages")
    sources, targets = list[int](), list[int]()
    answers, places = list[int](), list[tuple[int, ...]]()
    token = 0
    for trie, members in zip(tries, questions, strict=True):
        first = len(targets)
        sources += [token + source for source in trie.sources]
        targets += trie.targets
        answers += members
        places += [tuple(first + place for place in path) for path in trie.places]
        token += len(trie.tree.ids)
    source, target = torch.tensor(sources, dtype=torch.int64), torch.tensor(targets, dtype=torch.int64)
    owner, weight = torch.zeros_like(target), torch.ones(len(targets))
    batch = replace(batch, source=source, target=target, owner=owner, weight=weight)
    return PlannedBatch(batch, tuple(answers), tuple(places))
