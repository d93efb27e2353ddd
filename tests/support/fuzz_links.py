"""Stray writes to free memory: any word of any free page, any value, every store and list form.

    PYTHONPATH=tests python -m support.fuzz_links [--corruptions 100000] [--seed N]

A world does random operations; one word that has no owner is overwritten; the world goes on, and is
audited. A finding is

- a fault, or an answer that means misuse: one bad word must not stop anything else;
- a page or an object given out that is in use, or free memory that is not as it was filled;
- a changed word that means something (a link; with poison or zero any word) and that no report has
  named by its page when the audit is over;
- a report, or a page out of service, without such a word.

What a word means is decided here from the descriptors, before it is overwritten. Ends with 1 if
there was a finding.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.engine import get_engine
from shmalloc.layout import LINK_STORES, PCP_FORMS, Geometry, ZoneSpec
from shmalloc.report_text import ReportText
from support import driver, slab_driver
from support.object_segment import FEW, ObjectSegment
from support.page_segment import PageSegment

PAGES = Geometry(
    zones=(ZoneSpec(200, holes=((40, 3),)), ZoneSpec(56, node=1)), page_bytes=64, cpus=2,
    max_order=5, pageblock_order=3, pcp_batch=3, pcp_high=12, scratch_words=128,
)  # fmt: skip
IN_DESCRIPTOR = ("descriptor", "index", "bitmap")  # where a per-CPU list runs through descriptors
FILLS = ({}, {"poison": True}, {"zero": True})
OWNER = 7
HANG_S = 120
FEWEST = 170  # pages in service: with fewer, a new world


class Finding(AssertionError):
    """What must not happen after a stray write."""


@dataclass(frozen=True)
class Word:
    """A word to overwrite. ``mask``: the bits that mean something, 0: none of them."""

    at: int
    pfn: int
    mask: int
    kept: int = 0  # bits that the stray write leaves alone
    others: frozenset[int] = frozenset()  # pages that the word speaks of as well


def values(rng: random.Random, old: int, others: list[int]) -> int:
    """Something to write: noise, small numbers, links to anything, one bit flipped."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.getrandbits(64) - (1 << 63)
    if kind == 1:
        return rng.choice((0, 1, -1, 8, 16, c.POISON_WORD, c.LINK_MASK, 1 << 62))
    if kind == 2:
        return old ^ 1 << rng.randrange(63)
    if kind == 3:
        return rng.randrange(1 << 20) << rng.randrange(12)
    if kind == 4:
        return old + rng.choice((-16, 16, 8, 1))
    if kind == 5:
        return c.LINK_MASK ^ rng.choice(others) << 3
    return rng.choice(others) << 3


class Pages:
    """Pages of one geometry, and who has each."""

    def __init__(self, rng: random.Random, engine: str, **changes: object) -> None:
        self.rng = rng
        self.world = PageSegment(get_engine(engine), PAGES, **changes)
        self.mem, self.layout, self.shape = (
            self.world.mem, self.world.layout, self.world.geometry,
        )  # fmt: skip
        self.text = ReportText(self.mem, self.layout)
        self.fill = c.POISON_WORD if self.shape.poison else 0 if self.shape.zero else None
        self.owned: dict[int, int] = {}
        self.bad: set[int] = set()  # pages that were written to, and may still be in service
        self.right: dict[int, int] = {}  # words of them: what the allocator wrote there
        self.written: dict[int, int] = {}  # ... and what the last stray write did
        base, stride = self.layout.link_base()
        self.nodes = [base + (pfn << stride) for pfn in range(self.shape.pages)]
        zone = self.layout.zone(0)
        self.others = [*self.nodes, zone + c.Z_LISTS + 2, self.layout.words, 0]
        self.seen: Counter[str] = Counter()
        for _ in range(60):
            self.step()

    # --- operations ------------------------------------------------------------------------------

    def step(self) -> None:
        kind = self.rng.randrange(12)
        if kind < 6:
            self.allocate(self.rng.choice((0, 0, 0, 1, 2, 3, 4, 5)))
        elif kind < 10 and self.owned:
            self.release(self.rng.choice(list(self.owned)))
        elif kind == 10:
            self.world.drain()
        else:
            self.take_range()

    def allocate(self, order: int) -> int:
        cpu, mt = self.rng.randrange(2), self.rng.randrange(3)
        pfn = self.world.alloc(order, mt, OWNER, cpu)
        if pfn == c.E_NOMEM:
            return pfn
        if pfn < 0:
            raise Finding(f"alloc({order}) answered {pfn}")
        self.receive(pfn, order)
        return pfn

    def receive(self, pfn: int, order: int) -> None:
        """Check a block that was given out, and use it."""
        pages = range(pfn, pfn + (1 << order))
        for head, high in self.owned.items():
            if head < pages.stop and pages.start < head + (1 << high):
                raise Finding(f"pfn {pfn}, order {order}, was given out inside of pfn {head}")
        at = self.layout.frame(pfn)
        words = self.mem.array[at : at + (self.shape.page_words << order)]
        if self.fill is not None and (words != self.fill).any():
            raise Finding(f"pfn {pfn}, order {order}, is not as it was filled")
        link = self.rng.choice(self.others) << 3
        words[:] = self.rng.choice((link, -1, self.rng.getrandbits(62)))
        self.owned[pfn] = order

    def release(self, pfn: int) -> None:
        order = self.owned.pop(pfn)
        if self.world.free(pfn, order, 0, self.rng.randrange(2)) != 0:
            raise Finding(f"free({pfn}, {order}) was refused")

    def take_range(self) -> None:
        start = self.rng.randrange(self.shape.pages - 12)
        end = start + self.rng.randrange(1, 12)
        if self.world.do(driver.ALLOC_CONTIG, start, end, OWNER) == 0:
            for pfn in range(start, end):
                self.receive(pfn, 0)

    def sweep(self) -> None:
        """Have every free page pass through the lists: what is wrong leaves service."""
        for pfn in list(self.owned):
            self.release(pfn)
        for _ in range(2):
            for mt in range(c.MT_PCP_TYPES):
                while (pfn := self.world.alloc(0, mt, OWNER)) >= 0:
                    self.receive(pfn, 0)
            if len(self.owned) != self.managed():
                raise Finding(f"{len(self.owned)} of {self.managed()} pages could be had")
            for pfn in list(self.owned):
                self.release(pfn)
            self.world.drain()
        self.bad.clear()
        self.right.clear()
        self.written.clear()
        self.named()
        if self.world.teardown() != 0:
            raise Finding(f"after a sweep: {self.reports()}")

    def managed(self) -> int:
        zones = range(len(self.shape.zones))
        return sum(self.mem[self.layout.zone(z) + c.Z_MANAGED] for z in zones)

    # --- the word to overwrite -------------------------------------------------------------------

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """(first pfn, order, type) of every block that no one has and that is in service."""
        pfn = 0
        while pfn < self.shape.pages:
            kind, order = self.world.state(pfn)
            if kind in (c.T_FREE, c.T_PCP):
                yield pfn, order, kind
            pfn += 1 if kind == c.T_TAIL else 1 << order

    def target(self) -> Word | None:
        blocks = list(self.blocks())
        if not blocks:
            return None
        head, order, kind = self.rng.choice(blocks)
        linked = kind == c.T_FREE or self.shape.pcp_form == "list"
        if self.shape.link_store != "page" and self.rng.randrange(3):
            return self.link_word(head, kind) if linked else None
        pfn = head + self.rng.choice((0, self.rng.randrange(1 << order)))
        word = self.rng.choice((0, 1, self.rng.randrange(self.shape.page_words)))
        is_link = self.shape.link_store == "page" and linked and pfn == head and word < 2
        return Word(
            self.layout.frame(pfn) + word, pfn, -1 if is_link or self.fill is not None else 0
        )

    def link_word(self, head: int, kind: int) -> Word:
        """A word that says where a block is listed, where that is not in the page."""
        word = self.rng.randrange(2)
        if self.shape.link_store == "table":
            return Word(self.nodes[head] + word, head, -1)
        if kind == c.T_PCP:
            word = 1
        elif self.shape.link_store == "index":
            at_entry = word == 0 and head not in self.bad
            return Word(self.entry(head) if at_entry else self.nodes[head] + 1, head, -1)
        elif self.shape.link_store == "bitmap":
            return self.bits(head)
        return Word(self.nodes[head] + word, head, c.LINK_MASK, ~c.LINK_MASK)

    def array(self, head: int, level: int) -> tuple[int, int]:
        """Where the array for a free block begins in a level of the store; the order."""
        word0 = self.mem[self.layout.descriptor(head)]
        order, mt = word0 >> c.ORDER_SHIFT & c.ORDER_MASK, word0 >> c.MT_SHIFT & c.MT_MASK
        first, room = self.layout.store(word0 >> c.ZONE_SHIFT & c.ZONE_MASK)[level]
        before = sum(c.MT_COUNT * (room >> lower) for lower in range(order))
        return first + before + mt * (room >> order), order

    def entry(self, head: int) -> int:
        """The entry of an index that a free block's descriptor names."""
        word1 = self.mem[self.layout.descriptor(head) + 1]
        return self.array(head, 0)[0] + (word1 >> c.LINK_SHIFT) - 1

    def bits(self, head: int) -> Word:
        """The word of a bitmap, or of a summary, that has the bit of a free block."""
        level = self.rng.choice((0, 0, 1, 2))
        first, order = self.array(head, level)
        start = 0 if head < self.shape.zones[0].pages else self.shape.zones[0].pages
        border = start >> self.shape.max_order << self.shape.max_order
        word = (head - border >> order) >> 5 * (level + 1)
        pages = 1 << order + 5 * (level + 1)  # that a word has bits for
        others = range(border + word * pages, border + (word + 1) * pages)
        return Word(first + word, head, -1, others=frozenset(others))

    # --- one stray write -------------------------------------------------------------------------

    def corrupt(self) -> bool:
        """Overwrite one word, go on, audit; False: there was no such word, or it did not change."""
        word = self.target()
        if word is None:
            return False
        old = self.mem[word.at]
        new = values(self.rng, old, self.others)
        if self.shape.link_store == "index" and self.rng.randrange(3) == 0:
            new = self.rng.choice((self.rng.randrange(256), self.rng.randrange(40) << c.LINK_SHIFT))
        if self.shape.link_store == "bitmap" and self.rng.randrange(3):
            new = self.rng.choice((self.rng.getrandbits(32), old ^ 1 << self.rng.randrange(32)))
        new = old & word.kept | new & ~word.kept
        if old != self.written.get(word.at):  # the allocator has written to it since
            self.right[word.at] = old
        if new in (old, self.right[word.at]):  # one that undoes another is none
            return False
        self.written[word.at] = new
        kind = self.world.state(word.pfn)[0]
        alone = not self.bad
        self.named()
        self.mem.array[word.at] = new
        story = f"word {word.at:#x} of pfn {word.pfn}: {old:#x} -> {new:#x}"
        meant = word.mask & (old ^ new) != 0
        if meant:
            self.bad |= {word.pfn, *word.others}
        exact = self.is_exact(kind) and not word.others
        try:
            self.go_on(word.pfn, meant and exact, alone and exact, alone and exact)
        except Finding as finding:
            raise Finding(f"{story}: {finding}") from finding
        self.seen["meant something" if meant else "meant nothing"] += 1
        return True

    def is_exact(self, kind: int) -> bool:
        """Whether there must be a report: a link of a per-CPU list that lies in a descriptor has no
        second word that tells its value, and may lead to another block of the CPU's lists."""
        listed = kind == c.T_PCP and self.shape.pcp_form == "list"
        return not (listed and self.shape.link_store in IN_DESCRIPTOR)

    def go_on(self, pfn: int, meant: bool, alone: bool, exact: bool) -> None:
        """Operate and audit. ``alone``: no other page is bad; ``exact``: the page is named, as it
        must be unless neighbours on one list are bad at once."""
        for _ in range(self.rng.randrange(20)):
            self.step()
        if alone and exact and (named := self.named(keep=True)) - self.bad:
            raise Finding(f"reports name {named}")
        self.world.audit()
        found, reports = self.named(keep=True), self.reports()
        if meant and (pfn not in found if exact else not reports):
            raise Finding(f"no report names it; reports: {reports}")
        if not meant and alone and reports:
            raise Finding(f"it means nothing, but: {reports}")
        if self.rng.randrange(3) == 0:
            self.sweep()

    def named(self, keep: bool = False) -> set[int]:
        """Pfns that the reports name; the reports are then forgotten unless ``keep``."""
        found = {self.text.stake(code, where).pfn for code, where in self.reports()}
        if not keep:
            self.mem[c.H_REPORT_COUNT] = 0
        return {pfn for pfn in found if pfn is not None}

    def reports(self) -> list[tuple[int, int]]:
        """(code, where) of the reports so far."""
        at = self.layout.at["reports"]
        places = range(at, at + c.R_STRIDE * min(self.mem[c.H_REPORT_COUNT], c.REPORTS), c.R_STRIDE)
        return [(self.mem[place + c.R_CODE], self.mem[place + c.R_WHERE]) for place in places]

    @property
    def worn_out(self) -> bool:
        return self.managed() < FEWEST


class Objects:
    """Objects of one cache, and who has each."""

    def __init__(self, rng: random.Random, engine: str, **changes: object) -> None:
        self.rng = rng
        self.world = ObjectSegment(get_engine(engine), **changes)
        self.mem = self.world.mem
        flags = rng.choice((FEW, cs.CF_NO_SHEAVES, FEW | cs.CF_SHUFFLE, cs.CF_DEBUG))
        self.cache = self.world.create(rng.choice((16, 64, 104)), 0, flags)
        self.owned: list[int] = []
        self.seen: Counter[str] = Counter()
        for _ in range(80):
            self.step()

    def step(self) -> None:
        kind = self.rng.randrange(16)
        if kind < 8:
            self.allocate()
        elif kind < 15 and self.owned:
            self.release(self.rng.randrange(len(self.owned)))
        elif kind == 15:
            self.world.shrink(self.cache)

    def allocate(self) -> None:
        address = self.world.alloc(self.cache, self.rng.randrange(2))
        if address in (c.E_NOMEM, c.E_STATE):  # E_STATE: the object is in two places; it is refused
            return
        if address < 0 or address in self.owned:
            raise Finding(f"alloc answered {address:#x}, which is in use")
        self.owned.append(address)

    def release(self, index: int) -> None:
        address = self.owned.pop(index)
        answer = self.world.free(self.cache, address, self.rng.randrange(2))
        frozen = self.world.list_state(address) == cs.SLAB_FROZEN  # a debug cache says so
        if answer != 0 and not frozen:
            raise Finding(f"free({address:#x}) answered {answer}")

    def slabs(self) -> list[int]:
        """First pages of the slabs that are on the partial list."""
        found = []
        for pfn in range(self.world.geometry.pages):
            w0 = self.mem[self.world.layout.descriptor(pfn)]
            state = w0 >> (c.LINK_SHIFT + c.SLAB_LIST_SHIFT) & c.SLAB_LIST_MASK
            if w0 & c.TYPE_MASK == c.T_SLAB and state == c.SLAB_ON_PARTIAL:
                found.append(pfn)
        return found

    def target(self) -> int | None:
        """A link: of a free object of a partial slab, or of the slab itself."""
        slabs = self.slabs()
        if not slabs:
            return None
        pfn = self.rng.choice(slabs)
        w0, w1 = (self.mem[self.world.layout.descriptor(pfn) + i] for i in range(2))
        order = w0 >> c.ORDER_SHIFT & c.ORDER_MASK
        start = self.world.layout.frame(pfn)
        if self.rng.randrange(2):
            end = start + (self.world.geometry.page_words << order)
            return end - 1 - self.rng.randrange(2)
        return self.object_link(start, w1)

    def object_link(self, start: int, w1: int) -> int:
        """The free pointer of one of the objects on a free list."""
        word = {name: self.world.cache_word(self.cache, getattr(cs, name))
                for name in ("K_FIRST", "K_STRIDE", "K_LINK")}  # fmt: skip
        free = (w1 >> c.S_OBJECTS_SHIFT & c.S_OBJECTS_MASK) - (w1 >> c.S_INUSE_SHIFT & 0xFFFF)
        following = w1 & c.S_FREE_MASK
        link = 0
        for _ in range(self.rng.randrange(free) + 1):
            address = start + word["K_FIRST"] + (following - 1) * word["K_STRIDE"]
            link = address + word["K_LINK"]
            following = self.decoded(address, self.mem[link])
        return link

    def decoded(self, address: int, value: int) -> int:
        """Index + 1 of the next free object: without a secret the value itself."""
        assert self.world.geometry.harden == 0
        return value

    def corrupt(self) -> bool:
        at = self.target()
        if at is None:
            return False
        pfn, _ = self.world.slab(at)
        life = self.world.layout.descriptor(pfn)
        old = self.mem[at]
        others = [self.world.layout.frame(self.rng.randrange(self.world.geometry.pages)), 0]
        new = self.rng.choice((values(self.rng, old, others), self.rng.randrange(12)))
        if new == old:
            return False
        self.world.reports()
        self.mem.array[at] = new
        story = f"word {at:#x} of a slab: {old:#x} -> {new:#x}"
        try:
            for _ in range(self.rng.randrange(16)):
                self.step()
            self.world.do(slab_driver.AUDIT_SLABS)
        except Finding as finding:
            raise Finding(f"{story}: {finding}") from finding
        if self.world.reports():
            self.seen["meant something"] += 1
            return True
        if self.mem[life] & c.TYPE_MASK == c.T_SLAB and self.mem[at] == new:
            raise Finding(f"{story}: no report")
        self.seen["went with its slab"] += 1
        return True

    @property
    def worn_out(self) -> bool:
        return self.seen.total() >= 1  # what is left of a frozen slab would be told again


def worlds(rng: random.Random, engine: str) -> Iterator[Pages | Objects]:
    """New worlds of every kind, in turn, for ever."""
    kinds = list(itertools.product(LINK_STORES, PCP_FORMS, FILLS))
    while True:
        for store, form, fill in kinds:
            yield Pages(rng, engine, link_store=store, pcp_form=form, **fill)
            yield Objects(rng, engine, link_store=store)


def run(corruptions: int, seed: int, engine: str = "native", watch: bool = True) -> Counter[str]:
    """That many stray writes; how many meant something. Raises ``Finding``."""
    rng = random.Random(seed)
    seen: Counter[str] = Counter()
    kinds = len(LINK_STORES) * len(PCP_FORMS) * len(FILLS)
    for world in worlds(rng, engine):
        if watch:  # a kernel that hangs: say where
            faulthandler.dump_traceback_later(HANG_S, exit=True)
        share = max(1, min(200, corruptions // kinds)) if isinstance(world, Pages) else 1
        for _ in range(3 * share):
            if world.seen.total() < share and not world.worn_out:
                world.corrupt()
        if isinstance(world, Pages):
            world.sweep()
        for kind, count in world.seen.items():
            seen[f"{type(world).__name__.lower()}: {kind}"] += count
        if seen.total() >= corruptions:
            break
    if watch:
        faulthandler.cancel_dump_traceback_later()
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corruptions", type=int, default=100_000)
    parser.add_argument("--seed", type=lambda text: int(text, 0), default=secrets.randbits(32))
    options = parser.parse_args()
    print(f"seed {options.seed:#x}", flush=True)
    started = time.monotonic()
    try:
        seen = run(options.corruptions, options.seed)
    except Finding as finding:
        print(f"FAILED: {finding}")
        return 1
    shown = ", ".join(f"{count:,} {kind}" for kind, count in sorted(seen.items()))
    print(f"PASSED: {seen.total():,} stray writes ({shown}) in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
