"""``RunResult``: what a run found out, as data. Every report is a view of it."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field

from shmalloc import constants as c
from shmalloc.errors import Violation
from stress.faults.grammar import Fail
from stress.quantities import counted
from stress.run.fault_tally import FaultTally
from stress.run.flight import Entry, lines_of
from stress.run.histogram import Histogram
from stress.run.process_use import ProcessUse
from stress.spec import RunSpec
from stress.verdict import Verdict, worst
from stress.workloads import EVENT_NAMES, WORKLOADS

SCHEMA = 1


@dataclass
class WorkloadResult:
    """One workload, summed over its workers and slices. Seconds are worker seconds."""

    name: str
    seconds: float = 0.0
    ops: int = 0
    batches: int = 0
    longest_batch_s: float = 0.0
    refused: int = 0  # allocations that found no memory, as workloads expect


@dataclass(repr=False)
class RunResult:
    """Filled while the run goes on, so that it is complete however the run ends.

    It is true if the run passed, so that ``assert result`` says what it means.
    """

    spec: RunSpec
    startup_s: float = 0.0
    seconds: float = 0.0
    audits: int = 0
    audit_seconds: float = 0.0
    events: tuple[int, ...] = (0,) * c.EV_COUNT
    workloads: dict[str, WorkloadResult] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    violations_total: int = 0
    ignored: list[Violation] = field(default_factory=list)  # the first of them; they fail nothing
    ignored_total: int = 0
    troubles: list[tuple[Verdict, str]] = field(default_factory=list)
    details: dict[str, object] = field(default_factory=dict)
    tally: FaultTally = field(default_factory=FaultTally)  # of the faults
    in_flight: dict[int, tuple[str, ...]] = field(default_factory=dict)  # last operations by slot
    flight: tuple[Entry, ...] = ()  # the last accesses before it went wrong
    notes: list[str] = field(default_factory=list)  # of the text report, below its table
    started: float = field(default_factory=time.time)  # unix seconds
    hostname: str = field(default_factory=socket.gethostname)
    wall_seconds: float = 0.0  # from ``started`` to the end, with everything in between
    latencies: dict[str, Histogram] = field(default_factory=dict)  # by operation
    processes: tuple[ProcessUse, ...] = ()  # what they used when they were last looked at

    @property
    def passed(self) -> bool:
        return self.verdict is Verdict.PASSED

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        found = counted(max(self.violations_total, len(self.violations)), "violation")
        names = ",".join(self.spec.workloads)
        return (
            f"<RunResult {names}: {self.verdict.name}, {counted(self.ops, 'operation')}, {found}>"
        )

    @property
    def ops(self) -> int:
        return sum(workload.ops for workload in self.workloads.values())

    def event(self, which: int) -> int:
        return self.events[which]

    def marks(self) -> dict[str, int]:
        """Required mark -> how often it was reached, for the workloads that were chosen."""
        required: dict[int, None] = {}
        for name in self.spec.workloads:
            marks = WORKLOADS[name].required_marks(self.spec)
            required.update(dict.fromkeys(marks))
        if any(isinstance(fault, Fail) for fault in self.spec.faults):
            required[c.EV_FAULT] = None
        reached = {EVENT_NAMES[mark]: self.events[mark] for mark in required}
        return reached | self.tally.marks(self.spec.faults)

    def missed_marks(self) -> list[str]:
        return [name for name, count in self.marks().items() if count == 0]

    @property
    def verdict(self) -> Verdict:
        verdicts = [verdict for verdict, _ in self.troubles]
        if self.violations:
            verdicts.append(Verdict.FAILED)
        if not verdicts:  # only a run that came to its end can be vacuous
            vacuous = self.ops == 0 or self.missed_marks()
            verdicts.append(Verdict.VACUOUS if vacuous else Verdict.PASSED)
        return worst(verdicts)

    def as_dict(self) -> dict[str, object]:
        """The ``results`` entry of the JSON document."""
        return {
            "name": "run",
            "verdict": self.verdict.name,
            "started": round(self.started, 3),
            "hostname": self.hostname,
            "wall_seconds": round(self.wall_seconds, 3),
            "seconds": round(self.seconds, 3),
            "startup_seconds": round(self.startup_s, 3),
            "ops": self.ops,
            "audits": self.audits,
            "audit_seconds": round(self.audit_seconds, 3),
            "events": {EVENT_NAMES[i]: n for i, n in enumerate(self.events) if i in EVENT_NAMES},
            "marks": self.marks(),
            "missed_marks": self.missed_marks(),
            "workloads": [vars(workload) for workload in self.workloads.values()],
            "latencies": {name: h.as_dict() for name, h in self.latencies.items()},
            "processes": [vars(process) for process in self.processes],
            "violations": [violation.as_dict() for violation in self.violations],
            "violations_total": max(self.violations_total, len(self.violations)),
            "ignored": [violation.as_dict() for violation in self.ignored],
            "ignored_total": self.ignored_total,
            "troubles": [{"verdict": v.name, "text": text} for v, text in self.troubles],
            **({"faults": self.tally.as_dict()} if self.spec.faults else {}),
            **({"in_flight": self.in_flight} if self.in_flight else {}),
            **({"flight": lines_of(self.flight)} if self.spec.flight else {}),
            **self.details,
        }
