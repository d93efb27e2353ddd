"""Events of the kernel's ``kmem`` trace, from 2009 to 2026: from name and fields to rows.

Fields are found by their names, since order and number of them differ between kernels and tools::

    mm_page_alloc: page=0xffff... pfn=0x140040 order=1 migratetype=0 gfp_flags=GFP_KERNEL
    mm_page_alloc: pfn=0x140040 order=1 gfp_flags=0xcc0 migratetype=0              (trace-cmd -R)
    kmalloc: call_site=f+0x6c/0x220 ptr=00000000bb3a1714 bytes_req=60 bytes_alloc=64 ...

A pfn identifies pages, an address objects. ``take`` says why an event makes no row:

- a failed allocation, a free of nothing
- a pointer that the kernel did not print, ``(____ptrval____)``: nothing can be paired by it
- kmalloc of whole pages, which have page events of their own
- mm_page_free_batched, which repeats mm_page_free (mm_pagevec_free of 2009 does not)

Until Linux 4.3 migratetype 1 was reclaimable and 2 movable: where gfp_flags contradict the
number, they decide.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from shmalloc import constants as c
from stress.quantities import counted
from stress.trace.format import (
    LARGEST_OBJECT_BYTES,
    LARGEST_ORDER,
    OBJECT_ALLOC,
    OBJECT_FREE,
    PAGE_ALLOC,
    PAGE_FREE,
)
from stress.trace.rows import Caches, OutOfRange, Rows

LARGEST_KMALLOC_BYTES = 8192  # above it kmalloc takes pages: KMALLOC_MAX_CACHE_SIZE
FAILED = "allocations that failed"
NOTHING = "frees of nothing (a null pointer)"
HIDDEN = "events whose pointer the kernel did not print"
WHOLE_PAGES = "kmalloc of whole pages, which have page events"
TOO_LARGE = "blocks above order 10"
MANY_CACHES = "objects of too many caches"
REPEATED = "mm_page_free_batched, each repeats an mm_page_free"
OUT_OF_RANGE = "events with a number that is too large"
Where = tuple[int, int, int]  # time in ns, CPU, task

# Each begins with plain letters, which are found fast, and none looks at a character often.
_NUMBER = r"=\s*(0x[0-9a-fA-F]{1,16}|-?\d{1,20})(?!\w)"
_PFN = re.compile("pfn" + _NUMBER)
_ORDER = re.compile("order" + _NUMBER)
_MIGRATETYPE = re.compile("migratetype" + _NUMBER)
_BYTES = re.compile("bytes_alloc" + _NUMBER)
_GFP = re.compile(r"gfp_flags=\s*(\S+)")
_PAGE = re.compile(r"page=\s*(\S+)")
_PTR = re.compile(r"ptr=\s*(\S+)")
_NAME = re.compile(r"name=(\S*(?: (?!\w+=)\S+)*)")
_WHOLE_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,16}|\d{1,20}")
_NO_PFN = (-1, (1 << 64) - 1, (1 << 32) - 1)
_GFP_MOVABLE_BIT = 0x08  # in every kernel that has migratetypes
_MIGRATETYPES = 16  # more than any kernel has
_NULL = ("(null)", "(nil)", "NULL")


class KernelEvents:
    """Makes rows of events. ``typed``: migratetypes that were changed, by why."""

    def __init__(self, rows: Rows, caches: Caches) -> None:
        self._rows = rows
        self._caches = caches
        self.typed: Counter[str] = Counter()
        self.nameless = 0  # objects of a cache whose name the kernel does not tell
        self._handlers: dict[str, Callable[[Where, str], str]] = {
            "mm_page_alloc": self._page_alloc,
            "mm_page_free": self._page_free,
            "mm_page_free_direct": self._page_free,
            "mm_pagevec_free": self._page_free,
            "mm_page_free_batched": lambda where, fields: REPEATED,
            "kmalloc": self._kmalloc,
            "kmalloc_node": self._kmalloc,
            "kmem_cache_alloc": self._cache_alloc,
            "kmem_cache_alloc_node": self._cache_alloc,
            "kfree": self._object_free,
            "kmem_cache_free": self._object_free,
        }
        self.knows = self._handlers.__contains__

    def take(self, name: str, fields: str, where: Where) -> str:
        """Add the event ``name``, one that is known; else why it was left out."""
        try:
            return self._handlers[name](where, fields)
        except OutOfRange:
            return OUT_OF_RANGE

    def notes(self) -> list[str]:
        """What is approximated, in sentences."""
        found = [f"{why}: {counted(n, 'page allocation')}" for why, n in self.typed.items()]
        if self.nameless:
            found.append(
                f"one cache for each size, since no name is told: {self.nameless:,} objects"
            )
        return found

    def _page_alloc(self, where: Where, fields: str) -> str:
        pfn, order = _PFN.search(fields), _ORDER.search(fields)
        if pfn is None or order is None:
            return _without(fields, "mm_page_alloc", pfn=_PFN, order=_ORDER)
        page, number, blocks = _PAGE.search(fields), _int(pfn[1]), _int(order[1])
        if number in _NO_PFN or (page is not None and _address(page[1]) == 0):
            return FAILED
        if not 0 <= blocks <= LARGEST_ORDER:
            return TOO_LARGE
        self._rows.add(where, PAGE_ALLOC, number, blocks, self._migratetype(fields))
        return ""

    def _migratetype(self, fields: str) -> int:
        """One of the three types that have lists of their own."""
        found, gfp = _MIGRATETYPE.search(fields), _GFP.search(fields)
        number, flags = _int(found[1]) if found else 0, gfp[1] if gfp else ""
        movable = "MOVABLE" in flags or _bit(flags)
        if number == c.MT_RECLAIMABLE and movable:
            self.typed["migratetypes numbered as before Linux 4.4"] += 1
            return c.MT_MOVABLE
        if number == c.MT_MOVABLE and not movable and _reclaimable(flags):
            self.typed["migratetypes numbered as before Linux 4.4"] += 1
            return c.MT_RECLAIMABLE
        if 0 <= number < c.MT_PCP_TYPES:
            return number
        name = f"migratetype {number}" if 0 <= number < _MIGRATETYPES else "a strange migratetype"
        self.typed[f"{name} has no lists here, its gfp_flags decide"] += 1
        return c.MT_MOVABLE if movable else c.MT_UNMOVABLE

    def _page_free(self, where: Where, fields: str) -> str:
        pfn, order = _PFN.search(fields), _ORDER.search(fields)
        if pfn is None or order is None:
            return _without(fields, "mm_page_free", pfn=_PFN, order=_ORDER)
        self._rows.add(where, PAGE_FREE, _int(pfn[1]), _int(order[1]))
        return ""

    def _kmalloc(self, where: Where, fields: str) -> str:
        found = _BYTES.search(fields)
        if found is None:
            return _without(fields, "kmalloc", bytes_alloc=_BYTES)
        size = _int(found[1])
        if size > LARGEST_KMALLOC_BYTES:
            return WHOLE_PAGES
        return self._object_alloc(where, fields, size, f"kmalloc-{size}")

    def _cache_alloc(self, where: Where, fields: str) -> str:
        """Names of caches are told since Linux 6.1; before, only their sizes are known."""
        found, name = _BYTES.search(fields), _NAME.search(fields)
        if found is None:
            return _without(fields, "kmem_cache_alloc", bytes_alloc=_BYTES)
        size = _int(found[1])
        if name is None:
            self.nameless += 1
        return self._object_alloc(where, fields, size, name[1] if name else f"cache-{size}")

    def _object_alloc(self, where: Where, fields: str, size: int, cache: str) -> str:
        pointer = _PTR.search(fields)
        if pointer is None:
            return _without(fields, "the allocation of an object", ptr=_PTR)
        address = _address(pointer[1])
        if not address:
            return HIDDEN if address is None else FAILED
        if not 0 < size <= LARGEST_OBJECT_BYTES:
            return f"objects of no bytes, or of more than {LARGEST_OBJECT_BYTES}"
        number = self._caches.number(cache)
        if number < 0:
            return MANY_CACHES
        self._rows.add(where, OBJECT_ALLOC, address, size, number)
        return ""

    def _object_free(self, where: Where, fields: str) -> str:
        pointer = _PTR.search(fields)
        if pointer is None:
            return _without(fields, "the free of an object", ptr=_PTR)
        address = _address(pointer[1])
        if not address:
            return HIDDEN if address is None else NOTHING
        self._rows.add(where, OBJECT_FREE, address)
        return ""


def _int(text: str) -> int:
    """A number that one of the patterns has found."""
    return int(text, 16) if text.startswith("0x") else int(text)


def _address(text: str) -> int | None:
    """A pointer, hexadecimal with 0x or without; 0 for ``(null)``, None if it is not printed."""
    try:
        return int(text, 16)
    except ValueError:
        return 0 if text in _NULL else None


def _bit(flags: str) -> bool:
    """Whether flags that are a number say movable."""
    found = _WHOLE_NUMBER.fullmatch(flags)
    return found is not None and bool(_int(flags) & _GFP_MOVABLE_BIT)


def _reclaimable(flags: str) -> bool:
    return "RECLAIMABLE" in flags or "GFP_TEMPORARY" in flags


def _without(fields: str, event: str, **wanted: re.Pattern[str]) -> str:
    """Why an event cannot be used: the first field that it lacks."""
    name = next(name for name, pattern in wanted.items() if pattern.search(fields) is None)
    return f"{event} without {name}="
