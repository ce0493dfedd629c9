"""Signals that stop a run: the first one ends it after the present step, a second one at once.

with StopSignals() as signals:
    ... after each step: if signals.received(): save, and raise StoppedError
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Ctrl-C, the end of a job, the warning that some batch systems send before it, and the end of the terminal."""


class StopSignals:
    """Handles the stop signals within a ``with`` block; the earlier handlers are restored after it.

    Only the main thread may enter the block, as Python requires. Processes forked in the block inherit the handlers; a
    worker should ignore the signals, since it ends with the run.
    """

    def __init__(self) -> None:
        self._received: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def received(self) -> str | None:
        """The name of the first signal that was received, or None."""
        return self._received

    def __enter__(self) -> Self:
        assert threading.current_thread() is threading.main_thread(), "signals reach only the main thread"
        # `nohup` ignores SIGHUP for its command, which is meant to survive the terminal.
        ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
        self._previous = {
            number: signal.signal(number, self._handle) for number in STOP_SIGNALS if number not in ignored
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            # None: the handler was not installed from Python and cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        """Remember the first signal; raise KeyboardInterrupt at the second, wherever the program is."""
        name = signal.Signals(number).name
        if self._received:
            raise KeyboardInterrupt(f"{name} after {self._received}")
        self._received = name
