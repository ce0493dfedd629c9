"""How long a hub that does not answer is waited for."""

from __future__ import annotations

from huggingface_hub import get_session, set_client_factory

CONNECTING = 10.0
"""Seconds until a connection has to be there."""
ANSWERING = 60.0
"""Seconds without a byte in either direction."""


def limit_waiting(connecting: float = CONNECTING, answering: float = ANSWERING) -> None:
    """Let every request of huggingface_hub in this process fail if nothing happens for so many seconds.

    Without this the library waits forever for an answer. It repeats such requests up to five times, each time with a
    message.
    """
    default = get_session()
    client, hooks = type(default), default.event_hooks["request"]
    timeout = {"connect": connecting, "read": answering, "write": answering, "pool": answering}

    # The library gives some requests the timeout None, which wins over that of the client.
    def limit(request: object) -> None:
        request.extensions["timeout"] = timeout  # type: ignore[attr-defined]  # httpx or httpx2, by its version

    set_client_factory(
        lambda: client(event_hooks={"request": [*hooks, limit]}, follow_redirects=True, timeout=answering)
    )
