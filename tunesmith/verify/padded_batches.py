"""Proof of a padded batch: every row is read from the batch and compared with the threads of its example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tunesmith.batch.example import Example, Weighting
from tunesmith.batch.padded import PaddedBatch
from tunesmith.batch.threads import split_into_threads
from tunesmith.verify.replies import find_reply_fault

InputAndReply = tuple[tuple[int, ...], tuple[int, ...]]
"""The token ids of an input and of one reply to it."""


def find_padded_fault(
    examples: Sequence[Example], batch: PaddedBatch, weighting: Weighting, *, start: int
) -> str | None:
    """What is wrong with ``batch`` as the layout of ``examples``, or None.

    The replies of an example, each with the input that the batch gives it, must be those of its threads, each as often
    as there. The decoder must read each of them after the start token, shifted by one, and predict all of it. Ranked
    replies must be those of the examples.
    start: the token id that the decoder reads before a reply.
    """
    if list(batch.examples) != [example.number for example in examples]:
        return "the batch holds other examples than the step"
    found = [Counter[InputAndReply]() for _ in examples]
    input_ids, attention_mask = batch.input_ids.tolist(), batch.attention_mask.tolist()
    decoder_input_ids = batch.decoder_input_ids.tolist()
    source, target = batch.source.tolist(), batch.target.tolist()
    weight, owner = batch.weight.tolist(), batch.owner.tolist()
    width = batch.decoder_input_ids.shape[1]
    begin = 0
    for reply, (row, size) in enumerate(zip(batch.input_of.tolist(), batch.reply_sizes, strict=True)):
        own = slice(begin, begin + size)
        begin += size
        name = f"example {batch.examples[batch.reply_owners[reply]]}"
        if set(owner[own]) != {reply} or source[own] != list(range(reply * width, reply * width + size)):
            return f"{name}: its targets are not predicted from the places of the reply"
        if len(set(weight[own])) != 1:
            return f"{name}: the targets of its reply have different weights"
        if decoder_input_ids[reply][:size] != [start, *target[own]][:size]:
            return f"{name}: the decoder does not read the reply one place late"
        if batch.input_owners[row] != batch.reply_owners[reply]:
            return f"{name}: its reply belongs to the input of another example"
        visible = tuple(token for token, seen in zip(input_ids[row], attention_mask[row], strict=True) if seen)
        found[batch.reply_owners[reply]][visible, tuple(target[own])] += round(weight[begin - 1])
    if begin != len(target):
        return "there are targets that belong to no reply"
    for example, replies in zip(examples, found, strict=True):
        if fault := _find_difference(_expected_replies(example, weighting), replies):
            return f"example {example.number}: {fault}"
    return find_reply_fault(examples, batch)


def _expected_replies(example: Example, weighting: Weighting) -> Counter[InputAndReply]:
    """Every reply with its input, counted once for each thread that holds it; with "messages" once."""
    replies = Counter[InputAndReply]()
    for thread in split_into_threads(example.tree, once=weighting == "messages"):
        ids = thread.tree.ids
        for start, end, source, *_ in thread.tree.spans.tolist():
            replies[tuple(ids[: source + 1].tolist()), tuple(ids[start:end].tolist())] += 1
    return replies


def _find_difference(expected: Counter[InputAndReply], found: Counter[InputAndReply]) -> str | None:
    if not found:
        return "it has no target"
    for each in expected.keys() | found.keys():
        if expected[each] != found[each]:
            sizes = f"a reply of {len(each[1])} tokens to an input of {len(each[0])}"
            return f"{sizes} is trained {found[each]} times, in the threads alone {expected[each]} times"
    return None
