"""The split into training and evaluation records, by the content of a record and a seed, never by its position."""

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
    """Digest (16 bytes) of a tree: roles, texts, contexts, reasoning, tools and parents, not its place or source."""
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for message, parent in zip(tree.messages, tree.parents, strict=True):
        for part in (message.role, message.text, message.context, str(parent), *message.extra_texts()):
            data = part.encode()
            digest.update(b"%d:" % len(data))
            digest.update(data)
    return digest.digest()


def group_key(tree: Tree, content: bytes) -> bytes:
    """Digest (16 bytes) by which a tree is split: that of its group, or of its content if it belongs to none.

    content: its ``content_key``.
    """
    return hashlib.blake2b(tree.group.encode(), digest_size=KEY_BYTES).digest() if tree.group else content


class SplitMasks(NamedTuple):
    """Which records are for training and which for evaluation; some are for neither.

    train, evaluated: bool [n].
    """

    train: Flags
    evaluated: Flags


def split_records(
    keys: Keys,
    source: Integers,
    holdouts: Sequence[Holdout],
    validation: int | float,
    seed: int,
    names: Sequence[str],
    groups: Keys | None = None,
) -> SplitMasks:
    """Split the records of several sources into those for training and those for evaluation.

    keys: uint8 [n, 16], the content keys.
    source: int64 [n], the index of each record's source in ``holdouts`` and ``names``.
    holdouts: of the sources.
    validation: a number or a fraction of all records together whose source has no ``amount``.
    seed: of the hash that chooses.
    names: of the sources, for messages.
    groups: uint8 [n, 16], the keys of groups, by which records are held out; None where each is its own group.

    A record that is held out in one source is not trained on in any, and neither are records of its group; in the other
    sources it is for neither side. The same holds for records of a source beyond the limit of its holdout (those of the
    smallest hash are evaluated).
    Raises DataError where a source, or all that share ``validation``, has nothing left to train on.
    """
    groups = keys if groups is None else groups
    held = np.zeros(len(keys), dtype=np.bool_)
    shared = np.isin(source, [index for index, holdout in enumerate(holdouts) if holdout.amount is None])
    held[shared] = held_out(groups[shared], validation, seed)
    for index, holdout in enumerate(holdouts):
        if holdout.amount is not None:
            mine = source == index
            held[mine] = held_out(groups[mine], holdout.amount, seed, f"validation {{}} of source {names[index]}")
    train = ~np.isin(comparable(keys), comparable(keys[held])) & ~np.isin(comparable(groups), comparable(groups[held]))
    if len(keys) and not train.any():  # records of other groups have the content of those that are held out
        raise DataError("every record repeats one that is held out", advice="hold out fewer, or set data.duplicates")
    limits = [holdout.limit for holdout in holdouts]
    return SplitMasks(train, held & limit_records(keys, source, held, limits, seed))


def comparable(keys: Keys) -> npt.NDArray[np.void]:
    """Every key as one value that can be compared.

    keys: uint8 [n, 16].
    Returns [n].
    """
    return np.ascontiguousarray(keys).view(f"S{KEY_BYTES}").ravel()


def limit_records(keys: Keys, source: Integers, mask: Flags, limits: Sequence[int | None], seed: int) -> Flags:
    """At most so many records of each source: those of the smallest hash.

    keys: uint8 [n, 16], the content keys.
    source: int64 [n], the index of each record's source.
    mask: bool [n], the records to choose from.
    limits: for each source the most records; None for all.
    seed: of the hash.
    Returns bool [n].
    """
    kept = mask.copy()
    for index, limit in enumerate(limits):
        candidates = np.flatnonzero(mask & (source == index))
        if limit is not None and len(candidates) > limit:
            kept[candidates[np.argsort(holdout_order(keys[candidates], seed), kind="stable")[limit:]]] = False
    return kept


def held_out(keys: Keys, validation: int | float, seed: int, what: str = "data.validation {}") -> Flags:
    """Which records are held out for evaluation.

    keys: uint8 [n, 16], the content keys, or those of groups.
    validation: 0 for none; a whole number k takes the k records with the smallest seeded hash; a fraction takes those
        whose hash is below it, so that a record keeps its side when others are added (at least one record is taken).
        Records of equal key are always on the same side; k may be exceeded by copies of the last one taken.
    seed: of the hash.
    what: the name of ``validation`` in the message, with ``{}`` for its value.
    Returns bool [n].
    Raises DataError where nothing would be left to train on.
    """
    count = len(keys)
    if not validation or not count:
        return np.zeros(count, dtype=np.bool_)
    order = holdout_order(keys, seed)
    if isinstance(validation, int):
        held = order <= np.partition(order, min(validation, count) - 1)[min(validation, count) - 1]
    else:
        held = order < np.uint64(min(int(validation * 2.0**64), 2**64 - 1))
        if not held.any():
            held = order == order.min()
    if held.all():
        fault = f"{what.format(validation)} holds out all {count:,} records, and none is left to train on"
        key = what.split()[0]
        advice = (
            f"append {key}=0.05 to hold out a twentieth, or add data" if "." in key else "hold out fewer, or add data"
        )
        raise DataError(fault, advice=advice)
    return np.asarray(held, dtype=np.bool_)
