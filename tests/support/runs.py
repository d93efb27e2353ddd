"""Real ``shmstress run`` processes under test: start, inspect, damage one, and read results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import psutil

from shmalloc import constants as c
from shmalloc.engine.native import warm_together
from shmalloc.errors import SegmentError
from shmalloc.segment import Segment
from stress.run.kernels import whole_plan

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240.0  # the first run of a session compiles the kernels


@cache
def compile_once() -> None:
    """Keep one image on disk that serves every run, where each would make a smaller one."""
    warm_together(whole_plan())


def environment(**more: str) -> dict[str, str]:
    kept = {name: v for name, v in os.environ.items() if not name.startswith("SHMSTRESS_")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def shmstress(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """One command line, run to its end."""
    if arguments[:1] == ("run",):
        compile_once()
    return subprocess.run(
        [sys.executable, "-m", "stress", *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:g} s for {what}"
        time.sleep(0.02)


class RunningRun:
    """A run in the background. Use in a ``with`` block: leaving it kills what is left."""

    def __init__(self, *arguments: str, group: bool = False) -> None:
        """``group``: its processes are a process group of their own."""
        compile_once()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stress", "run", "--progress", "never", *arguments],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=group,
        )

    def __enter__(self) -> RunningRun:
        wait_until(self._at_work, "the workers to be at work")
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    @property
    def segment_names(self) -> list[str]:
        return [p.name for p in Path("/dev/shm").glob(f"shm-{self.process.pid}-*")]

    def attach(self) -> Segment:
        return Segment.attach(self.segment_names[0])

    def workers(self) -> list[int]:
        """The pids of the workers, by CPU slot. With faults the last slot is the controller's."""
        with self.attach() as segment:
            slots = [segment.layout.cpu(cpu) for cpu in range(segment.geometry.cpus)]
            pids = [segment.ram.load(slot + c.C_PID) for slot in slots]
            return [pid for pid in pids if pid != self.process.pid]

    def _at_work(self) -> bool:
        """Every worker has done some batches: the run is past its start."""
        assert self.process.poll() is None, "".join(self.process.communicate())
        try:
            with self.attach() as segment:
                slots = [segment.layout.cpu(cpu) for cpu in range(segment.geometry.cpus)]
                workers = [s for s in slots if segment.ram.load(s + c.C_PID) != self.process.pid]
                return all(segment.ram.load(slot + c.C_BEAT) > 2 for slot in workers)
        except (IndexError, SegmentError):
            return False

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Exit code and standard output."""
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        print(output, errors)
        return self.process.returncode, output


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def hear_ctrl_c() -> None:
    """For ``preexec_fn``: jobs of a shell ignore SIGINT, and those of nohup SIGHUP, and so do their
    children."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
