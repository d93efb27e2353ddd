"""Every figure of the goals, as ratios measured in one run: ``python benchmarks/bench.py``.

Sections: ops (F ratios on each link store), size (flat from 16 MiB to 4 GiB), two (two processes
against one), start (a fresh 4 GiB segment), audit, peers (other allocators in the same loops, where
their library is installed). ``--section`` picks some; ``--json FILE`` keeps the rows. What link
stores and hazards cost is in answer.py.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click
import psutil
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))

import kernels
import peers
from measure import Figure, Row, measure
from worlds import segment

from shmalloc.engine import get_engine
from shmalloc.kernels.audit import audit
from shmalloc.kernels.cache_set import cache_create
from shmalloc.kernels.kmalloc import kmalloc_boot
from shmalloc.memory import Ram
from shmalloc.segment import Segment

MIB = 1 << 20
GIB = 1 << 30
SLICE = 20_000
LINK_STORES = ("page", "descriptor", "table")
Report = dict[str, list[dict[str, object]]]
console = Console()


def call(kernel: Callable[..., int], ram: Ram, *arguments: int) -> int:
    return get_engine("native").call(kernel, ram, *arguments)


def yardstick(operations: int = SLICE) -> Figure:
    ram = Ram.of_words(16)
    return Figure(
        "F: two two-word swaps", lambda: call(kernels.two_swaps, ram, 2, operations), operations
    )


def page_figures(made: Segment, label: str) -> list[Figure]:
    ram, work = made.ram, made.layout.work(0)
    pairs = lambda order: lambda: call(kernels.page_pairs, ram, 0, order, SLICE)  # noqa: E731
    return [
        Figure(f"page pair, order 0, {label}", pairs(0), SLICE, 3.0),
        Figure(f"page pair, order 3, {label}", pairs(3), SLICE),
        Figure(f"page pair, order 9, {label}", pairs(9), SLICE),
        Figure(
            f"mixed orders 0-9, {label}",
            lambda: call(kernels.page_mixed, ram, 0, work, 64, SLICE),
            SLICE,
            6.0,
        ),
        Figure(
            f"bulk 4096 and shuffled free, {label}",
            lambda: call(kernels.page_bulk, ram, 0, work + 256, 4096, 1237),
            4096,
        ),
    ]


def object_figures(made: Segment) -> list[Figure]:
    ram = made.ram
    call(kmalloc_boot, ram, 0, 0)
    cache = call(cache_create, ram, 0, 64, 8, 0, 0)
    assert cache >= 0, f"cache_create answered {cache}"
    return [
        Figure(
            "object pair, 64 B, sheaf",
            lambda: call(kernels.object_pairs, ram, 0, cache, SLICE),
            SLICE,
            1.5,
        ),
        Figure("kmalloc pair, 64 B", lambda: call(kernels.kmalloc_pairs, ram, 0, 64, SLICE), SLICE),
        Figure(
            "kmalloc pair, 512 B", lambda: call(kernels.kmalloc_pairs, ram, 0, 512, SLICE), SLICE
        ),
    ]


def bench_ops(rounds: int) -> list[Row]:
    with ExitStack() as stack:
        figures = []
        for store in LINK_STORES:
            made = stack.enter_context(segment(256 * MIB, link_store=store))
            figures += page_figures(made, f"links in {store}")
        listed = stack.enter_context(segment(256 * MIB, pcp_form="list"))
        figures += page_figures(listed, "per-CPU lists linked")[:1]
        figures += object_figures(stack.enter_context(segment(256 * MIB)))
        return measure(yardstick(), figures, rounds)


def bench_size(rounds: int) -> list[Row]:
    sizes = (16 * MIB, 64 * MIB, 256 * MIB, GIB, 4 * GIB)
    with ExitStack() as stack:
        figures = []
        for size in sizes:
            ram = stack.enter_context(segment(size)).ram
            run = lambda ram=ram: call(kernels.page_pairs, ram, 0, 0, SLICE)  # noqa: E731
            figures.append(Figure(f"page pair, order 0, {size // MIB} MiB", run, SLICE))
        return measure(yardstick(), figures, rounds)


def _pairs_in_child(name: str, cpu: int, start: float, seconds: float, results: object) -> None:
    """Pin to one core, run order-0 pairs from ``start`` for ``seconds``; report pairs."""
    psutil.Process().cpu_affinity([cpu])
    made = Segment.attach(name)
    call(kernels.page_pairs, made.ram, cpu, 0, 1000)
    while time.monotonic() < start:
        pass
    pairs = 0
    while time.monotonic() < start + seconds:
        call(kernels.page_pairs, made.ram, cpu, 0, SLICE)
        pairs += SLICE
    results.put(pairs)  # type: ignore[attr-defined]
    made.close()


def _throughput(name: str, cpus: tuple[int, ...], seconds: float) -> float:
    context = multiprocessing.get_context("forkserver")
    results = context.Queue()
    start = time.monotonic() + 4.0
    children = [
        context.Process(target=_pairs_in_child, args=(name, cpu, start, seconds, results))
        for cpu in cpus
    ]
    for child in children:
        child.start()
    total = sum(results.get(timeout=120) for _ in children)
    for child in children:
        child.join()
    return total / seconds


def bench_two(rounds: int) -> list[Row]:
    """Throughput of two processes on two cores against one, alternating."""
    with segment(256 * MIB) as made:
        call(kernels.page_pairs, made.ram, 0, 0, 10)
        scales = []
        for _ in range(max(rounds // 20, 3)):
            alone = _throughput(made.name, (0,), 1.5)
            both = _throughput(made.name, (0, 1), 1.5)
            scales.append(both / alone)
    return [
        Row(
            "two processes / one (goal: at least 1.7)",
            min(scales),
            max(scales),
            statistics.median(scales),
            None,
        )
    ]


def bench_start(rounds: int) -> list[Row]:
    call(kernels.two_swaps, Ram.of_words(16), 2, 1)
    seconds, shares = [], []
    for _ in range(max(rounds // 20, 3)):
        start = time.perf_counter()
        with segment(4 * GIB) as made:
            seconds.append(time.perf_counter() - start)
            resident = Path(f"/dev/shm/{made.name}").stat().st_blocks * 512
            shares.append(100.0 * resident / made.layout.bytes)
    return [
        Row("start of 4 GiB, ms (goal: at most 300)", min(seconds) * 1e3,
            statistics.median(seconds) * 1e3, statistics.median(seconds) * 1e3, 300.0),
        Row("resident after start, % (goal: at most 1)", min(shares), max(shares),
            statistics.median(shares), 1.0),
    ]  # fmt: skip


def bench_audit(rounds: int) -> list[Row]:
    with segment(GIB, owner_map=True) as made:
        call(kernels.page_mixed, made.ram, 0, made.layout.work(0), 4000, 100_000)
        times = []
        for _ in range(max(rounds // 10, 3)):
            start = time.perf_counter()
            assert call(audit, made.ram, 0) == 0
            times.append((time.perf_counter() - start) * 1e3)
    return [
        Row(
            "audit of 1 GiB, ms (goal: at most 100)",
            min(times),
            statistics.median(times),
            statistics.median(times),
            100.0,
        )
    ]


def bench_peers(rounds: int) -> list[Row]:
    with segment(256 * MIB) as made:
        figures = [*page_figures(made, "shmalloc")[:1], *object_figures(made)[:1], *peers.figures()]
        return measure(yardstick(), figures, rounds)


SECTIONS: dict[str, Callable[[int], list[Row]]] = {
    "ops": bench_ops,
    "size": bench_size,
    "two": bench_two,
    "start": bench_start,
    "audit": bench_audit,
    "peers": bench_peers,
}


def show(section: str, rows: list[Row]) -> None:
    table = Table("figure", "min", "median", "ratio to F, or value", "goal", title=section)
    for row in rows:
        reached = {None: "", True: "reached", False: "[red]not reached[/red]"}[row.reached]
        goal = "" if row.goal is None else f"<= {row.goal:g} {reached}"
        figures = (row.min_ns, row.median_ns)
        table.add_row(row.name, *(f"{f:.1f}" for f in figures), f"{row.ratio:.2f}", goal)
    console.print(table)


@click.command()
@click.option("--section", multiple=True, type=click.Choice(list(SECTIONS)), help="default: all")
@click.option("--rounds", default=60, show_default=True, help="interleaved rounds for each figure")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="keep the rows there")
def main(section: tuple[str, ...], rounds: int, json_file: Path | None) -> None:
    """Measure; ns are of this machine at this moment, ratios are what to compare."""
    report: Report = {}
    for name in section or tuple(SECTIONS):
        rows = SECTIONS[name](rounds)
        show(name, rows)
        report[name] = [vars(row) for row in rows]
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
