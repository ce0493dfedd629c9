"""Signals that stop a run: the first one ends it after the present step, a second one at once.

with stopping_at_once():
    ... before, between and after the steps: the first signal ends the block with StoppedError
    with StopSignals() as signals:
        ... after each step: if signals.received(): save, and raise StoppedError
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from tunesmith.errors import StoppedError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Ctrl-C, the end of a job, the warning that some batch systems send before it, and the end of the terminal."""


class StopRequest(KeyboardInterrupt):
    """A stop signal came where no step is to be saved. It is no Exception, so that nothing takes it for an error."""


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """In the block, a stop signal ends it, wherever the program is; the earlier handlers are restored after it.

    It is for what comes before and after the steps of a run, where no progress is lost: what is complete stays, and
    what is being written is made again. Only the main thread may enter the block.

    Raises StoppedError.
    """

    def stop(number: int, _: FrameType | None) -> None:
        raise StopRequest(signal.Signals(number).name)

    try:
        with _Handlers(stop):
            yield
    except StopRequest as request:
        raise StoppedError(
            f"stopped by {request} outside of the training steps: all that was saved is complete, and the same command "
            "starts where it ended"
        ) from None


class _Handlers:
    """Handles the stop signals within a ``with`` block by one function; the earlier handlers are restored after it."""

    def __init__(self, handle: Callable[[int, FrameType | None], None]) -> None:
        self._handle_signal = handle
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        assert threading.current_thread() is threading.main_thread(), "signals reach only the main thread"
        # `nohup` ignores SIGHUP for its command, which is meant to survive the terminal.
        ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
        self._previous = {
            number: signal.signal(number, self._handle_signal) for number in STOP_SIGNALS if number not in ignored
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            # None: the handler was not installed from Python and cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class StopSignals(_Handlers):
    """Remembers the first stop signal within a ``with`` block, and raises KeyboardInterrupt at a second one.

    Only the main thread may enter the block, as Python requires. Processes forked in the block inherit the handlers; a
    worker should ignore the signals, since it ends with the run.
    """

    def __init__(self) -> None:
        super().__init__(self._handle)
        self._received: str | None = None

    def received(self) -> str | None:
        """The name of the first signal that was received, or None."""
        return self._received

    def _handle(self, number: int, _: FrameType | None) -> None:
        """Remember the first signal; raise KeyboardInterrupt at the second, wherever the program is."""
        name = signal.Signals(number).name
        if self._received:
            raise KeyboardInterrupt(f"{name} after {self._received}")
        self._received = name
