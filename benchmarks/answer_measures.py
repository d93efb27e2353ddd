"""What each place for the links costs, in rounds of everything in turn: the figures of the answer.

``Figures`` collects them by name. A figure is the median over the rounds of its ratio to F of the
same round, with its quartiles, and the median in ns beside it. ``between`` is the ratio of two
figures round by round, which is what the document compares: a slow second of the machine is in
both of them. Time is the thread's CPU time: what other processes of the machine take is not in it,
what they push out of the caches is.

Names have dots: what, how many or which order, ``untouched`` or ``touched``, and the link store.
"""

from __future__ import annotations

import mmap
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import answer_kernels as loops
import numpy as np
from answer_counters import DTLB_MISSES, counted, refusal
from answer_worlds import READ_WRITE, World, permutation, protect, settings, ways_to_huge, world
from measure import Figure, in_turn
from worlds import segment

from shmalloc import Arena
from shmalloc.engine import get_engine
from shmalloc.errors import MisuseError
from shmalloc.layout import LINK_STORES, Geometry, ZoneSpec
from shmalloc.memory import Ram
from shmalloc.segment import Segment
from stress.bench import page_loops

MIB = 1 << 20
GIB = 1 << 30
PAGE_BYTES = 4096
STORES = tuple(LINK_STORES)
CACHE_LINES = {"untouched": 0, "touched": 1, "filled": PAGE_BYTES // 64}
SCATTERED = 4096  # pages of the rows of the table
MANY = 16_384  # pages whose first lines, all in the same sets, no cache here can hold
LARGE = (SCATTERED, MANY)
HUGE_BYTES = 80 * MIB
HUGE_STORES = ("page", "descriptor")
HOT_BYTES = 256 * MIB
SLICE = 20_000
FEWEST_PAGES = 32_768  # of a slice
ORDERS = range(10)
LOOKUPS = 20_000
UNMAPPINGS = 200
CALLS = 500
SWITCHES = ("debug_pagealloc", "unaccepted")  # of a geometry, where they are built
BLOCK_PAGES = 4096  # of a segment that is full of blocks


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    sizes: tuple[int, ...]  # pages in use at once, for the picture
    repeats: int  # of what is not in rounds: starts
    start_bytes: int
    scattered_bytes: int
    stray_writes: int


FULL = Effort(40, (64, 512, SCATTERED, MANY, 2 * MANY), 5, 4 * GIB, 256 * MIB, 400)
QUICK = Effort(5, (64, SCATTERED, MANY), 2, GIB, 128 * MIB, 60)


def call(kernel: Callable[..., int], ram: Ram, *arguments: int) -> int:
    return get_engine("native").call(kernel, ram, *arguments)


@dataclass
class Figures:
    """Ratios to F of each figure, round by round, and its ns."""

    rounds: int
    ratios: dict[str, list[float]] = field(default_factory=dict)
    ns: dict[str, list[float]] = field(default_factory=dict)

    def take(self, figures: list[Figure]) -> None:
        """Measure some figures in turn; figures of another call had other rounds."""
        unit = yardstick()
        for figure in (unit, *figures):
            figure.clock = time.thread_time_ns
        self.ratios.update(in_turn(unit, figures, self.rounds))
        self.ns.setdefault("F", []).extend(unit.samples_ns)
        self.ns.update({figure.name: figure.samples_ns for figure in figures})

    def summary(self) -> dict[str, dict[str, float]]:
        """Of each figure: ns, F, and the quartiles of F."""
        return {name: described(ratios, self.ns[name]) for name, ratios in self.ratios.items()}

    def between(self, above: str, below: str) -> list[float]:
        """How many times ``below`` is ``above``, in each round."""
        return [a / b for a, b in zip(self.ratios[above], self.ratios[below], strict=True)]


def described(ratios: list[float], ns: list[float] | None = None) -> dict[str, float]:
    """Median and quartiles of ratios, and the median of ns."""
    low, median, high = statistics.quantiles(ratios, n=4)
    found = {"ratio": median, "low": low, "high": high}
    return found if ns is None else found | {"ns": statistics.median(ns)}


def yardstick() -> Figure:
    ram = Ram.of_words(16)
    return Figure("F", lambda: call(page_loops.two_swaps, ram, 2, SLICE), SLICE)


def arrange(ram: Ram, at: int, n: int, seed: int = 1) -> None:
    """Write the order in which ``n`` pages are freed."""
    ram.array[at + n : at + 2 * n] = permutation(n, seed)


def scattered(ram: Ram, at: int, n: int, touching: str, name: str) -> Figure:
    """``n`` pages are allocated, written as ``touching`` says, and freed in a random order."""
    repeats = max(1, FEWEST_PAGES // n)

    def run() -> None:
        arrange(ram, at, n)  # a few microseconds; other figures use the same words
        failed = call(loops.rounds_of, ram, 0, at, n, repeats, CACHE_LINES[touching])
        assert failed == 0, f"{name}: {failed}"

    return Figure(name, run, n * repeats)


def parts(ram: Ram, at: int, n: int, store: str) -> list[Figure]:
    """The three steps of a round of ``n`` pages, touched: each needs the one before."""
    steps: dict[str, Callable[[], object]] = {
        "allocate": lambda: (arrange(ram, at, n), call(loops.take_all, ram, 0, at, n)),
        "write": lambda: call(loops.touch_all, ram, at, n, 1),
        "free": lambda: call(loops.give_all, ram, 0, at, n),
    }
    return [Figure(f"step.{n}.{name}.{store}", run, n) for name, run in steps.items()]


def hot(made: Segment, store: str) -> list[Figure]:
    """Pages and blocks that are reused at once."""
    ram, at = made.ram, made.layout.work(0)
    pairs = partial(call, page_loops.page_pairs, ram, 0, 0, SLICE)
    mixed = partial(call, page_loops.page_mixed, ram, 0, at, 64, SLICE)
    return [Figure(f"pair.{store}", pairs, SLICE), Figure(f"mixed.{store}", mixed, SLICE)]


def measure_stores(figures: Figures, effort: Effort) -> None:
    """Every link store in turn: hot, scattered, touched, and with fragmented memory."""
    work = 2 * max(*effort.sizes, SCATTERED)
    with ExitStack() as stack:
        found = []
        for store in STORES:
            made = stack.enter_context(
                segment(effort.scattered_bytes, link_store=store, work_words=work)
            )
            ram, at = made.ram, made.layout.work(0)
            found += hot(stack.enter_context(segment(HOT_BYTES, link_store=store)), store)
            for n in effort.sizes:
                for touching in ("untouched", "touched"):
                    name = f"scattered.{n}.{touching}.{store}"
                    found.append(scattered(ram, at, n, touching, name))
            found.append(
                scattered(ram, at, SCATTERED, "filled", f"scattered.{SCATTERED}.filled.{store}")
            )
            for n in LARGE:
                found += parts(ram, at, n, store)
        figures.take(found)


def fragment(ram: Ram, at: int, pages: int) -> None:
    """Keep every second page of random ones, so that the free pages have no free buddy."""
    taken = call(loops.take_all, ram, 0, at, pages)
    held = ram.array[at : at + taken].copy()
    loose = held[permutation(taken, 2)][: taken // 2]
    ram.array[at : at + len(loose)] = loose
    ram.array[at + len(loose) : at + 2 * len(loose)] = permutation(len(loose), 3)
    failed = call(loops.give_all, ram, 0, at, len(loose))
    assert failed == 0, f"{failed} pages were refused"


def measure_fragmented(figures: Figures, effort: Effort) -> None:
    """The same rows where half of the pages are in use, at random places: nothing merges."""
    pages = effort.scattered_bytes // 2 // PAGE_BYTES
    with ExitStack() as stack:
        found = []
        for store in STORES:
            made = stack.enter_context(
                segment(pages * PAGE_BYTES, link_store=store, work_words=2 * pages)
            )
            ram, at = made.ram, made.layout.work(0)
            fragment(ram, at, pages)
            for touching in ("untouched", "touched"):
                name = f"fragmented.{SCATTERED}.{touching}.{store}"
                found.append(scattered(ram, at, SCATTERED, touching, name))
        figures.take(found)


def measure_filling(figures: Figures) -> None:
    """The price of poison and of zeroes, which write whole pages."""
    with ExitStack() as stack:
        found = []
        for store in STORES:
            for fill in ("poison", "zero"):
                made = stack.enter_context(segment(16 * MIB, link_store=store, **{fill: True}))
                run = partial(call, page_loops.page_pairs, made.ram, 0, 0, SLICE // 4)
                found.append(Figure(f"{fill}.{store}", run, SLICE // 4))
        found.append(unmapping())
        made = stack.enter_context(segment(16 * MIB, history=256))
        run = partial(call, page_loops.page_pairs, made.ram, 0, 0, SLICE)
        figures.take([*found, Figure("history.page", run, SLICE)])


def measure_switches(figures: Figures) -> dict[str, str]:
    """Pairs of calls from Python with each switch that is built; why a store refuses one.

    In Python because there a switch takes part in a call, as that of debug_pagealloc.
    """
    built = {field.name for field in fields(Geometry)}
    refusals: dict[str, str] = {}
    with ExitStack() as stack:
        found = []
        for switch in ("", *(name for name in SWITCHES if name in built)):
            for store in STORES:
                name = f"calls.{switch or 'plain'}.{store}"
                changes: dict[str, Any] = {switch: True} if switch else {}
                try:
                    arena = stack.enter_context(
                        Arena.create(size=16 * MIB, link_store=store, **changes)
                    )
                except MisuseError as error:
                    refusals[name] = str(error)
                else:
                    found.append(Figure(name, partial(_calls, arena), CALLS))
        figures.take(found)
    return refusals


def _calls(arena: Arena) -> None:
    for _ in range(CALLS):
        arena.free_pages(arena.alloc_pages(0), 0)


def unmapping() -> Figure:
    """A page is unmapped and mapped again, as debug_pagealloc does for each free and allocation."""
    page = mmap.mmap(-1, PAGE_BYTES)
    at = np.frombuffer(page, np.uint8).ctypes.data

    def run() -> None:
        for _ in range(UNMAPPINGS):
            protect(at, PAGE_BYTES, 0)
            protect(at, PAGE_BYTES, READ_WRITE)
            page[0] = 1

    return Figure("unmap", run, UNMAPPINGS)


def huge_geometry(store: str, size: int = HUGE_BYTES) -> Geometry:
    zones = (ZoneSpec(size // PAGE_BYTES),)
    return Geometry(zones=zones, cpus=2, link_store=store, work_words=2 * MANY)


def measure_huge(figures: Figures) -> dict[str, object]:
    """The same loops in 4 KiB pages and in huge ones; what the system answered to each way."""
    way, answers = ways_to_huge(huge_geometry("page", 2 * MIB))
    told: dict[str, object] = {
        "way": way, "answers": answers, "settings": settings(), "sizes": list(LARGE),
        "no counters": refusal(DTLB_MISSES), "misses": {},
    }  # fmt: skip
    if way is None:
        return told
    with ExitStack() as stack:
        found = []
        for store in HUGE_STORES:
            for pages in ("small", way):
                made = stack.enter_context(world(huge_geometry(store), pages))
                for n in LARGE:
                    found += _scattered_in(made, n, store, "small" if pages == "small" else "huge")
        figures.take(found)
        if not told["no counters"]:
            told["misses"] = {
                figure.name: counted(DTLB_MISSES, figure.run) / figure.operations
                for figure in found
            }
    return told


def _scattered_in(made: World, n: int, store: str, pages: str) -> list[Figure]:
    at = made.layout.work(0)
    return [
        scattered(made.ram, at, n, touching, f"{pages}.{n}.{touching}.{store}")
        for touching in ("untouched", "touched")
    ]


def measure_tails(figures: Figures) -> None:
    """Blocks of each order with and without an owner in each tail, and what a lookup costs."""
    kinds = {"none": loops.NO_TAILS, "owner": loops.OWNER_IN_TAILS, "head": loops.HEAD_IN_TAILS}
    with ExitStack() as stack:
        made = stack.enter_context(segment(64 * MIB, link_store="descriptor"))
        found = []
        for order in ORDERS:
            pairs = max(200, 4000 >> order)
            for name, kind in kinds.items():
                run = partial(call, loops.block_pairs, made.ram, 0, order, pairs, kind)
                found.append(Figure(f"tails.{order}.{name}", run, pairs))
            full = stack.enter_context(segment(BLOCK_PAGES * PAGE_BYTES, link_store="descriptor"))
            found += lookups(full.ram, order)
        figures.take(found)


def lookups(ram: Ram, order: int) -> list[Figure]:
    """Owners of random pages in memory that is full of blocks of ``order``."""
    taken = call(loops.fill_with_blocks, ram, 0, order)
    assert taken == BLOCK_PAGES, f"{taken} pages of {BLOCK_PAGES}"

    def run(kernel: Callable[..., int]) -> None:
        total = call(kernel, ram, LOOKUPS, BLOCK_PAGES - 1)
        assert total == LOOKUPS * loops.OWNER, f"{kernel.__name__}: {total}"

    return [
        Figure(f"lookup.{order}.head", partial(run, loops.owners_by_arithmetic), LOOKUPS),
        Figure(f"lookup.{order}.stored", partial(run, loops.owners_by_stored_heads), LOOKUPS),
        Figure(f"lookup.{order}.tail", partial(run, loops.owners_in_tails), LOOKUPS),
    ]


def resident_mib(made: Segment) -> float:
    return Path(f"/dev/shm/{made.name}").stat().st_blocks * 512 / MIB


def measure_memory(effort: Effort) -> dict[str, dict[str, float]]:
    """What a start costs, and what memory there is when every page was given out, none used."""
    found: dict[str, dict[str, float]] = {}
    for store in STORES:
        with segment(effort.start_bytes, link_store=store) as made:
            started = resident_mib(made)
        with segment(
            effort.scattered_bytes, link_store=store,
            work_words=effort.scattered_bytes // PAGE_BYTES,
        ) as made:  # fmt: skip
            before = resident_mib(made)
            pages = call(
                loops.take_all, made.ram, 0, made.layout.work(0), made.layout.geometry.pages
            )
            work = pages * 8 / MIB  # our own list of them
            at = made.layout.at
            found[store] = {
                "bytes a page": (at["owners"] - at["table"]) * 8 // made.geometry.pages,
                "start MiB": started,
                "given out MiB": resident_mib(made) - before - work,
                "pages given out": pages,
            }
    return found


def measure_starts(figures: Figures, effort: Effort) -> None:
    """How long a fresh segment takes, to its first free lists."""

    def start(store: str) -> None:
        with segment(effort.start_bytes, link_store=store):
            pass

    few = Figures(effort.repeats)
    few.take([Figure(f"start.{store}", partial(start, store), 1) for store in STORES])
    figures.ratios.update(few.ratios)
    figures.ns.update({name: ns for name, ns in few.ns.items() if name != "F"})
