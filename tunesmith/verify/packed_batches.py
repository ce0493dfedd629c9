"""Proof of a packed batch: what every target is predicted from is read from the batch and compared with the threads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.batch.example import Example, Weighting
from tunesmith.batch.packed import PackedBatch
from tunesmith.batch.threads import split_into_threads
from tunesmith.verify.replies import find_reply_end_fault, find_reply_fault

Array = NDArray[Any]

CHECKED_TARGETS = 3  # targets of every run of neighbours that are checked: the first, the last, and one between


def find_packed_fault(examples: Sequence[Example], batch: PackedBatch, weighting: Weighting) -> str | None:
    """What is wrong with ``batch`` as the layout of ``examples``, or None.

    For some of its targets the tokens that the layout lets the source attend to, in the order of their positions, must
    be the beginning of a root-to-leaf thread of the example up to the target, and nothing else. All targets and their
    weights must be those of the threads. The cost is one pass over the batch per checked target.
    """
    ids, until = batch.ids.numpy(), batch.layout.until.numpy()
    positions, source, target = batch.positions.numpy(), batch.source.numpy(), batch.target.numpy()
    if list(batch.examples) != [example.number for example in examples]:
        return "the batch holds other examples than the step"
    starts = np.cumsum([0, *batch.layout.trees])
    place = np.arange(len(ids))
    for index, example in enumerate(examples):
        own = np.flatnonzero((source >= starts[index]) & (source < starts[index + 1]))
        if not len(own):
            return f"example {example.number} has no target"
        threads = [thread.tree for thread in split_into_threads(example.tree)]
        expected = Counter[int]()
        for thread in threads:
            expected.update(thread.ids[thread.targets()].tolist())
        if fault := _find_weight_fault(expected, target[own], batch.weight.numpy()[own], weighting):
            return f"example {example.number}: {fault}"
        for checked in _choose_targets(own, source):
            seen = np.flatnonzero((place <= source[checked]) & (until > source[checked]))
            if seen[0] < starts[index]:
                return f"example {example.number} sees tokens of the example before it"
            if not np.array_equal(positions[seen], np.arange(len(seen))):
                return f"example {example.number}: the positions that target {checked} sees are not 0, 1, 2, ..."
            if not any(_continues(thread.ids, ids[seen], target[checked]) for thread in threads):
                return f"example {example.number}: what target {checked} is predicted from is no beginning of a thread"
    return find_reply_fault(examples, batch) or find_reply_end_fault(
        examples, batch.replies, batch.ids, batch.layout.until
    )


def _continues(thread: Array, seen: Array, target: int) -> bool:
    """Whether the thread begins with the tokens ``seen``, followed by the target."""
    size = len(seen)
    return len(thread) > size and bool(np.array_equal(thread[:size], seen)) and int(thread[size]) == int(target)


def _find_weight_fault(expected: Counter[int], targets: Array, weights: Array, weighting: Weighting) -> str | None:
    """Targets are compared as a multiset of ids; with "threads" each counts once for every thread that trains it."""
    if weighting == "messages":
        missing = set(expected) ^ set(targets.tolist())
        return f"token {missing.pop()} is trained in one of tree and threads only" if missing else None
    found = Counter[int]()
    for token, weight in zip(targets.tolist(), weights.tolist(), strict=True):
        found[token] += round(weight)
    different = sorted(token for token in found.keys() | expected.keys() if found[token] != expected[token])
    if not different:
        return None
    token = different[0]
    return f"token {token} is a target {found[token]} times, in the threads alone {expected[token]} times"


def _choose_targets(own: Array, source: Array) -> list[int]:
    """Of every run of neighbouring sources the first target, the last and one between."""
    breaks = np.flatnonzero(np.diff(source[own]) != 1) + 1
    chosen: list[int] = []
    for run in np.split(own, breaks):
        chosen += sorted({int(run[index]) for index in np.linspace(0, len(run) - 1, CHECKED_TARGETS).astype(int)})
    return chosen
