"""Signals that stop a run: the first one ends it after the present step, a second one at once.

with stopping_at_once():
    ... before, between and after the steps: the first signal ends the block with StoppedError
    with StopSignals() as signals:
        ... after each step: if signals.received(): save, and raise StoppedError
"""

from __future__ import annotations

import _thread
import atexit
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from tunesmith.errors import StoppedError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Ctrl-C, the end of a job, the warning that some batch systems send before it, and the end of the terminal."""


UNWINDING = 3.0
"""Seconds in which a block that a signal has ended cleans up: further signals do not interrupt that."""
AGAIN = 0.01
"""Seconds after which a signal is sent again whose exception Python has ignored."""


class StopRequest(KeyboardInterrupt):
    """A stop signal came where no step is to be saved. It is no Exception, so that nothing takes it for an error.

    number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stopping_at_once(*, ends_process: bool = False) -> Iterator[None]:
    """In the block, a stop signal ends it, wherever the program is; the earlier handlers are restored after it.

    It is for what comes before and after the steps of a run, where no progress is lost: what is complete stays, and
    what is being written is made again. Only the main thread may enter the block.

    ends_process: whether only the end of the process follows, which takes seconds. The exit code is known by then, so
        stop signals are ignored after the block.
    Raises StoppedError.
    """
    handlers = _Handlers(stop := _StopAtOnce(), _ignore if ends_process else None)
    if ends_process:
        atexit.register(_ignore_for_good)
    try:
        with handlers, stop:
            yield
    except StopRequest as request:
        handlers.release()  # a second signal may have come before all handlers were restored
        raise StoppedError(
            f"stopped by {request} outside of the training steps: all that was saved is complete, and the same command "
            "starts where it ended"
        ) from None


class _StopAtOnce:
    """The handler that raises StopRequest, wherever the program is.

    Python ignores what is raised in ``__del__`` and in callbacks of weak references. Within a ``with`` block such a
    signal is sent again.
    """

    def __init__(self) -> None:
        self._raised = -math.inf
        self._report_ignored = sys.unraisablehook

    def __call__(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._raised >= UNWINDING:
            self._raised = now
            raise StopRequest(number)

    def __enter__(self) -> None:
        self._report_ignored = sys.unraisablehook
        sys.unraisablehook = self._send_again

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._report_ignored

    def _send_again(self, ignored: sys.UnraisableHookArgs) -> None:
        if not isinstance(ignored.exc_value, StopRequest):
            self._report_ignored(ignored)
            return
        self._raised = -math.inf
        # The signal may have come while a lock of `threading` was held, which Thread.start would wait for.
        _thread.start_new_thread(_send_later, (ignored.exc_value.number,))


def _send_later(number: int) -> None:
    time.sleep(AGAIN)
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, number)


def _ignore(_: int, __: FrameType | None) -> None:
    """A handler that does nothing; other than SIG_IGN it does not hold for programs that this process starts."""


def _ignore_for_good() -> None:
    """Ignore stop signals while the interpreter ends, when it removes the handlers that are functions."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is _ignore:
            signal.signal(number, signal.SIG_IGN)


class _Handlers:
    """Handles the stop signals within a ``with`` block by one function; the earlier handlers are restored after it.

    handle: the function.
    following: the handler after the block, instead of the earlier ones; None: those.
    """

    def __init__(
        self,
        handle: Callable[[int, FrameType | None], None],
        following: Callable[[int, FrameType | None], None] | None = None,
    ) -> None:
        self._handle_signal, self._following = handle, following
        self._previous: dict[int, Any] = {}
        self._is_active = False

    def __enter__(self) -> Self:
        assert threading.current_thread() is threading.main_thread(), "signals reach only the main thread"
        # `nohup` ignores SIGHUP for its command, which is meant to survive the terminal.
        ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
        numbers = [number for number in STOP_SIGNALS if number not in ignored]
        self._previous = {number: self._following or signal.getsignal(number) for number in numbers}
        self._is_active = True
        for number in numbers:
            signal.signal(number, self._dispatch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Restore the earlier handlers. A signal that comes meanwhile is theirs."""
        self._is_active = False
        for number, handler in self._previous.items():
            # None: the handler was not installed from Python and cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _dispatch(self, number: int, frame: FrameType | None) -> None:
        if self._is_active:
            self._handle_signal(number, frame)
        elif callable(previous := self._previous[number]):
            previous(number, frame)


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
