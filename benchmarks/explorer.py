"""The explorer's figures in one run: ``python benchmarks/explorer.py [--flat]``.

Random walk on two CPUs x five CAS increments (load and cas in a loop), races off and on; classes a
second by DPOR on small programs; schedules a second of an allocator program; two workers against
one. ``--flat`` runs 10**8 schedules and watches the memory of the process.
"""

from __future__ import annotations

import time

import click
import psutil
from rich.console import Console
from rich.table import Table

from shmalloc import kernel
from shmalloc.words import cas, load
from stress import Exploration, Program, explore
from stress.programs import PROGRAMS

INCREMENTS = 5
ROUNDS = 5
MIB = 1 << 20


@kernel
def increment(mem, cpu):
    while True:
        old = load(mem, 0)
        if cas(mem, 0, old, old + 1):
            return 0


@kernel
def increment_five(mem, cpu):
    for _ in range(INCREMENTS):
        increment(mem, cpu)
    return 0


@kernel
def plain_increment(mem, cpu):
    mem[0] = mem[0] + 1


COUNTER = Program(name="cas-increments", words=2, threads=[increment_five] * 2)
LOST = Program(name="four lost updates", words=2, threads=[plain_increment] * 4)
BUDDY = "buddy-churn-3"
BUDDY_2 = "contig-isolate-alloc"


def best(program: Program, **how: object) -> Exploration:
    """The fastest of some runs: other work on the machine only slows runs down."""
    results = [explore(program, **how) for _ in range(ROUNDS)]  # type: ignore[arg-type]
    return max(results, key=lambda result: result.schedules / result.seconds)


def rate(result: Exploration) -> float:
    return result.schedules / result.seconds


def measure() -> Table:
    walk = {"strategy": "random", "seconds": 2}
    table = Table("figure", "goal", "measured", "steps/s", title="explorer")

    def row(name: str, goal: str, result: Exploration, unit: str) -> float:
        steps = f"{result.steps / result.seconds / 1e6:.1f} M"
        table.add_row(name, goal, f"{rate(result):,.0f} {unit}", steps)
        return rate(result)

    row(
        "2 x 5 CAS increments, races off",
        "800,000",
        best(COUNTER, races=False, **walk),
        "schedules/s",
    )
    row("2 x 5 CAS increments, races on", "500,000", best(COUNTER, **walk), "schedules/s")
    row("the same under tso, races on", "", best(COUNTER, memory="tso", **walk), "schedules/s")
    row(
        "dpor, all 223,582 classes of it",
        "100,000",
        best(COUNTER, strategy="dpor", races=False, seconds=30),
        "classes/s",
    )
    row(
        "dpor, four lost updates",
        "100,000",
        best(LOST, strategy="dpor", races=False, seconds=30, stop_on_failure=False),
        "classes/s",
    )
    for name in (BUDDY, BUDDY_2):
        row(f"{name}, races on", "30,000", best(PROGRAMS[name](), **walk), "schedules/s")
    one = rate(best(COUNTER, races=False, **walk))
    two = rate(best(COUNTER, races=False, workers=2, **walk))
    table.add_row("two workers / one", "1.7", f"{two / one:.2f}", "")
    return table


def watch_memory() -> None:
    """Resident memory over 10**8 schedules."""
    process = psutil.Process()
    done = 0
    start = time.perf_counter()
    for _ in range(10):
        result = explore(
            COUNTER, strategy="random", schedules=10_000_000, seconds=None, races=False, seed=done
        )
        done += result.schedules
        resident = process.memory_info().rss / MIB
        seconds = time.perf_counter() - start
        click.echo(f"{done:>12,} schedules  {seconds:6.0f} s  {resident:.1f} MiB")


@click.command()
@click.option("--flat", is_flag=True, help="Run 10**8 schedules and watch the memory.")
def main(flat: bool) -> None:
    if flat:
        watch_memory()
    else:
        Console().print(measure())


if __name__ == "__main__":
    main()
