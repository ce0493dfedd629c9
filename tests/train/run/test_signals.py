"""The first signal asks, the second does not wait, and the old handlers come back."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from tunesmith.train.run.signals import STOPPING, Signals


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.001)  # gives the interpreter a chance to run the handler


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_remembered_and_nothing_is_interrupted(number: signal.Signals) -> None:
    with Signals() as signals:
        assert signals.requested() is None
        send(number)
        assert signals.requested() == number.name


@pytest.mark.parametrize("second", STOPPING)
def test_a_second_signal_interrupts_at_once(second: signal.Signals) -> None:
    with Signals() as signals:
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match=f"{second.name} after SIGTERM"):
            send(second)
        assert signals.requested() == "SIGTERM"


def test_the_handlers_of_before_come_back_even_after_an_error() -> None:
    before = [signal.getsignal(number) for number in STOPPING]

    def fail_while_listening() -> None:
        with Signals():
            assert [signal.getsignal(number) for number in STOPPING] != before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_listening()
    assert [signal.getsignal(number) for number in STOPPING] == before


def test_it_is_for_the_main_thread_only() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            Signals().__enter__()
        except AssertionError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(failures) == 1
