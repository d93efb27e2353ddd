"""How long others may wait when a process dies, and what that time is made of.

Slot 1 fills a segment and leaves all its locks held, as if it had been killed in all of them at
once: the worst case of phase 1. Slot 0 recovers. The two phases are timed separately, and once more
with a dead process that held nothing. Beside the wall time stand the processor time and the page
faults of the thread: memory that this process touches for the first time is mapped page by page.
"""

from __future__ import annotations

import resource
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import Kernel
from shmalloc.engine import get_engine
from shmalloc.kernels.audit import audit
from shmalloc.kernels.cache import cache_alloc
from shmalloc.kernels.cache_set import cache_create
from shmalloc.kernels.lock import lock, unlock
from shmalloc.kernels.pages import alloc_pages
from shmalloc.kernels.recover import recover, unblock
from shmalloc.kernels.slab_audit import audit_slabs
from shmalloc.kernels.slots import mark_dead
from shmalloc.layout import Geometry, ZoneSpec, first_node_part
from shmalloc.segment import Segment

DOCTOR, DEAD, LIVING = 0, 1, 2
KEPT_MS = 100
PAGE_BYTES = 4096
CACHES = 8
OBJECT_BYTES = 256
OWNER = 7
Fill = Callable[[Segment], None]


class Cost(NamedTuple):
    """One call of a kernel: milliseconds of wall and of processor time, page faults."""

    wall_ms: float
    cpu_ms: float
    faults: float


@dataclass(frozen=True)
class Costs:
    """Medians of: phase 1 with every lock held, the rest of that recovery, phase 1 once more (all
    that it touches has been touched before), a recovery of a dead
    process that held nothing, the same in a mapping that is touched for the first time, the same
    while a living process keeps the lock of the zone for KEPT_MS, the audit of pages, and that of
    objects."""

    unblock: Cost
    rest: Cost
    again: Cost
    idle: Cost
    cold: Cost
    kept: Cost
    audit: Cost
    objects: Cost


def fresh(made: Segment) -> None:
    """All memory free, in blocks of the largest order."""


def single_pages(made: Segment) -> None:
    """Nine of ten pages are single blocks: nearly the most heads that are possible."""
    alloc = get_engine("native").bind(alloc_pages)
    for _ in range(made.geometry.pages * 9 // 10):
        alloc(made.ram, DEAD, 0, c.MT_MOVABLE, OWNER)


def objects(made: Segment) -> None:
    """Eight caches, half of the memory in their objects."""
    run = get_engine("native")
    alloc = run.bind(cache_alloc)
    caches = [run.call(cache_create, made.ram, DEAD, OBJECT_BYTES, 0, 0, 0) for _ in range(CACHES)]
    for _ in range(made.geometry.pages * made.geometry.page_bytes // OBJECT_BYTES // 2 // CACHES):
        for cache in caches:
            alloc(made.ram, DEAD, cache)


CONTENTS: dict[str, Fill] = {
    "free": fresh,
    "single pages": single_pages,
    "half in objects": objects,
}


def hold_everything(made: Segment) -> None:
    """Let the dead slot hold every lock."""
    ram, layout = made.ram, made.layout
    word = ram[layout.cpu(DEAD) + c.C_EPOCH] << 32 | (DEAD + 1)
    ram[layout.zone(0) + c.Z_LOCK] = word
    ram[layout.pcp(DEAD, 0) + c.P_LOCK] = word
    for cache in range(made.geometry.caches):
        k = layout.at["caches"] + cache * ram[c.H_CACHE_STRIDE]
        if ram[k + cs.K_STATE] != cs.CACHE_NONE:
            node = k + first_node_part(made.geometry)
            ram[node + cs.KN_LOCK] = word
            ram[node + cs.KN_BARN_LOCK] = word
            ram[k + cs.K_CPUS + DEAD * cs.KC_STRIDE + cs.KC_LOCK] = word


def die(made: Segment) -> None:
    """Mark the present life of the dead slot as ended by death."""
    epoch = made.ram[made.layout.cpu(DEAD) + c.C_EPOCH]
    marked = get_engine("native").call(mark_dead, made.ram, DOCTOR, DEAD, epoch)
    assert marked == 1, "this life was over already"


def cost_of(kernel: Kernel, made: Segment) -> Cost:
    """One call of a kernel of two arguments, by the recovering slot."""
    run = get_engine("native").bind(kernel)
    before, cpu, started = faults(), time.thread_time(), time.perf_counter()
    run(made.ram, DOCTOR)
    ended = time.perf_counter()
    return Cost((ended - started) * 1e3, (time.thread_time() - cpu) * 1e3, faults() - before)


def cost_with_locks(made: Segment) -> tuple[Cost, Cost]:
    """Both phases of a recovery of a process that held every lock."""
    hold_everything(made)
    die(made)
    return cost_of(unblock, made), cost_of(recover, made)


def beside_a_keeper(made: Segment) -> Cost:
    """A recovery while a process that lives, and does not run, has the lock of the zone."""
    run = get_engine("native")
    at = made.layout.zone(0) + c.Z_LOCK
    run.call(lock, made.ram, at, LIVING)
    runs_again = threading.Timer(KEPT_MS / 1e3, run.call, (unlock, made.ram, at))
    runs_again.start()
    try:
        return cost_of(recover, made)
    finally:
        runs_again.join()


def faults() -> int:
    """Page faults of this thread so far that needed no disk."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


def costs(ram_bytes: int, fill: Fill, rounds: int) -> Costs:
    """Measure recoveries and audits of ``ram_bytes`` that ``fill`` has filled.

    Raises ``EnvironmentUnfitError`` if there is not so much memory.
    """
    found: list[tuple[Cost, ...]] = []
    geometry = Geometry(zones=(ZoneSpec(ram_bytes // PAGE_BYTES),), cpus=3, claims=3, caches=CACHES)
    for _ in range(rounds):
        with Segment.create(geometry) as made:
            for cpu in (DOCTOR, DEAD, LIVING):
                made.ram[made.layout.cpu(cpu) + c.C_STATE] = c.CPU_ONLINE
            fill(made)
            with_locks = (*cost_with_locks(made), cost_with_locks(made)[0])
            die(made)
            idle = cost_of(recover, made)
            die(made)
            attached = Segment.attach(made.name)
            try:
                cold = cost_of(recover, attached)
            finally:
                attached.close()
            die(made)
            kept = beside_a_keeper(made)
            audits = cost_of(audit, made), cost_of(audit_slabs, made)
            found.append((*with_locks, idle, cold, kept, *audits))
    return Costs(*(median(column) for column in zip(*found, strict=True)))


def median(found: Sequence[Cost]) -> Cost:
    """The median of each part."""
    return Cost(*(statistics.median(part) for part in zip(*found, strict=True)))


KERNELS: tuple[Kernel, ...] = (
    alloc_pages,
    audit,
    audit_slabs,
    cache_alloc,
    cache_create,
    lock,
    mark_dead,
    recover,
    unblock,
    unlock,
)
