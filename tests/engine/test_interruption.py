"""Signals wait, and then do what they would have done."""

import signal
import threading
from collections.abc import Iterator

import pytest

from understudy.engine.interruption import Interruption


@pytest.fixture(autouse=True)
def as_in_a_terminal() -> Iterator[None]:
    """In the background of a shell, Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_signal_waits_for_its_time() -> None:
    interruption = Interruption(kept=True)
    before = signal.getsignal(signal.SIGTERM)
    with interruption.waiting():
        signal.raise_signal(signal.SIGINT)
        assert interruption.asked == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            interruption.take_effect()
        assert interruption.asked is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_second_one_takes_effect_at_once() -> None:
    interruption, twice = Interruption(kept=True), []

    def asked_twice() -> None:
        with interruption.waiting():
            signal.raise_signal(signal.SIGINT)
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                twice.append(interruption.asked)

    with pytest.raises(KeyboardInterrupt):
        asked_twice()
    assert twice == [signal.SIGINT]


def test_what_nobody_let_take_effect_does_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption(kept=True).waiting():
        signal.raise_signal(signal.SIGINT)


def test_an_own_handler_is_called_and_the_training_may_go_on() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        interruption = Interruption(kept=True)
        with interruption.waiting():
            signal.raise_signal(signal.SIGTERM)
            assert heard == []
            interruption.take_effect()
            assert heard == [signal.SIGTERM]
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interruption = Interruption(kept=True)
    with interruption.waiting():
        signal.raise_signal(signal.SIGINT)
        assert interruption.asked is None
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_handler_of_another_program_is_left_alone(monkeypatch) -> None:
    """Python reads a handler that was set in C as None, and could not put it back."""
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    held: list[int] = []
    monkeypatch.setattr(signal, "signal", lambda number, _: held.append(number))
    with Interruption(kept=True).waiting():
        pass
    assert held == []


def test_nothing_waits_where_it_may_not() -> None:
    with Interruption(kept=False).waiting(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_in_another_thread_signals_are_left_alone() -> None:
    failed: list[BaseException] = []

    def open_it() -> None:
        try:
            with Interruption(kept=True).waiting():
                pass
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=open_it)
    thread.start()
    thread.join()
    assert failed == []
