"""Proof of a batch: what every target is predicted from is read off the batch itself and compared with the threads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.batch.example import Example, Weighting
from tunesmith.batch.packed import Batch
from tunesmith.batch.threads import linear_threads
from tunesmith.verify.replies import find_reply_end_fault, find_reply_fault

Array = NDArray[Any]

PROBES = 3  # targets of every run that are looked at: its first, its last, and one between


def find_packed_fault(examples: Sequence[Example], batch: Batch, weighting: Weighting) -> str | None:
    """What is wrong with ``batch`` as the layout of ``examples``, or None.

    For a choice of its targets the tokens that the layout lets its source see, in the order of their positions, must be the
    beginning of a root-to-leaf thread of that example up to the target, and nothing else; all targets and their weights must
    be those of the threads. Costs a pass over the batch for every target that is looked at.
    """
    ids, until = batch.ids.numpy(), batch.layout.until.numpy()
    positions, source, target = batch.positions.numpy(), batch.source.numpy(), batch.target.numpy()
    if list(batch.examples) != [example.number for example in examples]:
        return "the batch holds other examples than the step"
    starts = np.cumsum([0, *batch.layout.trees])
    place = np.arange(len(ids))
    for number, example in enumerate(examples):
        mine = np.flatnonzero((source >= starts[number]) & (source < starts[number + 1]))
        if not len(mine):
            return f"example {example.number} has no target"
        prefixes = [(thread.tree.ids, thread.tree) for thread in linear_threads(example.tree)]
        expected = Counter[int]()
        for ids_of_thread, thread in prefixes:
            expected.update(ids_of_thread[thread.targets()].tolist())
        if fault := _weights(expected, target[mine], batch.weight.numpy()[mine], weighting):
            return f"example {example.number}: {fault}"
        for chosen in _probes(mine, source):
            seen = np.flatnonzero((place <= source[chosen]) & (until > source[chosen]))
            if seen[0] < starts[number]:
                return f"example {example.number} sees tokens of the example before it"
            if not np.array_equal(positions[seen], np.arange(len(seen))):
                return f"example {example.number}: the positions that target {chosen} sees are not 0, 1, 2, ..."
            known = any(_predicts(ids_of_thread, ids[seen], target[chosen]) for ids_of_thread, _ in prefixes)
            if not known:
                return f"example {example.number}: what target {chosen} is predicted from is no beginning of a thread"
    return find_reply_fault(examples, batch) or find_reply_end_fault(
        examples, batch.replies, batch.ids, batch.layout.until
    )


def _predicts(thread: Array, seen: Array, target: int) -> bool:
    """Whether the thread begins with the tokens seen and goes on with the target."""
    size = len(seen)
    return len(thread) > size and bool(np.array_equal(thread[:size], seen)) and int(thread[size]) == int(target)


def _weights(expected: Counter[int], targets: Array, weights: Array, weighting: Weighting) -> str | None:
    """Targets are compared as a multiset of ids: by "threads" each counts as often as threads train it."""
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


def _probes(mine: Array, source: Array) -> list[int]:
    """Of every run of neighbouring sources the first, the last and one between."""
    breaks = np.flatnonzero(np.diff(source[mine]) != 1) + 1
    found: list[int] = []
    for run in np.split(mine, breaks):
        found += sorted({int(run[index]) for index in np.linspace(0, len(run) - 1, PROBES).astype(int)})
    return found
