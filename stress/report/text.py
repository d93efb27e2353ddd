"""The results as text for standard output: first line, violations, table, last line.

The first and the last line carry the seed and the whole spec, so that either is enough to run it
again. ``!!!`` begins the line of each violation, for grep.
"""

from __future__ import annotations

from collections.abc import Iterator

from shmalloc import __version__
from shmalloc import constants as c
from stress.faults.grammar import Fail
from stress.quantities import brief_ns
from stress.report.violations import grouped, violation_lines
from stress.run.flight import lines_of
from stress.run.histogram import PERCENTILES
from stress.run.result import RunResult
from stress.spec import RunSpec
from stress.verdict import Verdict
from stress.workloads.latency import SAMPLE_EVERY, SAMPLE_EVERY_SLOWER

REFUSED = "refused (out of memory, expected)"
WORKLOAD_COLUMNS = ("workload", "worker s", "operations", "per second", "longest ms", "refused*")
LATENCY_COLUMNS = ("operation*", "timed calls", *(f"p{q:g}" for q in PERCENTILES), "max")
TIMED = (
    f"of single pages and objects one call in {SAMPLE_EVERY} is timed,"
    f" of lists of them and in a trace one in {SAMPLE_EVERY_SLOWER}, of others all"
)
HONEST = "native runs repeat their inputs, not their interleavings; run it longer or more often"


def first_line(spec: RunSpec) -> str:
    return f"shmstress {__version__} seed={spec.seed:#x} spec: {spec.command_line()}"


def result_lines(result: RunResult) -> Iterator[str]:
    """Everything after the first line; the very last one is the verdict."""
    yield from violation_lines(result.violations, result.violations_total)
    yield from _ignored_lines(result)
    yield from _trouble_lines(result)
    yield from _flight_lines(result)
    yield from _table(result)
    yield from _latency_lines(result)
    yield from _fault_lines(result)
    yield from result.notes
    missed = result.missed_marks()
    if missed and result.verdict is Verdict.VACUOUS:
        yield f"never reached, so nothing was tested there: {', '.join(missed)}"
    if result.verdict in (Verdict.FAILED, Verdict.VACUOUS):
        yield f"to try again, run: {result.spec.command_line()}"
        yield f"  ({HONEST})"
    yield last_line(result)


def last_line(result: RunResult) -> str:
    marks = result.marks()
    reached = sum(1 for count in marks.values() if count)
    violations = max(result.violations_total, len(result.violations))
    ignored = f" ignored={result.ignored_total}" if result.ignored_total else ""
    return (
        f"{result.verdict.name} seed={result.spec.seed:#x} ops={result.ops}"
        f" allocs={result.event(c.EV_ALLOC)} frees={result.event(c.EV_FREE)}"
        f" refused={result.event(c.EV_FAIL)} objects={result.event(c.EV_OBJ_ALLOC)}"
        f" violations={violations}{ignored} audits={result.audits} marks={reached}/{len(marks)}"
        f" seconds={result.seconds:.1f} spec: {result.spec.command_line()}"
    )


def _ignored_lines(result: RunResult) -> Iterator[str]:
    """What the run went past, by ``--ignore`` or because its database says so."""
    for group in grouped(result.ignored):
        yield f"ignored: {group.first}"
        if group.count > 1:
            yield f"      {group.more()}"
    more = result.ignored_total - len(result.ignored)
    if more:
        yield f"ignored: and {more:,} more"


def _trouble_lines(result: RunResult) -> Iterator[str]:
    for verdict, text in result.troubles:
        yield f"{verdict.name.lower()}: {text}"


def _flight_lines(result: RunResult) -> Iterator[str]:
    if result.flight:
        yield "the last accesses of all CPUs, in ticks of the time stamp counter:"
    for line in lines_of(result.flight):
        yield f"  {line}"


def workload_rows(result: RunResult) -> Iterator[tuple[str, ...]]:
    """A row for each workload, by ``WORKLOAD_COLUMNS``: numbers for people."""
    for workload in result.workloads.values():
        rate = workload.ops / workload.seconds if workload.seconds else 0.0
        yield (
            workload.name,
            f"{workload.seconds:,.1f}",
            f"{workload.ops:,}",
            f"{rate:,.0f}",
            f"{workload.longest_batch_s * 1e3:,.1f}",
            f"{workload.refused:,}",
        )


def _table(result: RunResult) -> Iterator[str]:
    """How long each workload ran, in worker seconds, and what it did."""
    if not result.workloads:
        return
    from stress.tables import grid, text_of

    table = grid(*WORKLOAD_COLUMNS, right=WORKLOAD_COLUMNS[1:])
    for row in workload_rows(result):
        table.add_row(*row)
    yield from text_of(table).splitlines()
    yield f"* {REFUSED}"
    yield ", ".join(f"{name} {count:,}" for name, count in _counters(result))
    marks = (f"{name} {count:,}" for name, count in result.marks().items())
    yield f"marks: {', '.join(marks)}"


def latency_rows(result: RunResult) -> Iterator[tuple[str, ...]]:
    """How long calls of the allocator took, by ``LATENCY_COLUMNS``, in the unit that suits each."""
    for name, histogram in result.latencies.items():
        durations = [histogram.percentile(q) for q in PERCENTILES] + [histogram.max_ns]
        yield name, f"{histogram.count:,}", *map(brief_ns, durations)


def _latency_lines(result: RunResult) -> Iterator[str]:
    if not result.latencies:
        return
    from stress.tables import grid, text_of

    table = grid(*LATENCY_COLUMNS, right=LATENCY_COLUMNS[1:])
    for row in latency_rows(result):
        table.add_row(*row)
    yield from text_of(table).splitlines()
    yield f"* {TIMED}"


def _fault_lines(result: RunResult) -> Iterator[str]:
    """What was done to the run on purpose."""
    yield from result.tally.lines(result.spec.faults)
    if any(isinstance(fault, Fail) for fault in result.spec.faults):
        yield f"allocations made to fail: {result.event(c.EV_FAULT):,}"


def _counters(result: RunResult) -> list[tuple[str, int]]:
    shown = {
        "splits": c.EV_SPLIT,
        "merges": c.EV_MERGE,
        "lost compare-exchanges": c.EV_CAS_FAIL,
        "contended locks": c.EV_LOCK_SLOW,
        "steals": c.EV_STEAL,
        "claims": c.EV_CLAIM,
        "zone fallbacks": c.EV_ZONE_FALLBACK,
    }
    return [(name, result.event(which)) for name, which in shown.items()]
