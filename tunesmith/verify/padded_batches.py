"""Proof of a batch of pairs: every row is read off the batch itself and compared with the threads of its example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tunesmith.batch.example import Example, Weighting
from tunesmith.batch.padded import PaddedBatch
from tunesmith.batch.threads import linear_threads
from tunesmith.verify.replies import find_reply_fault

Pair = tuple[tuple[int, ...], tuple[int, ...]]  # an input and a reply to it


def find_padded_fault(
    examples: Sequence[Example], batch: PaddedBatch, weighting: Weighting, *, start: int
) -> str | None:
    """What is wrong with ``batch`` as the layout of ``examples``, or None.

    The replies of an example, each with the input that the batch gives it, must be what its threads hold alone: the
    same, each as often; the decoder must read each of them behind the start token and one place late, and predict all of it.
    What is compared must be in the batch as in the examples.
    """
    if list(batch.examples) != [example.number for example in examples]:
        return "the batch holds other examples than the step"
    found = [Counter[Pair]() for _ in examples]
    inputs, read, starts = batch.inputs.tolist(), batch.read.tolist(), batch.starts.tolist()
    source, target = batch.source.tolist(), batch.target.tolist()
    weight, owner = batch.weight.tolist(), batch.owner.tolist()
    width = batch.starts.shape[1]
    begin = 0
    for reply, (own, size) in enumerate(zip(batch.input_of.tolist(), batch.reply_sizes, strict=True)):
        mine = slice(begin, begin + size)
        begin += size
        name = f"example {batch.examples[batch.reply_owners[reply]]}"
        if set(owner[mine]) != {reply} or source[mine] != list(range(reply * width, reply * width + size)):
            return f"{name}: its targets are not predicted from the places of the reply"
        if len(set(weight[mine])) != 1:
            return f"{name}: the targets of its reply have different weights"
        if starts[reply][:size] != [start, *target[mine]][:size]:
            return f"{name}: the decoder does not read the reply one place late"
        if batch.input_owners[own] != batch.reply_owners[reply]:
            return f"{name}: its reply belongs to the input of another example"
        visible = tuple(token for token, seen in zip(inputs[own], read[own], strict=True) if seen)
        found[batch.reply_owners[reply]][visible, tuple(target[mine])] += round(weight[begin - 1])
    if begin != len(target):
        return "there are targets that belong to no reply"
    for example, pairs in zip(examples, found, strict=True):
        if fault := _difference(_expected(example, weighting), pairs):
            return f"example {example.number}: {fault}"
    return find_reply_fault(examples, batch)


def _expected(example: Example, weighting: Weighting) -> Counter[Pair]:
    """Every reply with its input, as often as the threads of the example hold it (by "messages" once)."""
    pairs = Counter[Pair]()
    for thread in linear_threads(example.tree, once=weighting == "messages"):
        ids = thread.tree.ids
        for start, end, source, *_ in thread.tree.spans.tolist():
            pairs[tuple(ids[: source + 1].tolist()), tuple(ids[start:end].tolist())] += 1
    return pairs


def _difference(expected: Counter[Pair], found: Counter[Pair]) -> str | None:
    if not found:
        return "it has no target"
    for pair in expected.keys() | found.keys():
        if expected[pair] != found[pair]:
            size = f"a reply of {len(pair[1])} tokens to an input of {len(pair[0])}"
            return f"{size} is trained {found[pair]} times, in the threads alone {expected[pair]} times"
    return None
