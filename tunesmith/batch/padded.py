"""The second batch: inputs and replies in padded rows, for models that read with an encoder and write with a decoder.

Every span of a token tree is one reply; what its thread holds before it is its input. Replies to the same input share the row of
that input. The shift by one is made here, in ``_decoder_rows``, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.batch.example import Example, Replies, Weighting, joined_columns, ranked
from tunesmith.errors import InternalError
from tunesmith.text.tokens.token_tree import TokenTree

Integers = NDArray[np.int32]

PASS = 128
"""What a forward and backward pass costs besides its tokens, in tokens: a micro-batch is cut where that saves more padding."""


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """One micro-batch of I inputs and R replies with N targets, all tensors on one device.

    inputs: int64 [I, L]. read: bool [I, L], false where a row is padded. starts: int64 [R, M], what the decoder reads: the
    start token, and the reply without its last token. input_of: int64 [R], the input that a reply belongs to.
    source: int64 [N], the place (in R * M) whose hidden state predicts. target, weight, owner: as in ``Batch``; owner is the
    number of the reply. examples, seeds, replies, columns: as in ``Batch``.
    input_sizes, reply_sizes: tokens of every row. input_owners, reply_owners: the example (its place in ``examples``) of every row.
    """

    inputs: Tensor
    read: Tensor
    starts: Tensor
    input_of: Tensor
    source: Tensor
    target: Tensor
    weight: Tensor
    owner: Tensor
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
        return int(self.target.numel())

    def to(self, device: torch.device) -> PaddedBatch:
        """The same batch on another device."""
        return replace(
            self,
            inputs=self.inputs.to(device),
            read=self.read.to(device),
            starts=self.starts.to(device),
            input_of=self.input_of.to(device),
            source=self.source.to(device),
            target=self.target.to(device),
            weight=self.weight.to(device),
            owner=self.owner.to(device),
            replies=self.replies.to(device),
            columns={name: values.to(device) for name, values in self.columns.items()},
        )


@dataclass(frozen=True, slots=True)
class InputReplies:
    """The pairs of one example. inputs: token ids. replies: for each (its input, token ids, threads through it)."""

    example: Example
    inputs: tuple[Integers, ...]
    replies: tuple[tuple[int, Integers, int], ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(inputs, longest input, replies, longest reply)."""
        longest = max((len(reply) for _, reply, _ in self.replies), default=0)
        return len(self.inputs), max(map(len, self.inputs), default=0), len(self.replies), longest


def read_input_replies(example: Example) -> InputReplies:
    """Inputs and replies of a token tree. Raises InternalError if a target has nothing before it: no encoder could read it."""
    tree = example.tree
    inputs: dict[int, int] = {}
    found: list[Integers] = []
    replies = []
    for start, end, source, _, threads in tree.spans.tolist():
        if source < 0:
            raise InternalError(f"example {example.number} has a reply without an input")
        if source not in inputs:
            inputs[source] = len(inputs)
            found.append(tree.ids[_before(tree, source)])
        replies.append((inputs[source], tree.ids[start:end], threads))
    return InputReplies(example, tuple(found), tuple(replies))


def _before(tree: TokenTree, source: int) -> Integers:
    """The indices of the tokens from the root to ``source``, both included."""
    segment = int(np.flatnonzero((tree.segments[:, 0] <= source) & (source < tree.segments[:, 1]))[0])
    thread = tree.thread(segment)
    return thread[: len(thread) - (int(tree.segments[segment, 1]) - 1 - source)]


def assemble_padded(examples: Sequence[Example], weighting: Weighting, *, start: int, padding: int) -> PaddedBatch:
    """Lay examples out in padded rows.

    weighting: as in ``assemble``. start: the id that every reply begins after. padding: the id in the empty places.
    """
    pairs = [read_input_replies(example) for example in examples]
    inputs = [ids for each in pairs for ids in each.inputs]
    before = np.cumsum([0, *(len(each.inputs) for each in pairs)])
    replies = [
        (int(before[number]) + own, ids, threads)
        for number, each in enumerate(pairs)
        for own, ids, threads in each.replies
    ]
    sizes = np.array([len(ids) for _, ids, _ in replies], np.int64)
    starts = _decoder_rows([ids for _, ids, _ in replies], start, padding)
    owner = np.repeat(np.arange(len(replies)), sizes)
    place = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    through = np.array([threads if weighting == "threads" else 1 for *_, threads in replies], np.float32)
    rows = _rows(inputs, padding)
    read = np.arange(rows.shape[1])[None] < np.array([len(ids) for ids in inputs], np.int64)[:, None]
    target = np.concatenate([np.zeros(0, np.int64), *(ids for _, ids, _ in replies)]).astype(np.int64)
    return PaddedBatch(
        inputs=torch.from_numpy(rows),
        read=torch.from_numpy(read),
        starts=torch.from_numpy(starts),
        input_of=torch.tensor([own for own, *_ in replies], dtype=torch.int64),
        source=torch.from_numpy(owner * starts.shape[1] + place),
        target=torch.from_numpy(target),
        weight=torch.from_numpy(through[owner]),
        owner=torch.from_numpy(owner),
        examples=tuple(example.number for example in examples),
        seeds=tuple(example.seed for example in examples),
        input_sizes=tuple(len(ids) for ids in inputs),
        reply_sizes=tuple(sizes.tolist()),
        input_owners=tuple(number for number, each in enumerate(pairs) for _ in each.inputs),
        reply_owners=tuple(number for number, each in enumerate(pairs) for _ in each.replies),
        replies=ranked([example.tree for example in examples], flat=False),
        columns=joined_columns(examples),
    )


def _rows(texts: Sequence[Integers], padding: int) -> NDArray[np.int64]:
    """[len(texts), longest], padded on the right."""
    found = np.full((len(texts), max(map(len, texts), default=0)), padding, np.int64)
    for row, ids in zip(found, texts, strict=True):
        row[: len(ids)] = ids
    return found


def _decoder_rows(replies: Sequence[Integers], start: int, padding: int) -> NDArray[np.int64]:
    """What the decoder reads when it predicts the replies: each shifted to the right by one, after the start token."""
    found = np.full((len(replies), max(map(len, replies), default=0)), padding, np.int64)
    found[:, :1] = start
    for row, ids in zip(found, replies, strict=True):
        row[1 : len(ids)] = ids[:-1]
    return found


def collate_padded(
    examples: Iterable[Example], weighting: Weighting, tokens: int, *, start: int, padding: int
) -> Iterator[PaddedBatch]:
    """Cut a step's examples into batches of like lengths, of at most ``tokens`` places, padding included; a longer example
    stands alone. Which examples go together and in which order follows from their lengths and places alone.
    """
    waiting = list(examples)
    shapes = [read_input_replies(example).shape for example in waiting]
    order = sorted(range(len(waiting)), key=lambda index: (shapes[index][1] + shapes[index][3], index))
    for group in _groups([shapes[index] for index in order], tokens):
        yield assemble_padded([waiting[order[place]] for place in group], weighting, start=start, padding=padding)


def _groups(shapes: Sequence[tuple[int, int, int, int]], tokens: int) -> list[range]:
    """The cheapest cut of a list into runs, a run costing its places and one ``PASS``; of equal ones that of fewest runs."""
    costs, cuts = [0], [0]
    for end in range(1, len(shapes) + 1):
        best = (-1, -1)
        inputs = replies = longest_input = longest_reply = 0
        for begin in range(end - 1, -1, -1):
            more_inputs, input_size, more_replies, reply_size = shapes[begin]
            inputs, replies = inputs + more_inputs, replies + more_replies
            longest_input, longest_reply = max(longest_input, input_size), max(longest_reply, reply_size)
            places = inputs * longest_input + replies * longest_reply
            if places > tokens and begin < end - 1:
                break
            cost = costs[begin] + places + PASS
            if best[0] < 0 or cost <= best[0]:
                best = cost, begin
        costs.append(best[0])
        cuts.append(best[1])
    found = []
    end = len(shapes)
    while end:
        found.append(range(cuts[end], end))
        end = cuts[end]
    return found[::-1]
