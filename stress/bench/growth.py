"""How cost grows: with memory, workers and fragmentation; recoveries and audits with memory.

The first three are rows like any other, of patterns that are made here: the same loops in segments
of other sizes, and in memory whose free pages cannot merge. Recoveries and audits are single calls
(recovery_times.py). ``Extent`` says how far to go; a test goes nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from shmalloc import physical
from shmalloc.engine.native import warm_together
from shmalloc.sizes import format_bytes
from stress.bench import recovery_times, rounds
from stress.bench.catalogue import DESCRIPTOR, PAGE, PATTERNS, Pattern
from stress.bench.figures import Row
from stress.bench.jobs import Job, Place, make_jobs, ram_bytes
from stress.bench.recovery_times import CONTENTS, KEPT_MS, Costs
from stress.bench.result import Curve, Result
from stress.bench.sheets import Sheet
from stress.bench.team import Team
from stress.progress import Report, Step, silent

MIB, GIB = 1 << 20, 1 << 30
GROWING = ("repeat", "mixed", "object", "larson")
FEW = 1024  # pages of a batch, so that the smallest segment has them
SPARE = 1.1  # of a segment, beside its pages


@dataclass(frozen=True)
class Extent:
    """``sizes``: of segments. ``counts``: of workers. ``kept``: one page in so many is held, 0:
    none. ``recovered``: the largest segment that is filled with each kind of contents."""

    sizes: tuple[int, ...] = (16 * MIB, 64 * MIB, 256 * MIB, GIB, 4 * GIB, 8 * GIB)
    counts: tuple[int, ...] = (1, 2, 4, 8)
    kept: tuple[int, ...] = (0, 8, 2)
    fragmented_bytes: int = 256 * MIB
    recovery_sizes: tuple[int, ...] = (64 * MIB, 256 * MIB, GIB, 4 * GIB, 8 * GIB)
    recovered: dict[str, int] = field(
        default_factory=lambda: {"free": 8 * GIB, "single pages": 4 * GIB, "half in objects": GIB}
    )
    recoveries: int = 5


FULL = Extent()


def measure_growth(result: Result, extent: Extent = FULL, report: Report = silent) -> None:
    """Measure everything and add its curves and tables to ``result``. Raises ``BenchError``."""
    sizes = [size for size in extent.sizes if fits(size)]
    for size in {*extent.sizes, *extent.recovery_sizes}:
        if not fits(size):
            result.missing.append(f"{format_bytes(size)} is not measured: /dev/shm has less room")
    result.curves += [by_memory(result, sizes, report), by_workers(result, extent.counts, report)]
    result.sheets.append(by_fragmentation(result, extent, report))
    recovered = list(recoveries(extent, report))
    result.curves += [recovery_curve(recovered), audit_curve(recovered)]
    result.sheets.append(recovery_sheet(recovered))


def fits(size: int) -> bool:
    """Whether a segment with ``size`` bytes of pages can be made here now."""
    return size * SPARE < physical.room()


def batch() -> Pattern:
    """``rand`` of fewer pages."""
    return replace(PATTERNS["rand"], parameters=(FEW, 1), batch=FEW)


def run(result: Result, jobs: Sequence[Job], report: Report) -> dict[int, Row]:
    """The rows of ``jobs`` by their numbers."""
    with Team(jobs) as team:
        rows, _ = rounds.measure(team, result.rounds, report)
        team.finish()
    found = {row.key: row for row in rows}
    keys = {job.number: (job.pattern.name, job.who, job.workers) for job in jobs}
    return {number: found[key] for number, key in keys.items() if key in found}


def by_memory(result: Result, sizes: Sequence[int], report: Report) -> Curve:
    """Pages in segments of growing size, one worker."""
    patterns = [PATTERNS["repeat"], batch()]
    jobs = [
        Job(number, pattern, format_bytes(size), 1, 0, Place(size, PAGE, of=pattern.name))
        for number, (pattern, size) in enumerate((p, s) for p in patterns for s in sizes)
    ]
    rows = run(result, jobs, report)
    lines: dict[str, list[tuple[float, float]]] = {}
    for job in jobs:
        if job.number in rows and job.place is not None:
            point = job.place.ram_bytes / MIB, rows[job.number].f.median
            lines.setdefault(named(job.pattern), []).append(point)
    return Curve(
        "memory", "a page, by the size of the segment", "MiB of memory", "F, one worker", lines
    )


def named(pattern: Pattern) -> str:
    """What a line of a curve is called."""
    return f"rand, {FEW} pages" if pattern.name == "rand" else pattern.name


def by_workers(result: Result, counts: Sequence[int], report: Report) -> Curve:
    """Operations of all workers together; beyond the number of cores they share these."""
    wanted = [PATTERNS[name] for name in GROWING]
    rows = [row for row in result.rows if row.pattern in GROWING and row.who == "shmalloc"]
    if {row.workers for row in rows} < set(counts):
        jobs = make_jobs(wanted, counts, [], full=False)
        rows = list(run(result, jobs, report).values())
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        lines.setdefault(row.pattern, []).append((row.workers, row.rate.median))
    title = f"operations of all workers, on {result.machine.cores} cores"
    return Curve("workers", title, "workers", "millions a second", lines)


def by_fragmentation(result: Result, extent: Extent, report: Report) -> Sheet:
    """The same pages where every 8th or 2nd page of memory is held, so that none merge."""
    size = min(extent.fragmented_bytes, ram_bytes(1))
    patterns = [PATTERNS["repeat"], batch()]
    cases = [(store, keep) for store in (PAGE, DESCRIPTOR) for keep in extent.kept]
    jobs = [
        Job(n, pattern, f"{store} {keep}", 1, 0, Place(size, store, keep, pattern.name))
        for n, (pattern, (store, keep)) in enumerate((p, k) for p in patterns for k in cases)
    ]
    rows = run(result, jobs, report)
    sheet = Sheet(
        "Fragmented memory",
        ("links of free pages", "pages held", *(f"{named(p)}, F" for p in patterns)),
        ("pages held", *(f"{named(p)}, F" for p in patterns)),
        f"One worker in {format_bytes(size)}; free pages lie between held ones and never merge.",
    )
    for number, (store, keep) in enumerate(cases):
        pair = [rows.get(number), rows.get(number + len(cases))]
        held = f"{1 / keep:.1%}" if keep else "none"
        sheet.rows.append((store, held, *("" if r is None else f"{r.f.median:.2f}" for r in pair)))
    return sheet


@dataclass(frozen=True)
class Recovered:
    """What recoveries and audits of a segment cost."""

    size: int
    contents: str
    costs: Costs


def recoveries(extent: Extent, report: Report) -> Iterable[Recovered]:
    """Every size with every kind of contents that is wanted there."""
    warm_together(tuple(("native", kernel) for kernel in recovery_times.KERNELS))
    cases = [
        (size, contents)
        for size in extent.recovery_sizes
        for contents in CONTENTS
        if size <= extent.recovered.get(contents, 0) and fits(size)
    ]
    for done, (size, contents) in enumerate(cases):
        report(Step("recovering", done, len(cases), f"{format_bytes(size)}, {contents}"))
        costs = recovery_times.costs(size, CONTENTS[contents], extent.recoveries)
        yield Recovered(size, contents, costs)


def recovery_curve(found: Sequence[Recovered]) -> Curve:
    """Phase 1 with every lock held: what others wait for."""
    lines = _lines(found, lambda costs: costs.unblock.wall_ms)
    title = "recovery, phase 1 with every lock held: what others wait for"
    return Curve("recovery", title, "MiB of memory", "ms", lines, log=True)


def audit_curve(found: Sequence[Recovered]) -> Curve:
    """Both audits together."""
    lines = _lines(found, lambda costs: costs.audit.wall_ms + costs.objects.wall_ms)
    return Curve("audit", "audit of pages and objects", "MiB of memory", "ms", lines, log=True)


def _lines(
    found: Sequence[Recovered], value: Callable[[Costs], float]
) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for one in found:
        lines.setdefault(one.contents, []).append((one.size / MIB, value(one.costs)))
    return lines


def recovery_sheet(found: Sequence[Recovered]) -> Sheet:
    """What a recovery is made of."""
    times = (
        "phase 1, ms",
        "of it CPU",
        "page faults",
        "again, ms",
        "phase 2, ms",
        "nothing held, ms",
        "memory new, ms",
        f"lock kept {KEPT_MS} ms, ms",
        "of it CPU ",
        "audit, ms",
        "audit of objects, ms",
    )
    sheet = Sheet(
        "Recovery and audit",
        ("memory", "contents", *times),
        times,
        "Phase 1 takes over every lock of the dead, and once more, with all that it touches "
        "touched before; phase 2 sweeps its pages and objects. Then: "
        "the dead held nothing; the same by a process that touches the memory for the first time; "
        "the same while a process that lives and does not run keeps the zone's lock for "
        f"{KEPT_MS} ms.",
    )
    for one in found:
        k = one.costs
        first = [k.unblock.wall_ms, k.unblock.cpu_ms]
        then = [
            k.again.wall_ms,
            k.rest.wall_ms,
            k.idle.wall_ms,
            k.cold.wall_ms,
            k.kept.wall_ms,
            k.kept.cpu_ms,
            k.audit.wall_ms,
            k.objects.wall_ms,
        ]
        cells = [f"{ms:.2f}" for ms in (*first, *then)]
        cells.insert(len(first), f"{k.unblock.faults:,.0f}")
        sheet.rows.append((format_bytes(one.size), one.contents, *cells))
    return sheet
