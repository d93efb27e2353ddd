"""``BusySegment``: a small segment in which every structure of the allocator is in use, and quiet.

Two nodes, holes, five CPUs with lists and one unplugged, blocks of every order, offline, isolated
and poisoned pages, caches of each kind with live, kept and free objects, one frozen slab, one cache
that is dying and one that is gone. Made by the public operations, from one process that acts for
all CPUs. ``audit`` is what a run does at a stutter point.
"""

from __future__ import annotations

import random

from shmalloc import Arena
from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.errors import Violation
from shmalloc.kernels.audit import audit
from shmalloc.kernels.audit_owners import audit_owners
from shmalloc.kernels.audit_quiet import audit_quiet
from shmalloc.kernels.cache import cache_alloc, cache_free
from shmalloc.kernels.cache_set import cache_create, cache_destroy
from shmalloc.kernels.contig import isolate_range, offline_range
from shmalloc.kernels.hotplug import unplug_cpu
from shmalloc.kernels.kmalloc import kfree, kmalloc, kmalloc_boot
from shmalloc.kernels.pages import alloc_pages, free_pages_of
from shmalloc.kernels.poison import poison_page
from shmalloc.kernels.slab_audit import audit_slabs
from shmalloc.layout import ZoneSpec

CPUS = 6
UNPLUGGED = 5
BLOCK = 16  # pages of a pageblock
ZONES = (ZoneSpec(632, holes=((100, 20), (301, 1))), ZoneSpec(256, node=1))
SMALL_SHEAVES = 4 << cs.CF_CAPACITY_SHIFT | 2 << cs.CF_BARN_SHIFT
KINDS = (
    (40, SMALL_SHEAVES), (72, cs.CF_EXACT | cs.CF_SHUFFLE), (24, cs.CF_NO_SHEAVES),
    (44, cs.CF_DEBUG), (100, cs.CF_RED_ZONE), (51, cs.CF_POISON | cs.CF_CONSISTENCY),
)  # fmt: skip


class BusySegment:
    """``changes``: fields of the geometry. Use it in a ``with`` block."""

    def __init__(self, engine: str = "native", seed: int = 1, **changes: object) -> None:
        shape: dict[str, object] = {
            "page_bytes": 512, "max_order": 6, "pageblock_order": 4, "pcp_batch": 4,
            "pcp_high": 24, "caches": 24, "owner_map": True, "history": 16, "start_pfn": 8,
            "work_words": 16, "latency_words": 8, "scratch_words": 64, **changes,
        }  # fmt: skip
        self.arena = Arena.create(cpus=CPUS, zones=ZONES, engine=engine, **shape)
        self.ram, self.layout = self.arena.segment.ram, self.arena.segment.layout
        self._random = random.Random(seed)
        self._sequence = 0
        try:
            self._use_everything()
            self.forget_reports()
        except BaseException:
            self.arena.close()
            raise

    def __enter__(self) -> BusySegment:
        return self

    def __exit__(self, *error: object) -> None:
        self.arena.close()

    def call(self, kernel, cpu: int, *arguments: int) -> int:
        return int(self.arena.engine.call(kernel, self.ram, cpu, *arguments))

    def audit(self) -> list[Violation]:
        """Everything that a run checks at a stutter point; what was found."""
        changed = self.arena.segment.changed_words()
        if changed:
            return changed
        for kernel in (audit, audit_slabs, audit_quiet):
            self.call(kernel, 0)
        self.call(audit_owners, 0, 1)
        return self.arena.violations()

    def forget_reports(self) -> None:
        at = self.layout.at["reports"]
        self.ram.array[at : at + c.REPORTS * c.R_STRIDE] = 0
        self.ram[c.H_REPORT_COUNT] = 0

    # --- use ---------------------------------------------------------------------------------

    def _use_everything(self) -> None:
        for cpu in range(CPUS):
            self.ram[self.layout.cpu(cpu) + c.C_STATE] = c.CPU_ONLINE
        self._offline_and_poison()
        self.call(kmalloc_boot, 0, SMALL_SHEAVES)
        caches = [self.call(cache_create, 0, size, 0, flags, 0) for size, flags in KINDS]
        named = self.arena.cache("named", 56, ctor=bytes(range(56)))
        assert min(caches) >= 0, caches
        self._use_pages(160)
        for number in [*caches, named.number]:
            self._use_objects(number, 90)
        self._use_kmalloc()
        self._freeze_a_slab(caches[3])
        self._leave_caches()
        self._keep_pages()
        assert self.call(unplug_cpu, 0, UNPLUGGED) >= 0
        self.arrays = [self.arena.array([k] * 50) for k in range(3)]
        self.arrays.pop().close()
        self.arena._references.stop_ticking()  # its thread would follow a corrupt header

    def _offline_and_poison(self) -> None:
        assert self.call(offline_range, 0, 640 + BLOCK, 640 + 3 * BLOCK) == 0
        assert self.call(poison_page, 0, 640 + 4 * BLOCK + 5) == 0
        assert self.call(isolate_range, 0, 640 + 6 * BLOCK, 640 + 7 * BLOCK) == 0

    def _take(self, cpu: int, order: int, mt: int = c.MT_MOVABLE) -> tuple[int, int, int]:
        """A block, entered into the owner map as workloads do: pfn, order, owner."""
        self._sequence += 1
        owner = self._sequence << 12 | cpu + 1
        pfn = self.call(alloc_pages, cpu, order, mt, owner)
        assert pfn >= 0, (order, pfn)
        at = self.layout.at["owners"] + pfn
        self.ram.array[at : at + (1 << order)] = owner
        return pfn, order, owner

    def _give(self, cpu: int, block: tuple[int, int, int]) -> None:
        pfn, order, owner = block
        at = self.layout.at["owners"] + pfn
        self.ram.array[at : at + (1 << order)] = 0
        assert self.call(free_pages_of, cpu, pfn, order, owner) == 0

    def _use_pages(self, count: int) -> None:
        blocks = [self._take(0, order) for order in range(7)]
        held = [
            self._take(k % CPUS, self._random.choice((0, 0, 0, 1, 2)), k % c.MT_PCP_TYPES)
            for k in range(count)
        ]
        self._random.shuffle(held)
        for k, block in enumerate(held[: count * 2 // 3]):
            self._give(k % CPUS, block)
        assert self.call(poison_page, 0, next(b[0] for b in held[-20:] if b[1] == 0)) == 0
        self._give(1, blocks[5])

    def _keep_pages(self) -> None:
        """Leave pages on the lists of the plugged CPUs, whatever the caches have drained."""
        for cpu in range(UNPLUGGED):
            held = [self._take(cpu, order, mt) for order in (0, 0, 0, 1, 2) for mt in (0, 1)]
            for block in held:
                self._give(cpu, block)

    def _use_objects(self, cache: int, count: int) -> None:
        held = [self.call(cache_alloc, k % CPUS, cache) for k in range(count)]
        assert min(held) > 0, (cache, held)
        self._random.shuffle(held)
        for k, address in enumerate(held[: count // 2]):
            assert self.call(cache_free, k % CPUS, cache, address) == 0
        for k in range(count // 6):
            assert self.call(cache_alloc, k % CPUS, cache) > 0

    def _use_kmalloc(self) -> None:
        held = [self.call(kmalloc, k % CPUS, 8 + k * 23) for k in range(30)]
        held.append(self.call(kmalloc, 0, 1500))
        for k, address in enumerate(held[::2]):
            assert self.call(kfree, k % CPUS, address) == 0

    def _freeze_a_slab(self, cache: int) -> None:
        address = self.call(cache_alloc, 0, cache)
        before = self.ram[address - 1]
        self.ram[address - 1] = 0
        assert self.call(cache_free, 0, cache, address) == c.E_STATE
        self.ram[address - 1] = before

    def _leave_caches(self) -> None:
        """One cache that is gone, one that is dying, one that has nothing."""
        gone, dying, _ = (self.call(cache_create, 0, 48, 0, SMALL_SHEAVES, 0) for _ in range(3))
        self._use_objects(dying, 20)
        assert self.call(cache_destroy, 0, dying) == c.E_BUSY
        assert self.call(cache_destroy, 0, gone) == 0
