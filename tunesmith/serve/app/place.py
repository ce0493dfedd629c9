"""Where a server is: its port and its conversations, which are taken before PyTorch and the models are loaded."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import UsageError
from tunesmith.serve.app.settings import ServerSettings
from tunesmith.serve.conversations.database import exclusive
from tunesmith.serve.conversations.store import ConversationStore

BACKLOG = 512


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """What one server has for itself.

    settings: how it is reached.
    listener: a socket that listens at its port; who connects early waits.
    data: the directory of the conversations.
    store: the conversations.
    """

    settings: ServerSettings
    listener: socket.socket
    data: Path
    store: ConversationStore


@contextmanager
def server_place(settings: ServerSettings, data: Path) -> Iterator[ServerPlace]:
    """The place of a server until the block ends.

    settings: of the server.
    data: the directory of the conversations.
    Raises UsageError for a port that cannot be used, LockedError if another server uses the data, and errors of the
    store.
    """
    with closing(open_socket(settings)) as listener, exclusive(data), closing(ConversationStore.open(data)) as store:
        yield ServerPlace(settings, listener, data, store)


def open_socket(settings: ServerSettings) -> socket.socket:
    """A listening socket. Raises UsageError if the address cannot be used."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind)
    except OSError as error:
        raise UsageError(f"this address cannot be used: {error.strerror}", where=f"--host {settings.host}") from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        what = f"port {settings.port} of {settings.host} cannot be used: {error.strerror}"
        raise UsageError(what, where="--port", advice="choose another one, or 0 for any free one") from None
    return found
