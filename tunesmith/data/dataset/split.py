"""What is held back for evaluation: decided by the content of a record and a seed, never by its position."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tunesmith.data.readers.source_config import Holdout
from tunesmith.draws import KEY_BYTES, holdout_order
from tunesmith.errors import DataError
from tunesmith.text.tree import Tree

Keys = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


def content_key(tree: Tree) -> bytes:
    """Digest (16 bytes) of what a tree says: roles, texts, contexts and who answers whom, not where it was read."""
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for message, parent in zip(tree.messages, tree.parents, strict=True):
        for part in (message.role, message.text, message.context, str(parent)):
            data = part.encode()
            digest.update(b"%d:" % len(data))
            digest.update(data)
    return digest.digest()


class SplitMasks(NamedTuple):
    """Which records are for training and which for evaluation, bool [n] each; some are for neither."""

    train: Flags
    evaluated: Flags


def divide(
    keys: Keys, source: Integers, holdings: Sequence[Holdout], validation: int | float, seed: int, names: Sequence[str]
) -> SplitMasks:
    """Divide the records of several sources into those for training and those for evaluation.

    keys: uint8 [n, 16]. source: int [n], the number of each record's source in ``holdings`` and ``names``. validation: of
    all sources together that say nothing of their own. A record that is held back in one source trains in none; in the
    others it is for neither side, as are records of a source beyond the most that are evaluated (those of the smallest
    hash are kept). Raises DataError where a source, or all that share ``validation``, has nothing left to train on.
    """
    chosen = np.zeros(len(keys), dtype=np.bool_)
    shared = np.isin(source, [index for index, holding in enumerate(holdings) if holding.amount is None])
    chosen[shared] = held_back(keys[shared], validation, seed)
    for index, holding in enumerate(holdings):
        if holding.amount is not None:
            own = source == index
            chosen[own] = held_back(keys[own], holding.amount, seed, f"validation {{}} of source {names[index]}")
    train = ~np.isin(records(keys), records(keys[chosen]))
    assert train.any() or not len(keys)  # the record with the largest hash of all is held back nowhere
    return SplitMasks(train, chosen & limited(keys, source, chosen, [holding.most for holding in holdings], seed))


def records(keys: Keys) -> npt.NDArray[np.void]:
    """Every key as one value that can be compared. keys: uint8 [n, 16]; returns [n]."""
    return np.ascontiguousarray(keys).view(f"S{KEY_BYTES}").ravel()


def limited(keys: Keys, source: Integers, chosen: Flags, most: Sequence[int | None], seed: int) -> Flags:
    """Which of the chosen records are left if at most so many of each source may be: those of the smallest hash. bool [n]."""
    kept = chosen.copy()
    for index, limit in enumerate(most):
        own = np.flatnonzero(chosen & (source == index))
        if limit is not None and len(own) > limit:
            kept[own[np.argsort(holdout_order(keys[own], seed), kind="stable")[limit:]]] = False
    return kept


def held_back(keys: Keys, validation: int | float, seed: int, what: str = "data.validation {}") -> Flags:
    """Which records are for evaluation. keys: uint8 [n, 16]; returns bool [n].

    validation: 0 for none; a whole number n takes the n records with the smallest seeded hash; a fraction takes those whose
    hash falls below it, so that a record stays on its side when others are added (at least one record is taken). Records
    of the same content are always on the same side; n may be exceeded by copies of the last one taken. Raises DataError
    where nothing would be left to train on. what: its name in the message.
    """
    count = len(keys)
    if not validation or not count:
        return np.zeros(count, dtype=np.bool_)
    order = holdout_order(keys, seed)
    if isinstance(validation, int):
        taken = order <= np.partition(order, min(validation, count) - 1)[min(validation, count) - 1]
    else:
        taken = order < np.uint64(min(int(validation * 2.0**64), 2**64 - 1))
        if not taken.any():
            taken = order == order.min()
    if taken.all():
        fault = f"{what.format(validation)} holds back all {count:,} records; none is left to train on"
        raise DataError(fault, advice="hold back fewer, or add data")
    return np.asarray(taken, dtype=np.bool_)
