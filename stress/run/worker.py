"""The worker process: bounded batches of one workload kernel, and an ear for the controller.

No signal handler of Python runs inside a compiled loop, so a worker is never longer than one batch
away from its pipe: the number of steps follows the time that the last batch took.

A worker does not survive its controller: it reads the end of the pipe between two batches, and if
it is stuck inside a kernel, the kernel of the system ends it with its parent.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

import psutil

from shmalloc import constants as c
from shmalloc.cpus import claim
from shmalloc.engine import get_engine
from shmalloc.segment import Segment
from stress.run.messages import Broken, Finish, Finished, Go, Leave, Park, Parked, Ready
from stress.workloads import WORKLOADS

BATCH_TARGET_S = 0.010
BATCH_LIMIT_S = 0.050
FIRST_STEPS = 8
MAX_STEPS = 1 << 20
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Task:
    """Who a worker is: its CPU slot, its core, the segment it works on."""

    cpu: int
    core: int | None
    segment: str
    engine: str
    log: str | None


def main(task: Task, pipe: Connection) -> None:
    """The whole life of a worker process; tells the controller why, where it ends early."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: one decides
    _die_with_parent()
    _log_to(task.log)
    if task.core is not None:
        psutil.Process().cpu_affinity([task.core])
    # The controller may be gone before a message reaches it: then there is nobody left to tell.
    with suppress(BrokenPipeError, ConnectionResetError, EOFError):
        try:
            with Segment.attach(task.segment) as segment:
                Worker(task, pipe, segment).serve()
        except (BrokenPipeError, ConnectionResetError, EOFError):
            raise
        except Exception as error:
            fault = isinstance(error, IndexError) and "outside the segment" in str(error)
            pipe.send(Broken(fault, str(error) if fault else traceback.format_exc()))


def _die_with_parent() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def _log_to(path: str | None) -> None:
    """Standard error into ``path``, and Python's own report of a crash with it."""
    if path is not None:
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 2)
        os.close(log)
    faulthandler.enable(file=sys.stderr)


class Worker:
    """One CPU slot at work."""

    def __init__(self, task: Task, pipe: Connection, segment: Segment) -> None:
        self.cpu = claim(segment, task.cpu, task.engine)
        self.pipe = pipe
        self.ram = segment.ram
        self.engine = get_engine(task.engine)
        self._beat_word = segment.layout.cpu(task.cpu) + c.C_BEAT
        self._steps = dict.fromkeys(WORKLOADS, FIRST_STEPS)

    def serve(self) -> None:
        """Obey until told to leave."""
        self.pipe.send(Ready(os.getpid()))
        while True:
            match self.pipe.recv():
                case Go(workload):
                    self.pipe.send(self._work(workload))
                case Finish(workload):
                    self.pipe.send(self._finish(workload))
                case Leave():
                    return
                case unexpected:
                    raise AssertionError(f"worker {self.cpu} was told {unexpected}")

    def beat(self) -> None:
        self.ram.store(self._beat_word, self.ram.load(self._beat_word) + 1)

    def _work(self, name: str) -> Parked:
        step = self.engine.bind(WORKLOADS[name].step)
        ops = batches = code = 0
        longest_s = 0.0
        started = before = time.perf_counter()
        while not self.pipe.poll():
            if code < 0:
                self.pipe.poll(BATCH_LIMIT_S)  # cannot go on: wait for the controller to see it
                self.beat()
                continue
            result = step(self.ram, self.cpu, self._steps[name])
            self.beat()
            after = time.perf_counter()
            longest_s = max(longest_s, after - before)
            self._adapt(name, after - before)
            before = after
            batches += 1
            ops, code = ops + max(result, 0), min(result, 0)
        self._expect_park()
        return Parked(name, ops, batches, before - started, longest_s, code)

    def _expect_park(self) -> None:
        command = self.pipe.recv()
        assert isinstance(command, Park), f"worker {self.cpu} was told {command} at work"

    def _adapt(self, name: str, seconds: float) -> None:
        """Towards the target: halve at once where a batch was long, grow by half else."""
        steps = self._steps[name]
        if seconds > BATCH_TARGET_S:
            steps = steps // 2
        elif seconds < BATCH_TARGET_S / 2:
            steps += steps // 2 + 1
        self._steps[name] = min(max(steps, 1), MAX_STEPS)

    def _finish(self, name: str) -> Finished:
        finish = self.engine.bind(WORKLOADS[name].finish)
        given_back = finish(self.ram, self.cpu)
        self.beat()
        return Finished(name, given_back)
