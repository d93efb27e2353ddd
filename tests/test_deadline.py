"""The controller's own deadline: work that never ends is reported, and nothing else is."""

import threading

import pytest

from stress.run.deadline import Deadline

PATIENCE_S = 30.0


class Told:
    """The overdue jobs, and a way to wait for one."""

    def __init__(self) -> None:
        self.what: list[str] = []
        self.came = threading.Event()

    def __call__(self, what: str) -> None:
        self.what.append(what)
        self.came.set()


def test_work_that_never_ends_is_overdue():
    told, never = Told(), threading.Event()
    deadline = Deadline(0.01, told)

    def work() -> None:
        with deadline.guard("recovery"):
            never.wait()

    threading.Thread(target=work, daemon=True).start()
    assert told.came.wait(PATIENCE_S) and told.what == ["recovery"]


def test_an_overdue_job_goes_no_further():
    told, went_on = Told(), threading.Event()

    def work() -> None:
        with Deadline(0.01, told).guard("audit"):
            told.came.wait()
        went_on.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert told.came.wait(PATIENCE_S)
    thread.join(0.1)
    assert thread.is_alive() and not went_on.is_set()


def test_work_that_ends_in_time_is_not_overdue_later():
    told = Told()
    before = threading.active_count()
    with Deadline(PATIENCE_S, told).guard("audit"):
        assert threading.active_count() == before + 1
    for timer in threading.enumerate():
        if isinstance(timer, threading.Timer):
            timer.join(PATIENCE_S)  # a cancelled timer ends at once
    assert threading.active_count() == before and not told.what


def test_an_error_comes_out_of_the_guard_and_ends_it():
    told = Told()
    with pytest.raises(IndexError), Deadline(PATIENCE_S, told).guard("audit"):
        raise IndexError
    assert not told.what
