"""A worker's batches: how many steps it asks a workload for."""

from types import SimpleNamespace

import pytest

from shmalloc import constants as c
from stress.run import worker
from stress.run.worker import Worker


class Short:
    """A pipe that lets some batches go by, then parks."""

    def __init__(self, batches):
        self.left = batches

    def poll(self, timeout=0):
        self.left -= 1
        return self.left < 0

    def recv(self):
        return worker.Park()


def working(stop, batches=20):
    """A worker whose batches end at once, after some of them; ``stop``: what H_STOP says."""
    made = Worker.__new__(Worker)
    words = {c.H_STOP: stop}
    made.cpu, made._face, made._hooked, made._noise, made._turns = 0, None, None, None, 0
    made._beat_word = -1
    made.ram = SimpleNamespace(
        load=lambda i: words.get(i, 0), store=lambda i, value: words.update({i: value})
    )
    made.engine = SimpleNamespace(bind=lambda step: lambda mem, cpu, steps: 0)
    made.pipe = Short(batches)
    made._steps = {"churn": worker.FIRST_STEPS}
    made._work("churn")
    return made._steps["churn"]


def test_batches_that_are_short_grow():
    assert working(stop=0) > 100 * worker.FIRST_STEPS


@pytest.mark.parametrize("batches", [1, 20, 200])
def test_batches_that_were_cut_off_by_the_stop_do_not(batches):
    assert working(stop=1, batches=batches) == worker.FIRST_STEPS
