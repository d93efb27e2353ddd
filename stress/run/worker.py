"""The worker process: bounded batches of one workload kernel, and an ear for the controller.

No signal handler of Python runs inside a compiled loop, so a worker is never longer than one batch
away from its pipe: the number of steps follows the time that the last batch took.

A spare attaches and loads everything, and then waits to be told which slot it takes.

A worker does not survive its controller: it reads the end of the pipe between two batches, and if
it is stuck inside a kernel, the kernel of the system ends it with its parent.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection

from shmalloc import constants as c
from shmalloc.call_sites import CallSites
from shmalloc.compiler import obtain
from shmalloc.cpus import take
from shmalloc.engine import get_engine, when_waiting_long
from shmalloc.errors import KernelFault, MisuseError
from shmalloc.page_protection import PageProtection
from shmalloc.parent import end_with_parent
from shmalloc.recovery import Rescuer
from shmalloc.segment import Segment
from stress import signals
from stress.run import user_code
from stress.run.kernels import worker_kernels
from stress.run.last_words import redirect, speak_into
from stress.run.messages import (
    Broken,
    Finish,
    Finished,
    Go,
    Idle,
    Leave,
    Light,
    Park,
    Parked,
    Ready,
    Refused,
    Take,
)
from stress.run.noise import Noise
from stress.workloads import WORKLOADS
from stress.workloads.area import W_LONGEST_NS, W_OPERATIONS

BATCH_TARGET_S = 0.010
BATCH_LIMIT_S = 0.050
FIRST_STEPS = 8
MAX_STEPS = 1 << 20
FUSE_OUT = -1


@dataclass(frozen=True)
class Task:
    """Who a worker is: its CPU slot (None: a spare's), its core, the segment it works on."""

    cpu: int | None
    core: int | None
    segment: str
    engine: str
    log: str | None
    noise: Noise | None = None  # of the memory that its kernels work over


def main(task: Task, pipe: Connection, last_words: str) -> None:
    """The whole life of a worker process; tells the controller why if it ends early.

    ``last_words``: where descriptor 2 leads while there is no log (last_words.py).
    """
    signals.ignore()  # they reach the whole group: one decides
    _die_with_parent()
    speak_into(last_words)
    _move_in(task.core, task.log)
    # The controller may be gone before a message reaches it: then no process is left to tell.
    with suppress(BrokenPipeError, ConnectionResetError, EOFError):
        if user_code.problem is not None:
            pipe.send(Broken(None, user_code.problem))
            return
        try:
            with Segment.attach(task.segment) as segment:
                _replace_dead(task, pipe, segment).serve()
        except (BrokenPipeError, ConnectionResetError, EOFError):
            raise
        except Exception as error:
            pipe.send(_broken(error))


def _broken(error: Exception) -> Broken:
    """A kernel's fault says where it was; anything else is an error of ours."""
    if isinstance(error, KernelFault):
        return Broken(error.kind, str(error), error.short_kernel)
    return Broken(None, traceback.format_exc())


def _replace_dead(task: Task, pipe: Connection, segment: Segment) -> Worker:
    """Become the worker of a slot; a spare only when it is told to. Exits if it never is."""
    if task.cpu is not None:
        return Worker(task, task.cpu, pipe, segment)
    get_engine(task.engine).warm(worker_kernels())
    pipe.send(Idle())
    while True:
        match pipe.recv():
            case Take(cpu, core, log):
                _move_in(core, log)
                try:
                    return Worker(task, cpu, pipe, segment)
                except MisuseError as error:  # the slot is unplugged
                    pipe.send(Refused(str(error)))
            case Leave():
                sys.exit(0)
            case unexpected:
                raise AssertionError(f"a spare worker was told {unexpected}")


def _die_with_parent() -> None:
    """Be ended by the system when the forkserver ends, which ends with the controller.

    It ends once no process holds the other end of its pipe, and every process that it forks gets
    that end: unless a worker closes its own, a stuck or stopped worker keeps it alive, and itself.
    """
    os.close(forkserver._forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]
    end_with_parent()


def _move_in(core: int | None, path: str | None) -> None:
    """Run on ``core``; standard error into ``path``, and both reports of a crash with it: Python's,
    and that of the image, which knows the kernel."""
    if core is not None:
        os.sched_setaffinity(0, [core])
    if path is not None:
        redirect(path)
        sys.stderr = sys.__stderr__  # which is descriptor 2
    faulthandler.enable(file=sys.stderr)
    obtain.name_crashes()


class Worker:
    """One CPU slot at work."""

    def __init__(self, task: Task, cpu: int, pipe: Connection, segment: Segment) -> None:
        take(segment, cpu, cpu % segment.geometry.cpus, task.engine)
        self.cpu = cpu
        self.pipe = pipe
        self.ram = segment.ram
        self._noise, self._turns = task.noise, 0
        self._hooked = None if task.noise is None else task.noise.memory(segment, cpu)
        self.engine = get_engine(task.engine if task.noise is None else task.noise.engine)
        self._face = self._hooked or self.ram  # what kernels run over
        # A waiter takes over the locks of the dead; the controller does the rest.
        when_waiting_long(self._face, Rescuer(segment, self.cpu, self.engine.name, self._face))
        self._sites: CallSites | None = None
        if segment.geometry.page_owner:
            self._sites = CallSites(segment, get_engine(task.engine))
            self._sites.introduce(self.cpu)
        self._beat_word = segment.layout.cpu(cpu) + c.C_BEAT
        self._area = segment.layout.work(cpu)
        self._steps = dict.fromkeys(WORKLOADS, FIRST_STEPS)
        unmapped = segment.geometry.debug_pagealloc
        self._protection = PageProtection(segment) if unmapped else None

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
                    break
                case unexpected:
                    raise AssertionError(f"worker {self.cpu} was told {unexpected}")

        if self._hooked is not None:
            self._hooked.release()

    def beat(self) -> None:
        self.ram.store(self._beat_word, self.ram.load(self._beat_word) + 1)

    def _work(self, name: str) -> Parked:
        step = self.engine.bind(WORKLOADS[name].step)
        if self._sites is not None:
            self._sites.stand_for(self.cpu, WORKLOADS[name].step)
        self._move()
        if self._protection is not None:
            self._protection.protect_free()
        ops = batches = code = 0
        longest_s = 0.0
        started = before = time.perf_counter()
        while not self._told_to_park():
            pause_s = self._pause_s()
            if code < 0 or pause_s:  # cannot go on until the controller sees it, or shall not
                self.pipe.poll(pause_s or BATCH_LIMIT_S)
                self.beat()
                before = time.perf_counter()
                continue
            result = step(self._face, self.cpu, self._steps[name])
            self.beat()
            after = time.perf_counter()
            longest_s = max(longest_s, after - before)
            if self.ram.load(c.H_STOP) == 0:  # one that was cut off says nothing (docs/bugs.md 19)
                self._adapt(name, after - before)
            before = after
            batches += 1
            ops, code = ops + max(result, 0), min(result, 0)
            self._note(ops, longest_s)
        return Parked(name, ops, batches, before - started, longest_s, code)

    def _note(self, ops: int, longest_s: float) -> None:
        """For the views of the run (accounts.py)."""
        self.ram.store(self._area + W_OPERATIONS, ops)
        self.ram.store(self._area + W_LONGEST_NS, int(longest_s * 1e9))

    def _move(self) -> None:
        self._turns += 1
        if self._noise is not None:
            self._noise.move(self.cpu, self._turns)

    def _pause_s(self) -> float:
        """How long to do nothing now, at most a batch."""
        return 0.0 if self._noise is None else min(self._noise.pause_s(), BATCH_LIMIT_S)

    def _told_to_park(self) -> bool:
        """Whether the work is over; lights the fuse if that was requested."""
        while self.pipe.poll():
            match self.pipe.recv():
                case Park():
                    if self._hooked is not None:
                        self._hooked.light_fuse(FUSE_OUT)
                    return True
                case Light(writes):
                    assert self._hooked is not None, f"worker {self.cpu} has no fuse"
                    self._hooked.light_fuse(writes)
                case unexpected:
                    raise AssertionError(f"worker {self.cpu} was told {unexpected} at work")
        return False

    def _adapt(self, name: str, seconds: float) -> None:
        """Towards the target: halve at once if a batch was long, otherwise grow by half."""
        steps = self._steps[name]
        if seconds > BATCH_TARGET_S:
            steps = steps // 2
        elif seconds < BATCH_TARGET_S / 2:
            steps += steps // 2 + 1
        self._steps[name] = min(max(steps, 1), MAX_STEPS)

    def _finish(self, name: str) -> Finished:
        finish = self.engine.bind(WORKLOADS[name].finish)
        given_back = finish(self._face, self.cpu)
        self.beat()
        return Finished(name, given_back)
