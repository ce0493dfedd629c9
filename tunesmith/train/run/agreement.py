"""What all processes of a run do together on its disk: if one fails, all of them end with its error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from tunesmith.errors import StorageError, TunesmithError
from tunesmith.world import Communicator

ResultT = TypeVar("ResultT")


def in_all(communicator: Communicator, call: Callable[[], ResultT]) -> list[ResultT]:
    """What a call returns in every process, in their order; all processes make it, and wait for the others.

    call: its result is a JSON value.
    Raises the error of the first process that has one. The others, and processes that come after it, raise a
    StorageError with the same words and the number of that process.
    """
    found: ResultT | None = None
    error: TunesmithError | OSError | None = None
    try:
        found = call()
    except (TunesmithError, OSError) as caught:
        error = caught
    outcomes = communicator.gather({"result": found, "error": _described(error) if error is not None else None})
    failed = [rank for rank, outcome in enumerate(outcomes) if outcome["error"] is not None]
    if failed and failed[0] == communicator.rank:
        assert error is not None
        raise error
    if failed:
        first = outcomes[failed[0]]["error"]
        what = f"{first['what']} (in process {failed[0]})"
        raise StorageError(what, where=first["where"], advice=first["advice"])
    return [outcome["result"] for outcome in outcomes]


def in_first(communicator: Communicator, call: Callable[[], ResultT]) -> ResultT:
    """What a call returns that only the first process makes, in every process. Otherwise as ``in_all``."""
    return in_all(communicator, call if communicator.is_first else lambda: None)[0]  # type: ignore[return-value]


def _described(error: TunesmithError | OSError) -> dict[str, Any]:
    if isinstance(error, TunesmithError):
        return {"what": error.what, "where": error.where, "advice": error.advice}
    return {"what": error.strerror or str(error), "where": error.filename, "advice": None}
