"""What a segment holds, in the columns of Linux's ``/proc``: for eyes and scripts that know these.

::

    buddyinfo      free blocks by order, of each zone              /proc/buddyinfo
    pagetypeinfo   the same by migratetype, and pageblocks         /proc/pagetypeinfo
    slabinfo       objects and slabs of each cache, version 2.1    /proc/slabinfo
    vmstat         counters, a name and a number each              /proc/vmstat
    extfrag        fragmentation index by order                    /sys/kernel/debug/extfrag

The formats are those of mm/vmstat.c and mm/slab_common.c. A zone is called ``zone0``, ``zone1``,
...: zones have no names here. As there, blocks on per-CPU lists are no free blocks of a zone, and
objects in sheaves count as active.

The words are read once and others change them meanwhile: numbers of one text may contradict each
other, and of a broken segment they may be any.
"""

from __future__ import annotations

from collections.abc import Iterator

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.layout import Layout, cache_stride
from shmalloc.processes import printable
from shmalloc.report_text import ReportText
from shmalloc.slab_counts import Read, SlabCount, counts_by_cache, objects_per_slab, size_class_name
from shmalloc.statistics import ZoneStatistics, statistics_of

CPU_SHEAVES = 2  # the main one and the spare one (kernels/sheaf.py)
MIGRATETYPES = ("Unmovable", "Movable", "Reclaimable", "Isolate")
_SLABINFO_HEAD = (
    "slabinfo - version: 2.1\n"
    "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
    " : tunables <limit> <batchcount> <sharedfactor>"
    " : slabdata <active_slabs> <num_slabs> <sharedavail>\n"
)


class ProcText:
    """The texts about one segment, of the moment at which this was made."""

    def __init__(self, layout: Layout, read: Read) -> None:
        self._layout, self._read = layout, read
        self._words = read(0, layout.at["history"]).tolist()
        self._statistics = statistics_of(self._words, layout)
        self._orders = range(layout.geometry.max_order + 1)

    def buddyinfo(self) -> str:
        """``Node 0, zone    zone0      1      0 ...``: free blocks of each order."""
        rows = [_row(_zone(one), one.free_blocks, 6) for one in self._statistics.zones]
        return "".join(rows)

    def pagetypeinfo(self) -> str:
        """Free blocks by migratetype and order, then pageblocks by migratetype."""
        order = self._layout.geometry.pageblock_order
        lines = [
            f"Page block order: {order}\nPages per block:  {1 << order}\n\n",
            _row(f"{'Free pages count per migrate type at order':<43}", self._orders, 6),
        ]
        for one in self._statistics.zones:
            for mt, name in enumerate(MIGRATETYPES):
                head = f"Node {one.node:4}, zone {_name(one):>8}, type {name:>12}"
                lines.append(_row(head, self._blocks_of(one.zone, mt), 6))
        names = "".join(f"{name:>12} " for name in MIGRATETYPES)
        lines.append(f"\n{'Number of blocks type ':<23}{names}\n")
        lines += [_row(_zone(one), self._pageblocks(one), 12) for one in self._statistics.zones]
        return "".join(lines)

    def slabinfo(self) -> str:
        """One row for each cache. ``limit``: objects that the sheaves of a CPU hold at most;
        ``batchcount``: those of one sheaf, which come and go together; both 0 without sheaves.
        """
        counts = counts_by_cache(self._layout, self._read)
        rows = [self._cache(number, counts.get(number, SlabCount())) for number in self._caches()]
        return _SLABINFO_HEAD + "".join(rows)

    def vmstat(self) -> str:
        """``nr_`` counts pages now; the other names count events since the segment was made.

        docs/counters.md says what each name means, and what is nearest in Linux.
        """
        seen = self._statistics
        zones = seen.zones
        now = {
            "nr_free_pages": sum(zone.free_pages for zone in zones),
            "nr_unaccepted": self._unaccepted_pages(),
            "nr_pcp_pages": seen.pcp_pages,
            "nr_isolated_pages": sum(zone.isolated_pages for zone in zones),
            "nr_used_pages": seen.used_pages,
            "nr_managed_pages": seen.managed_pages,
        }
        counted = {**now, **seen.events, "violations": seen.violations}
        return "".join(f"{name} {number}\n" for name, number in counted.items())

    def extfrag(self) -> str:
        """``extfrag_index``, then ``unusable_index``, by order, as Linux computes both.

        Near 0 an allocation of that order fails for lack of memory, near 1 because of
        fragmentation; -1 means that it would succeed. Unusable is the share of the free memory in
        blocks that are too small.
        """
        zones = self._statistics.zones
        # As there, only the first one is padded to the width of a sign.
        parts = (("extfrag_index", fragmentation_index, 6), ("unusable_index", unusable_index, 5))
        lines = []
        for title, index, width in parts:
            lines.append(f"{title}\n")
            for one in zones:
                cells = [_thousandths(index(one.free_blocks, order)) for order in self._orders]
                lines.append(f"{_zone(one)} {''.join(f'{cell:>{width}} ' for cell in cells)}\n")
        return "".join(lines)

    # --- what the words say --------------------------------------------------------------------

    def _blocks_of(self, zone: int, mt: int) -> list[int]:
        first = self._layout.zone(zone) + c.Z_COUNTS + mt
        return [self._words[first + order * c.MT_COUNT] for order in self._orders]

    def _pageblocks(self, zone: ZoneStatistics) -> list[int]:
        geometry, at = self._layout.geometry, self._layout.at["blocks"]
        end_pfn = min(zone.end_pfn, geometry.pages)  # a broken segment may say anything
        shift = geometry.pageblock_order
        blocks = range(max(zone.start_pfn, 0) >> shift, (end_pfn - 1 >> shift) + 1)
        types = [self._words[at + block] & c.MT_MASK for block in blocks]
        return [types.count(mt) for mt in range(len(MIGRATETYPES))]

    def _unaccepted_pages(self) -> int:
        geometry, at = self._layout.geometry, self._layout.at["blocks"]
        words = self._words[at : at + (geometry.pages >> geometry.pageblock_order) + 1]
        marked: int = sum(bool(word & c.BLOCK_UNACCEPTED) for word in words)
        return marked << geometry.pageblock_order

    def _cache_at(self, number: int) -> int:
        return self._layout.at["caches"] + number * cache_stride(self._layout.geometry)

    def _caches(self) -> Iterator[int]:
        for number in range(self._layout.geometry.caches):
            if self._words[self._cache_at(number) + cs.K_STATE] in (cs.CACHE_LIVE, cs.CACHE_DYING):
                yield number

    def _cache(self, number: int, count: SlabCount) -> str:
        at = self._cache_at(number)
        stride_bytes, order = self._words[at + cs.K_STRIDE] * 8, self._words[at + cs.K_ORDER]
        each = objects_per_slab(self._layout, self._words[at + cs.K_STRIDE], order)
        capacity = self._words[at + cs.K_CAPACITY]
        name = "_".join(self._cache_name(number).split()) or f"cache-{number}"
        return (
            f"{name:<17} {count.in_use:6} {count.objects:6}"
            f" {stride_bytes:6} {each:4} {1 << order:4}"
            f" : tunables {CPU_SHEAVES * capacity:4} {capacity:4} {0:4}"
            f" : slabdata {count.slabs:6} {count.slabs:6} {0:6}\n"
        )

    def _cache_name(self, number: int) -> str:
        name = ReportText(self._words, self._layout).cache_name(number)
        return printable(name) or size_class_name(self._words, self._layout, number)


def fragmentation_index(free_blocks: tuple[int, ...], order: int) -> int:
    """Thousandths; -1000 where a block of ``order`` is free (mm/vmstat.c __fragmentation_index)."""
    blocks = sum(free_blocks)
    if blocks == 0:
        return 0
    if sum(free_blocks[order:]) > 0:
        return -1000
    pages = sum(count << small for small, count in enumerate(free_blocks))
    return 1000 - (1000 + pages * 1000 // (1 << order)) // blocks


def unusable_index(free_blocks: tuple[int, ...], order: int) -> int:
    """Thousandths of the free pages that lie in blocks below ``order`` (unusable_free_index)."""
    pages = sum(count << small for small, count in enumerate(free_blocks))
    if pages == 0:
        return 1000
    fitting = sum(count << large for large, count in enumerate(free_blocks) if large >= order)
    return (pages - fitting) * 1000 // pages


def _thousandths(index: int) -> str:
    sign = "-" if index < 0 else ""
    return f"{sign}{abs(index) // 1000}.{abs(index) % 1000:03}"


def _name(zone: ZoneStatistics) -> str:
    return f"zone{zone.zone}"


def _zone(zone: ZoneStatistics) -> str:
    return f"Node {zone.node}, zone {_name(zone):>8}"


def _row(head: str, numbers: range | list[int] | tuple[int, ...], width: int) -> str:
    return f"{head} {''.join(f'{number:{width}} ' for number in numbers)}\n"
