"""``--geometry SPEC``: what the segment of a run is made of, as text and as data.

Settings separated by commas, each with its default::

    fill=none           poison: a freed page is filled with 0xaa, which its next allocation checks;
                        zero: with zeroes
    init-on-alloc=off   on: pages and objects are zero when they are allocated
    init-on-free=off    on: they are zeroed when they are freed; neither with fill=poison
    harden=off          on: the free pointers of slabs are xored with a secret (from the seed), and
                        objects are handed out in a shuffled order
    min-free=off        or a size, which stays free in each zone: its minimum watermark
    pcp=array           list: the per-CPU lists run through the link store
    pcp-batch=63        pages that a per-CPU list gets or gives back at once
    pcp-high=378        pages at which it gives back
    max-order=10        the largest block has 2**10 pages
    pageblock-order=9   pages of a block that shares a migratetype: 2**9, or 2**max-order
    reporting=off       on: free memory goes back to the system at each audit; not with --link-store
                        page, which keeps its lists there, and not with fill=poison
    debug-pagealloc=off on: at each slice the free pages are taken away from the workers, which
                        then fault if they touch one; not with --link-store page, nor with fill
    unaccepted=off      on: a pageblock is accepted, and cleared, when a page of it is first given
                        out; not with --link-store page, nor with fill or init-on-free
    biased-locks=on     off: per-CPU locks are taken by compare-exchanges, also where the system has
                        membarrier, which the cheaper way needs
    spins=40            how often a held lock is tried before sleeping
    history=256         operations that the history of each CPU keeps; off
    start-pfn=0         the first page
    page-owner=off      1/N: one allocation of a page, or object, in N is sampled with its stack
    cpus=off            so many CPUs, which the workers share; off: one for each, up to 1024

``random`` draws settings from the seed of the run, and the line that repeats it names them.

Zones, their nodes and their holes are ``--zones``; where links lie is ``--link-store``. In a file
the same names stand in a table ``[geometry]``. ``str`` of a ``GeometrySpec`` parses to it again.
``Geometry`` (shmalloc/layout.py) has the meaning of each, and says which exclude each other.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Annotated, Any

from msgspec import Struct, field

from shmalloc import constants as c
from shmalloc.arena_geometry import sampling_rate
from shmalloc.engine import asymmetric
from shmalloc.errors import MisuseError
from shmalloc.geometry_rules import MOST_LISTED, PCP_FORMS
from shmalloc.sizes import parse_bytes
from stress.quantities import exact_bytes, parse_entries
from stress.seeds import derive
from stress.settings import Switch, line_of, quantity, read

FILLS = ("none", "poison", "zero")
PAGE_BYTES = 4096
RANDOM = "random"
CHANGED_SHARE = 0.5
DRAWN: dict[str, tuple[Any, ...]] = {  # by field, what ``random`` chooses from
    "fill": ("poison", "zero"),
    "harden": (True,),
    "min_free_bytes": (64 << 10, 256 << 10),
    "pcp": ("list",),
    "pcp_batch": (1, 4, 16),
    "max_order": (4, 6, 8),
    "pageblock_order": (2, 4),
    "spins": (0, 2),
    "biased_locks": (False,),
    "start_pfn": (1, 77),
}
OTHER_NAMES = {  # of ``Arena.create``, of Linux, and of other options
    "poison": "fill=poison",
    "zero": "fill=zero",
    "min_free_pages": "min-free=SIZE",
    "min-free-pages": "min-free=SIZE",
    "pcp_form": "pcp=list",
    "pcp-form": "pcp=list",
    "link_store": "--link-store",
    "link-store": "--link-store",
    "zones": "--zones",
    "size": "--ram",
}


def _entries(text: str) -> int:
    return 0 if text == "off" else parse_entries(text, "geometry.history")


def _one_in(rate: int) -> str:
    return f"1/{rate}" if rate else "off"


def _whole(most: int, least: int = 0) -> Any:
    return quantity(f"a whole number from {least} to {most}", ge=least, le=most)


Order = Annotated[int, _whole(c.ORDERS - 1)]


class GeometrySpec(Struct, frozen=True):
    """What a run sets of its ``Geometry``. ``pageblock_order`` None: 9, or ``max_order``."""

    fill: Annotated[str, quantity(choices=FILLS)] = "none"
    init_on_alloc: Switch = field(default=False, name="init-on-alloc")
    init_on_free: Switch = field(default=False, name="init-on-free")
    harden: Switch = False
    min_free_bytes: (
        Annotated[int, quantity("a size such as 1MiB, or off", parse_bytes, exact_bytes)] | None
    ) = field(default=None, name="min-free")
    pcp: Annotated[str, quantity(choices=tuple(PCP_FORMS))] = "array"
    pcp_batch: Annotated[int, _whole(MOST_LISTED, 1)] = field(default=63, name="pcp-batch")
    pcp_high: Annotated[int, _whole(MOST_LISTED, 1)] = field(default=378, name="pcp-high")
    max_order: Order = field(default=10, name="max-order")
    pageblock_order: Order | None = field(default=None, name="pageblock-order")
    reporting: Switch = False
    debug_pagealloc: Switch = field(default=False, name="debug-pagealloc")
    unaccepted: Switch = False
    spins: Annotated[int, _whole(1 << 20)] = 40
    biased_locks: Switch = field(default=True, name="biased-locks")
    history: Annotated[
        int, quantity(read=_entries, show=lambda entries: str(entries) if entries else "off")
    ] = 256
    start_pfn: Annotated[int, _whole(1 << 20)] = field(default=0, name="start-pfn")
    page_owner: Annotated[int, quantity(read=sampling_rate, show=_one_in)] = field(
        default=0, name="page-owner"
    )
    cpus: Annotated[int, _whole(c.MAX_CPUS, 1)] | None = None

    @property
    def pageblocks(self) -> int:
        """The order of a pageblock."""
        return min(9, self.max_order) if self.pageblock_order is None else self.pageblock_order

    @property
    def min_free_pages(self) -> int:
        return -(-(self.min_free_bytes or 0) // PAGE_BYTES)

    def fields(self, seed: int) -> dict[str, Any]:
        """Arguments of ``Geometry``; ``seed`` decides the secret of ``harden``."""
        return {
            "poison": self.fill == "poison",
            "zero": self.fill == "zero",
            "init_on_alloc": self.init_on_alloc,
            "init_on_free": self.init_on_free,
            "harden": derive(seed, "secret of free pointers") if self.harden else 0,
            "min_free_pages": self.min_free_pages,
            "pcp_form": self.pcp,
            "pcp_batch": self.pcp_batch,
            "pcp_high": self.pcp_high,
            "max_order": self.max_order,
            "pageblock_order": self.pageblocks,
            "reporting": self.reporting,
            "debug_pagealloc": self.debug_pagealloc,
            "unaccepted": self.unaccepted,
            "spins": self.spins,
            "biased_locks": self.biased_locks and asymmetric.is_possible(),
            "history": self.history,
            "start_pfn": self.start_pfn,
            "page_owner": self.page_owner,
        }

    def __str__(self) -> str:
        return line_of(self, brief=True) or "off"


def drawn_geometry(seed: int) -> GeometrySpec:
    """Settings drawn from ``seed``, each as often at its default as at another value.

    They exclude no link store, and a zone of a few MiB suffices.
    """
    draw = random.Random(derive(seed, "geometry"))
    changed: dict[str, Any] = {}
    for name, values in DRAWN.items():
        if draw.random() < CHANGED_SHARE:
            changed[name] = draw.choice(values)
    batch = changed.get("pcp_batch", GeometrySpec().pcp_batch)
    high = batch * draw.choice((1, 3, 6))
    return GeometrySpec(**changed, pcp_high=high)


def parse_geometry(given: object) -> GeometrySpec:
    """The settings of a line or of a table; ``off`` changes none. A misuse is one line."""
    names = given.split(",") if isinstance(given, str) else given
    for name in names if isinstance(names, Iterable) else ():
        key = str(name).partition("=")[0].strip()
        if key in OTHER_NAMES:
            raise MisuseError(f"geometry: {key!r} is unknown; did you mean {OTHER_NAMES[key]}?")
    return GeometrySpec() if given == "off" else read(GeometrySpec, given, "geometry")
