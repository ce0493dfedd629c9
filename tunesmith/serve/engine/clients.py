"""Whom a job is for: what decides turns and shares."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request


@dataclass(frozen=True, slots=True)
class JobClient:
    """Whom a job is for.

    address: of the computer that asks, which a request cannot choose. Addresses take turns and have shares.
    user: a name that the request may choose. The users of one address take turns within its turns.
    """

    address: str = ""
    user: str = ""


ANYBODY = JobClient()
"""The client of a job that names none."""


def client_of(request: Request, user: str | None = None) -> JobClient:
    """Whom a request is from. user: the name in the request."""
    return JobClient(request.client.host if request.client else "", user or "")
