"""Exact checks of a reply, as data: what counts as right is written beside each instruction.

A check never looks for the answer inside a longer reply: the whole reply has to be right. Only white space at its ends
is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class OneOf:
    """The reply is one of the given texts, to the letter."""

    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    """The reply is a list of exactly ``count`` different members, one ``- member`` a line, in any order."""

    count: int
    members: tuple[str, ...]


Content = OneOf | ListOf


@dataclass(frozen=True, slots=True)
class Framed:
    """The reply is right by ``content`` without the one of ``openings`` that it begins with and the one of ``closings``
    that it ends with. needed: it has at least one of them."""

    openings: tuple[str, ...]
    closings: tuple[str, ...]
    content: Content
    needed: bool = True


Check = Content | Framed


def passes(check: Check, reply: str) -> bool:
    """Whether the whole reply is right."""
    reply = reply.strip()
    if isinstance(check, Framed):
        content, framed = unframed(reply, check.openings, check.closings)
        return (framed or not check.needed) and passes(check.content, content)
    if isinstance(check, OneOf):
        return reply in check.answers
    lines = reply.split("\n")
    named = {line[2:] for line in lines if line.startswith("- ")}
    return len(lines) == len(named) == check.count and named <= set(check.members)


def unframed(reply: str, openings: Sequence[str], closings: Sequence[str]) -> tuple[str, bool]:
    """What a reply says between set phrases, of which at most one before and one after is taken away, and whether any was.

    A phrase stands apart: white space divides it from the rest.
    """
    reply = reply.strip()
    before = next(
        (phrase for phrase in openings if reply.startswith(phrase) and reply[len(phrase) :][:1].isspace()), ""
    )
    reply = reply[len(before) :]
    after = next((phrase for phrase in closings if reply.endswith(phrase) and reply[: -len(phrase)][-1:].isspace()), "")
    return reply[: len(reply) - len(after)].strip(), bool(before or after)


def check_to_json(check: Check) -> dict[str, Any]:
    """A check as it is kept in a JSON record."""
    if isinstance(check, Framed):
        phrases = {"openings": list(check.openings), "closings": list(check.closings)}
        return {"framed": check_to_json(check.content), **phrases, "needed": check.needed}
    if isinstance(check, OneOf):
        return {"one_of": list(check.answers)}
    return {"list_of": list(check.members), "count": check.count}


def check_from_json(value: Mapping[str, Any]) -> Check:
    """The inverse of ``check_to_json``; KeyError if it is no kind of check."""
    if "framed" in value:
        content = _plain_check(value["framed"])
        return Framed(tuple(value["openings"]), tuple(value["closings"]), content, bool(value["needed"]))
    return _plain_check(value)


def _plain_check(value: Mapping[str, Any]) -> Content:
    if "one_of" in value:
        return OneOf(tuple(value["one_of"]))
    return ListOf(int(value["count"]), tuple(value["list_of"]))


@dataclass(frozen=True, slots=True)
class Rate:
    """``successes`` of ``total`` trials."""

    successes: int
    total: int

    @property
    def share(self) -> float:
        """Between 0 and 1; 0 where nothing was tried."""
        return self.successes / self.total if self.total else 0.0

    def interval(self, z: float = 1.959964) -> tuple[float, float]:
        """Wilson's score interval (Wilson 1927), 95 % by default; (0, 1) where nothing was tried."""
        if not self.total:
            return 0.0, 1.0
        p, n = self.share, self.total
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(0.0, centre - half), min(1.0, centre + half)
