"""Ctrl-C asks once, insists twice; the first must never take anything back."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from opskit.cli.interrupts import ASKED, FIRST, MORE, QUESTION, SECOND, LeftOpen, stopping


def sent(*signals: signal.Signals) -> tuple[int, list[str]]:
    """Send signals to ourselves while a run is on; return presses and what was told."""
    pressed: list[float] = []
    told: list[str] = []
    with stopping(lambda: pressed.append(time.monotonic()), told.append):
        for number in signals:
            os.kill(os.getpid(), number)
            time.sleep(0.1)
        until(lambda: len(pressed) >= 1, 2.0)
    return len(pressed), told


def until(holds: Callable[[], bool], limit: float) -> None:
    deadline = time.monotonic() + limit
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_the_run_to_stop(number: signal.Signals) -> None:
    assert sent(number) == (1, [FIRST if number == signal.SIGINT else ASKED])


def test_the_second_ctrl_c_ends_what_runs() -> None:
    assert sent(signal.SIGINT, signal.SIGINT) == (2, [FIRST, SECOND])


def test_a_second_sigterm_is_not_a_second_thought() -> None:
    assert sent(signal.SIGTERM, signal.SIGTERM) == (1, [ASKED])
    assert "Ctrl-C" not in ASKED


def insist(times: int) -> None:
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)


def test_ctrl_c_a_fourth_time_leaves() -> None:
    told: list[str] = []

    def press() -> None:
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt), stopping(press, told.append):
        insist(4)
    assert told == [FIRST, SECOND, MORE]


def test_afterwards_signals_mean_what_they_did_before() -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    sent(signal.SIGINT)
    after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert before == after


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping(lambda: None, lambda _: None):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_a_question_leaves_it_open_and_stops_nothing(number: signal.Signals) -> None:
    pressed: list[None] = []
    with stopping(lambda: pressed.append(None), lambda _: None, lambda: True):
        with pytest.raises(LeftOpen):
            os.kill(os.getpid(), number)
        time.sleep(0.05)
    assert pressed == []


def test_a_terminal_that_is_gone_does_not_keep_a_run_from_stopping() -> None:
    pressed: list[None] = []

    def tell(_: str) -> None:
        raise OSError

    with stopping(lambda: pressed.append(None), tell):
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: bool(pressed), 2.0)
    assert pressed == [None]


def test_a_yes_stops_what_runs_and_the_end_of_the_run_ends_the_question() -> None:
    pressed: list[int] = []
    told: list[str] = []

    def yes(_: Callable[[], bool]) -> bool:
        time.sleep(0.05)
        return True

    with stopping(lambda: pressed.append(1), told.append, answer=yes):
        os.kill(os.getpid(), signal.SIGINT)
        until(lambda: len(pressed) == 2, 2.0)
    assert told == [QUESTION, SECOND]

    def nobody(over: Callable[[], bool]) -> bool:
        until(over, 10.0)
        return False

    began = time.monotonic()
    with stopping(lambda: pressed.append(1), told.append, answer=nobody):
        os.kill(os.getpid(), signal.SIGINT)
        until(lambda: len(pressed) == 3, 2.0)
    assert time.monotonic() - began < 1
    assert len(pressed) == 3


@pytest.mark.parametrize(("hard", "presses"), [(False, 1), (True, 2)])
def test_what_is_asked_for_from_elsewhere_is_done_as_often_as_it_takes(
    hard: bool, presses: int
) -> None:
    pressed: list[None] = []
    with stopping(lambda: pressed.append(None), lambda _: None) as interrupts:
        interrupts.asked(hard)
        interrupts.asked(hard)
    assert len(pressed) == presses


def test_what_is_asked_for_from_elsewhere_ends_a_question() -> None:
    pressed: list[None] = []
    with (
        stopping(lambda: pressed.append(None), lambda _: None, lambda: True) as interrupts,
        pytest.raises(LeftOpen),
    ):
        interrupts.asked(False)
    assert pressed == []
