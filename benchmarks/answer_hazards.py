"""What others do to a free page, and what becomes of the allocator: outcomes, not times.

Each hazard is tried on every link store that there is:

- a stray write: one word of a free page is overwritten, then all memory is allocated, freed and
  audited. How much of it is still given out, is a page given out twice, is the write reported?
- unmapped (debug_pagealloc): no page may be touched while blocks are allocated, split, freed and
  merged; a touch is a SIGSEGV, here of a child.
- unaccepted (TDX, SEV-SNP): the same from the boot on.
- reported (ballooning): MADV_REMOVE of all free blocks.
- hwpoison: a free page leaves service; are its bytes written for that?

Small pages of 64 bytes where only states count, real ones where the system takes part.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import answer_kernels as loops
import numpy as np
from answer_measures import MIB, PAGE_BYTES, STORES, call, resident_mib
from answer_worlds import permutation, seal, world

from shmalloc import constants as c
from shmalloc.errors import MisuseError
from shmalloc.free_reporting import pageblocks, report_pageblock
from shmalloc.image import write_image
from shmalloc.kernels.audit import audit
from shmalloc.kernels.boot import boot
from shmalloc.kernels.pcp import drain_all
from shmalloc.kernels.poison import poison_page
from shmalloc.layout import Geometry, Layout, ZoneSpec
from shmalloc.memory import Ram
from shmalloc.segment import Segment
from stress.bench import page_loops

SMALL_PAGES = 512
FREE_SHARE = 0.6
SMALL = Geometry(
    zones=(ZoneSpec(SMALL_PAGES),), page_bytes=64, cpus=1, max_order=6, pageblock_order=5,
    pcp_batch=3, pcp_high=12, caches=0, structures=0, work_words=2 * SMALL_PAGES + 2,
)  # fmt: skip
LINK_WORDS = 2
REAL_BYTES = 16 * MIB
OPERATIONS = 20_000
POISONED_PAGES = 64
FILLS: dict[str, dict[str, bool]] = {"plain": {}, "poison": {"poison": True}}


class Prepared:
    """A small segment in which free blocks of all sizes are on lists; ``restore`` brings it back.

    ``blocks``: (head, order) of the free ones; ``free``: their pages.
    """

    def __init__(self, store: str, **changes: bool) -> None:
        self.geometry = replace(SMALL, link_store=store, **changes)
        self.layout = Layout.of(self.geometry)
        self.ram = Ram.of_words(self.layout.words)
        write_image(self.ram, self.layout)
        call(boot, self.ram)
        self.at = self.layout.work(0)
        self.held = self._carve()
        self.saved = self.ram.array.copy()
        self.blocks = list(self._free_blocks())
        self.free = [pfn + i for pfn, order in self.blocks for i in range(1 << order)]

    def _carve(self) -> set[int]:
        """Allocate everything, and free a random part of it, to the last page on no CPU's list."""
        taken = call(loops.take_all, self.ram, 0, self.at, SMALL_PAGES)
        every = self.ram.array[self.at : self.at + taken].copy()
        order = permutation(taken, 5)
        loose = every[order[: int(taken * FREE_SHARE)]]
        self.ram.array[self.at : self.at + len(loose)] = loose
        self.ram.array[self.at + len(loose) : self.at + 2 * len(loose)] = np.arange(len(loose))
        assert call(loops.give_all, self.ram, 0, self.at, len(loose)) == 0
        call(drain_all, self.ram, 0)
        return set(every.tolist()) - set(loose.tolist())

    def _free_blocks(self) -> Iterator[tuple[int, int]]:
        for pfn in range(SMALL_PAGES):
            word0 = int(self.ram.array[self.layout.descriptor(pfn)])
            if word0 & c.TYPE_MASK == c.T_FREE:
                yield pfn, (word0 >> c.ORDER_SHIFT) & c.ORDER_MASK

    def restore(self) -> None:
        self.ram.array[:] = self.saved

    def words_of(self, pfn: int) -> slice:
        first = self.layout.frame(pfn)
        return slice(first, first + self.geometry.page_words)


@dataclass
class Stray:
    """What stray writes did: sums over all of them."""

    writes: int = 0
    reported: int = 0
    lost: int = 0
    most_lost: int = 0
    twice: int = 0
    refusals: int = 0


def stray_value(rng: random.Random, old: int, world: Prepared) -> int:
    """Noise, small numbers, a flipped bit, a link to another page."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.getrandbits(63)
    if kind == 1:
        return rng.randrange(1024)
    if kind == 2:
        return old ^ 1 << rng.randrange(62)
    base, stride = world.layout.link_base()
    return (base + (rng.choice(world.free) << stride)) << 3


def stray_writes(store: str, fill: str, count: int, in_links: bool, seed: int = 1) -> Stray:
    """``count`` stray writes, one at a time, each into the same segment as it was."""
    rng, found = random.Random(seed), Stray()
    made = Prepared(store, **FILLS[fill])
    for _ in range(count):
        made.restore()
        pfn = rng.choice(made.blocks)[0] if in_links else rng.choice(made.free)
        words = LINK_WORDS if in_links else made.geometry.page_words
        at = made.layout.frame(pfn) + rng.randrange(words)
        old = int(made.ram.array[at])
        value = stray_value(rng, old, made)
        made.ram.array[at] = value
        if value != old:
            _judge(made, found)
    return found


def _judge(made: Prepared, found: Stray) -> None:
    """Allocate what there is, free it, audit; note what that came to."""
    taken = call(loops.take_what_there_is, made.ram, 0, made.at, SMALL_PAGES)
    found.refusals += int(made.ram.array[made.at + SMALL_PAGES])
    given = made.ram.array[made.at : made.at + taken].tolist()
    found.twice += taken - len(set(given) - made.held)
    made.ram.array[made.at + taken : made.at + 2 * taken] = np.arange(taken)
    call(loops.give_all, made.ram, 0, made.at, taken)
    call(audit, made.ram, 0)
    lost = len(made.free) - taken
    found.writes += 1
    found.lost += lost
    found.most_lost = max(found.most_lost, lost)
    found.reported += int(made.ram.array[c.H_REPORT_COUNT] > 0)


def poisoned(store: str) -> dict[str, int]:
    """How many of some broken free pages were written to when they left service."""
    made = Prepared(store)
    pages = random.Random(3).sample(made.free, POISONED_PAGES)
    written = 0
    for pfn in pages:
        made.restore()
        call(poison_page, made.ram, 0, pfn)
        written += int((made.ram.array[made.words_of(pfn)] != made.saved[made.words_of(pfn)]).any())
    return {"pages": len(pages), "written": written}


def survives(act: Callable[[], None]) -> bool:
    """Whether a child that does ``act`` lives. Any end but a SIGSEGV or 0 is an error of ours."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 2)  # a crash names the kernel that it was in
            act()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSEGV:
        return False
    assert status == 0, f"a child ended with status {status}"
    return True


def real_geometry(store: str) -> Geometry:
    return Geometry(
        zones=(ZoneSpec(REAL_BYTES // PAGE_BYTES),),
        cpus=2,
        claims=2,
        link_store=store,
        work_words=page_loops.AREA_WORDS,
    )


def works_unmapped(store: str) -> bool:
    """Whether blocks of all orders come and go while no page may be touched."""

    def act() -> None:
        with world(real_geometry(store)) as made:
            seal(made.ram, made.layout)
            failed = call(page_loops.page_mixed, made.ram, 0, made.layout.work(0), 64, OPERATIONS)
            assert failed < OPERATIONS

    return survives(act)


def works_unaccepted(store: str) -> bool:
    """Whether the first free lists are made, and used, without a touch of a page."""

    def act() -> None:
        with world(real_geometry(store), sealed=True) as made:
            assert call(page_loops.page_pairs, made.ram, 0, 0, 1) == 0

    return survives(act)


def reporting(store: str) -> dict[str, object]:
    """MiB that free memory still takes after it was reported; or why a segment is refused."""
    pages = REAL_BYTES // PAGE_BYTES
    try:
        geometry = replace(
            real_geometry(store), reporting=True, pageblock_order=9, work_words=2 * pages
        )
    except MisuseError as error:
        return {"refused": str(error)}
    with Segment.create(geometry) as made:
        ram, at = made.ram, made.layout.work(0)
        taken = call(loops.take_all, ram, 0, at, pages)
        call(loops.touch_all, ram, at, taken, 1)
        ram.array[at + taken : at + 2 * taken] = np.arange(taken)
        call(loops.give_all, ram, 0, at, taken)
        call(drain_all, ram, 0)
        before = resident_mib(made)
        run = lambda kernel, *arguments: call(kernel, ram, 0, *arguments)  # noqa: E731
        given = sum(report_pageblock(made, run, start) for start in pageblocks(made))
        return {"before MiB": before, "after MiB": resident_mib(made), "given MiB": given / MIB}


def hazards(stray_count: int) -> dict[str, dict[str, object]]:
    """Every hazard on every store."""
    found: dict[str, dict[str, object]] = {}
    for store in STORES:
        strays = {
            f"{fill}.{place}": vars(stray_writes(store, fill, stray_count, place == "links"))
            for fill in FILLS
            for place in ("links", "any")
        }
        found[store] = {
            "stray": strays,
            "hwpoison": poisoned(store),
            "unmapped": works_unmapped(store),
            "unaccepted": works_unaccepted(store),
            "reporting": reporting(store),
        }
    return found
