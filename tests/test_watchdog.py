"""The watchdog, on a clock of our own."""

import pytest

from stress.run.watchdog import Watchdog


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def looks(watchdog, clock, beats, seconds, step=1.0):
    """Check once a second with the same beats; the answer of the last check."""
    silent = []
    for _ in range(int(seconds / step)):
        clock.now += step
        silent = watchdog.look(beats)
    return silent


def test_a_worker_whose_beat_stands_still_is_silent_after_the_timeout(clock):
    watchdog = Watchdog(10, clock)
    assert looks(watchdog, clock, {0: 5}, 10) == []
    assert looks(watchdog, clock, {0: 5}, 2) == [0]


def test_a_worker_whose_beat_rises_is_never_silent(clock):
    watchdog = Watchdog(3, clock)
    assert all(looks(watchdog, clock, {0: beat}, 2) == [] for beat in range(20))


def test_only_the_silent_one_is_named(clock):
    watchdog = Watchdog(3, clock)
    for beat in range(8):
        silent = looks(watchdog, clock, {0: beat, 1: 7}, 1)
    assert silent == [1]


def test_a_worker_that_was_not_watched_meanwhile_starts_anew(clock):
    watchdog = Watchdog(3, clock)
    looks(watchdog, clock, {0: 5}, 3)
    looks(watchdog, clock, {}, 10)
    assert looks(watchdog, clock, {0: 5}, 3) == []


def test_a_gap_of_the_controller_itself_blames_no_worker(clock):
    watchdog = Watchdog(10, clock)
    looks(watchdog, clock, {0: 5}, 5)
    clock.now += 3600
    assert watchdog.look({0: 5}) == []
    assert looks(watchdog, clock, {0: 5}, 8) == [0]
