"""The replay of a trace as a run sees it: prepares the work areas, and reads the results.

It writes only while all workers are parked. What it reads then is exact, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from shmalloc.errors import Violation
from shmalloc.layout import Layout
from shmalloc.memory import Ram
from stress.trace.compile import SYNC, Plan
from stress.workloads import trace as trace_kernels
from stress.workloads.area import W_CURSOR
from stress.workloads.trace_sample import (
    SAMPLE_FREE,
    SAMPLE_LIVE,
    SAMPLE_ORDERS,
    SAMPLE_PCP,
    SAMPLE_WORDS,
)

PAGEBLOCK_ORDER = 9
_BARS = "▁▂▃▄▅▆▇█"
_COUNTS = {
    "page allocs": trace_kernels.N_PAGE_ALLOC,
    "page frees": trace_kernels.N_PAGE_FREE,
    "object allocs": trace_kernels.N_OBJECT_ALLOC,
    "object frees": trace_kernels.N_OBJECT_FREE,
}
_MISSED = {
    "failed page allocs": trace_kernels.N_MISSED + trace_kernels.TRACE_PAGE_ALLOC,
    "skipped page frees": trace_kernels.N_MISSED + trace_kernels.TRACE_PAGE_FREE,
    "failed object allocs": trace_kernels.N_MISSED + trace_kernels.TRACE_OBJECT_ALLOC,
    "skipped object frees": trace_kernels.N_MISSED + trace_kernels.TRACE_OBJECT_FREE,
}


@dataclass(frozen=True)
class Sample:
    """Free memory at one sync point, while all workers waited."""

    events: int  # events of the trace before it
    trace_ns: int
    live_pages: int
    trace_live_pages: int
    free_pages: int
    pcp_pages: int
    free_by_order: tuple[int, ...]

    @property
    def unusable(self) -> float:
        """Share of the free memory that is in blocks too small for a pageblock (0: none).

        Mel Gorman's unusable free space index, for order 9 or the largest order if that is less.
        """
        order = min(PAGEBLOCK_ORDER, len(self.free_by_order) - 1)
        blocks = enumerate(self.free_by_order)
        free = sum(count << o for o, count in enumerate(self.free_by_order))
        whole = sum(count << o for o, count in blocks if o >= order)
        return 1 - whole / free if free else 0.0


@dataclass
class ReplayReport:
    """What a replay did, compared with the trace."""

    source: str
    cpus: int
    finished: bool
    rounds: int
    counts: dict[str, int]
    expected: dict[str, int]
    missed: dict[str, int]
    waits: int
    left: dict[str, int]
    trace_peak_pages: int
    needed_pages: int  # an estimate
    ram_pages: int
    trace_seconds: float
    samples: list[Sample]
    worker_seconds: float = 0.0
    violations: list[Violation] = field(default_factory=list)

    @property
    def events(self) -> int:
        return sum(self.counts[name] for name in _COUNTS) + sum(self.missed.values())

    @property
    def events_per_second(self) -> float:
        """Events per second of all workers; they start and end together."""
        return self.events * self.cpus / self.worker_seconds if self.worker_seconds else 0.0

    @property
    def peak_pages(self) -> int:
        return max((sample.live_pages for sample in self.samples), default=0)

    def as_dict(self) -> dict[str, object]:
        """The ``trace`` entry of the JSON results."""
        series = [{**vars(s), "unusable_index": round(s.unusable, 4)} for s in self.samples]
        return {
            "file": self.source, "cpus": self.cpus, "finished": self.finished,
            "rounds": self.rounds, "events": self.events,
            "events_per_second": round(self.events_per_second), "counts": self.counts,
            "trace_counts": self.expected, **self.missed, "given_back_at_end": self.left,
            "waits_for_another_cpu": self.waits, "peak_pages": self.peak_pages,
            "trace_peak_pages": self.trace_peak_pages, "needed_pages": self.needed_pages,
            "ram_pages": self.ram_pages, "trace_seconds": round(self.trace_seconds, 6),
            "samples": series,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """The report as text."""
        failed = sum(self.missed.values())
        counts = ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        equal = "NOT as in the trace" if self.violations else "as in the trace"
        if failed:
            missed = ", ".join(f"{count:,} {name}" for name, count in self.missed.items())
            equal = f"with {missed} {equal}"
        left = ", ".join(f"{count:,} {name}" for name, count in self.left.items())
        ending = "replayed to the end" if self.finished else "replayed until it was stopped"
        rounds = "" if self.finished else f"after {self.rounds:,} whole rounds, "
        lines = [
            f"trace {self.source}: {self.events:,} events {ending}, {rounds}"
            f"{self.events_per_second:,.0f} events/s on {self.cpus} CPUs",
            f"{counts}: {equal}; given back at the end {left}",
            f"peak {self.peak_pages:,} pages (trace: {self.trace_peak_pages:,});"
            f" {self.waits:,} waits for another CPU; {failed:,} failed or skipped",
        ]
        if self.samples:
            lines.append(f"live pages     {_curve([s.live_pages for s in self.samples])}")
            lines.append(
                f"fragmentation  {_curve([s.unusable for s in self.samples], 1.0)}  share of free"
                f" memory unusable for a pageblock: {self.samples[0].unusable:.1%} at first,"
                f" {max(s.unusable for s in self.samples):.1%} at most,"
                f" {self.samples[-1].unusable:.1%} at the end"
            )
        if failed and self.ram_pages < self.needed_pages:
            lines.append(
                f"{self.ram_pages:,} pages of RAM are too few for this trace: it takes about"
                f" {self.needed_pages:,}, --ram {-(-self.needed_pages // 256)}MiB"
            )
        return lines


def _curve(values: list[float] | list[int], top: float | None = None) -> str:
    """One character a value, from 0 to ``top`` (the largest value)."""
    scale = top or max(*values, 0, 1e-9)
    return "".join(_BARS[min(7, max(0, int(value / scale * 8)))] for value in values)


class Replay:
    """A plan in the work areas of one segment."""

    def __init__(self, plan: Plan, ram: Ram, layout: Layout, loop: bool) -> None:
        self.plan = plan
        self._ram = ram
        self._layout = layout
        self._loop = loop

    def install(self, slot: int) -> None:
        """Put the slot's stream into its work area, besides what every workload gets."""
        at = self._layout.work(slot)
        self._ram.array[at : at + self.plan.work_words] += self.plan.area(slot, self._loop)

    def at_end(self) -> bool:
        """Whether every worker has replayed its whole stream. May be called while they work."""
        areas = (self._layout.work(slot) for slot in range(self.plan.slots))
        return all(self._ram.load(at + trace_kernels.T_DONE) for at in areas)

    @property
    def share(self) -> float:
        """How much of the streams has been replayed, from 0 to 1. May be read during work."""
        areas = [self._layout.work(slot) for slot in range(self.plan.slots)]
        events = [self._ram.load(at + trace_kernels.TP_EVENTS) for at in areas]
        done = [self._ram.load(at + W_CURSOR) for at in areas]
        return sum(map(min, done, events)) / max(1, sum(events))

    def report(self, worker_seconds: float) -> ReplayReport:
        """The result so far; ``violations`` if it differs from the trace."""
        plan = self.plan
        rounds = min(self._word(slot, trace_kernels.T_ROUND) for slot in range(plan.slots))
        report = ReplayReport(
            source=plan.trace.source,
            cpus=plan.slots,
            finished=self.at_end(),
            rounds=rounds + int(self.at_end()),
            counts={**self._sums(_COUNTS), **self._sums({"remote frees": trace_kernels.N_REMOTE})},
            expected=self._expected(),
            missed=self._sums(_MISSED),
            waits=self._sum(trace_kernels.N_WAITS),
            left=self._sums(
                {"blocks": trace_kernels.N_LEFT_PAGES, "objects": trace_kernels.N_LEFT_OBJECTS}
            ),
            trace_peak_pages=plan.trace.peak_pages(),
            needed_pages=plan.needed_pages,
            ram_pages=self._layout.geometry.pages,
            trace_seconds=float(plan.trace.time_ns[-1]) / 1e9,
            samples=self._samples(),
            worker_seconds=worker_seconds,
        )
        report.violations = [*_wrong_counts(report), *_wrong_samples(report)]
        return report

    def _word(self, slot: int, word: int) -> int:
        return int(self._ram[self._layout.work(slot) + word])

    def _sum(self, which: int) -> int:
        return sum(self._word(s, trace_kernels.T_COUNTS + which) for s in range(self.plan.slots))

    def _sums(self, names: dict[str, int]) -> dict[str, int]:
        return {name: self._sum(which) for name, which in names.items()}

    def _expected(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for slot in range(self.plan.slots):
            place = self._word(slot, trace_kernels.T_ROUND), self._word(slot, W_CURSOR)
            for name, count in self.plan.expected(slot, *place).items():
                total[name] = total.get(name, 0) + count
        return total

    def _samples(self) -> list[Sample]:
        """The samples of slot 0's current round; those it has not taken yet, of the one before."""
        passed = self.plan.rows[0][: self._word(0, W_CURSOR)]
        taken = max(0, int((passed == SYNC).sum()) - 1)
        if self._word(0, trace_kernels.T_ROUND):
            taken = len(self.plan.sample_rows)
        at = self._layout.work(0) + self.plan.samples_at
        records = self._ram.array[at : at + SAMPLE_WORDS * len(self.plan.sample_rows)]
        return [
            self._sample(index, record)
            for index, record in enumerate(records.reshape(-1, SAMPLE_WORDS)[:taken])
        ]

    def _sample(self, index: int, record: np.ndarray) -> Sample:
        events = int(self.plan.sample_rows[index])
        orders = record[SAMPLE_ORDERS:][: self._layout.geometry.max_order + 1]
        return Sample(
            events=events,
            trace_ns=int(self.plan.trace.time_ns[events - 1]),
            live_pages=int(record[SAMPLE_LIVE]),
            trace_live_pages=int(self.plan.live_pages[index]),
            free_pages=int(record[SAMPLE_FREE]),
            pcp_pages=int(record[SAMPLE_PCP]),
            free_by_order=tuple(map(int, orders)),
        )


def _wrong_counts(report: ReplayReport) -> list[Violation]:
    """Every event of the trace was replayed, or failed and was counted as failed."""
    done = dict(report.counts)
    for name, missed in zip(_COUNTS, report.missed.values(), strict=True):
        done[name] += missed
    return [
        Violation("TRACE_COUNTS", name, f"{expected:,} as in the trace", f"{done[name]:,}")
        for name, expected in report.expected.items()
        if done[name] != expected
    ]


def _wrong_samples(report: ReplayReport) -> list[Violation]:
    """Without a failure, each sync point has as many live pages as the recording."""
    if sum(report.missed.values()):
        return []
    return [
        Violation(
            "TRACE_LIVE_PAGES",
            f"event {sample.events:,}",
            f"{sample.trace_live_pages:,} pages",
            f"{sample.live_pages:,} pages",
        )
        for sample in report.samples
        if sample.live_pages != sample.trace_live_pages
    ]
