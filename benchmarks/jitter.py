"""The cost of hooks, and the gain from delays: ``python benchmarks/jitter.py``.

Cost: allocating and freeing a page, over ``Ram`` and over ``JitterRam`` with nothing, the recorder,
a fuse or delays armed. Hunt: a stack with the ABA bug (a compare-exchange on the top alone) in two
processes, each on a core of its own; seconds and operations until one node has two owners, with and
without delays. ``--turns`` hunts, each limited by ``--seconds``.
"""

from __future__ import annotations

import mmap
import multiprocessing
import statistics
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import click
import psutil

sys.path.insert(0, str(Path(__file__).parent))

from measure import Figure, measure
from worlds import segment

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.engine import get_engine
from shmalloc.memory import Ram
from shmalloc.segment import Segment
from shmalloc.words import cas, exchange, load, store
from stress.bench import page_loops
from stress.jitter.ram import JitterRam
from stress.jitter.spec import Jitter

SLICE = 20_000
RING_ENTRIES = 1024
NEVER = 1 << 60
TOP, STOP = 0, 16
NODES, NODE_STRIDE, NODE_COUNT = 64, 16, 4
BATCH = 2_000


# --- what it costs -------------------------------------------------------------------------------
def cost_figures(made: Segment) -> tuple[Figure, list[Figure]]:
    """A page pair over each memory; the first is the yardstick."""
    jitter, ring = get_engine("jitter"), made.layout.flight(0)

    def armed(name: str, arm) -> Figure:
        ram = JitterRam.over(made.ram)
        arm(ram)
        run = lambda: jitter.call(page_loops.page_pairs, ram, 0, 0, SLICE)  # noqa: E731
        return Figure(name, run, SLICE, 3.0 if name == "recorder" else None)

    native = get_engine("native")
    plain = Figure("Ram", lambda: native.call(page_loops.page_pairs, made.ram, 0, 0, SLICE), SLICE)
    return plain, [
        armed("JitterRam, nothing armed", lambda ram: None),
        armed("fuse", lambda ram: ram.light_fuse(NEVER)),
        armed("recorder", lambda ram: ram.record_into(ring, RING_ENTRIES, c.H_REPORT_COUNT)),
        armed("delays at no site", lambda ram: ram.delay(Jitter(sites=0.0).delays)),
        armed("delays, --jitter on", lambda ram: ram.delay(Jitter().delays)),
    ]


def show_cost(rounds: int) -> None:
    with segment(64 << 20, flight=RING_ENTRIES) as made:
        yardstick, figures = cost_figures(made)
        for row in measure(yardstick, figures, rounds):
            least = row.min_ns / min(yardstick.samples_ns)
            print(
                f"{row.name:<28} least {row.min_ns:>8.1f} ns {least:>6.2f} x"
                f"   median {row.median_ns:>9.1f} ns {row.ratio:>7.2f} x"
            )


# --- what it buys --------------------------------------------------------------------------------
@kernel
def pop(mem):
    """Pop the top node; 0: none. Wrong: the top may be the same although the stack has changed."""
    for _ in range(1 << 20):
        top = load(mem, TOP)
        if top == 0:
            return 0
        below = load(mem, top)
        if cas(mem, TOP, top, below):
            return top
    return 0


@kernel
def push(mem, node):
    for _ in range(1 << 20):
        top = load(mem, TOP)
        store(mem, node, top)
        if cas(mem, TOP, top, node):
            return


@kernel
def take(mem, me):
    """Claim the node for this process; -1 if another process owns it already."""
    node = pop(mem)
    if node != 0 and exchange(mem, node + 1, me) != 0:
        return -1
    return node


@kernel
def give(mem, node):
    store(mem, node + 1, 0)
    push(mem, node)


@kernel
def take_two(mem, me, rounds):
    """Take two nodes and give them back, the first one first; -1 once a node has two owners."""
    for _ in range(rounds):
        first = take(mem, me)
        second = take(mem, me)
        if first < 0 or second < 0 or load(mem, STOP) != 0:
            store(mem, STOP, 1)
            return -1
        if first != 0:
            give(mem, first)
        if second != 0:
            give(mem, second)
    return rounds


def set_up(ram: Ram) -> None:
    """All nodes on the stack."""
    ram.array[:] = 0
    for k in range(NODE_COUNT):
        node = NODES + k * NODE_STRIDE
        ram[node], ram[TOP] = ram[TOP], node


def play(
    memory: mmap.mmap,
    me: int,
    jitter: Jitter | None,
    seed: int,
    seconds: float,
    start: Barrier,
    results,
) -> None:
    """One process of a hunt."""
    usable = psutil.Process().cpu_affinity()
    psutil.Process().cpu_affinity([usable[me % len(usable)]])
    ram: Ram = Ram(memory)
    engine = get_engine("native" if jitter is None else "jitter")
    if jitter is not None:
        ram = JitterRam(memory)
        ram.delay(jitter.delays, seed, me)
    engine.bind(take_two)
    start.wait()
    began, done, last = time.perf_counter(), 0, 0
    while last >= 0 and time.perf_counter() - began < seconds:
        last = engine.call(take_two, ram, me + 1, BATCH)
        done += max(last, 0)
    results.put((last < 0, time.perf_counter() - began, done))


def hunt(jitter: Jitter | None, seed: int, seconds: float) -> tuple[bool, float, int]:
    """Whether the bug showed, after how many seconds and rounds of both."""
    context = multiprocessing.get_context("fork")
    memory = mmap.mmap(-1, 8 * (NODES + NODE_COUNT * NODE_STRIDE))
    set_up(Ram(memory))
    start, results = context.Barrier(2), context.Queue()
    arguments = (jitter, seed, seconds, start, results)
    team = [context.Process(target=play, args=(memory, me, *arguments)) for me in range(2)]
    for process in team:
        process.start()
    answers = [results.get() for _ in team]
    for process in team:
        process.join()
    return any(a[0] for a in answers), max(a[1] for a in answers), sum(a[2] for a in answers)


def show_hunts(turns: int, seconds: float) -> None:
    for name in ("native", "jitter"):
        get_engine(name).bind(take_two)
    for label, jitter in (("Ram", None), ("JitterRam, --jitter on", Jitter())):
        hunts = [hunt(jitter, seed, seconds) for seed in range(1, turns + 1)]
        found = [(took, done) for shown, took, done in hunts if shown]
        median = f"{statistics.median(took for took, _ in found):.3f} s" if found else "-"
        rounds = f"{statistics.median(done for _, done in found):,.0f}" if found else "-"
        print(f"{label:<28} found {len(found)} of {turns}, median {median}, {rounds} rounds")


@click.command()
@click.option("--rounds", default=30, show_default=True, help="Of the costs.")
@click.option("--turns", default=10, show_default=True, help="Hunts of each kind.")
@click.option("--seconds", default=10.0, show_default=True, help="Limit of one hunt.")
def main(rounds: int, turns: int, seconds: float) -> None:
    """The cost of hooks and what delays find."""
    show_cost(rounds)
    show_hunts(turns, seconds)


if __name__ == "__main__":
    main()
