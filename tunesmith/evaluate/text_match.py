"""Exact checks of a reply, as data: what counts as right is written beside each instruction.

A check never looks for the answer inside a longer reply: the whole reply has to be right. Only white space at its ends
is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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


Check = OneOf | ListOf


def passes(check: Check, reply: str) -> bool:
    """Whether the whole reply is right."""
    reply = reply.strip()
    if isinstance(check, OneOf):
        return reply in check.answers
    lines = reply.split("\n")
    named = {line[2:] for line in lines if line.startswith("- ")}
    return len(lines) == len(named) == check.count and named <= set(check.members)


def check_to_json(check: Check) -> dict[str, Any]:
    """A check as it is kept in a JSON record."""
    if isinstance(check, OneOf):
        return {"one_of": list(check.answers)}
    return {"list_of": list(check.members), "count": check.count}


def check_from_json(value: Mapping[str, Any]) -> Check:
    """The inverse of ``check_to_json``; KeyError if it is neither kind."""
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
