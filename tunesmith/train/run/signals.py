"""Stopping politely: a signal asks, the loop answers after the step, a second signal does not wait.

with Signals() as signals:
    ... after each step: if signals.requested(): save, and raise StoppedError
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, the end of a job, and the warning that some batch systems give before it."""


class Signals:
    """Takes over the stop signals for a ``with`` block and gives them back after it. Main thread only, as Python requires.

    Processes forked in the block inherit the handlers: a worker should ignore the signals, for it ends with the run.
    """

    def __init__(self) -> None:
        self._received: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def requested(self) -> str | None:
        """The name of the signal that came, or None."""
        return self._received

    def __enter__(self) -> Self:
        assert threading.current_thread() is threading.main_thread(), "signals reach only the main thread"
        self._before = {number: signal.signal(number, self._handle) for number in STOPPING}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # None stands for a handler that was not installed from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        """Remember the first signal; raise KeyboardInterrupt on the second, wherever the program is."""
        name = signal.Signals(number).name
        if self._received:
            raise KeyboardInterrupt(f"{name} after {self._received}")
        self._received = name
