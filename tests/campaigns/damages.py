"""Damage to one file: flipped bits, cuts, zeros, appended bytes, an empty or absent file, another one of its kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path


def _flip(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 8))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def _zero_tail(content: bytes, draw: random.Random) -> bytes:
    """As after a power cut, where the length was written and the end of the content was not."""
    start = draw.randrange(len(content))
    return content[:start] + bytes(len(content) - start)


def _append(content: bytes, draw: random.Random) -> bytes:
    return content + draw.randbytes(draw.choice((1, 4, 512)))


DAMAGES: Mapping[str, Callable[[bytes, random.Random], bytes | None]] = {
    "flip": _flip,
    "cut": _cut,
    "zero tail": _zero_tail,
    "append": _append,
    "empty": lambda content, draw: b"",
    "gone": lambda content, draw: None,
}
"""Kind of damage -> the content afterwards; None: the file is removed."""
SWAP = "swap"
KINDS = (*DAMAGES, "flip", "flip", SWAP)
"""Kinds to draw from; flipped bits are the most frequent, since they are the hardest to find."""


def damage(path: Path, kind: str, others: list[Path], draw: random.Random) -> list[Path]:
    """Damage a file; returns the files whose content is another one now, none or one, or two after a swap.

    others: files of the same kind, one of which is swapped with it.
    """
    before = path.read_bytes()
    if kind == SWAP:
        different = [each for each in others if each.read_bytes() != before]
        if not different:
            return []
        chosen = draw.choice(different)
        path.write_bytes(chosen.read_bytes())
        chosen.write_bytes(before)
        return [path, chosen]
    if not before and kind not in ("append", "gone"):
        return []
    after = DAMAGES[kind](before, draw)
    if after is None:
        path.unlink()
    else:
        path.write_bytes(after)
    return [path] if after != before else []
