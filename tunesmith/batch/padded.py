"""The batch of encoder-decoders: inputs and replies in padded rows.

Every span of a token tree is one reply; the tokens before it in its thread are its input. Replies to the same input
share the row of that input. The shift by one is made here, in ``_decoder_rows``, only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.batch.example import Example, Replies, Weighting, collect_replies, concatenate, concatenate_columns
from tunesmith.batch.moving import Change, move
from tunesmith.errors import InternalError
from tunesmith.text.tokens.token_tree import TokenTree

Integers = NDArray[np.int32]

PASS_OVERHEAD = 128
"""Fixed cost of one forward and backward pass, in tokens: a micro-batch is split where that saves more padding."""


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """One micro-batch of I inputs of at most L tokens and R replies of at most M tokens with N targets, on one device.

    input_ids: int64 [I, L], padded on the right.
    attention_mask: bool [I, L], false at padding.
    decoder_input_ids: int64 [R, M], the start token and the reply without its last token.
    input_of: int64 [R], the input (row of ``input_ids``) that each reply answers.
    source: int64 [N], index (in R * M) of the decoder position whose hidden state predicts the target.
    target: int64 [N], the token id to be predicted.
    weight: float32 [N], how often the target counts.
    owner: int64 [N], the reply (row of ``decoder_input_ids``) that the target belongs to.
    blocks: int64 [N], the group of replies that each target belongs to; empty without ranked replies. It stays on the
        host.
    examples: number of each example in its store.
    seeds: seed of the dropout noise of each example.
    input_sizes: tokens of each input.
    reply_sizes: tokens of each reply.
    input_owners: for each input its example, as an index into ``examples``.
    reply_owners: for each reply its example, as an index into ``examples``.
    replies: the ranked replies.
    columns: name -> float32 [N] or [R], known before the step (``batch.columns``).
    """

    input_ids: Tensor
    attention_mask: Tensor
    decoder_input_ids: Tensor
    input_of: Tensor
    source: Tensor
    target: Tensor
    weight: Tensor
    owner: Tensor
    blocks: Tensor
    examples: tuple[int, ...]
    seeds: tuple[int, ...]
    input_sizes: tuple[int, ...]
    reply_sizes: tuple[int, ...]
    input_owners: tuple[int, ...]
    reply_owners: tuple[int, ...]
    replies: Replies
    columns: Mapping[str, Tensor]

    @property
    def tokens(self) -> int:
        """Tokens of inputs and replies, without padding."""
        return sum(self.input_sizes) + sum(self.reply_sizes)

    @property
    def targets(self) -> int:
        """N, the number of targets."""
        return int(self.target.numel())

    def to(self, device: torch.device) -> PaddedBatch:
        """The same batch on another device."""
        return self._changed(lambda tensor: move(tensor, device))

    def pinned(self) -> PaddedBatch:
        """The same batch in pinned host memory, from which a GPU copies without the processor. It needs CUDA."""
        return self._changed(Tensor.pin_memory)

    def _changed(self, change: Change) -> PaddedBatch:
        return replace(
            self,
            input_ids=change(self.input_ids),
            attention_mask=change(self.attention_mask),
            decoder_input_ids=change(self.decoder_input_ids),
            input_of=change(self.input_of),
            source=change(self.source),
            target=change(self.target),
            weight=change(self.weight),
            owner=change(self.owner),
            replies=self.replies.changed(change),
            columns={name: change(values) for name, values in self.columns.items()},
        )


@dataclass(frozen=True, slots=True, eq=False)
class InputReply:
    """One reply of an example.

    input: index of the input that it answers among those of its example.
    ids: int32 [M], its token ids.
    threads: how many root-to-leaf threads run through it.
    """

    input: int
    ids: Integers
    threads: int


class _Shape(NamedTuple):
    """Size of one example in padded rows.

    inputs: number of inputs.
    longest_input: tokens of the longest input.
    replies: number of replies.
    longest_reply: tokens of the longest reply.
    """

    inputs: int
    longest_input: int
    replies: int
    longest_reply: int


@dataclass(frozen=True, slots=True, eq=False)
class InputsAndReplies:
    """What the encoder reads and the decoder writes for one example.

    inputs: token ids of each input, int32 [L].
    replies: the replies, in the order of the spans.
    """

    inputs: tuple[Integers, ...]
    replies: tuple[InputReply, ...]

    @property
    def shape(self) -> _Shape:
        """The size of the example in padded rows."""
        return _Shape(
            len(self.inputs),
            max((len(ids) for ids in self.inputs), default=0),
            len(self.replies),
            max((len(reply.ids) for reply in self.replies), default=0),
        )


def split_inputs_and_replies(example: Example) -> InputsAndReplies:
    """The inputs and replies of the token tree of an example.

    Raises InternalError for a reply without tokens before it, which would leave the encoder nothing to read.
    """
    tree = example.tree
    index_of_source: dict[int, int] = {}
    inputs: list[Integers] = []
    replies = []
    for start, end, source, _, threads in tree.spans.tolist():
        if source < 0:
            raise InternalError(f"example {example.number} has a reply without an input")
        if source not in index_of_source:
            index_of_source[source] = len(inputs)
            inputs.append(tree.ids[_tokens_up_to(tree, source)])
        replies.append(InputReply(index_of_source[source], tree.ids[start:end], threads))
    return InputsAndReplies(tuple(inputs), tuple(replies))


def _tokens_up_to(tree: TokenTree, source: int) -> Integers:
    """The indices of the tokens from the root to token ``source``, both included."""
    segment = int(np.flatnonzero((tree.segments[:, 0] <= source) & (source < tree.segments[:, 1]))[0])
    thread = tree.thread(segment)
    return thread[: len(thread) - (int(tree.segments[segment, 1]) - 1 - source)]


def assemble_padded(examples: Sequence[Example], weighting: Weighting, *, start: int, padding: int) -> PaddedBatch:
    """Lay out the examples in padded rows.

    weighting: as in ``assemble_packed``.
    start: the token id that the decoder reads before the first token of a reply.
    padding: the token id of padding.
    """
    split = [split_inputs_and_replies(example) for example in examples]
    inputs = [ids for each in split for ids in each.inputs]
    replies = [reply for each in split for reply in each.replies]
    first_input = np.cumsum([0, *(len(each.inputs) for each in split)]).tolist()
    input_of = [
        offset + reply.input for offset, each in zip(first_input[:-1], split, strict=True) for reply in each.replies
    ]
    input_ids = _padded_rows(inputs, padding)
    input_sizes = np.array([len(ids) for ids in inputs], np.int64)
    reply_sizes = np.array([len(reply.ids) for reply in replies], np.int64)
    decoder_input_ids = _decoder_rows([reply.ids for reply in replies], start, padding)
    owner = np.repeat(np.arange(len(replies)), reply_sizes)
    place = np.arange(int(reply_sizes.sum())) - np.repeat(np.cumsum(reply_sizes) - reply_sizes, reply_sizes)
    reply_weight = np.array([reply.threads if weighting == "threads" else 1 for reply in replies], np.float32)
    ranked = collect_replies([example.tree for example in examples], packed=False)
    return PaddedBatch(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=torch.from_numpy(np.arange(input_ids.shape[1])[None] < input_sizes[:, None]),
        decoder_input_ids=torch.from_numpy(decoder_input_ids),
        input_of=torch.tensor(input_of, dtype=torch.int64),
        source=torch.from_numpy(owner * decoder_input_ids.shape[1] + place),
        target=concatenate([np.zeros(0, np.int64), *(reply.ids for reply in replies)], np.int64),
        weight=torch.from_numpy(reply_weight[owner]),
        owner=torch.from_numpy(owner),
        blocks=ranked.blocks(torch.from_numpy(owner)),
        examples=tuple(example.number for example in examples),
        seeds=tuple(example.seed for example in examples),
        input_sizes=tuple(input_sizes.tolist()),
        reply_sizes=tuple(reply_sizes.tolist()),
        input_owners=tuple(index for index, each in enumerate(split) for _ in each.inputs),
        reply_owners=tuple(index for index, each in enumerate(split) for _ in each.replies),
        replies=ranked,
        columns=concatenate_columns(examples),
    )


def _padded_rows(texts: Sequence[Integers], padding: int) -> NDArray[np.int64]:
    """[len(texts), longest], padded on the right."""
    rows = np.full((len(texts), max(map(len, texts), default=0)), padding, np.int64)
    for row, ids in zip(rows, texts, strict=True):
        row[: len(ids)] = ids
    return rows


def _decoder_rows(replies: Sequence[Integers], start: int, padding: int) -> NDArray[np.int64]:
    """[R, M], what the decoder reads to predict the replies: the start token and each reply without its last token."""
    rows = np.full((len(replies), max(map(len, replies), default=0)), padding, np.int64)
    rows[:, :1] = start
    for row, ids in zip(rows, replies, strict=True):
        row[1 : len(ids)] = ids[:-1]
    return rows


def collate_padded(
    examples: Iterable[Example], weighting: Weighting, tokens: int, *, start: int, padding: int
) -> Iterator[PaddedBatch]:
    """Split the examples of a step into batches of similar lengths, of at most ``tokens`` tokens including padding.

    A longer example is a batch alone. The split and the order of examples depend only on their lengths and their order.
    start, padding: as in ``assemble_padded``.
    """
    waiting = list(examples)
    shapes = [split_inputs_and_replies(example).shape for example in waiting]
    order = sorted(
        range(len(waiting)), key=lambda index: (shapes[index].longest_input + shapes[index].longest_reply, index)
    )
    for group in _cheapest_groups([shapes[index] for index in order], tokens):
        yield assemble_padded([waiting[order[place]] for place in group], weighting, start=start, padding=padding)


def _cheapest_groups(shapes: Sequence[_Shape], tokens: int) -> list[range]:
    """The cheapest partition of a list into contiguous groups, by dynamic programming.

    A group costs its padded tokens plus ``PASS_OVERHEAD``; of equally cheap ones that with the larger last group.
    """
    costs, cuts = [0], [0]
    for end in range(1, len(shapes) + 1):
        best_cost, best_begin = -1, -1
        inputs = replies = longest_input = longest_reply = 0
        for begin in range(end - 1, -1, -1):
            shape = shapes[begin]
            inputs, replies = inputs + shape.inputs, replies + shape.replies
            longest_input = max(longest_input, shape.longest_input)
            longest_reply = max(longest_reply, shape.longest_reply)
            padded_tokens = inputs * longest_input + replies * longest_reply
            if padded_tokens > tokens and begin < end - 1:
                break
            cost = costs[begin] + padded_tokens + PASS_OVERHEAD
            if best_cost < 0 or cost <= best_cost:
                best_cost, best_begin = cost, begin
        costs.append(best_cost)
        cuts.append(best_begin)
    groups = []
    end = len(shapes)
    while end:
        groups.append(range(cuts[end], end))
        end = cuts[end]
    return groups[::-1]
