"""How processes learn that one of them has failed, so that all end with the first cause and none waits for ever.

Every process has a thread with a connection to the first process, which is closed when either of them ends. The thread
also looks for reports of failures. Only the first failure is reported: later ones are its consequences. A process that
does not end by itself after a report, because it waits for others in a collective operation, is ended by its thread.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

from torch.distributed import Store  # type: ignore[attr-defined]

from tunesmith.errors import InternalError, TunesmithError

INTERVAL = 1.0
"""Seconds between two looks at the store."""
GRACE = 8.0
"""Seconds that a process has to learn why a connection has broken, or to end by itself."""
STARTING = 600.0
"""Longest time until all processes have started, in seconds."""
KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""When the system takes a silent machine for dead: after 20 seconds."""
FAILURE, LIFELINE = "failure", "lifeline"
GOODBYE = b"."
LONGEST = 1 << 16
"""Bytes of a report."""
ENDED = "it has ended without a message (it was killed, or its machine failed)"


@dataclass(frozen=True, slots=True)
class Failure:
    """The first failure of a run.

    rank: of the process that failed.
    reporter: rank of the process that reports it, and prints it.
    text: what went wrong.
    exit_code: of all processes.
    """

    rank: int
    reporter: int
    text: str
    exit_code: int


class FailureWatch:
    """Reports failures of this process, and ends it when another one has failed.

    The system closes the connections of a process that ends, however it ends, so the first process notices at once.

    store: shared by all processes, with a separate connection for this watch.
    rank, size: of this process, and how many there are.
    host: name of the machine of the first process.
    end: called with the failure when this process did not end by itself in time.
    """

    def __init__(self, store: Store, rank: int, size: int, host: str, end: Callable[[Failure], None]) -> None:
        self._store, self.rank, self.size, self._end = store, rank, size, end
        self._stopped = threading.Event()
        self._failure: Failure | None = None
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._others = list[socket.socket]()
        if rank == 0:
            server = socket.create_server(("", 0), backlog=size)
            token = secrets.token_hex(16)
            store.set(LIFELINE, f"{server.getsockname()[1]} {token}")
            for each, connection in _accept(server, token, size - 1):
                self._watch(each, connection)
                self._others.append(connection)
        else:
            port, token = store.get(LIFELINE).decode().split()
            self._first = socket.create_connection((host, int(port)), timeout=STARTING)
            self._first.sendall(f"{token} {rank:08d}".encode())
            self._watch(0, self._first)
        self._thread = threading.Thread(target=self._run, name="failures", daemon=True)
        self._thread.start()

    def _watch(self, rank: int, connection: socket.socket) -> None:
        """Watch another process by its connection, which also notices when its machine no longer answers."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):  # not on every system
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ, rank)

    def stop(self) -> None:
        """End the watch, before the process ends without a failure."""
        if self.rank != 0:
            with suppress(OSError):
                self._first.sendall(GOODBYE)
        self._stopped.set()
        self._thread.join(GRACE)

    def check(self) -> None:
        """Raises ConnectionError if a process has failed."""
        if self._failure is not None:
            raise ConnectionError(self._failure.text)

    def report(self, text: str, exit_code: int, rank: int | None = None) -> Failure:
        """Report a failure, of this process by default. Returns the first one, which may be that of another process."""
        own = Failure(self.rank if rank is None else rank, self.rank, text[: LONGEST // 8], exit_code)
        with self._lock:
            if self._failure is None:
                try:
                    content = self._store.compare_set(FAILURE, "", json.dumps(asdict(own)))
                    self._failure = Failure(**json.loads(content))
                except RuntimeError:  # the store is gone with the first process, which has sent its failure
                    until = time.monotonic() + 2 * INTERVAL
                    while self._failure is None and time.monotonic() < until:
                        time.sleep(INTERVAL / 100)
                    self._failure = self._failure or own
            self._pass_on(self._failure)
            return self._failure

    def _pass_on(self, failure: Failure) -> None:
        """The first process, which may have the store, informs the others before it ends."""
        for connection in self._others:
            with suppress(OSError):
                connection.sendall(json.dumps(asdict(failure)).encode())
        self._others = []

    def wait_for_report(self) -> Failure | None:
        """The failure that broke a connection of this process, as soon as it is known; None if that is not soon."""
        until = time.monotonic() + GRACE
        while self._failure is None and time.monotonic() < until:
            time.sleep(INTERVAL / 10)
        return self._failure

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._look()
            if self._failure is not None:
                if not self._stopped.wait(GRACE):
                    self._end(self._failure)
                return

    def _look(self) -> None:
        """Look for processes that have ended, and for a report."""
        for key, _ in self._selector.select(INTERVAL):
            try:
                received = key.fileobj.recv(LONGEST)  # type: ignore[union-attr]
            except OSError:
                received = b""
            if received.startswith(b"{"):
                self._failure = self._failure or Failure(**json.loads(received))
            elif received != GOODBYE and not self._is_reported() and not self._stopped.is_set():
                self.report(ENDED, InternalError.exit_code, key.data)
            self._selector.unregister(key.fileobj)
        if self._is_reported():
            assert self._failure is not None, "it is reported"
            self._pass_on(self._failure)

    def _is_reported(self) -> bool:
        """Whether a failure is known; a process that fails reports it before it ends."""
        if self._failure is None:
            with suppress(RuntimeError):  # the store is gone; so is the connection to its process
                if self._store.check([FAILURE]):
                    self._failure = Failure(**json.loads(self._store.get(FAILURE)))
        return self._failure is not None


def _accept(server: socket.socket, token: str, count: int) -> Iterator[tuple[int, socket.socket]]:
    """(rank, connection) of the other processes. Others than these, such as port scans, are not let in."""
    server.settimeout(STARTING)
    found = set[int]()
    while len(found) < count:
        connection, _ = server.accept()
        connection.settimeout(STARTING)
        with suppress(OSError, ValueError):
            given, rank = connection.recv(len(token) + 9, socket.MSG_WAITALL).decode().split()
            if secrets.compare_digest(given, token) and int(rank) not in found:
                found.add(int(rank))
                yield int(rank), connection
                continue
        connection.close()
    server.close()


def explained(error: BaseException, watch: FailureWatch) -> BaseException:
    """The error with which this process ends: the first failure of the run, or an exit without another message."""
    # torchrun asks the other processes to end as soon as one has ended, before they know why.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    first = watch.wait_for_report() if is_broken_connection(error) else None
    if first is None:
        code = error.exit_code if isinstance(error, TunesmithError) else 1
        first = watch.report(str(error) or type(error).__name__, code)
    # Threads of process groups that are still connected would abort the process when Python ends it.
    atexit.register(_exit_flushed, first.exit_code)
    if first.reporter == first.rank == watch.rank:
        return _named(error, first, watch.size)
    if first.reporter == watch.rank:
        return InternalError(describe(first, watch.size))
    return SystemExit(first.exit_code)


def describe(failure: Failure, size: int) -> str:
    """The failure for the user."""
    return f"rank {failure.rank} of {size}: {failure.text}"


def is_broken_connection(error: BaseException) -> bool:
    """Whether an error is the consequence of the failure of another process."""
    text = str(error)
    return isinstance(error, ConnectionError) or (
        isinstance(error, RuntimeError) and any(word in text for word in ("gloo", "NCCL", "Connection", "Socket"))
    )


def _named(error: BaseException, failure: Failure, size: int) -> BaseException:
    """An error of the user with the rank; the first process is the one that always prints."""
    if not isinstance(error, TunesmithError) or failure.rank == 0:
        return error
    return type(error)(f"{error.what} (rank {failure.rank} of {size})", where=error.where, advice=error.advice)


def _exit_flushed(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def exit_at_once(failure: Failure, size: int, rank: int) -> None:
    """End this process although it waits in an operation of the operating system."""
    if failure.reporter == rank and failure.rank != rank:
        line = f"\ntunesmith: error: {describe(failure, size)}\n"
        os.write(2, line.encode())
    os._exit(failure.exit_code)
