"""The controller: one life of a run.

::

    kernels -> segment -> workers -> [ go ... park, audit, (change) ]* -> finish -> teardown
    here                  slices.py, which waits through wait.py

Whatever ends the run, workers and segment are gone when ``run`` returns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from shmalloc import constants as c
from shmalloc import leftovers
from shmalloc.engine.doctor import native_problem
from shmalloc.engine.native import warm_together
from shmalloc.errors import EnvironmentUnfitError, Violation
from shmalloc.invariants import name_of
from stress.run import bus_error
from stress.run.deadline import FACTOR, Deadline
from stress.run.flight import FlightLog
from stress.run.fork_server import start_forkserver
from stress.run.interrupts import ImmediateEnd, Interrupts
from stress.run.kernels import images_of
from stress.run.memory import RunMemory
from stress.run.progress import Progress
from stress.run.reported import IsKnown, Reported
from stress.run.result import RunResult
from stress.run.slices import SliceRunner
from stress.run.wait import Trouble
from stress.run.workers import Workers
from stress.spec import RunSpec
from stress.verdict import Verdict


class Artifacts(Protocol):
    """Where a run leaves files (stress/report/artifacts.py)."""

    def worker_log(self, cpu: int) -> Path: ...

    def save_segment(self, name: str) -> None: ...


IN_FLIGHT = 6  # last operations of each CPU that a failed run tells


class Controller:
    """Runs one spec once. ``result`` is valid at any time.

    ``abandon`` ends the process. It is called if the controller is stuck in a kernel. ``is_known``
    says of a violation that the run goes on past it.
    """

    def __init__(
        self,
        spec: RunSpec,
        progress: Progress,
        interrupts: Interrupts,
        artifacts: Artifacts | None,
        abandon: Callable[[RunResult], None],
        is_known: IsKnown | None = None,
    ) -> None:
        self.spec = spec
        self.result = RunResult(spec)
        self._progress = progress
        self._interrupts = interrupts
        self._artifacts = artifacts
        self._abandon = abandon
        self._is_known = is_known
        self._began_s = time.monotonic()
        self._workers = Workers()
        self._memory: RunMemory | None = None

    def run(self) -> RunResult:
        """The whole run. Does not raise for what workers, signals or the machine do to it."""
        try:
            with self._interrupts.first_at_once():
                self._load_kernels()
            with bus_error.handled(self._give_up_unbacked), RunMemory(self.spec) as memory:
                self._run_in(memory)
        except EnvironmentUnfitError as error:
            self.result.troubles.append((Verdict.UNFIT, str(error)))
        except ImmediateEnd:
            name = self._interrupts.signal_name
            at_work = self.result.startup_s > 0
            how = f"at once by a second {name}" if at_work else f"by {name} at its start"
            self.result.troubles.append((Verdict.INTERRUPTED, f"stopped {how}"))
        finally:
            self.result.wall_seconds = time.monotonic() - self._began_s
            self._progress.end()
        return self.result

    def _load_kernels(self) -> None:
        """Compile what is not kept on disk yet, before any worker starts."""
        problem = native_problem() if self.spec.engine == "native" else None
        if problem is not None:
            raise EnvironmentUnfitError(problem)
        plans = images_of(self.spec)
        for plan in plans:
            warm_together(plan, self._progress.tell)
        start_forkserver(plans, self.spec.workloads)

    def _run_in(self, memory: RunMemory) -> None:
        self._memory, workers = memory, self._workers
        reported = Reported(memory, self.result, self._is_known)
        dead: list[int] = []
        limit_s = FACTOR * self.spec.hang_timeout_s
        memory.deadline = Deadline(
            limit_s, lambda what: self._give_up(memory, workers, reported, what)
        )
        try:
            runner = SliceRunner(
                self.result,
                memory,
                workers,
                self._interrupts,
                self._progress,
                reported,
                self._log_of,
            )
            with self._interrupts.first_at_once():
                runner.start_workers()
            self.result.startup_s = time.monotonic() - self._began_s
            self._progress.begin(self.spec)
            runner.work()
            self._compare_with_trace(memory)
        except Trouble as trouble:
            dead = [member.cpu for member, _ in workers.dead()]
            if reported.is_known(trouble.violation):
                self.result.notes.append(f"ended early: {trouble.text} (ignored)")
            else:
                self.result.troubles.append((trouble.verdict, trouble.text))
            if trouble.violation is not None:
                self.result.violations.append(trouble.violation)
        finally:
            memory.set_stop(True)
            memory.deadline.close()
            workers.close()
            self._collect(memory, reported, dead)

    def _give_up(self, memory: RunMemory, workers: Workers, reported: Reported, what: str) -> None:
        """We are stuck in a kernel; this is another thread, and the end of the process."""
        memory.deadline = None
        limit_s = FACTOR * self.spec.hang_timeout_s
        expected, found = f"an end within {limit_s:g} s", "none: the controller waits in it"
        self.result.violations.append(Violation(name_of(c.I_PROGRESS), what, expected, found))
        try:
            workers.kill()
            self._collect(memory, reported, [])
            self._progress.end()
            memory.segment.unlink()
        finally:
            self._abandon(self.result)

    def _give_up_unbacked(self) -> None:
        """A page of the segment is missing: end the process without touching it again."""
        segment = None if self._memory is None else self._memory.segment
        text = f"controller died by SIGBUS: {bus_error.cause(segment)}"
        self.result.troubles.append((Verdict.UNFIT, text))
        self.result.wall_seconds = time.monotonic() - self._began_s
        self._workers.kill()
        leftovers.remove_owned()
        self._progress.end()
        self._abandon(self.result)

    def _compare_with_trace(self, memory: RunMemory) -> None:
        """What a replay did, beside what the recording says: a difference is a violation."""
        if memory.replay is not None:
            seconds = sum(workload.seconds for workload in self.result.workloads.values())
            report = memory.replay.report(seconds)
            self.result.violations += report.violations
            self.result.details["trace"] = report.as_dict()
            self.result.notes += report.lines()

    def _log_of(self, cpu: int) -> str | None:
        return None if self._artifacts is None else str(self._artifacts.worker_log(cpu))

    def _collect(self, memory: RunMemory, reported: Reported, dead: list[int]) -> None:
        """Read the memory once more, after all workers are gone."""
        result = self.result
        result.wall_seconds = (
            time.monotonic() - self._began_s
        )  # for a process that ends in a kernel
        result.events = memory.snapshot().events
        result.latencies = memory.latencies.total()
        result.notes += memory.latencies.doubts()
        reported.collect()
        if result.verdict in (Verdict.FAILED, Verdict.ERROR):
            result.flight = FlightLog(memory.ram, memory.layout).entries(dead)
            slots = range(self.spec.workers)
            result.in_flight = {slot: memory.reports.history(slot, IN_FLIGHT) for slot in slots}
        if self._artifacts is not None and result.verdict is Verdict.FAILED:
            self._artifacts.save_segment(memory.segment.name)
