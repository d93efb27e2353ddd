"""``Team``: the worker processes of a bench, the memory they work in, and its slices.

The controller makes the segments, the caches and the files of shared heaps, starts the workers from
a fork server that has the kernels loaded, and gives one order at a time. Nothing waits without a
limit: a worker that dies, fails or does not answer ends the bench with its number, its process and
what it was doing (``BenchError``).

At the end every worker gives back what it holds, and the segments are audited: a page or an object
that is left, or one that was counted and not allocated, is an error of the bench.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from shmalloc.arena import Arena
from shmalloc.engine import get_engine
from shmalloc.engine.native import warm_together
from stress.bench import control, peer_loops, worker
from stress.bench.jobs import Job, Place
from stress.bench.peer_runners import HEAP_BYTES, WORDS_BYTES
from stress.bench.peers import PYTHON_SHAPE, TUNABLES
from stress.bench.places import KERNELS as PLACE_KERNELS
from stress.bench.places import Made, made
from stress.bench.runners import KERNELS
from stress.run.fork_server import start_forkserver
from stress.run.kernels import Plan
from stress.run.workers import KILL_JOIN_S, cores, describe_exit
from stress.surroundings import require_processes

PREPARE_LIMIT_S = 120.0
SLICE_LIMIT_S = 30.0
ARENA_SIZE = "256MiB"
_KERNELS = (*KERNELS, *PLACE_KERNELS, *control.KERNELS)
PLAN: Plan = tuple(("native", kernel) for kernel in _KERNELS)


class BenchError(Exception):
    """A worker died, failed or did not answer, or something was left allocated."""


class Answer(NamedTuple):
    """What one worker did in a slice. ``f_ns``: F on its core; ``switches``: involuntary ones."""

    operations: int
    own_ns: int
    start_ns: int
    end_ns: int
    switches: int
    f_ns: float


class Member(NamedTuple):
    """A worker process as the controller sees it."""

    process: BaseProcess
    pipe: Connection


class Team:
    """Use in a ``with`` block; ``refused`` has the peers that no worker could run, and why."""

    def __init__(self, jobs: Sequence[Job], limit_s: float = SLICE_LIMIT_S) -> None:
        self.jobs = tuple(jobs)
        self.workers = max(job.workers for job in jobs)
        self.cores = cores()
        self.refused: dict[str, str] = {}
        self._limit_s = limit_s
        self._broken = False
        self._stack = ExitStack()
        self._members: list[Member] = []
        self._made: dict[Place, Made] = {}
        self._run = get_engine("native")
        try:
            self._begin()
        except BaseException:
            self._stack.close()
            raise

    def _begin(self) -> None:
        require_processes(self.workers + 2, "workers")
        warm_together(PLAN)
        with _tunables():
            start_forkserver([PLAN])
        file = control.make_file()
        self._stack.callback(os.close, file)
        self._words = control.words_of(file)
        for place in dict.fromkeys(job.place for job in self.jobs if job.place is not None):
            sizes = {
                job.pattern.parameters[0]
                for job in self.jobs
                if job.place == place and job.pattern.loop.startswith("object")
            }
            objects = any(job.pattern.objects for job in self.jobs if job.place == place)
            self._made[place] = self._stack.enter_context(made(place, self.workers, sizes, objects))
        tasks = self._tasks(file)
        self._stack.callback(self._end)
        for number in range(self.workers):
            self._start(number, tasks[number])
        # One makes the shared heaps and is done before the others open them.
        self._order(control.DO_PREPARE, "starting", 1, 0, limit_s=PREPARE_LIMIT_S)
        self._order(control.DO_PREPARE, "starting", self.workers, 1, limit_s=PREPARE_LIMIT_S)
        self._hear()

    def _tasks(self, file: int) -> list[worker.Task]:
        peers = {job.peer.name: job.peer for job in self.jobs if job.peer is not None}
        shapes = {peer.shape for peer in peers.values()} - {PYTHON_SHAPE}
        images = {shape: peer_loops.image_of(shape) for shape in shapes}
        heaps = {
            name: self._heap_file(name)
            for name, peer in peers.items()
            if peer.shared and peer.shape != PYTHON_SHAPE
        }
        timed = [job for job in self.jobs if job.pattern.loop.startswith("python")]
        wanted = any(job.peer is None for job in timed)
        arena = self._stack.enter_context(Arena.create(size=ARENA_SIZE)).name if wanted else ""
        segments = {place: one.segment.name for place, one in self._made.items()}
        caches = {place: one.caches for place, one in self._made.items()}
        return [
            worker.Task(
                number,
                self.workers,
                self.cores[number % len(self.cores)],
                len(self.cores),
                _path_of(file),
                self.jobs,
                segments,
                caches,
                heaps,
                arena,
                images,
            )
            for number in range(self.workers)
        ]

    def _heap_file(self, name: str) -> str:
        file = os.memfd_create(f"shmstress-bench-{name}")
        self._stack.callback(os.close, file)
        os.ftruncate(file, HEAP_BYTES + WORDS_BYTES)
        return _path_of(file)

    def _start(self, number: int, task: worker.Task) -> None:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("forkserver").Process(
            target=worker.main, args=(task, theirs), name=f"shmstress-bench-{number}"
        )
        process.start()
        theirs.close()  # so that the end of the process ends the pipe
        self._members.append(Member(process, ours))

    @property
    def pids(self) -> list[int]:
        """The process of each worker."""
        return [member.process.pid or 0 for member in self._members]

    def crowded(self, job: Job) -> bool:
        """Whether a job has more workers than there are cores."""
        return job.workers > len(self.cores)

    def slice(self, job: Job, repeats: int, round_number: int) -> list[Answer]:
        """Let the workers of ``job`` run it; what each did. Raises ``BenchError``."""
        self._words[control.ROUND] = round_number
        self._words[control.REPEATS] = repeats
        self._order(control.DO_SLICE, f"running {job}", job.workers, job.number)
        answers = []
        for number in range(job.workers):
            at = control.answer_at(number)
            failed = self._words[at + control.R_FAILED]
            if failed:
                raise BenchError(
                    f"worker {number}: {failed:,} operations failed while it was running {job}"
                )
            answers.append(
                Answer(
                    self._words[at + control.R_OPERATIONS],
                    self._words[at + control.R_OWN_NS],
                    self._words[at + control.R_START_NS],
                    self._words[at + control.R_END_NS],
                    self._words[at + control.R_SWITCHES],
                    self._words[at + control.R_F_NS] / worker.F_SWAPS,
                )
            )
        return answers

    def finish(self) -> None:
        """Let all give back what they hold, and audit. Raises ``BenchError``: something is left."""
        self._order(control.DO_UNDO, "giving back", self.workers, 0)
        for number in range(self.workers):
            failed = self._words[control.answer_at(number) + control.R_FAILED]
            if failed:
                raise BenchError(f"worker {number}: {failed:,} of what it held could not be freed")
        for place, one in self._made.items():
            problem = one.problem()
            if problem:
                raise BenchError(f"{place}: {problem}")

    def _order(
        self, action: int, doing: str, workers: int, job: int, limit_s: float | None = None
    ) -> None:
        """Give an order and wait for all workers, whichever have to do something."""
        self._words[control.ACTION], self._words[control.JOB] = action, job
        self._words[control.WORKERS] = workers
        self._run.call(control.announce, self._words)
        end = time.monotonic() + (self._limit_s if limit_s is None else limit_s)
        while self._run.call(control.await_done, self._words, self.workers) < self.workers:
            self._check(doing, time.monotonic() > end)

    def _check(self, doing: str, late: bool) -> None:
        """Raise ``BenchError`` for a worker that is dead, and for all if it took too long."""
        for number, (process, pipe) in enumerate(self._members):
            code = process.exitcode
            if code is not None:
                self._broken = True
                told = [text for text in _messages(pipe) if isinstance(text, str)]
                raise BenchError(
                    f"worker {number} (pid {process.pid}) {describe_exit(code)} while {doing}"
                    + "".join(f"\n{text}" for text in told)
                )
        if late:
            self._broken = True
            raise BenchError(
                f"{self._silent()} did not end in time (pids {', '.join(map(str, self.pids))})"
                f" while {doing}"
            )

    def _silent(self) -> str:
        """How many workers have not answered."""
        missing = self.workers - self._words[control.DONE]
        return "a worker" if missing == 1 else f"{missing} workers"

    def _hear(self) -> None:
        """Note the peers that a worker could not open."""
        for _, pipe in self._members:
            for message in _messages(pipe):
                if isinstance(message, worker.Refused):
                    self.refused.setdefault(message.peer, message.reason)

    def _end(self) -> None:
        """End all workers, also those that hang, and close their pipes."""
        self._words[control.ACTION] = control.DO_LEAVE
        self._run.call(control.announce, self._words)
        end = time.monotonic() + (0.0 if self._broken else KILL_JOIN_S)
        for process, _ in self._members:
            process.join(max(0.0, end - time.monotonic()))
        for process, pipe in self._members:
            if process.exitcode is None:
                process.kill()
                process.join(KILL_JOIN_S)
            pipe.close()

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _messages(pipe: Connection) -> list[object]:
    found: list[object] = []
    with suppress(EOFError, ConnectionResetError):
        while pipe.poll(0):
            found.append(pipe.recv())
    return found


def _path_of(file: int) -> str:
    """A path at which other processes open a descriptor of this one."""
    return f"/proc/{os.getpid()}/fd/{file}"


@contextmanager
def _tunables() -> Iterator[None]:
    """Within, a process that begins has room for the thread-local data of late libraries."""
    before = os.environ.get("GLIBC_TUNABLES")
    os.environ["GLIBC_TUNABLES"] = f"{before}:{TUNABLES}" if before else TUNABLES
    try:
        yield
    finally:
        if before is None:
            del os.environ["GLIBC_TUNABLES"]
        else:
            os.environ["GLIBC_TUNABLES"] = before
