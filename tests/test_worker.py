"""A worker's batches: how many steps it asks a workload for, and how it reports its end."""

import os
import signal
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from shmalloc import constants as c
from shmalloc.errors import ArithmeticFault, ExpectationFault, KernelFault, OutsideFault
from stress.run import worker
from stress.run.last_words import LastWords
from stress.run.messages import Broken
from stress.run.wait import Trouble, WorkerWait
from stress.run.worker import Worker
from stress.verdict import Verdict

CRASH = """
    import sys
    from shmalloc.engine import get_engine
    from shmalloc.memory import Ram
    from stress.run import worker
    from stress.run.last_words import speak_into
    from support.children import increment_many

    ram, run = Ram.of_words(64), get_engine("native").bind(increment_many)
    run(ram, 0, 1)
    speak_into(sys.argv[1])
    worker._move_in(None, None if sys.argv[2] == "-" else sys.argv[2])
    ram._place[0] = 0x1000  # nothing is mapped there
    run(ram, 2, 1)
"""


class Short:
    """A pipe that lets some batches pass, then parks."""

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
    made._beat_word, made._area, made._sites = -1, 1000, None
    made._protection = None
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


@pytest.mark.parametrize("logged", [False, True])
def test_a_worker_killed_by_a_signal_in_a_kernel_names_the_kernel(tmp_path, logged):
    log = str(tmp_path / "worker.log") if logged else None
    words = LastWords(log)
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CRASH), words.path, log or "-"],
        text=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert child.returncode == -signal.SIGSEGV
    assert words.of_crash().startswith(" in kernel support.children:increment_many +0x")
    assert words.of_crash().endswith(", address 0x1010") and words.others() == ""
    python_said = child.stderr if log is None else (tmp_path / "worker.log").read_text()
    assert "Fatal Python error: Segmentation fault" in python_said
    words.close()


def test_what_the_c_library_says_at_the_end_is_kept():
    words = LastWords(None)
    with open(words.path, "a") as file:
        file.write("free(): invalid pointer\n")
    assert words.of_crash() == "" and words.others() == "free(): invalid pointer"
    words.close()
    assert words.others() == ""


FAULTS = [
    (OutsideFault("outside", "a.kernel", "a.py", 7, 3, 99, 64), Verdict.FAILED, "M_OUT_OF_RANGE"),
    (ArithmeticFault("division", "a.kernel", "a.py", 7, 3), Verdict.FAILED, "I_PROGRESS"),
    (ExpectationFault("expectation", "a.kernel", "a.py", 7, 3, 5), Verdict.FAILED, "I_PROGRESS"),
    (RuntimeError("ours"), Verdict.ERROR, None),
]


@pytest.mark.parametrize(("error", "verdict", "invariant"), FAULTS)
def test_a_fault_of_a_kernel_is_a_violation_and_any_other_error_is_ours(error, verdict, invariant):
    answer = worker._broken(error)
    assert isinstance(answer, Broken)
    world = SimpleNamespace(reports=SimpleNamespace(history=lambda cpu, lines: ()))
    with pytest.raises(Trouble) as caught:
        WorkerWait(None, world, None).refuse_broken(SimpleNamespace(cpu=3), answer)
    assert caught.value.verdict is verdict
    violation = caught.value.violation
    assert (violation and violation.invariant.partition(" ")[0]) == invariant
    if isinstance(error, KernelFault):
        assert "in a.kernel, a.py:7, on cpu 3" in violation.found
