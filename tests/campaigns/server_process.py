"""A server in another process, which can be killed and started again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from tunesmith.cli.main import main as run_command

START = 900.0
"""Seconds until a server has to answer."""
ENDED = 60.0
"""Seconds until it has to end after a signal."""
PRELOADED = ["tunesmith.cli.main", "tunesmith.serve.app.command"]


@cache
def preloaded_processes() -> ForkServerContext:
    """Forks processes from one that has imported the server, which takes many seconds on a busy machine."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    return found


def run_serve(words: list[str], log: Path) -> None:
    """`tunesmith serve` in this process. log: gets what it prints."""
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["tunesmith", "serve", *words]
    run_command()


class ChatServer:
    """A process of `tunesmith serve` with its address.

    words: of its command line.
    log: gets what it prints.
    fresh: whether the process begins as that of a user does, with the imports; otherwise it has them already.
    """

    def __init__(self, words: list[str], log: Path, *, fresh: bool = False) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.words, self.log, self._fresh = words, log, fresh
        self._process: subprocess.Popen[bytes] | ForkServerProcess | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> float:
        """Start the process; returns the seconds until it answers."""
        begin = time.monotonic()
        words = [*self.words, "--port", str(self.port)]
        if self._fresh:
            with self.log.open("ab") as log:
                command = [sys.executable, "-m", "tunesmith.cli", "serve", *words]
                self._process = subprocess.Popen(command, stdout=log, stderr=log)
        else:
            self._process = preloaded_processes().Process(target=run_serve, args=(words, self.log), daemon=True)
            self._process.start()
        while time.monotonic() - begin < START and self._exit_code() is None:
            try:
                urllib.request.urlopen(f"{self.address}/healthz", timeout=START).close()
                return time.monotonic() - begin
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"the server did not start:\n{self._end_of_log()}")

    def end(self, sig: int = signal.SIGTERM) -> None:
        """End the process by a signal."""
        if self._process is not None and self._process.pid is not None and self._exit_code() is None:
            os.kill(self._process.pid, sig)
            end = time.monotonic() + ENDED
            while self._exit_code() is None:
                if time.monotonic() > end:
                    raise SystemExit(f"the server did not end:\n{self._end_of_log()}")
                time.sleep(0.05)

    def _end_of_log(self) -> str:
        return self.log.read_text()[-2000:] if self.log.exists() else "it has printed nothing"

    def _exit_code(self) -> int | None:
        """The exit code of the process; None while it runs."""
        if isinstance(self._process, subprocess.Popen):
            return self._process.poll()
        return None if self._process is None else self._process.exitcode


class CutConnections:
    """Passes connections on to a server, until they are cut; then new ones are closed at once until ``mend``."""

    def __init__(self, server: ChatServer) -> None:
        self._target = ("127.0.0.1", server.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        self._is_cut = True
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()

    def mend(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                if self._is_cut:
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                self._sockets += (client, server)
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=(source, target), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65_536):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)
