"""Exact checks of the text of a reply, as data: each instruction of a file carries the check of its reply.

A check never searches for the answer inside a longer reply: the whole reply must match. Only white space at its ends is
ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class OneOf:
    """The reply is exactly one of the texts ``answers``."""

    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    """The reply is a list of exactly ``count`` different ``members``, one ``- member`` a line, in any order."""

    count: int
    members: tuple[str, ...]


ContentCheck = OneOf | ListOf


@dataclass(frozen=True, slots=True)
class Closed:
    """The reply passes ``content`` once a closing phrase is removed from its end.

    content: the check of what is before the closing phrase.
    closings: the closing phrases that are allowed.
    needed: whether the reply fails without a closing phrase.
    """

    content: ContentCheck
    closings: tuple[str, ...]
    needed: bool = True


TextCheck = ContentCheck | Closed


def passes(check: TextCheck, reply: str) -> bool:
    """Whether the whole reply passes the check."""
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
    """The reply without the closing phrase at its end, and whether there was one.

    A phrase of ``closings`` counts only where white space separates it from text before it.
    """
    reply = reply.strip()
    for closing in closings:
        content = reply.removesuffix(closing)
        if content != reply and content.rstrip() not in ("", content):
            return content.rstrip(), True
    return reply, False


def check_to_json(check: TextCheck) -> dict[str, Any]:
    """The check as the JSON object that ``check_from_json`` reads."""
    if isinstance(check, Closed):
        return {"closed": check_to_json(check.content), "closings": list(check.closings), "needed": check.needed}
    if isinstance(check, OneOf):
        return {"one_of": list(check.answers)}
    return {"list_of": list(check.members), "count": check.count}


def check_from_json(value: Any) -> TextCheck:
    """The inverse of ``check_to_json``. Raises ValueError for any value that is not a check."""
    match value:
        case {"closed": content, "closings": [*closings], "needed": bool(needed), **others} if not others:
            return Closed(_content_from_json(content), _texts(closings), needed)
        case _:
            return _content_from_json(value)


def _content_from_json(value: Any) -> ContentCheck:
    match value:
        case {"one_of": [*answers], **others} if not others:
            return OneOf(_texts(answers))
        case {"list_of": [*members], "count": int(count), **others} if (
            not others and count > 0 and not isinstance(count, bool)
        ):
            return ListOf(count, _texts(members))
        case _:
            raise ValueError("it has neither one_of with texts nor list_of with texts and a count")


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    if not values or not all(isinstance(value, str) for value in values):
        raise ValueError("its texts must be a list of at least one string and nothing but strings")
    return tuple(values)
