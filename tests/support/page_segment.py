"""``PageSegment``: a small segment in private memory, booted, with the page operations as methods.

It is the same for both engines: the driver kernel is bound once for each.
"""

from __future__ import annotations

from dataclasses import replace

from shmalloc import constants as c
from shmalloc.engine import Engine
from shmalloc.image import write_image
from shmalloc.layout import Geometry, Layout, ZoneSpec
from shmalloc.memory import Ram
from support import driver

MOVABLE = c.MT_MOVABLE

SMALL = Geometry(
    zones=(ZoneSpec(64),),
    page_bytes=64,
    cpus=2,
    max_order=4,
    pageblock_order=3,
    pcp_batch=2,
    pcp_high=8,
    scratch_words=128,
)


class PageSegment:
    """Operations on CPU 0 unless ``cpu`` says otherwise; ``reports()`` are the violation codes."""

    def __init__(self, engine: Engine, geometry: Geometry = SMALL, **changes: object) -> None:
        self.geometry = replace(geometry, **changes)
        self.layout = Layout.of(self.geometry)
        self.mem = Ram.of_words(self.layout.words)
        write_image(self.mem, self.layout)
        self._drive = engine.bind(driver.drive)
        self.booted_pages = self.do(driver.BOOT)
        for cpu in range(self.geometry.cpus):
            self.mem[self.layout.cpu(cpu) + c.C_STATE] = c.CPU_ONLINE

    def do(self, op: int, a: int = 0, b: int = 0, c_: int = 0, cpu: int = 0) -> int:
        return int(self._drive(self.mem, cpu, op, a, b, c_))

    def alloc(self, order: int = 0, mt: int = MOVABLE, owner: int = 7, cpu: int = 0) -> int:
        return self.do(driver.ALLOC, order, mt, owner, cpu)

    def free(self, pfn: int, order: int = 0, owner: int = 0, cpu: int = 0) -> int:
        return self.do(driver.FREE, pfn, order, owner, cpu)

    def drain(self) -> int:
        return self.do(driver.DRAIN_ALL)

    def audit(self) -> int:
        return self.do(driver.AUDIT)

    def teardown(self) -> int:
        """Drain everything and audit that all blocks merged again; 0 is clean."""
        self.drain()
        return self.do(driver.TEARDOWN)

    def reports(self) -> list[int]:
        """Codes of the violations reported since the last call."""
        count = self.mem[c.H_REPORT_COUNT]
        at = self.layout.at["reports"]
        codes = [self.mem[at + k * c.R_STRIDE + c.R_CODE] for k in range(min(count, c.REPORTS))]
        self.mem[c.H_REPORT_COUNT] = 0
        return codes

    def events(self, which: int) -> int:
        """How often an event happened, over all CPUs."""
        cpus = range(self.geometry.cpus)
        return sum(self.mem[self.layout.cpu(cpu) + c.C_EVENTS + which] for cpu in cpus)

    def state(self, pfn: int) -> tuple[int, int]:
        """(type, order) of a page's descriptor."""
        w0 = self.mem[self.layout.descriptor(pfn)]
        return w0 & c.TYPE_MASK, (w0 >> c.ORDER_SHIFT) & c.ORDER_MASK

    def free_pages(self, zone: int = 0) -> int:
        return int(self.mem[self.layout.zone(zone) + c.Z_FREE])

    def nr_free(self, order: int, mt: int | None = None, zone: int = 0) -> int:
        """Blocks of an order on the zone's lists, of one migratetype or of all."""
        at = self.layout.zone(zone) + c.Z_COUNTS + order * c.MT_COUNT
        types = range(c.MT_COUNT) if mt is None else (mt,)
        return sum(self.mem[at + t] for t in types)

    def alloc_everything(self, order: int = 0) -> list[int]:
        """Allocate until nothing is left."""
        pages = []
        while (pfn := self.alloc(order)) >= 0:
            pages.append(pfn)
        return pages
