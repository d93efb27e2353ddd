"""The segments of a bench: made before the workers start, audited when they have given all back.

They are as ``Arena.create`` makes them where nothing else is said, but free pointers are plain.

A place with ``keep`` is fragmented: its memory was allocated in single pages, and every ``keep``-th
is still held by the controller, so that no two free pages merge.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shmalloc import cpus as slots
from shmalloc.dialect import Kernel
from shmalloc.engine import asymmetric, get_engine
from shmalloc.kernels.audit import audit_teardown
from shmalloc.kernels.cache_set import cache_create, cache_destroy
from shmalloc.kernels.kmalloc import kmalloc_boot
from shmalloc.kernels.pcp import drain_all
from shmalloc.kernels.slots import claim_slot, release_slot
from shmalloc.layout import Geometry, ZoneSpec
from shmalloc.segment import Segment
from stress.bench.jobs import Place
from stress.bench.page_loops import AREA_WORDS, page_defragment, page_fragments
from stress.workloads.kmalloc import unmake_classes

PAGE_BYTES = 4096
KERNELS: tuple[Kernel, ...] = (
    audit_teardown,
    cache_create,
    cache_destroy,
    claim_slot,
    drain_all,
    kmalloc_boot,
    page_defragment,
    page_fragments,
    release_slot,
    unmake_classes,
)


@dataclass
class Made:
    """A segment and its ``caches`` by size. The controller has a claim of its own: the last one."""

    segment: Segment
    claim: int
    caches: dict[int, int] = field(default_factory=dict)
    kept: int = 0  # words that list what is held

    def call(self, kernel: Kernel, *arguments: int) -> int:
        return get_engine("native").call(kernel, self.segment.ram, self.claim, *arguments)

    def problem(self) -> str:
        """Free what the controller holds, and audit: what is wrong, "": nothing."""
        at = self.segment.layout.work(self.claim)
        if self.call(page_defragment, at, self.kept) != 0:
            return "a page that was held is gone"
        for size, cache in self.caches.items():
            if self.call(cache_destroy, cache) != 0:
                return f"objects of {size} bytes are left in their cache"
        if self.call(unmake_classes) != 0:
            return "objects are left in the caches of kmalloc"
        self.call(drain_all)
        found = self.call(audit_teardown)
        return f"the audit at the end found {found} violations" if found else ""


@contextmanager
def made(place: Place, workers: int, sizes: set[int], objects: bool) -> Iterator[Made]:
    """The segment of ``place`` for ``workers``, with a cache for each of ``sizes``, and those of
    kmalloc if there are ``objects``."""
    pages = place.ram_bytes // PAGE_BYTES
    words = max(AREA_WORDS, pages) if place.keep else AREA_WORDS
    geometry = Geometry(
        zones=(ZoneSpec(pages),),
        cpus=workers + 1,
        claims=workers + 1,
        work_words=words,
        link_store=place.link_store,
        biased_locks=asymmetric.is_possible(),
    )
    with Segment.create(geometry) as segment:
        slots.take(segment, workers, workers)
        one = Made(segment, workers)
        if objects:
            one.call(kmalloc_boot, 0)
            one.caches = {size: _cache(one, size) for size in sorted(sizes)}
        if place.keep:
            at = segment.layout.work(workers)
            one.kept = one.call(page_fragments, at, pages, place.keep)
            one.call(drain_all)
        yield one


def _cache(one: Made, size: int) -> int:
    cache = one.call(cache_create, size, 8, 0, 0)
    assert cache >= 0, f"cache_create answered {cache}"
    return cache
