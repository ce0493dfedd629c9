"""The first signal is remembered, the second interrupts, and the earlier handlers are restored."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tunesmith.errors import StoppedError
from tunesmith.train.run import signals as signals_module
from tunesmith.train.run.signals import STOP_SIGNALS, StopSignals, stopping_at_once


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.001)  # gives the interpreter a chance to run the handler


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_is_remembered_and_nothing_is_interrupted(number: signal.Signals) -> None:
    with StopSignals() as signals:
        assert signals.received() is None
        send(number)
        assert signals.received() == number.name


@pytest.mark.parametrize("second", STOP_SIGNALS)
def test_a_second_signal_interrupts_at_once(second: signal.Signals) -> None:
    with StopSignals() as signals:
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match=f"{second.name} after SIGTERM"):
            send(second)
        assert signals.received() == "SIGTERM"


def test_the_earlier_handlers_are_restored_even_after_an_error() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]

    def fail_while_listening() -> None:
        with StopSignals():
            assert [signal.getsignal(number) for number in STOP_SIGNALS] != before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_listening()
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_a_command_under_nohup_ignores_the_end_of_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            send(signal.SIGHUP)
            assert signals.received() is None
            send(signal.SIGTERM)
            assert signals.received() == "SIGTERM"
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_it_is_for_the_main_thread_only() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            StopSignals().__enter__()
        except AssertionError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(failures) == 1


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_outside_of_the_steps_a_signal_ends_the_work_at_once(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in STOP_SIGNALS]
    reached = []

    def work() -> None:
        with stopping_at_once():
            try:
                send(number)
                reached.append("the end")
            except Exception:
                reached.append("a handler of errors")

    with pytest.raises(StoppedError, match=f"stopped by {number.name} outside of the training steps") as caught:
        work()
    assert caught.value.exit_code == 75
    assert reached == []
    assert [signal.getsignal(each) for each in STOP_SIGNALS] == before


def test_a_signal_whose_exception_python_ignores_is_sent_again(capfd: pytest.CaptureFixture[str]) -> None:
    class Interrupted:
        def __del__(self) -> None:
            send(signal.SIGTERM)

    hook, reached = sys.unraisablehook, []

    def work() -> None:
        with stopping_at_once():
            del (each := [Interrupted()])[0]
            reached.append(each)
            time.sleep(10)

    with pytest.raises(StoppedError, match="SIGTERM"):
        work()
    assert reached == [[]]
    assert sys.unraisablehook is hook
    assert "Exception ignored" not in capfd.readouterr().err


def test_other_exceptions_that_python_ignores_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("planted")

    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda ignored: reported.append(str(ignored.exc_value)))
    with stopping_at_once():
        Broken()
        gc.collect()
    assert reported == ["planted"]


def test_a_second_signal_does_not_interrupt_the_cleaning_up(monkeypatch: pytest.MonkeyPatch) -> None:
    reached = []

    def work() -> None:
        with stopping_at_once():
            try:
                send(signal.SIGTERM)
            finally:
                send(signal.SIGINT)
                reached.append("cleaned up")

    with pytest.raises(StoppedError, match="SIGTERM"):
        work()
    assert reached == ["cleaned up"]
    monkeypatch.setattr(signals_module, "UNWINDING", 0.0)  # it takes too long
    with pytest.raises(StoppedError, match="SIGINT"):
        work()
    assert reached == ["cleaned up"]


def test_signals_within_the_steps_are_remembered_and_those_after_them_end_the_work() -> None:
    reached = []

    def work() -> None:
        with stopping_at_once():
            with StopSignals() as signals:
                send(signal.SIGTERM)
                reached.append(signals.received())
            send(signal.SIGHUP)

    with pytest.raises(StoppedError, match="SIGHUP"):
        work()
    assert reached == ["SIGTERM"]


def test_a_second_signal_within_the_steps_is_not_called_saved() -> None:
    def work() -> None:
        with stopping_at_once(), StopSignals():
            send(signal.SIGTERM)
            send(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt, match="SIGTERM after SIGTERM"):
        work()


ENDING = """
import os, signal, sys, time
from tunesmith.errors import StoppedError
from tunesmith.train.run import signals as signals_module
from tunesmith.train.run.signals import STOP_SIGNALS, stopping_at_once

class Slow:
    def __del__(self, send=[(os.kill, os.getpid(), each) for each in STOP_SIGNALS], sleep=time.sleep):
        for kill, process, number in send:
            kill(process, number)
            sleep(0.001)

at_end = Slow()
try:
    with stopping_at_once(ends_process=True):
        if len(sys.argv) > 1:
            os.kill(os.getpid(), signal.SIGTERM)
except StoppedError as stopped:
    os.kill(os.getpid(), signal.SIGINT)
    sys.exit(stopped.exit_code)
"""
"""Gets signals after the block, and while the interpreter ends."""


@pytest.mark.parametrize(("words", "code"), [((), 0), (("stop",), 75)])
def test_signals_at_the_end_of_the_process_do_not_change_its_exit_code(words: tuple[str, ...], code: int) -> None:
    done = subprocess.run([sys.executable, "-c", ENDING, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")


def test_programs_that_are_started_after_the_block_do_not_ignore_signals() -> None:
    with stopping_at_once(ends_process=True):
        pass
    assert all(signal.getsignal(number) not in (signal.SIG_IGN, signal.SIG_DFL) for number in STOP_SIGNALS)
    send(signal.SIGTERM)


def test_a_second_signal_while_handlers_are_restored_is_for_the_earlier_ones() -> None:
    found: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: found.append(number))
    try:
        with StopSignals() as signals:
            handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        handler(signal.SIGTERM, None)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert found == [signal.SIGTERM]
    assert signals.received() is None
