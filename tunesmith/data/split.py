"""What is held back for evaluation: decided by the content of a record and a seed, never by its position."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from tunesmith.errors import DataError
from tunesmith.text.tree import Tree

KEY_BYTES = 16


def content_key(tree: Tree) -> bytes:
    """Digest (16 bytes) of what a tree says: roles, texts, contexts and who answers whom, not where it was read."""
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for message, parent in zip(tree.messages, tree.parents, strict=True):
        for part in (message.role, message.text, message.context, str(parent)):
            data = part.encode()
            digest.update(b"%d:" % len(data))
            digest.update(data)
    return digest.digest()


def held_back(keys: npt.NDArray[np.uint8], validation: int | float, seed: int) -> npt.NDArray[np.bool_]:
    """Which records are for evaluation. keys: uint8 [n, 16]; returns bool [n].

    validation: 0 for none; a whole number n takes the n records with the smallest seeded hash; a fraction takes those whose
    hash falls below it, so that a record stays on its side when others are added (at least one record is taken). Records
    of the same content are always on the same side; n may be exceeded by copies of the last one taken. Raises DataError
    where nothing would be left to train on.
    """
    count = len(keys)
    if not validation or not count:
        return np.zeros(count, dtype=np.bool_)
    order = _seeded(keys, seed)
    if isinstance(validation, int):
        taken = order <= np.partition(order, min(validation, count) - 1)[min(validation, count) - 1]
    else:
        taken = order < np.uint64(min(int(validation * 2.0**64), 2**64 - 1))
        if not taken.any():
            taken = order == order.min()
    if taken.all():
        what = f"data.validation {validation} holds back all {count:,} records; none is left to train on"
        raise DataError(what, advice="hold back fewer, or add data")
    return np.asarray(taken, dtype=np.bool_)


def _seeded(keys: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint64]:
    """A hash of every key that differs from seed to seed. keys: uint8 [n, 16]; returns uint64 [n]."""
    halves = np.ascontiguousarray(keys).view("<u8").astype(np.uint64)
    salt = np.frombuffer(hashlib.sha256(f"{seed}\nvalidation".encode()).digest()[:KEY_BYTES], dtype="<u8")
    return _mixed(_mixed(halves[:, 0] ^ salt[0]) ^ halves[:, 1] ^ salt[1])


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): every bit of the input moves half the bits of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
