"""``SliceRunner``: workers on one segment, slice after slice, audited at every stutter point.

Ends early by ``Trouble`` (wait.py), by the first violation, or by a request to stop; in the last
two cases the workers still park. What happens goes into the result as it happens. The faults
(live_faults.py) are told when a slice begins and ends, and act between two looks at the workers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator

from shmalloc import constants as c
from shmalloc.page_states import map_of
from stress.run.accounts import Accounts
from stress.run.fork_server import helper_processes
from stress.run.growth import GrowthWatch
from stress.run.interrupts import Interrupts
from stress.run.live_faults import LiveFaults
from stress.run.memory import RunMemory
from stress.run.messages import Command, Finish, Go, Leave, Park, Parked
from stress.run.noise import Noise
from stress.run.plan import Slice, slices_of
from stress.run.process_use import ProcessUse, Usage
from stress.run.progress import Moment, Progress
from stress.run.reported import Reported
from stress.run.result import RunResult, WorkloadResult
from stress.run.wait import Trouble, WorkerWait
from stress.run.watchdog import Watchdog
from stress.run.worker import Task
from stress.run.workers import SPARE, Member, Workers, cores
from stress.verdict import Verdict

START_TIMEOUT_S = 60.0
LEAVE_TIMEOUT_S = 5.0
MAP_EVERY_S = 5.0


class SliceRunner:
    """One run's work, from the first worker to the last audit."""

    def __init__(
        self,
        result: RunResult,
        memory: RunMemory,
        workers: Workers,
        interrupts: Interrupts,
        progress: Progress,
        reported: Reported,
        log_of: Callable[[int], str | None],
    ) -> None:
        self.spec = result.spec
        self.result = result
        self._memory = memory
        self._workers = workers
        self._interrupts = interrupts
        self._progress = progress
        self._reported = reported
        self._log_of = log_of
        self._faults = LiveFaults(memory, workers, result.tally, result.violations, log_of)
        self._wait = WorkerWait(workers, memory, interrupts, self._faults)
        self._managed_pages = memory.snapshot().managed_pages
        self._accounts = Accounts(memory, result)
        self._usage = Usage(self._roles)
        self._growth = GrowthWatch()
        self._map, self._map_due_s = b"", float("-inf")
        self._worked_s = 0.0
        self._stuck = False  # after a violation that is ignored

    def start_workers(self) -> None:
        """Start the workers, each on its slot and core, and wait until all are ready."""
        usable, nodes = cores(), self._memory.layout.geometry.nodes
        segment, engine = self._memory.segment.name, self.spec.engine
        # Slots go around the nodes and cores go around the slots: without the shift by one each
        # round, the workers of a node would share a core and never meet inside a zone.
        slots = range(self.spec.workers)
        places = ((cpu, usable[(cpu + cpu // nodes) % len(usable)]) for cpu in slots)
        noise, log_of = Noise.of(self.spec, usable), self._log_of
        self._workers.start(
            [Task(cpu, core, segment, engine, log_of(cpu), noise) for cpu, core in places]
        )
        self._wait.gather(self._workers.members, Watchdog(START_TIMEOUT_S))
        self._faults.admit()
        self._memory.latencies.start()

    def work(self) -> None:
        """All slices; then everything is given back, audited once more, and the workers leave."""
        try:
            self._work()
        finally:
            self._faults.close()
        self._stop_workers()

    def _work(self) -> None:
        slices = slices_of(self.spec)
        try:
            for current in slices:
                self._assign(current)
                self._run_slice(current)
                self._audit()
                if self._over():
                    break
                following = slices[current.index + 1 : current.index + 2]
                if any(part.assignment != current.assignment for part in following):
                    self._finish()
        finally:
            self._progress.last(lambda: self._moment(self._worked_s))
        if not (self.result_is_bad() or self._stuck):
            self._tear_down()

    def result_is_bad(self) -> bool:
        return self._reported.ends_run()

    def _over(self) -> bool:
        ended = self._interrupts.requested or self._memory.at_end() or self._stuck
        return ended or self.result_is_bad()

    def _tell(self, member: Member, command: Command) -> None:
        """Send, and expect an answer. A worker that is gone is found by the next check."""
        member.working = True
        self._workers.tell(member, command)

    def _assign(self, current: Slice) -> None:
        """Set up the work areas of those that change; all workers are parked."""
        for member in self._workers.members:
            workload = current.assignment[member.cpu]
            # A worker that may die at any moment hands nothing to another.
            peer = member.cpu if self.spec.kills else current.peer_of(member.cpu)
            if member.workload != workload:
                member.workload = workload
                self._memory.prepare_area(member.cpu, workload, current.index)
            self._memory.set_peer(member.cpu, peer)

    def _run_slice(self, current: Slice) -> None:
        watchdog = Watchdog(self.spec.hang_timeout_s)
        self._accounts.begin(current.assignment)
        self._memory.set_stop(False)
        self._faults.begin(current.index)
        for member in self._workers.members:
            self._tell(member, Go(current.assignment[member.cpu]))
        started_s = time.monotonic()
        self._watch(watchdog, current, started_s)
        self._faults.quiesce()
        self._memory.set_stop(True)
        at_work = [member for member in self._workers.members if member.working]
        for member in at_work:
            self._tell(member, Park())
        parked = self._wait.gather(at_work, watchdog)
        self._replace_dead()
        self._worked_s += time.monotonic() - started_s
        self.result.seconds = self._worked_s
        for answer in parked.values():
            assert isinstance(answer, Parked), f"expected Parked, got {answer}"
            self._add_up(answer)
        self._accounts.end()
        self._refuse_stuck(parked.values())

    def _replace_dead(self) -> None:
        """Wait until every worker that died before it parked has been replaced."""
        self._faults.parked()
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._faults.settled:
            self._wait.watch(Watchdog(START_TIMEOUT_S), 1.0)
            if time.monotonic() > deadline_s:
                raise Trouble(Verdict.ERROR, f"no new worker came within {START_TIMEOUT_S:g} s")

    def _watch(self, watchdog: Watchdog, current: Slice, started_s: float) -> None:
        """Until the slice is over, or there is a reason to end it early."""
        while not self._over():
            elapsed_s = time.monotonic() - started_s
            if elapsed_s >= current.seconds:
                return
            self._wait.watch(watchdog, min(current.seconds - elapsed_s, self._faults.act()))
            self._show(self._worked_s + time.monotonic() - started_s)

    def _show(self, elapsed_s: float) -> None:
        self._processes()  # they are watched, with or without a view
        self._progress.moment(lambda: self._moment(elapsed_s))

    def _moment(self, elapsed_s: float) -> Moment:
        return Moment(
            elapsed_s,
            self.spec.duration_s,
            self.result.audits,
            self._memory.snapshot(),
            self._accounts.now(),
            time_s=time.time(),
            processes=self._processes(),
            ram_map=self._ram_map(),
            latencies=self._memory.latencies.now(),
            share=self._memory.share,
        )

    def _ram_map(self) -> bytes:
        """The map of the RAM, a new one every few seconds."""
        now_s = time.monotonic()
        if now_s >= self._map_due_s:
            self._map_due_s = now_s + MAP_EVERY_S
            self._map = map_of(self._memory.ram, self._memory.layout)
        return self._map

    def _processes(self) -> tuple[ProcessUse, ...]:
        self.result.processes = self._usage.now()
        self._growth.see(time.monotonic(), self.result.processes)
        return self.result.processes

    def _roles(self) -> Iterator[tuple[int, str]]:
        """Pid and role of every process of the run."""
        yield os.getpid(), "controller"
        for member in self._workers.all:
            if member.process.is_alive():
                yield member.pid, "spare" if member.cpu == SPARE else f"worker {member.cpu}"
        yield from helper_processes()

    def _add_up(self, parked: Parked) -> None:
        total = self.result.workloads.setdefault(parked.workload, WorkloadResult(parked.workload))
        total.seconds += parked.seconds
        total.ops += parked.ops
        total.batches += parked.batches
        total.longest_batch_s = max(total.longest_batch_s, parked.longest_batch_s)

    def _refuse_stuck(self, answers: Iterable[object]) -> None:
        """A workload that cannot go on although nothing was reported is an error of the harness."""
        for parked in answers:
            assert isinstance(parked, Parked)
            if parked.code < 0 and parked.code != c.E_STOPPED and not self.result_is_bad():
                text = f"workload {parked.workload} gave up with code {parked.code}"
                if not self._reported.passed:
                    raise Trouble(Verdict.ERROR, text)
                self._stuck = True
                self.result.notes.append(f"ended early: {text} after an ignored violation")

    def _finish(self) -> None:
        """All workers give back what they hold at once: that is a load of its own.

        All or none: workers of one workload hold each other's blocks and objects.
        """
        watchdog = Watchdog(self.spec.hang_timeout_s)
        for member in self._workers.members:
            assert member.workload is not None
            self._tell(member, Finish(member.workload))
        self._wait.gather(self._workers.members, watchdog)
        for member in self._workers.members:
            member.workload = None

    def _audit(self) -> None:
        """Stutter point: all workers are parked."""
        started_s = time.monotonic()
        self._memory.report_free()
        self.result.violations += self._memory.audit() + self._growth.violations()
        self._faults.free_orphaned()
        self._reported.make_room()
        self.result.audits += 1
        self.result.audit_seconds += time.monotonic() - started_s

    def _tear_down(self) -> None:
        """Everything is given back and drained: every block has to merge again."""
        if any(member.workload is not None for member in self._workers.members):
            self._finish()
        self._faults.free_orphaned()
        self.result.violations += self._memory.tear_down(self._managed_pages)
        self.result.audits += 1

    def _stop_workers(self) -> None:
        for member in self._workers.all:
            self._workers.tell(member, Leave())
        self._workers.join(LEAVE_TIMEOUT_S)
        if self._interrupts.requested:
            text = f"stopped by {self._interrupts.signal_name} after {self._worked_s:.1f} s"
            raise Trouble(Verdict.INTERRUPTED, text)
