"""Exact checks of a reply, as data: what counts as right is written beside each instruction.

A check never looks for the answer inside a longer reply: the whole reply has to be right. Only white space at its ends
is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
class Closed:
    """The reply is right by ``content`` without the one of ``closings`` that it may end with. needed: it ends with one."""

    content: Content
    closings: tuple[str, ...]
    needed: bool = True


Check = Content | Closed


def passes(check: Check, reply: str) -> bool:
    """Whether the whole reply is right."""
    reply = reply.strip()
    if isinstance(check, Closed):
        content, closed = without_closing(reply, check.closings)
        return (closed or not check.needed) and passes(check.content, content)
    if isinstance(check, OneOf):
        return reply in check.answers
    lines = reply.split("\n")
    named = {line[2:] for line in lines if line.startswith("- ")}
    return len(lines) == len(named) == check.count and named <= set(check.members)


def without_closing(reply: str, closings: Sequence[str]) -> tuple[str, bool]:
    """A reply without the one of ``closings`` that it ends with, and whether there was one. It stands apart: white space
    divides it from something that comes before it."""
    reply = reply.strip()
    for closing in closings:
        content = reply.removesuffix(closing)
        if content != reply and content.rstrip() not in ("", content):
            return content.rstrip(), True
    return reply, False


def check_to_json(check: Check) -> dict[str, Any]:
    """A check as it is kept in a JSON record."""
    if isinstance(check, Closed):
        return {"closed": check_to_json(check.content), "closings": list(check.closings), "needed": check.needed}
    if isinstance(check, OneOf):
        return {"one_of": list(check.answers)}
    return {"list_of": list(check.members), "count": check.count}


def check_from_json(value: Any) -> Check:
    """The inverse of ``check_to_json``. ValueError if it is no check, whatever was read."""
    match value:
        case {"closed": content, "closings": [*closings], "needed": bool(needed), **others} if not others:
            return Closed(_content_from_json(content), _texts(closings), needed)
        case _:
            return _content_from_json(value)


def _content_from_json(value: Any) -> Content:
    match value:
        case {"one_of": [*answers], **others} if not others:
            return OneOf(_texts(answers))
        case {"list_of": [*members], "count": int(count), **others} if (
            not others and count > 0 and not isinstance(count, bool)
        ):
            return ListOf(count, _texts(members))
        case _:
            raise ValueError("neither one_of with texts nor list_of with texts and a count, closed or not")


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    if not values or not all(isinstance(value, str) for value in values):
        raise ValueError("there must be one text at least, and nothing but texts")
    return tuple(values)


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
