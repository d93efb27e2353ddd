"""The memory of a run: its segment, and the controller's view of it.

The controller calls kernels only while every worker is parked, as claim 0; with live faults at any
time, as the last claim, which it has taken. At any time it may read counters and set the stop
word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.cpus import take
from shmalloc.dialect import Kernel
from shmalloc.engine import get_engine, when_waiting_long
from shmalloc.errors import KernelFault, OutsideFault, Violation
from shmalloc.free_reporting import pageblocks, report_pageblock
from shmalloc.invariants import name_of
from shmalloc.kernels.audit import audit, audit_teardown
from shmalloc.kernels.audit_owners import audit_owners
from shmalloc.kernels.audit_quiet import audit_quiet
from shmalloc.kernels.pcp import drain_all
from shmalloc.kernels.slab_audit import audit_slabs
from shmalloc.layout import Geometry
from shmalloc.leak_report import leak_report
from shmalloc.page_owner import PageOwner
from shmalloc.recovery import Rescuer
from shmalloc.reports import Reports
from shmalloc.segment import Segment
from stress.geometry import PAGE_BYTES
from stress.oracles.bounds import check_bounds
from stress.run.deadline import Deadline
from stress.run.held_ranges import changed_ranges
from stress.run.latencies import Latencies
from stress.seeds import derive
from stress.spec import RunSpec
from stress.trace.compile import Plan
from stress.trace.format import load
from stress.trace.replay import Replay
from stress.workloads import OWN, WORKLOADS
from stress.workloads.area import W_PARAMETERS, W_PEER, W_RANDOM, W_SEQUENCE, W_WORKERS
from stress.workloads.kmalloc import unmake_classes
from stress.workloads.latency import LATENCY_WORDS
from stress.workloads.pressure import PRESSURE_WORDS

DEFAULT_CACHES = 32
CACHES_PER_WORKER = 4  # slabmix: three that stay and one that comes and goes
CACHES_OF_THE_DEAD = 256  # they are destroyed at the next stutter point only
REPORTED_AT_ONCE = 1024  # pageblocks
MOST_SITES = 8
SEQUENCE_SHIFT = 32  # lives of a slot have owner ids of their own


@dataclass(frozen=True)
class Snapshot:
    """Counters at one moment: events by number, free blocks by order, pages by place."""

    events: tuple[int, ...]
    free_by_order: tuple[int, ...]
    pcp_pages: tuple[int, ...]
    free_pages: int  # isolated ones, too
    isolated_pages: int
    managed_pages: int
    reports: int


def geometry_of(spec: RunSpec, plan: Plan | None = None) -> Geometry:
    """The segment that ``spec`` needs: one claim a worker, with every oracle's data.

    The streams of a trace lie in the work areas, and its caches want descriptors.
    """
    words = [WORKLOADS[name].work_words for name in spec.workloads]
    caches = CACHES_PER_WORKER * spec.workers + CACHES_OF_THE_DEAD * int(spec.kills)
    caches += cs.KMALLOC_CLASSES * any(WORKLOADS[name].classes for name in spec.workloads)
    return spec.shape(
        page_bytes=PAGE_BYTES,
        cpus=spec.cpus,
        claims=spec.slots,
        owner_map=True,
        flight=spec.flight,
        work_words=max(PRESSURE_WORDS, *words, plan.work_words if plan else 0),
        caches=max(DEFAULT_CACHES, caches, plan.caches if plan else 0),
        latency_words=LATENCY_WORDS,
    )


class RunMemory:
    """Owner of the run's segment. Use in a ``with`` block: leaving it removes the segment."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self._engine = get_engine(spec.engine)
        plan = None if spec.trace is None else Plan.of(load(spec.trace))
        self.segment = Segment.create(geometry_of(spec, plan), None, spec.prealloc, spec.engine)
        self.ram, self.layout = self.segment.ram, self.segment.layout
        self.latencies = Latencies(self.ram, self.layout, spec.engine, spec.workers)
        self.reports = Reports(self.ram, self.layout)
        self.ram[c.H_HISTORY_STOPS] = 1  # the workers go on for a while after a violation
        self._types_at_start = self._pageblock_types()
        self.cpu = spec.slots - 1 if spec.live_faults else 0
        self._books: dict[int, str] = {}  # CPU -> workload
        self.before_new_life: Callable[[int], None] = lambda cpu: None  # its area is still there
        self.deadline: Deadline | None = None  # of what the controller does in kernels
        if spec.live_faults:
            take(self.segment, self.cpu, self.cpu % spec.cpus, spec.engine)
            when_waiting_long(self.ram, Rescuer(self.segment, self.cpu, spec.engine))
            self.ram[self.layout.work(self.cpu) + W_RANDOM] = derive(spec.seed, "controller")
        self.replay = (
            None if plan is None else Replay(plan, self.ram, self.layout, loop=not spec.once)
        )

    def __enter__(self) -> RunMemory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.segment.__exit__(kind, error, trace)

    def set_stop(self, stop: bool) -> None:
        """Make running kernels leave their loops, or let them run."""
        self.ram.store(c.H_STOP, int(stop))

    def beat_of(self, cpu: int) -> int:
        return self.ram.load(self.layout.cpu(cpu) + c.C_BEAT)

    def call(self, kernel: Kernel, *arguments: int) -> int:
        """Run a kernel as the controller."""
        with self.in_time(kernel.__name__):
            return self._engine.call(kernel, self.ram, self.cpu, *arguments)

    def in_time(self, what: str) -> AbstractContextManager[None]:
        """Within, the controller is in kernels, and must come back from them."""
        return nullcontext() if self.deadline is None else self.deadline.guard(what)

    def prepare_area(self, cpu: int, workload: str, slice_index: int, life: int = 0) -> None:
        """Clear the work area of ``cpu`` and set it up for ``workload``; its worker is parked.

        ``life`` counts the workers that the slot had before.
        """
        self._books[cpu] = workload
        if life:
            self.before_new_life(cpu)
        at = self.layout.work(cpu)
        self.ram.array[at : at + self.layout.geometry.work_words] = 0
        name = f"worker {cpu} slice {slice_index} {workload}" + (f" life {life}" if life else "")
        self.ram[at + W_RANDOM] = derive(self.spec.seed, name)
        self.ram[at + W_SEQUENCE] = life << SEQUENCE_SHIFT
        self.ram[at + W_WORKERS] = self.spec.workers
        for i, value in enumerate(WORKLOADS[workload].parameters):
            self.ram[at + W_PARAMETERS + i] = value
        if self.replay is not None:
            self.replay.install(cpu)

    def set_peer(self, cpu: int, peer: int) -> None:
        """Name the slot that ``cpu`` hands memory to; all workers are parked."""
        self.ram[self.layout.work(cpu) + W_PEER] = peer

    def clear_reports(self) -> None:
        """Forget all reports, and keep histories again; every worker is parked."""
        for n in range(min(self.reports.count(), c.REPORTS)):
            self.ram[self.layout.at["reports"] + n * c.R_STRIDE + c.R_READY] = 0
        self.ram[c.H_REPORT_COUNT] = 0
        self.ram[c.H_HISTORY_STOPS] = 1

    @property
    def share(self) -> float | None:
        """How much of the work is done, where time does not say it: of a trace replayed once."""
        return self.replay.share if self.replay is not None and self.spec.once else None

    def at_end(self) -> bool:
        """Whether there is nothing left to do before the time is over: a trace was replayed."""
        return self.replay is not None and self.replay.at_end()

    def report_free(self) -> None:
        """Give all free memory back to the system if the geometry says so; all workers are parked.

        What they left in it has to be gone without harm.
        """
        if not self.spec.geometry.reporting:
            return
        call = self._engine.call
        blocks = pageblocks(self.segment)
        for first in range(0, len(blocks), REPORTED_AT_ONCE):
            with self.in_time("free page reporting"):  # a guard for each call would take longer
                for start in blocks[first : first + REPORTED_AT_ONCE]:
                    report_pageblock(
                        self.segment, lambda kernel, *a: call(kernel, self.ram, self.cpu, *a), start
                    )

    def audit(self) -> list[Violation]:
        """Walk and recount everything; all workers are parked.

        Returns only what the audit could not report inside the segment.
        """
        return (
            self.segment.changed_words()
            or self._check(audit)
            or self._check(audit_slabs)
            or self._check(audit_quiet)
            or self._check(audit_owners, int(self._map_is_complete()))
            or self._check(check_bounds, c.MAX_CLAIMS * self.spec.kills)
            or self._ranges_are_kept()
        )

    def _ranges_are_kept(self) -> list[Violation]:
        """What is isolated or offline is what the workers keep so: theirs are all ours."""
        if not all(name in OWN for name in self.spec.workloads):
            return []
        return changed_ranges(self.ram, self.layout, self._books, self.spec.kills)

    def _map_is_complete(self) -> bool:
        """Whether every page that a worker holds is in the owner map: the dead may have left some,
        and workloads of users need not enter any."""
        return not self.spec.kills and all(name in OWN for name in self.spec.workloads)

    def tear_down(self, managed_pages: int) -> list[Violation]:
        """With everything given back, drained and recounted, all pages are free, merged, in service
        as at the start, and none is isolated."""
        found = self._check(unmake_classes) or self._check(drain_all) or self._check(audit_teardown)
        end = self.snapshot()
        retired = self._retired_pages()
        if end.managed_pages + retired != managed_pages:
            expected = f"{managed_pages} managed pages as at the start"
            expected += f", without {retired} that left service" if retired else ""
            found.append(_violation(c.I_TEARDOWN, "all zones", expected, str(end.managed_pages)))
        if end.isolated_pages:
            text = f"{end.isolated_pages} pages that stay isolated"
            found.append(_violation(c.I_TEARDOWN, "all zones", "no isolated pages", text))
        return found or self._types_are_kept(end.events[c.EV_CLAIM])

    def call_sites(self, pid: int = 0) -> tuple[str, ...]:
        """Which calls allocated what is still allocated, a line each; ``pid``: what that one holds.

        None unless the geometry samples allocations (page-owner).
        """
        if not self.layout.geometry.page_owner:
            return ()
        words, held = self.ram.array, self.segment.claim_is_held
        owner = PageOwner(self.layout, lambda first, count: words[first : first + count])
        sites = leak_report(owner, lambda word: int(words[word]), held).sites
        mine = [one for one in sites if not pid or pid in {holder.pid for holder in one.holders}]
        return tuple(one.line for one in mine[:MOST_SITES])

    def _retired_pages(self) -> int:
        """Pages that the descriptors say are out of service for good, if a workload made them so:
        in a run of others every page that is gone is a finding."""
        if not any(WORKLOADS[name].retires for name in self.spec.workloads):
            return 0
        geometry, at = self.layout.geometry, self.layout.at["memmap"]
        words = self.ram.array[at : at + geometry.pages * c.D_WORDS : c.D_WORDS]
        return int(np.count_nonzero(words & c.TYPE_MASK == c.T_POISONED))

    def _types_are_kept(self, claims: int) -> list[Violation]:
        """Only a claim changes a migratetype for good; one that a death interrupts is uncounted."""
        changed = np.flatnonzero(self._pageblock_types() != self._types_at_start)
        if claims or self.spec.kills or not changed.size:
            return []
        text = f"{changed.size} have another one, the first at pageblock {changed[0]}"
        return [_violation(c.I_TEARDOWN, "pageblock types", "all as at the start", text)]

    def _pageblock_types(self) -> np.ndarray:
        geometry, at = self.layout.geometry, self.layout.at["blocks"]
        count = -(-geometry.pages >> geometry.pageblock_order)
        return self.ram.array[at : at + count] & c.MT_MASK

    def _check(self, kernel: Kernel, *arguments: int) -> list[Violation]:
        """Run a kernel over a memory that may be broken: a fault of it is a finding."""
        name = kernel.__name__
        try:
            self.call(kernel, *arguments)
        except OutsideFault as fault:
            return [_fault(c.M_OUT_OF_RANGE, name, "accesses inside", fault)]
        except KernelFault as fault:
            return [_fault(c.I_PROGRESS, name, "a kernel that ends", fault)]
        return []

    def snapshot(self) -> Snapshot:
        """The counters now: exact while parked, approximate while running."""
        geometry, words = self.layout.geometry, self.ram.array
        claims = _rows(words, self.layout.at["cpus"], geometry.claims, c.C_STRIDE)
        zones = _rows(words, self.layout.at["zones"], len(geometry.zones), c.Z_STRIDE)
        counts = zones[:, c.Z_COUNTS : c.Z_COUNTS + c.ORDERS * c.MT_COUNT]
        by_order = counts.reshape(-1, c.ORDERS, c.MT_COUNT).sum(axis=(0, 2))
        return Snapshot(
            events=tuple(map(int, claims[:, c.C_EVENTS : c.C_EVENTS + c.EV_COUNT].sum(axis=0))),
            free_by_order=tuple(map(int, by_order[: geometry.max_order + 1])),
            pcp_pages=tuple(self._pcp_pages()),
            free_pages=int(zones[:, [c.Z_FREE, c.Z_FREE_ISOLATED]].sum()),
            isolated_pages=int(zones[:, c.Z_FREE_ISOLATED].sum()),
            managed_pages=int(zones[:, c.Z_MANAGED].sum()),
            reports=self.reports.count(),
        )

    def _pcp_pages(self) -> Iterable[int]:
        for cpu in range(self.layout.geometry.cpus):
            zones = range(len(self.layout.geometry.zones))
            yield sum(self.ram.load(self.layout.pcp(cpu, z) + c.P_COUNT) for z in zones)


def _rows(words: np.ndarray, at: int, count: int, stride: int) -> np.ndarray:
    return words[at : at + count * stride].reshape(count, stride)


def _fault(code: int, where: str, expected: str, fault: KernelFault) -> Violation:
    return replace(_violation(code, where, expected, str(fault)), kernel=fault.short_kernel)


def _violation(code: int, where: str, expected: str, found: str) -> Violation:
    return Violation(name_of(code), where, expected, found)
