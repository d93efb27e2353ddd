"""What sampled allocations cost: arenas without and with page_owner, in turns, in one process.

``python benchmarks/page_owner.py``: for each operation the median of the ratio to the first of two
arenas without it, taken in the same round. So "off" says how far two equal arenas are apart. Each
part of a round is short, because other processes share the machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from shmalloc import Arena

ROUNDS, PAIRS = 151, 400
RATES = {"off, first": 0, "off": 0, "1/1024": "1/1024", "1/64": "1/64", "1/1": "1/1"}


def page(arena: Arena) -> None:
    arena.free_pages(arena.alloc_pages())


def block(arena: Arena) -> None:
    arena.free_pages(arena.alloc_pages(order=6), order=6)


def small(arena: Arena) -> None:
    arena.kfree(arena.kmalloc(64))


def array(arena: Arena) -> None:
    arena.empty(100)


def timed_ns(operation: Callable[[Arena], None], arena: Arena) -> float:
    started = time.perf_counter_ns()
    for _ in range(PAIRS):
        operation(arena)
    return (time.perf_counter_ns() - started) / PAIRS


def main() -> None:
    arenas = {
        name: Arena.create(size="64MiB", cpus=1, page_owner=rate) for name, rate in RATES.items()
    }
    first, *others = arenas
    for operation in (page, block, small, array):
        rows: dict[str, list[float]] = {name: [] for name in arenas}
        for _ in range(ROUNDS):
            for name, arena in arenas.items():
                rows[name].append(timed_ns(operation, arena))
        ratios = {
            name: statistics.median(a / b for a, b in zip(rows[name], rows[first], strict=True))
            for name in others
        }
        shown = ", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items())
        print(f"{operation.__name__}: {min(rows[first]):.0f} ns without; {shown}")
    for arena in arenas.values():
        arena.close()


if __name__ == "__main__":
    main()
