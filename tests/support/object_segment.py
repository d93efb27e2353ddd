"""``ObjectSegment``: a small booted segment with object operations as methods, on both engines."""

from __future__ import annotations

from dataclasses import replace

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.engine import Engine
from shmalloc.image import write_image
from shmalloc.layout import Geometry, Layout, ZoneSpec, cache_stride, first_node_part
from shmalloc.memory import Ram
from support import slab_driver

SLAB_GEOMETRY = Geometry(
    zones=(ZoneSpec(128),),
    page_bytes=512,
    cpus=2,
    max_order=6,
    pageblock_order=5,
    pcp_batch=2,
    pcp_high=8,
    scratch_words=512,
)

FEW = 3 << cs.CF_CAPACITY_SHIFT | 1 << cs.CF_BARN_SHIFT  # sheaves of three objects, one in the barn


class ObjectSegment:
    """Operations on CPU 0 unless ``cpu`` says otherwise; ``reports()`` are the violation codes."""

    def __init__(self, engine: Engine, mem: Ram | None = None, **changes: object) -> None:
        self.geometry = replace(SLAB_GEOMETRY, **changes)
        self.layout = Layout.of(self.geometry)
        self._drive = engine.bind(slab_driver.drive_slab)
        self.mem = mem if mem is not None else self._fresh()
        self.scratch = self.layout.scratch(0)

    def _fresh(self) -> Ram:
        self.mem = Ram.of_words(self.layout.words)
        write_image(self.mem, self.layout)
        self.do(slab_driver.BOOT)
        return self.mem

    def do(self, op: int, a: int = 0, b: int = 0, c_: int = 0, d: int = 0, cpu: int = 0) -> int:
        return int(self._drive(self.mem, cpu, op, a, b, c_, d))

    def create(self, size: int = 64, align: int = 0, flags: int = 0, template: int = 0) -> int:
        return self.do(slab_driver.CREATE, size, align, flags, template)

    def alloc(self, cache: int, cpu: int = 0, site: int = 0) -> int:
        return self.do(slab_driver.ALLOC, cache, site, cpu=cpu)

    def free(self, cache: int, address: int, cpu: int = 0, site: int = 0) -> int:
        return self.do(slab_driver.FREE, cache, address, site, cpu=cpu)

    def alloc_bulk(self, cache: int, count: int, cpu: int = 0) -> list[int] | int:
        result = self.do(slab_driver.ALLOC_BULK, cache, count, self.scratch, cpu=cpu)
        if result < 0:
            return result
        return [self.mem[self.scratch + i] for i in range(count)]

    def free_bulk(self, cache: int, addresses: list[int], cpu: int = 0) -> int:
        for i, address in enumerate(addresses):
            self.mem[self.scratch + i] = address
        return self.do(slab_driver.FREE_BULK, cache, len(addresses), self.scratch, cpu=cpu)

    def shrink(self, cache: int) -> int:
        return self.do(slab_driver.SHRINK, cache)

    def destroy(self, cache: int) -> int:
        return self.do(slab_driver.DESTROY, cache)

    def audit(self) -> int:
        """Violations that the audit of objects finds; their reports are taken away."""
        found = self.do(slab_driver.AUDIT_SLABS)
        assert len(self.reports()) == found
        return found

    def reports(self) -> list[int]:
        """Codes of the violations reported since the last call."""
        return [report[0] for report in self.full_reports()]

    def full_reports(self) -> list[tuple[int, int, int, int]]:
        """(code, where, expected, found) of the violations reported since the last call."""
        count = min(self.mem[c.H_REPORT_COUNT], c.REPORTS)
        at = self.layout.at["reports"]
        words = (c.R_CODE, c.R_WHERE, c.R_EXPECTED, c.R_FOUND)
        found = [tuple(self.mem[at + k * c.R_STRIDE + w] for w in words) for k in range(count)]
        self.mem[c.H_REPORT_COUNT] = 0
        return found

    def cache_word(self, cache: int, word: int) -> int:
        return self.mem[self.layout.at["caches"] + cache * cache_stride(self.geometry) + word]

    def node_word(self, cache: int, word: int, node: int = 0) -> int:
        return self.cache_word(cache, first_node_part(self.geometry) + node * cs.KN_STRIDE + word)

    def cpu_word(self, cache: int, word: int, cpu: int = 0) -> int:
        return self.cache_word(cache, cs.K_CPUS + cpu * cs.KC_STRIDE + word)

    def slab(self, address: int) -> tuple[int, int]:
        """(pfn, order) of the slab that an object lies in."""
        pfn = (address - self.layout.at["frames"]) // self.geometry.page_words
        while self.mem[self.layout.descriptor(pfn)] & c.TYPE_MASK == c.T_TAIL:
            pfn &= pfn - 1
        return pfn, (self.mem[self.layout.descriptor(pfn)] >> c.ORDER_SHIFT) & c.ORDER_MASK

    def counters(self, address: int) -> tuple[int, int, int, bool]:
        """(free: index + 1, inuse, objects, frozen) of an object's slab."""
        w1 = self.mem[self.layout.descriptor(self.slab(address)[0]) + 1]
        return (
            w1 & c.S_FREE_MASK,
            (w1 >> c.S_INUSE_SHIFT) & c.S_INUSE_MASK,
            (w1 >> c.S_OBJECTS_SHIFT) & c.S_OBJECTS_MASK,
            bool(w1 & c.S_FROZEN_BIT),
        )

    def list_state(self, address: int) -> int:
        w0 = self.mem[self.layout.descriptor(self.slab(address)[0])]
        return (w0 >> (c.LINK_SHIFT + c.SLAB_LIST_SHIFT)) & c.SLAB_LIST_MASK

    def alloc_all(self, cache: int) -> list[int]:
        """Allocate until nothing is left."""
        objects = []
        while (address := self.alloc(cache)) >= 0:
            objects.append(address)
        return objects

    def free_pages(self) -> int:
        """Pages that are on no per-CPU list and free, over all zones."""
        zones = range(len(self.geometry.zones))
        return sum(self.mem[self.layout.zone(z) + c.Z_FREE] for z in zones)

    def take_every_page(self) -> list[int]:
        """Take all memory that is left, page by page."""
        pages = []
        while (pfn := self.do(slab_driver.ALLOC_PAGES, 0)) >= 0:
            pages.append(pfn)
        return pages
