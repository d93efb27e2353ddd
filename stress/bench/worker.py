"""A worker process of a bench: it sleeps on the ticket, runs the slice that is ordered, answers.

It is pinned to one core, attaches to every segment of the bench with a claim of its own, and makes
the runner of every job before the first round. What the system did to it during a slice is part of
the answer: an involuntary switch (``ru_nivcsw`` of its thread) means that the core was taken away.

A worker ends with its controller, whose pipe it looks at while it waits.
"""

from __future__ import annotations

import os
import resource
import sys
import time
import traceback
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection

from shmalloc import cpus as slots
from shmalloc.arena import Arena
from shmalloc.engine import get_engine
from shmalloc.parent import end_with_parent
from shmalloc.segment import Segment
from stress import signals
from stress.bench import control, python_loops
from stress.bench.catalogue import PYTHON
from stress.bench.jobs import Job, Place
from stress.bench.page_loops import two_swaps
from stress.bench.peer_runners import PeerError, PeerHeaps
from stress.bench.ring_loops import PATIENT, SPINS
from stress.bench.runners import Called, Kernels, Meeting, Runner, Spot, runner_of
from stress.surroundings import STANDARD_ERROR

F_SWAPS = 5_000  # some 50 us


@dataclass(frozen=True)
class Refused:
    """A peer that cannot run, by its name, and why."""

    peer: str
    reason: str


@dataclass(frozen=True)
class Task:
    """Who a worker is: its core, of so many ``cores``. ``segments``: their names by place;
    ``caches``: their caches by size; ``heaps``: the files of shared heaps by peer; ``images``:
    loops of peers by shape."""

    worker: int
    workers: int
    core: int
    cores: int
    control: str
    jobs: tuple[Job, ...]
    segments: dict[Place, str]
    caches: dict[Place, dict[int, int]]
    heaps: dict[str, str]
    arena: str
    images: dict[str, bytes]


def main(task: Task, pipe: Connection) -> None:
    """The whole life of a worker; sends the traceback if it ends early."""
    signals.ignore()  # they reach the whole group: the controller decides
    os.close(forkserver._forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]
    end_with_parent()
    os.dup2(STANDARD_ERROR, 1)  # libraries of peers print; standard output is the report's
    os.sched_setaffinity(0, [task.core])
    with suppress(BrokenPipeError, ConnectionResetError):  # no one is left to tell
        try:
            with ExitStack() as stack:
                Worker(task, pipe, stack).serve()
        except Exception:
            pipe.send(traceback.format_exc())
            sys.exit(1)


class Worker:
    """The runners of one process, and its answers."""

    def __init__(self, task: Task, pipe: Connection, stack: ExitStack) -> None:
        self._task, self._pipe, self._stack = task, pipe, stack
        file = os.open(task.control, os.O_RDWR)
        self._words = control.words_of(file)
        os.close(file)
        self._answer = control.answer_at(task.worker)
        self._run = get_engine("native")
        self._kernels: dict[Place, Kernels] = {}
        self._heaps = PeerHeaps(task.worker, task.workers, task.heaps, task.images, stack)
        self._runners: dict[int, Runner] = {}

    def serve(self) -> None:
        """Obey orders until told to leave, or until the controller is gone."""
        seen = 0
        while True:
            ticket = self._run.call(control.await_order, self._words, seen)
            if ticket == seen:
                if self._pipe.poll(0):  # the end of it: it sends nothing
                    return
                continue
            seen = ticket
            action = self._words[control.ACTION]
            if action == control.DO_LEAVE:
                return
            if action == control.DO_SLICE:
                self._slice()
            elif action == control.DO_PREPARE:
                if self._words[control.JOB] <= self._task.worker < self._words[control.WORKERS]:
                    self._prepare()
            else:
                failed = sum(runner.undo() for runner in self._runners.values())
                self._words[self._answer + control.R_FAILED] = failed
            self._run.call(control.tell_done, self._words)

    def _prepare(self) -> None:
        """Make the runner of each job. Worker 0 comes first: it makes the heaps that are shared."""
        for place, name in self._task.segments.items():
            segment = self._stack.enter_context(Segment.attach(name))
            slots.take(segment, self._task.worker, self._task.worker)
            self._stack.callback(slots.release, segment, self._task.worker)
            self._kernels[place] = Kernels(segment, self._task.worker)
        refused: dict[str, str] = {}
        for job in self._task.jobs:
            if job.workers <= self._task.worker or (job.peer and job.peer.name in refused):
                continue
            try:
                self._runners[job.number] = self._runner_of(job)
            except PeerError as error:
                assert job.peer is not None
                refused[job.peer.name] = str(error)
        for name, reason in refused.items():
            self._pipe.send(Refused(name, reason))

    def _runner_of(self, job: Job) -> Runner:
        if job.peer is not None:
            self._heaps.open(job.peer)
            return self._heaps.runner_of(job)
        assert job.place is not None
        if job.pattern.timed == PYTHON:
            size = (*job.pattern.parameters, 0)[0]
            return Called(1, python_loops.ours(job.pattern.loop, size, self._arena()))
        return runner_of(job, self._kernels[job.place], self._task.caches[job.place])

    def _arena(self) -> Arena:
        if not hasattr(self, "_attached"):
            self._attached = self._stack.enter_context(Arena.attach(self._task.arena))
        return self._attached

    def _slice(self) -> None:
        """F, then the loop, of the job that is ordered; nothing if others run it."""
        words, worker = self._words, self._task.worker
        workers = words[control.WORKERS]
        if worker >= workers:
            return
        runner = self._runners[words[control.JOB]]
        spins = SPINS if workers > self._task.cores else PATIENT
        meeting = Meeting(words, workers, spins)
        spot = Spot(worker, workers, words[control.ROUND], spins, meeting)
        runner.begin(spot)
        before = switched()
        f_ns = self._swaps()
        lost = switched() - before
        meeting.wait()  # a yield in it counts as a switch, and is none of the slice
        before, start = switched(), time.perf_counter_ns()
        took = runner.run(words[control.REPEATS], spot)
        end = time.perf_counter_ns()
        lost += switched() - before
        for offset, value in (
            (control.R_OPERATIONS, took.operations),
            (control.R_OWN_NS, took.own_ns),
            (control.R_START_NS, start),
            (control.R_END_NS, end),
            (control.R_SWITCHES, lost),
            (control.R_FAILED, took.failed),
            (control.R_F_NS, f_ns),
        ):
            words[self._answer + offset] = value

    def _swaps(self) -> int:
        """Nanoseconds of F_SWAPS times F, on words that no other worker uses."""
        start = time.perf_counter_ns()
        self._run.call(two_swaps, self._words, self._answer + control.R_F_PAIR, F_SWAPS)
        return time.perf_counter_ns() - start


def switched() -> int:
    """How often the system has taken the core from this thread."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
