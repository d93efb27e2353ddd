"""The page face of an arena: blocks of 2^order pages by pfn, ranges, and the hazards of memory.

Every method checks its arguments and raises an exception of errors.py that names the request, the
reason and the cure. A pfn is an int; ``page`` gives its bytes. A misuse that only the descriptors
can show (double free, wrong order, ...) raises ``CorruptionError`` with the report.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc import cpus
from shmalloc.bound import OWNER_LIMIT, THIS_PROCESS, Bound, Builtin
from shmalloc.busy_ranges import why_busy
from shmalloc.checked import check_seconds, checked_place
from shmalloc.descriptor_text import MIGRATETYPES
from shmalloc.errors import MisuseError, OutOfMemoryError
from shmalloc.free_reporting import pageblocks, report_pageblock
from shmalloc.gfp import Gfp, checked
from shmalloc.kernels.contig import (
    alloc_contig_range,
    free_contig_range,
    isolate_range,
    offline_range,
    online_range,
    unisolate_range,
)
from shmalloc.kernels.pages import alloc_pages, free_pages, free_pages_of
from shmalloc.kernels.pages_bulk import alloc_bulk, free_bulk
from shmalloc.kernels.pages_wait import alloc_pages_wait
from shmalloc.kernels.pcp import drain_all
from shmalloc.kernels.poison import poison_page
from shmalloc.kernels.reap import adopt_pages
from shmalloc.page_protection import PageProtection
from shmalloc.reports import describe_page

_RANGES_OF_PAGES = (alloc_contig_range, free_contig_range)
_UNMOVABLE = c.MT_UNMOVABLE
OWN_WORDS = {cs.OWNER_SLAB, cs.OWNER_SHEAVES, cs.OWNER_FROZEN, cs.OWNER_LARGE, c.OWNER_SHARED}
OWN_RANGES = ((c.OWNER_ARRAYS, c.OWNER_CLAIM_BITS), (c.OWNER_STRUCTURE, c.OWNER_STRUCTURE_SHIFT))


def is_reserved_owner(word: int) -> bool:
    """Whether an owner word names pages of the allocator itself: slabs, tables, structures."""
    return word in OWN_WORDS or any(word >> bits == first >> bits for first, bits in OWN_RANGES)


class PageOperations(Bound):
    """Pages, ranges of pages, and what can happen to them."""

    _buffer_pfn: int | None = None
    _protection: PageProtection | None = None

    def _become_child(self) -> None:
        super()._become_child()
        self._buffer_pfn = None  # that page is the parent's

    def _bind(self) -> None:
        super()._bind()
        self._max_order = self.segment.geometry.max_order
        self._last_pfn = self.segment.geometry.pages - 1
        self._do_alloc_pages = self.builtin(alloc_pages)
        self._do_free_pages = self.builtin(free_pages)
        self._do_free_pages_of = self.builtin(free_pages_of)
        if self.segment.geometry.debug_pagealloc and not self.readonly:
            self._bind_protected(self._do_alloc_pages, self._do_free_pages, self._do_free_pages_of)

    def _bind_protected(self, alloc: Builtin, free: Builtin, free_of: Builtin) -> None:
        """Have blocks protected in this process while they are free (page_protection.py)."""
        protection = self._protection = self._protection or PageProtection(self.segment)

        def allocated(claim: int, order: int, *more: int) -> int:
            pfn = int(alloc(claim, order, *more))
            if pfn >= 0:
                protection.allow(pfn, order)
            return pfn

        def freed(call: Builtin, claim: int, pfn: int, order: int, *more: int) -> int:
            result = int(call(claim, pfn, order, *more))
            if result == 0:
                protection.protect(pfn, order)
            return result

        self._do_alloc_pages = allocated
        self._do_free_pages = partial(freed, free)
        self._do_free_pages_of = partial(freed, free_of)

    @property
    def _split_bytes(self) -> int:
        """What a kernel may touch of pages that no process has touched: the links of free blocks,
        each in the first page of a block, while it splits one block of each zone."""
        geometry = self.segment.geometry
        return 2 * (geometry.max_order + 1) * geometry.page_bytes

    def _no_room(self, asked: str) -> OutOfMemoryError:
        """The exception for a lack of the system's memory behind the segment."""
        return OutOfMemoryError(
            f"{asked}: /dev/shm is full; remove files from it, enlarge it ('mount -o remount,"
            "size=8G /dev/shm', in a container '--shm-size=8g'), or create arenas with"
            " prealloc=True, which reserve their memory at the start"
        )

    def alloc_pages(
        self,
        order: int = 0,
        migratetype: str = "unmovable",
        owner: int | None = None,
        wait_s: float | None = None,
        flags: Gfp | None = None,
    ) -> int:
        """Allocate 2^order pages; the first pfn. ``owner``: an int tag, default our pid; not a word
        that the allocator uses itself.

        Waits up to ``wait_s`` seconds for memory. ``flags``: what it may do for it (gfp.py).
        Raises ``OutOfMemoryError``, with Gfp.NOFAIL never.
        """
        if type(order) is not int or (order and not 0 <= order <= self._max_order):
            order = self._order(order)
        kind = _UNMOVABLE if migratetype == "unmovable" else self._migratetype(migratetype)
        tag = THIS_PROCESS.pid if owner is None else self._owner(owner)
        if wait_s is not None:
            check_seconds("wait_s", wait_s, "not to wait")
        if flags is not None:
            kind |= self._gfp(flags, wait_s is not None)
            if kind & c.GFP_NOFAIL:
                kind, wait_s = kind & ~c.GFP_NOFAIL, math.inf
        if self.segment.closed:
            raise self.is_closed()
        pfn: int = self._do_alloc_pages(self.claim, order, kind, tag)
        if pfn < 0 or self._rescuer.found:
            if pfn == c.E_NOMEM and self.recovers_dead():
                pfn = self._do_alloc_pages(self.claim, order, kind, tag)
            if pfn == c.E_NOMEM and wait_s is not None:
                if wait_s == math.inf:
                    kind |= c.GFP_HIGH  # who cannot fail has part of the reserve, as in the kernel
                pfn = self._wait_for_pages((order, kind, tag), wait_s)
            self.settle(pfn, f"alloc_pages(order={order})", order)
        return pfn

    def _wait_for_pages(self, arguments: tuple[int, int, int], wait_s: float) -> int:
        """Sleep in the kernel for one wake-up (at most 50 ms) at a time, so that Ctrl-C works."""
        deadline = time.monotonic() + wait_s
        pfn = c.E_NOMEM
        while pfn == c.E_NOMEM and time.monotonic() < deadline:
            pfn = self.run(alloc_pages_wait, *arguments, 1, alone=not self.engine.compiles)
            os.sched_yield()  # interpreted kernels do not sleep
        return pfn

    def _gfp(self, flags: Gfp, waits: bool = False) -> int:
        return checked(flags, len(self.segment.geometry.zones), waits)

    def free_pages(self, pfn: int, order: int = 0, owner: int | None = None) -> None:
        """Free what ``alloc_pages`` gave; with ``owner``, only if it is that owner's."""
        if type(pfn) is not int or not 0 <= pfn <= self._last_pfn:
            pfn = checked_place("pfn", pfn)
        if type(order) is not int or (order and not 0 <= order <= self._max_order):
            order = self._order(order)
        if self.segment.closed:
            raise self.is_closed()
        if owner is None:
            result = self._do_free_pages(self.claim, pfn, order)
        else:
            result = self._do_free_pages_of(self.claim, pfn, order, self._owner(owner))
        if result < 0 or self._rescuer.found:
            self.settle(result, f"free_pages(pfn={pfn}, order={order})")

    def adopt_pages(
        self, pfn: int, order: int = 0, *, giver: int, owner: int | None = None
    ) -> None:
        """Take over a block that another process passes on: it stays ours if that process dies.

        ``giver`` is that process's ``Arena.life``, sent along; ``owner`` the new owner word of the
        block, by default the pid. Raises ``CorruptionError`` if the giver no longer owns the block:
        it died, and its memory was reaped.
        """
        pfn = self.check_pfn(pfn)
        giver = self.check_int("giver", giver, 1, OWNER_LIMIT)
        result = self.run(adopt_pages, pfn, self._order(order), giver, self._owner(owner))
        if result < 0:
            raise self.refused(result, f"adopt_pages({pfn}, order={order}, giver={giver:#x})")

    def alloc_pages_bulk(
        self,
        count: int,
        order: int = 0,
        migratetype: str = "unmovable",
        owner: int | None = None,
        flags: Gfp | None = None,
    ) -> list[int]:
        """Up to ``count`` blocks, each zone locked once for many; fewer if memory runs out.

        Takes from the zones only; the per-CPU lists are drained when those have no more, unless
        ``flags`` say NOWAIT or NORETRY. ``flags``: as for ``alloc_pages``, but not NOFAIL: all of
        many may never come.
        """
        count = self.check_int("count", count, 1, self.segment.geometry.pages)
        gfp = self._migratetype(migratetype)
        if flags is not None:
            gfp |= self._gfp(flags)
        if gfp & c.GFP_NOFAIL:
            raise MisuseError("flags: NOFAIL in bulk; allocate one by one, or take what there is")
        arguments = self._order(order), gfp, self._owner(owner)
        pfns: list[int] = []
        with self._lock:
            at, room = self._buffer()
            got = 1
            while len(pfns) < count and got > 0:
                got = self.run(alloc_bulk, *arguments, min(room, count - len(pfns)), at)
                if got < 0:
                    raise self.refused(got, f"alloc_pages_bulk(count={count}, order={order})")
                pfns += self.segment.ram.array[at : at + got].tolist()
        return pfns

    def free_pages_bulk(self, pfns: Sequence[int], order: int = 0) -> None:
        """Free many blocks of one order. Raises ``CorruptionError`` after freeing all it can."""
        words = self.check_ints("pfns", pfns)
        order = self._order(order)
        with self._lock:
            try:
                at, room = self._buffer(Gfp.MEMALLOC)
            except OutOfMemoryError:  # freeing memory must not need memory
                freed = sum(self.run(free_pages, pfn, order) == 0 for pfn in words)
            else:
                freed = 0
                for first in range(0, len(words), room):
                    part = words[first : first + room]
                    self.segment.ram.array[at : at + len(part)] = part
                    freed += self.run(free_bulk, order, len(part), at)
        if freed < len(words):
            asked = f"free_pages_bulk of {len(words)} blocks: {len(words) - freed} not freed"
            raise self.refused(c.E_STATE, asked)

    def _buffer(self, flags: Gfp | None = None) -> tuple[int, int]:
        """(word, words) of a page of our own, which passes lists of pfns to and from kernels.

        Not the CPU's scratch words: another process on the CPU would use them, too.
        """
        if self._buffer_pfn is None:
            self._buffer_pfn = self.alloc_pages(0, flags=flags)
        return self.segment.layout.frame(self._buffer_pfn), self.segment.geometry.page_words

    def _free_buffer(self) -> None:
        if self._buffer_pfn is not None:
            self.free_pages(self._buffer_pfn, 0)
            self._buffer_pfn = None

    def page(self, pfn: int, order: int = 0) -> memoryview:
        """The bytes of 2^order pages from ``pfn`` on, writable while they are allocated."""
        self.check_open()
        pages = 1 << self._order(order)
        pfn = self.check_int("pfn", pfn, 0, self.segment.geometry.pages - pages)
        layout, size = self.segment.layout, self.segment.geometry.page_bytes
        return self.view(layout.frame(pfn), pages * size)

    def alloc_contig_range(self, start: int, end: int, owner: int | None = None) -> None:
        """Allocate exactly the pages [start, end) as single pages; nothing is moved for it.

        Raises ``MisuseError`` if one of them is in use (busy) or not available in one piece.
        """
        self._range(alloc_contig_range, start, end, self._owner(owner))

    def free_contig_range(self, start: int, end: int) -> None:
        """Free the single pages [start, end)."""
        freed = self._range(free_contig_range, start, end)
        if freed < end - start:
            raise self.refused(c.E_STATE, f"free_contig_range({start}, {end}): {freed} pages freed")

    def isolate(self, start: int, end: int) -> None:
        """Stop allocation from the whole pageblocks [start, end); free pages there stay free."""
        self._range(isolate_range, start, end)

    def unisolate(self, start: int, end: int) -> None:
        """End an isolation of ours, or of an arena that is closed. Others' are busy."""
        self._range(unisolate_range, start, end)

    def offline(self, start: int, end: int) -> None:
        """Take the pageblocks [start, end) out of service; all of their pages must be free."""
        self._range(offline_range, start, end)

    def online(self, start: int, end: int) -> int:
        """Put pageblocks back in service that any process took offline; the pages gained."""
        return self._range(online_range, start, end)

    def poison_page(self, pfn: int) -> None:
        """Take a broken page out of service: now if it is free, else when it is freed."""
        result = self.run(poison_page, self.check_pfn(pfn))
        if result < 0:
            raise self.refused(result, f"poison_page(pfn={pfn})")

    def drain(self) -> int:
        """Give all pages of all per-CPU lists back to their zones; how many.

        The lists of a CPU whose user has stopped in the middle of an operation (by SIGSTOP, say)
        are left out, with a warning, after a second; a later call may find them.
        """
        self._rescuer.skipped.clear()
        given = self.run(drain_all)
        if given < 0:
            pids = ", ".join(map(str, sorted(self._rescuer.skipped)))
            text = f"drain: page lists were left out, as their user does not run: process {pids}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return max(given, 0)

    def report_free(self) -> int:
        """Give the memory of free blocks back to the system (free_reporting.py); the bytes given.

        Needs a geometry with ``reporting=True``, in which no list runs through the pages
        themselves.
        """
        if not self.segment.geometry.reporting:
            raise MisuseError(
                "report_free: free pages of this arena are not reported; create it with"
                " reporting=True and a link_store other than 'page'"
            )
        blocks = pageblocks(self.segment)
        return sum(report_pageblock(self.segment, self.run, start) for start in blocks)

    def protect_free(self) -> int:
        """Take all pages that are free now away from this process: whichever touches one, faults,
        until it is allocated again. How many pages.

        Needs a geometry with ``debug_pagealloc=True``. What this process frees by ``free_pages`` is
        protected at once; for what others free, or slabs, call this.
        """
        if self._protection is None:
            raise MisuseError("protect_free: create the arena with debug_pagealloc=True to use it")
        return self._protection.protect_free()

    def describe(self, pfn: int) -> str:
        """A sentence about a page: its state, block, zone, owner."""
        self.check_open()
        return describe_page(self.segment, self.check_pfn(pfn))

    def unplug(self, cpu: int) -> None:
        """Take CPU slot ``cpu`` out of use: its lists are drained, it may not be claimed."""
        self.check_open()
        self.check_writable("unplug")
        cpus.unplug(self.segment, cpu, by=self.claim, engine=self.engine.name)
        self.finish_rescue()

    def plug(self, cpu: int) -> None:
        """Put an unplugged CPU slot back in use."""
        self.check_open()
        self.check_writable("plug")
        cpus.plug(self.segment, cpu, by=self.claim, engine=self.engine.name)
        self.finish_rescue()

    def _range(self, kernel: Callable[..., Any], start: int, end: int, *more: int) -> int:
        pages = self.segment.geometry.pages
        start = self.check_int("start", start, 0, pages - 1)
        end = self.check_int("end", end, start + 1, pages)
        result = self.run(kernel, start, end, *more)
        method = kernel.__name__.removesuffix("" if kernel in _RANGES_OF_PAGES else "_range")
        asked = f"{method}({start}, {end})"
        if result == c.E_INVAL:
            block = 1 << self.segment.geometry.pageblock_order
            whole = f"use multiples of {block} pages as start and end"
            cure = "" if kernel in _RANGES_OF_PAGES else f", and whole pageblocks: {whole}"
            raise MisuseError(f"{asked}: the pages must lie in one zone{cure}")
        if result == c.E_BUSY:
            raise MisuseError(f"{asked}: {why_busy(self.segment, start, end)}")
        if result < 0:
            raise self.refused(result, asked)
        return result

    def _order(self, order: int) -> int:
        return self.check_int("order", order, 0, self.segment.geometry.max_order)

    def _migratetype(self, name: str) -> int:
        if not isinstance(name, str) or name not in MIGRATETYPES:
            raise MisuseError(f"migratetype: {name!r}; use one of {', '.join(MIGRATETYPES)}")
        return MIGRATETYPES[name]

    def _owner(self, owner: int | None) -> int:
        if owner is None:
            return THIS_PROCESS.pid
        word = self.check_int("owner", owner, 1, OWNER_LIMIT - 1)
        if is_reserved_owner(word):
            raise MisuseError(
                f"owner: {word:#x}: the allocator knows its own pages by this word; use another"
            )
        return word

    def _alloc_shared(self, order: int) -> int:
        """A block that no process owns. Raises ``OutOfMemoryError``."""
        request = (alloc_pages, order, c.MT_UNMOVABLE, c.OWNER_SHARED)
        pfn = self.run(*request)
        if pfn == c.E_NOMEM and self.recovers_dead():
            pfn = self.run(*request)
        if pfn < 0:
            raise self.refused(pfn, f"alloc_pages(order={order})", order)
        return pfn
