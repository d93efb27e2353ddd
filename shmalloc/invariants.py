"""The table of invariants: what must hold, what checks it, and which mutants violate it.

One row for each ``I_*``, ``M_*`` and ``X_*`` of ``constants``, whose value is the row's number. A
violation report carries that number, and so does the result of a check of the explorer. Everything
that prints a code takes its text from here: ``docs/invariants.md``, ``shmstress list
--invariants``, the reports of a run, JUnit, the explorer, crash mode and the mutants.

The prefix says what finds the violation: ``I_`` an audit that recounts everything, ``M_`` the
operation that refuses a misuse, ``X_`` a witness that does not share the allocator's code.

Rules:
- a sentence says what must hold, without a capital or a full stop, so that it can follow a colon
- ``mutants`` names mutants (kernels broken on purpose) that must be found and break this row first;
  if there is none, ``example`` says what breaks it
"""

from __future__ import annotations

from dataclasses import dataclass

from shmalloc import constants as c


@dataclass(frozen=True)
class Invariant:
    """One row. ``unless``: when a checker may see it broken although nothing is wrong."""

    number: int
    name: str
    sentence: str
    checkers: tuple[str, ...]
    mutants: tuple[str, ...] = ()
    example: str = ""
    unless: str = ""

    @property
    def family(self) -> str:
        """``I``, ``M`` or ``X``."""
        return self.name[0]

    def __str__(self) -> str:
        """``I_TAIL: every page is covered by exactly one head``."""
        return f"{self.name}: {self.sentence}"


FAMILIES = {
    "I": "Invariants, which an audit recounts",
    "M": "Misuse, which the operation refuses",
    "X": "Facts, which an independent witness knows",
}
_RECOUNTED = (
    Invariant(
        c.I_CONSERVATION, "I_CONSERVATION",
        "every managed page of a zone is in exactly one place, and the zone's counters say so",
        ("audit",), ("account-to-wrong-type", "offline-stays-managed"),
        unless="a block is in flight, in state PCP and on no list",
    ),
    Invariant(
        c.I_FREE_HEAD, "I_FREE_HEAD",
        "a free block is aligned, inside its zone, and on the list of its order and of the"
        " migratetype of its pageblock",
        ("audit", "buddy"), ("merge-across-zones", "merge-isolated", "type-from-the-page"),
        unless="the zone lock is held",
    ),
    Invariant(
        c.I_LIST_LINKS, "I_LIST_LINKS",
        "a list is linked both ways, has no cycle, and is as long as its count",
        ("audit", "slab audit", "every addition to and removal from a list"),
        ("merge-any-order", "unlink-one-way"),
        unless="the lock of the list is held",
    ),
    Invariant(
        c.I_UNMERGED, "I_UNMERGED",
        "two free buddies of one order, zone and mergeable migratetype are one block",
        ("audit",), ("merge-once",), unless="the zone lock is held",
    ),
    Invariant(
        c.I_PCP_COUNT, "I_PCP_COUNT",
        "a per-CPU list holds as many pages as it counts, all in state PCP, none of them isolated;"
        " the lists of an unplugged CPU are empty and locked",
        ("audit", "plug_cpu", "contig workload"), ("pcp-unlock-early", "isolate-without-drain"),
        unless="the per-CPU lock is held, or a page is in flight",
    ),
    Invariant(
        c.I_TAIL, "I_TAIL", "every page is covered by exactly one head",
        ("audit", "recovery", "oracle of cover"), ("merge-tails-first", "split-uncovers-first"),
        unless="never, at any single write",
    ),
    Invariant(
        c.I_SLAB, "I_SLAB",
        "the free list, the counters and the list of a slab agree with each other and with its"
        " cache",
        ("slab audit", "cache_alloc"), ("pop-against-new-head", "flush-counts-short"),
        unless="the node lock is held, or an object is being freed",
    ),
    Invariant(
        c.I_SHEAF, "I_SHEAF",
        "a sheaf is in one place and within its capacity, and an object in it is free and nowhere"
        " else",
        ("slab audit", "cache_alloc"), ("refill-keeps-the-spare", "barn-unlocked"),
        unless="the lock of the sheaf or of its barn is held",
    ),
    Invariant(
        c.I_BYTES, "I_BYTES", "poison, zeroes and red zones are as the allocator left them",
        ("alloc_pages", "audit", "slab audit of a debug cache"), ("destroy-ignores-sheaves",),
        unless="never, for free memory",
    ),
    Invariant(
        c.I_STAMP, "I_STAMP", "the owner's stamp is in the memory that it owns",
        ("no kernel: workloads report X_PAYLOAD",), example="one page that two owners were given",
        unless="never",
    ),
    Invariant(
        c.I_TEARDOWN, "I_TEARDOWN",
        "when everything has been freed and drained, all managed pages are free",
        ("audit at the end of a run",), ("unplug-opens-a-gap", "recovery-forgets-hand"),
        unless="a page is in use",
    ),
    Invariant(
        c.I_PROGRESS, "I_PROGRESS",
        "every worker makes progress, no lock outlives its holder, and no waiter is forgotten",
        ("watchdog", "checks of the explorer's programs"), ("wake-only-one", "flag-stored"),
        unless="a process is stopped",
    ),
    Invariant(
        c.I_FIXED, "I_FIXED",
        "what was written when the segment or a cache was made is still there, and each counter is"
        " one that can be",
        ("audit", "slab audit"), ("boost-above-its-limit",),
        unless="never",
    ),
    Invariant(
        c.I_WATERMARK, "I_WATERMARK",
        "the watermarks of a zone follow from the pages that it manages, and an ordinary"
        " allocation leaves at least the minimum free",
        ("audit", "checks of the explorer's programs"),
        ("watermark-counts-blocks", "watermarks-stay", "watermark-before-lock"),
        unless="the zone lock is held",
    ),
)  # fmt: skip
_REFUSED = (
    Invariant(
        c.M_DOUBLE_FREE, "M_DOUBLE_FREE", "a block may be freed only once",
        ("free_pages",), ("free-without-claim", "free-fails-at-a-mark"),
    ),
    Invariant(
        c.M_WRONG_ORDER, "M_WRONG_ORDER",
        "a block must be freed at the order at which it was allocated",
        ("free_pages",), example="free_pages(pfn, 1) of a block of order 2",
    ),
    Invariant(
        c.M_TAIL_FREE, "M_TAIL_FREE", "a block must be freed by its first page",
        ("free_pages",), example="free_pages(pfn + 1, 0) in a block of order 2",
    ),
    Invariant(
        c.M_OUT_OF_RANGE, "M_OUT_OF_RANGE",
        "a page must exist, and an access must lie inside the segment",
        ("free_pages", "every compiled access"), example="free_pages(-1, 0)",
    ),
    Invariant(
        c.M_SLAB_AS_PAGE, "M_SLAB_AS_PAGE", "a page of a slab must not be freed as a page",
        ("free_pages",), example="free_pages of the page of an object",
    ),
    Invariant(
        c.M_WRONG_STATE, "M_WRONG_STATE", "a page must be in the state that an operation requires",
        ("free_pages", "alloc_pages", "checks of the explorer's programs"),
        ("bulk-keeps-marked-page",),
    ),
    Invariant(
        c.M_STRANGER, "M_STRANGER", "only its owner may free a block",
        ("free_pages",), example="free_pages with the owner word of another process",
    ),
    Invariant(
        c.M_OBJECT_POINTER, "M_OBJECT_POINTER", "only the address of an object may be freed",
        ("cache_free",), example="cache_free(address + 1)",
    ),
    Invariant(
        c.M_OBJECT_FREE, "M_OBJECT_FREE", "an object may be freed only once",
        ("cache_free",), ("exact-free-in-two-steps",),
    ),
    Invariant(
        c.M_OBJECT_CACHE, "M_OBJECT_CACHE",
        "an object must be freed into the cache that it came from",
        ("cache_free",), example="cache_free of an object of another cache",
    ),
    Invariant(
        c.M_OBJECT_BYTES, "M_OBJECT_BYTES",
        "nothing may write before or behind an object, or to a free object",
        ("cache_alloc and cache_free of a debug cache",), example="a write behind an object",
    ),
    Invariant(
        c.M_SHUTDOWN, "M_SHUTDOWN", "a closed segment must not be used",
        ("no kernel: the Python face raises MisuseError",), example="a call after Arena.close()",
    ),
    Invariant(
        c.M_FREECHAIN, "M_FREECHAIN",
        "the free list of a slab must have no cycle and name only objects of the slab",
        ("cache_alloc", "cache_free"), ("recovery-believes-take",),
    ),
    Invariant(
        c.M_LEAKED_OBJECTS, "M_LEAKED_OBJECTS",
        "a cache that is destroyed must have no live object",
        ("cache_destroy",), ("destroy-ignores-slabs", "recovery-forgets-chain"),
    ),
)  # fmt: skip
_WITNESSED = (
    Invariant(
        c.X_DOUBLE_ALLOC, "X_DOUBLE_ALLOC", "a page or an object has one owner at a time",
        ("owner map", "checks of the explorer's programs"), ("flush-puts-the-used-back",),
    ),
    Invariant(
        c.X_LOST_OWNER, "X_LOST_OWNER",
        "what is freed is still its owner's, and free memory has no owner",
        ("owner map", "audit"), ("array-named-late",),
    ),
    Invariant(
        c.X_WALKER, "X_WALKER",
        "a reader without a lock sees a legal descriptor, whenever it looks",
        ("pfn-walker workload",), ("claim-in-two-stores", "owner-before-page"),
    ),
    Invariant(
        c.X_PAYLOAD, "X_PAYLOAD", "what an owner wrote into its memory is there until it frees it",
        ("workloads",), ("lock-looks-then-stores", "array-dropped-in-two-steps"),
    ),
    Invariant(
        c.X_VERSION, "X_VERSION",
        "a descriptor that has the same version as before has the same state",
        ("pfn-walker workload",), ("version-not-bumped",), unless="only a list link changed",
    ),
    Invariant(
        c.X_MEMORY_GROWTH, "X_MEMORY_GROWTH",
        "a process of a run needs no more private memory after an hour than after a minute",
        ("a run's watch of its processes",), example="a worker that keeps a list of all its blocks",
        unless="it is warming up, or it grows by less than the bound (docs/soak.md)",
    ),
    Invariant(
        c.X_DESCRIPTOR_GROWTH, "X_DESCRIPTOR_GROWTH",
        "a process of a run keeps no more files open after an hour than after a minute",
        ("a run's watch of its processes",), example="a pipe that stays open for each dead worker",
        unless="it is warming up, or it grows by less than the bound (docs/soak.md)",
    ),
    Invariant(
        c.X_RANGE, "X_RANGE",
        "a range is isolated or offline as long as its holder keeps it so, and no other one is",
        ("audit at the end of a run", "checks of the explorer's programs", "crash mode"),
        ("offline-busy-stays-isolated", "unisolate-ends-offline"),
        unless="an operation on ranges is under way",
    ),
    Invariant(
        c.X_FILLING, "X_FILLING",
        "a page that is given out holds what free pages are filled with",
        ("workloads", "checks of the explorer's programs", "crash mode"),
        ("bulk-skips-poison-check", "run-skips-poison-check"), unless="nothing is filled",
    ),
)  # fmt: skip
TABLE = {row.number: row for row in (*_RECOUNTED, *_REFUSED, *_WITNESSED)}
BY_NAME = {row.name: row for row in TABLE.values()}


def name_of(code: int) -> str:
    """``I_TAIL``; ``code 7`` for a number without a row."""
    return TABLE[code].name if code in TABLE else f"code {code}"


def phrase_of(code: int) -> str:
    """``I_TAIL: every page is covered by exactly one head``; ``code 7`` without a row."""
    return str(TABLE[code]) if code in TABLE else f"code {code}"
