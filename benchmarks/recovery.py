"""How long others may wait when a process dies: ``python benchmarks/recovery.py``.

Slot 1 fills a segment and leaves all its locks held, as if it had been killed in all of them at
once: the worst case of phase 1. Slot 0 recovers. The two phases are timed separately, and once more
with a dead process that held nothing. Times are of this machine at this moment; what matters is
their growth: with the descriptors of a zone, not with its bytes or the number of processes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import click
from rich.console import Console
from rich.table import Table

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.engine import get_engine
from shmalloc.kernels.cache import cache_alloc
from shmalloc.kernels.cache_set import cache_create
from shmalloc.kernels.pages import alloc_pages
from shmalloc.kernels.recover import recover, unblock
from shmalloc.kernels.slots import mark_dead
from shmalloc.layout import Geometry, ZoneSpec, first_node_part
from shmalloc.segment import Segment

DOCTOR, DEAD = 0, 1
MIB = 1 << 20
CACHES = 8
OBJECT_BYTES = 256

Fill = Callable[[Segment], None]


def fresh(made: Segment) -> None:
    """All memory free, in blocks of the largest order."""


def single_pages(made: Segment) -> None:
    """Nine of ten pages are single blocks: nearly the most heads that are possible."""
    alloc = get_engine("native").bind(alloc_pages)
    for _ in range(made.geometry.pages * 9 // 10):
        alloc(made.ram, DEAD, 0, c.MT_MOVABLE, 7)


def objects(made: Segment) -> None:
    """Eight caches, half of the memory in their objects."""
    run = get_engine("native")
    alloc = run.bind(cache_alloc)
    caches = [run.call(cache_create, made.ram, DEAD, OBJECT_BYTES, 0, 0, 0) for _ in range(CACHES)]
    for _ in range(made.geometry.pages * made.geometry.page_bytes // OBJECT_BYTES // 2 // CACHES):
        for cache in caches:
            alloc(made.ram, DEAD, cache)


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


def timed_ms(kernel: Callable[..., int], made: Segment) -> float:
    started = time.perf_counter()
    kernel(made.ram, DOCTOR)
    return (time.perf_counter() - started) * 1e3


def phases_ms(mib: int, fill: Fill, rounds: int) -> tuple[float, float, float]:
    """Medians of: phase 1 with all locks held, the whole recovery after it, one with none held."""
    run = get_engine("native")
    first, rest, idle = [], [], []
    pages = mib * MIB // 4096
    geometry = Geometry(zones=(ZoneSpec(pages),), cpus=2, caches=CACHES)
    for _ in range(rounds):
        with Segment.create(geometry) as made:
            for cpu in (DOCTOR, DEAD):
                made.ram[made.layout.cpu(cpu) + c.C_STATE] = c.CPU_ONLINE
            fill(made)
            hold_everything(made)
            run.call(mark_dead, made.ram, DOCTOR, DEAD, 0)
            first.append(timed_ms(run.bind(unblock), made))
            rest.append(timed_ms(run.bind(recover), made))
            run.call(mark_dead, made.ram, DOCTOR, DEAD, 1)
            idle.append(timed_ms(run.bind(recover), made))
    return statistics.median(first), statistics.median(rest), statistics.median(idle)


@click.command()
@click.option("--rounds", default=3, show_default=True)
def main(rounds: int) -> None:
    """Measure; milliseconds."""
    table = Table("memory", "contents", "phase 1, all locks held", "phase 2", "nothing held")
    for mib in (64, 256, 1024):
        for fill in (fresh, single_pages, objects):
            figures = phases_ms(mib, fill, rounds)
            table.add_row(
                f"{mib} MiB",
                (fill.__doc__ or "").split(":")[0].rstrip("."),
                *(f"{ms:.2f} ms" for ms in figures),
            )
    Console().print(table)


if __name__ == "__main__":
    main()
