"""What each workload has done so far, also while its workers run.

::

    finished slices   the workers' answers, added up in the result
    this slice        words of the work areas (W_OPERATIONS, W_LONGEST_NS), written by the workers
                      after each call, and the refusals that the CPU slots count

The controller calls ``begin`` while all workers are parked, before a slice, and ``end`` when they
are parked again. In between ``now`` may read at any time, and ``handle_death`` settles the account
of a worker that died before its slot gets another one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from shmalloc import constants as c
from stress.run.memory import RunMemory
from stress.run.result import RunResult, WorkloadResult
from stress.workloads.area import W_LONGEST_NS, W_OPERATIONS


@dataclass(frozen=True)
class Account:
    """One workload: ``refused`` counts allocations that found no memory, as workloads expect."""

    name: str
    operations: int = 0
    refused: int = 0
    longest_s: float = 0.0
    running: bool = False


class Accounts:
    """The accounts of one run, by workload."""

    def __init__(self, memory: RunMemory, result: RunResult) -> None:
        self._memory = memory
        self._result = result
        self._assignment: Mapping[int, str] = {}
        self._refused_before: dict[int, int] = {}
        self._started_s: dict[int, float] = {}
        memory.before_new_life = self.handle_death

    def begin(self, assignment: Mapping[int, str]) -> None:
        """A slice begins: each CPU slot has its workload, and all workers are parked."""
        ram, layout = self._memory.ram, self._memory.layout
        for cpu in assignment:
            ram[layout.work(cpu) + W_OPERATIONS] = 0
            ram[layout.work(cpu) + W_LONGEST_NS] = 0
        self._refused_before = {cpu: self._refusals(cpu) for cpu in assignment}
        self._started_s = dict.fromkeys(assignment, time.monotonic())
        self._assignment = assignment

    def handle_death(self, cpu: int) -> None:
        """Add up what the dead worker of a slot did: it sends no answer."""
        if cpu not in self._assignment:
            return
        ram, area = self._memory.ram, self._memory.layout.work(cpu)
        total = self._total(self._assignment[cpu])
        now_s = time.monotonic()
        total.ops += ram.load(area + W_OPERATIONS)
        total.seconds += now_s - self._started_s[cpu]
        total.longest_batch_s = max(total.longest_batch_s, ram.load(area + W_LONGEST_NS) / 1e9)
        self._started_s[cpu] = now_s

    def end(self) -> None:
        """The slice is over; its answers have been added to the result."""
        for cpu, name in self._assignment.items():
            self._total(name).refused += self._refusals(cpu) - self._refused_before[cpu]
        self._assignment = {}

    def now(self) -> tuple[Account, ...]:
        """All workloads of the run, in the order of its spec."""
        return tuple(self._account(name) for name in self._result.spec.workloads)

    def _total(self, name: str) -> WorkloadResult:
        return self._result.workloads.setdefault(name, WorkloadResult(name))

    def _account(self, name: str) -> Account:
        ram, layout = self._memory.ram, self._memory.layout
        cpus = [cpu for cpu, assigned in self._assignment.items() if assigned == name]
        before = self._result.workloads.get(name, WorkloadResult(name))
        areas = [layout.work(cpu) for cpu in cpus]
        longest_ns = max((ram.load(at + W_LONGEST_NS) for at in areas), default=0)
        return Account(
            name,
            before.ops + sum(ram.load(at + W_OPERATIONS) for at in areas),
            before.refused + sum(self._refusals(cpu) - self._refused_before[cpu] for cpu in cpus),
            max(before.longest_batch_s, longest_ns / 1e9),
            bool(cpus),
        )

    def _refusals(self, cpu: int) -> int:
        return self._memory.ram.load(self._memory.layout.cpu(cpu) + c.C_EVENTS + c.EV_FAIL)
