"""The patterns by name: what each does, what one operation of it is, and which allocators have it.

Data it owns: ``PATTERNS``. A pattern is data; runners.py knows how each of its loops is run, and
``parameters`` are what that loop takes. ``peers`` names the kinds of other allocators that can run
the same operations: ``pages`` (they give blocks of pages), ``malloc`` (blocks of bytes).
"""

from __future__ import annotations

from dataclasses import dataclass

from shmalloc.errors import MisuseError
from stress.quantities import nearest

COMPILED, PYTHON = "compiled loop", "Python"
SIZES = (16, 64, 256, 1024, 4096)
ARRAYS = {"64B": 64, "64KiB": 64 << 10, "16MiB": 16 << 20}
BATCH = 4096
SLOTS = 64
TABLE = 1024
DESCRIPTOR = "descriptor"
PAGE = "page"
STORES = (PAGE, DESCRIPTOR, "table", "index", "bitmap")
PAGES, MALLOC, PRIVATE = "pages", "malloc", "python"


@dataclass(frozen=True)
class Pattern:
    """``batch``: operations of one repeat of the loop. ``pairs``: of every two workers one
    allocates and one frees. ``least``: the fewest workers it makes sense for. ``stores``: the link
    stores that it is measured on, ``all_stores``: with --full on every one. ``full``: with --full
    alone."""

    name: str
    story: str
    loop: str
    parameters: tuple[int, ...] = ()
    batch: int = 1
    peers: tuple[str, ...] = ()
    timed: str = COMPILED
    least: int = 1
    pairs: bool = False
    stores: tuple[str, ...] = (PAGE,)
    all_stores: bool = False
    full: bool = False

    @property
    def objects(self) -> bool:
        """Whether it needs the caches of a segment."""
        return self.loop.startswith(("object", "kmalloc", "python-object"))

    def fits(self, workers: int) -> bool:
        """Whether it can be run by so many workers."""
        return workers >= self.least and (workers % 2 == 0 or not self.pairs)


_PAGES = (
    Pattern(
        "repeat",
        "a page is allocated and freed at once (LLFree: repeat)",
        "page-pairs",
        (0,),
        peers=(PAGES, MALLOC),
        all_stores=True,
    ),
    Pattern("repeat-3", "the same with 8 pages", "page-pairs", (3,), peers=(PAGES,), full=True),
    Pattern(
        "repeat-9",
        "the same with 512 pages, of which a per-CPU list keeps one block",
        "page-pairs",
        (9,),
        peers=(PAGES,),
        full=True,
    ),
    Pattern(
        "mixed",
        "the block of one of 64 slots is freed, one of a random order 0-9 allocated",
        "page-mixed",
        (SLOTS,),
        peers=(PAGES,),
        all_stores=True,
    ),
    Pattern(
        "constant",
        "the same with one of the same order 0-3: constant occupancy",
        "page-constant",
        (TABLE,),
    ),
    Pattern(
        "bulk",
        "4096 pages are allocated, then freed in the same order (LLFree: bulk)",
        "page-batches",
        (BATCH, 0),
        BATCH,
        (PAGES, MALLOC),
        stores=(PAGE, DESCRIPTOR),
    ),
    Pattern(
        "rand",
        "4096 pages are allocated, then freed in a random order (LLFree: rand)",
        "page-batches",
        (BATCH, 1),
        BATCH,
        (PAGES, MALLOC),
        stores=(PAGE, DESCRIPTOR),
        all_stores=True,
    ),
    Pattern(
        "bulk-call",
        "64 pages are allocated by one call and freed by another",
        "page-calls",
        (64,),
        64,
    ),
    Pattern(
        "remote-pages",
        "256 pages are allocated by one worker and freed by the next, in turns",
        "page-remote",
        (256,),
        256,
        peers=(PAGES, MALLOC),
        least=2,
    ),
    Pattern(
        "ublk",
        "half of the workers allocate pages, the others free them, all at once",
        "page-ring",
        (1,),
        peers=(PAGES, MALLOC),
        least=2,
        pairs=True,
    ),
)
_OBJECTS = (
    Pattern(
        "object",
        "an object of 64 bytes is allocated and freed at once",
        "object-pairs",
        (64,),
        peers=(MALLOC,),
    ),
    *(
        Pattern(
            f"size-{size}",
            f"the same by size, {size} bytes (kmalloc)",
            "kmalloc-pairs",
            (size,),
            peers=(MALLOC,),
        )
        for size in SIZES
    ),
    Pattern(
        "object-bulk",
        "4096 objects of 64 bytes are allocated, then freed in a random order",
        "object-batches",
        (64, BATCH, 1),
        BATCH,
        (MALLOC,),
    ),
    Pattern(
        "object-call",
        "64 objects of 64 bytes are allocated by one call, freed by another",
        "object-calls",
        (64, 64),
        64,
    ),
    Pattern(
        "threadtest",
        "100 objects of 64 bytes are allocated, then freed in the same order",
        "kmalloc-batches",
        (64, 100),
        100,
        (MALLOC,),
    ),
    Pattern(
        "larson",
        "the object of one of 1024 slots is freed, one of 16-512 bytes allocated;"
        " the slots move to the next worker with every slice",
        "kmalloc-replace",
        (TABLE, 512),
        peers=(MALLOC,),
    ),
    Pattern(
        "ycsb",
        "1024 keys of 64 bytes: 50 % are read, 25 % inserted, 25 % deleted (cxlalloc)",
        "kmalloc-table",
        (TABLE, 64),
    ),
    Pattern(
        "remote-objects",
        "256 objects of 64 bytes are allocated by one worker and freed by the next, in turns",
        "object-remote",
        (64, 256),
        256,
        peers=(MALLOC,),
        least=2,
    ),
    Pattern(
        "prodcon",
        "producers allocate objects of 16-64 bytes, consumers free them one by one",
        "object-ring",
        (1, 64),
        peers=(MALLOC,),
        least=2,
        pairs=True,
    ),
    Pattern(
        "xmalloc",
        "the same in batches of 64, of 16-512 bytes",
        "object-ring",
        (64, 512),
        64,
        peers=(MALLOC,),
        least=2,
        pairs=True,
    ),
)
_PYTHON = (
    Pattern("py-pages", "free_pages(alloc_pages())", "python-pages", timed=PYTHON),
    Pattern("py-object", "cache.free(cache.alloc()), 64 bytes", "python-object", timed=PYTHON),
    *(
        Pattern(
            f"py-array-{name}",
            f"an array of {name} is made, its first byte written, and closed",
            "python-array",
            (size,),
            peers=(PRIVATE,),
            timed=PYTHON,
        )
        for name, size in ARRAYS.items()
    ),
)
PATTERNS = {one.name: one for one in (*_PAGES, *_OBJECTS, *_PYTHON)}
GROUPS = {
    "pages": tuple(one.name for one in _PAGES),
    "objects": tuple(one.name for one in _OBJECTS),
    "python": tuple(one.name for one in _PYTHON),
}


def known() -> list[str]:
    """Every name that ``chosen`` takes."""
    return [*GROUPS, *PATTERNS]


def chosen(names: tuple[str, ...], full: bool) -> list[Pattern]:
    """The patterns with these names or of these groups, in the order of the catalogue.

    Without names: all, those that are only for --full left out unless ``full``. Raises
    ``MisuseError`` for an unknown name, with the nearest one.
    """
    for name in names:
        if name not in GROUPS and name not in PATTERNS:
            raise nearest(name, known(), "pattern")
    wanted = {one for name in names for one in GROUPS.get(name, (name,))}
    listed = names or ()
    return [
        one
        for one in PATTERNS.values()
        if (one.name in wanted or not names) and (full or not one.full or one.name in listed)
    ]


def parse_counts(text: str, most: int) -> tuple[int, ...]:
    """Numbers of workers, such as ``1,2,4``. Raises ``MisuseError`` for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= most for part in parts):
        raise MisuseError(f"workers: {text!r}; use numbers from 1 to {most}, such as 1,2,4")
    return tuple(dict.fromkeys(int(part) for part in parts))
