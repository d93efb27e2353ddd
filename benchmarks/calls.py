"""The cost of a call from Python, and of a process before its first call.

``python benchmarks/calls.py``: pairs of calls through ``Arena``, each beside a yardstick of Python
itself (two calls of a method that does nothing) and beside what Python offers for shared memory.

``--against PYTHON`` measures another installation in turn with this one, slice by slice, and gives
ratios: the interpreter of an environment in which another version of shmalloc is installed.

Only what every version has is used here: ``Arena`` and its methods. ``--serve`` is for the other
installation: it answers a name of a figure with the nanoseconds of one slice of it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import heap, shared_memory
from pathlib import Path
from typing import Any

import click
import numpy as np
from measure import Figure
from rich.console import Console
from rich.table import Table

from shmalloc import Arena

SLICE = 500
FEW = 50  # of calls that take microseconds
STARTS = 5
GOALS_NS = {
    "pages": 400,
    "object, 64 B": 1000,
    "kmalloc, 64 B": 1000,
    "array": 3000,
    "array, 64 KiB": 3000,
    "array, 16 MiB": 10_000,
}
START_GOAL_MS = 400.0
FIRST_CALLS = """
import sys, time
from shmalloc import Arena
with Arena.attach(sys.argv[1]) as arena:
    arena.free_pages(arena.alloc_pages(0), 0)
    print(time.process_time() * 1e3)
"""
Sampler = Callable[[str], float]
console = Console()


class Nothing:
    """The yardstick: two calls of methods that do nothing."""

    def give(self, order: int = 0) -> int:
        return order

    def take(self, pfn: int, order: int = 0) -> None:
        pass


def repeated(pair: Callable[[], object], count: int) -> Callable[[], None]:
    """``pair`` in a loop, which adds one call to every figure alike."""

    def run() -> None:
        for _ in range(count):
            pair()

    return run


def figures(arena: Any) -> list[Figure]:
    cache, nothing = arena.cache("calls", 64), Nothing()
    pairs: dict[str, tuple[int, Callable[[], object]]] = {
        "two empty methods": (SLICE, lambda: nothing.take(nothing.give(0), 0)),
        "pages": (SLICE, lambda: arena.free_pages(arena.alloc_pages(0), 0)),
        "pages, order 3": (SLICE, lambda: arena.free_pages(arena.alloc_pages(3), 3)),
        "object, 64 B": (SLICE, lambda: cache.free(cache.alloc())),
        "kmalloc, 64 B": (SLICE, lambda: arena.kfree(arena.kmalloc(64))),
        "kmalloc, 64 KiB": (SLICE, lambda: arena.kfree(arena.kmalloc(1 << 16))),
        "array": (FEW, lambda: arena.empty(8)),
        "array, 64 KiB": (FEW, lambda: arena.empty(1 << 16, np.uint8)),
        "array, 16 MiB": (FEW, lambda: arena.empty(1 << 24, np.uint8)),
        "array, opened by its handle": (FEW, opened(arena)),
        "64 pages in bulk": (FEW, lambda: arena.free_pages_bulk(arena.alloc_pages_bulk(64))),
        "multiprocessing.heap": (FEW, private_block),
        "SharedMemory": (FEW // 5, shared_block),
    }
    return [Figure(name, repeated(pair, n), n) for name, (n, pair) in pairs.items()]


def opened(arena: Any) -> Callable[[], object]:
    handle_of = arena.empty(8)
    return lambda: arena.open_array(handle_of.handle())


def private_block() -> None:
    block = heap.BufferWrapper(64)
    np.frombuffer(block.create_memoryview(), np.uint8, 64)


def shared_block() -> None:
    block = shared_memory.SharedMemory(create=True, size=4096)
    block.close()
    block.unlink()


@contextmanager
def measured_arena() -> Iterator[Any]:
    with Arena.create(size="64MiB") as arena:
        yield arena


def serve() -> None:
    """Answer names of figures with slices of them, until the other end is closed."""
    with measured_arena() as arena:
        known = {figure.name: figure for figure in figures(arena)}
        for figure in known.values():
            figure.run()
        print("ready", flush=True)
        for line in sys.stdin:
            name = line.strip()
            took = start_ms(arena.name) if name == "start" else known[name].sample()
            print(took, flush=True)


def start_ms(name: str) -> float:
    """CPU ms of a fresh process up to the end of its first pair of calls."""
    command = [sys.executable, "-c", FIRST_CALLS, name]
    # Not in this directory, because -c would import its sources.
    ended = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")
    return float(ended.stdout)


@contextmanager
def other(python: str) -> Iterator[Sampler]:
    """Slices measured by another installation."""
    hidden = {"PYTHONPATH"}  # it may name this installation
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [python, str(Path(__file__).resolve()), "--serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()

        def sample(name: str) -> float:
            process.stdin.write(f"{name}\n")
            process.stdin.flush()
            return float(process.stdout.readline())

        yield sample
        process.stdin.close()


def measure(arena: Any, there: Sampler | None, rounds: int) -> Table:
    """Every figure once a round, here and there in turn; a row for each."""
    known = figures(arena)
    others: dict[str, list[float]] = {figure.name: [] for figure in known}
    for figure in known:
        figure.run()
    for _ in range(rounds):
        for figure in known:
            figure.sample()
            if there is not None:
                others[figure.name].append(there(figure.name))
    table = Table(
        "a pair of", "min ns", "median ns", "/ two methods", "goal", "other min", "faster"
    )
    for figure in known:
        beside = median_ratio(figure.samples_ns, known[0].samples_ns)
        table.add_row(*row(figure.name, figure.samples_ns, f"{beside:.1f}", others[figure.name]))
    started = [start_ms(arena.name) for _ in range(STARTS)]
    elsewhere = [there("start") for _ in range(STARTS)] if there is not None else []
    table.add_row(*row("start, CPU ms", started, "", elsewhere))
    return table


def row(name: str, here: list[float], beside: str, there: list[float]) -> list[str]:
    goal = START_GOAL_MS if name.startswith("start") else GOALS_NS.get(name)
    reached = "reached" if goal is not None and min(here) <= goal else "[red]not reached[/red]"
    aim = "" if goal is None else f"<= {goal:g} {reached}"
    elsewhere = [f"{min(there):.0f}", f"{median_ratio(there, here):.1f} x"] if there else ["", ""]
    return [name, f"{min(here):.0f}", f"{statistics.median(here):.0f}", beside, aim, *elsewhere]


def median_ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


@click.command()
@click.option("--against", metavar="PYTHON", help="the interpreter of another installation")
@click.option("--rounds", default=100, show_default=True, help="slices of each figure")
@click.option("--serve", "serves", is_flag=True, help="answer slices to another process")
def main(against: str | None, rounds: int, serves: bool) -> None:
    """Measure calls from Python; ns are of this machine at this moment."""
    if serves:
        serve()
        return
    with ExitStack() as stack:
        there = None if against is None else stack.enter_context(other(against))
        console.print(measure(stack.enter_context(measured_arena()), there, rounds))


if __name__ == "__main__":
    main()
