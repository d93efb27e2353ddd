"""One case for each public operation that the explorer's programs lack, in the shapes it has.

CPU 0 makes the operation, mostly once and undoes it; CPU 1 takes and frees a page or an object
beside it, so that there is somebody who must be able to go on. Both die in turn. Worlds are small,
but large enough for an operation's whole way: a split and a merge on several levels, a refill of
more than one block, a sheaf that overflows.

Public is what the Python faces call (pages.py, caches.py, arrays.py) and what recovery itself is
made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

from shmalloc.constants_slab import CF_DEBUG, CF_EXACT, CF_NO_SHEAVES, CF_SHUFFLE
from shmalloc.kernel.kmalloc import kmalloc_boot
from shmalloc.layout import ZoneSpec
from stress.crash.actions import (
    adopt_one, adopt_page, boot_kmalloc, bulk_take_put, create_and_destroy, create_and_keep,
    create_with_image, destroy_cache, drain_everybody, drain_other, free_of_zero, grow_table,
    isolate_and_back, kmalloc_big, kmalloc_small, object_churn, object_churn_2, object_pair,
    objects_bulk, objects_round, offline_and_back, order_0, order_1, order_2, order_3, order_4,
    page_churn, page_churn_1, poison_free, poison_used, put_held, range_and_back, recover_too,
    shrink_cache, take_put_decay, two_types, unplug_and_plug_other, wait_take_put,
    whole_pageblocks,
)  # fmt: skip
from stress.crash.adapt import build, case_of
from stress.crash.case import CrashCase
from stress.crash.kernels import table_grew
from stress.explorer.program import Program
from stress.programs.held import OBJECTS, WORK_WORDS
from stress.programs.slab import FOUR_IN_A_SLAB, ONE_EACH, TWO_EACH, TWO_IN_A_SLAB
from stress.programs.world import SHEAF_PAGE_BYTES, World


def pages(count: int = 8, **changes: Any) -> World:
    """Blocks of up to four pages, lists of up to two."""
    shape = {"max_order": 2, "pcp_batch": 2, "pcp_high": 2, **changes}
    return World.booted(count, work_words=WORK_WORDS, **shape)


def many_orders(**changes: Any) -> World:
    return pages(32, max_order=4, **changes)


def objects(
    flags: int, pages_booted: int = 4, object_bytes: int = TWO_IN_A_SLAB, **changes: Any
) -> World:
    """Direct to slabs, one page each, two objects in one; room for a second cache."""
    return World.booted(pages_booted, **{"caches": 2, **changes}).with_cache(object_bytes, flags)


def sheaves(flags: int = ONE_EACH) -> World:
    """Through sheaves, four objects in a slab."""
    return objects(flags, 6, FOUR_IN_A_SLAB, page_bytes=SHEAF_PAGE_BYTES)


def wide_sheaves() -> World:
    """Sheaves of two objects, CPU 0 with one full of two slabs' objects."""
    world = sheaves(TWO_EACH)
    for slot in range(OBJECTS):
        world.take_object(0, slot)
    world.take_object(1)
    return world.put_object(0).put_object(1)


def without_kmalloc() -> World:
    return World.booted(16, max_order=2, caches=8)


def with_kmalloc() -> World:
    world = without_kmalloc()
    made = kmalloc_boot(world.ram, 0, CF_NO_SHEAVES)
    assert made > 0, f"no caches for kmalloc: {made}"
    return world


@dataclass(frozen=True)
class Operation:
    """A case to be built: its world, what the CPUs do, how many pages may end poisoned."""

    name: str
    world: Callable[[], World]
    threads: tuple[FunctionType, ...]
    story: str
    may_leave: int = 0
    reaping: bool = False
    check: FunctionType | None = None  # for the reports that it provokes (adapt.py)

    def program(self) -> Program:
        program = self.world().program(self.name, self.threads, self.story)
        return program if self.check is None else replace(program, check=self.check)

    def case(self) -> CrashCase:
        return case_of(build(self.program), self.may_leave, self.reaping)


def _pages() -> list[Operation]:
    small = (
        ("pages-order-0", pages, order_0, "refill, split, drain above the high mark, merge"),
        ("pages-order-0-list", lambda: pages(pcp_form="list"), order_0, "per-CPU lists linked"),
        ("pages-order-0-descriptor", lambda: pages(link_store="descriptor", pcp_form="list"),
         order_0, "list links in the descriptors"),
        ("pages-order-0-table", lambda: pages(link_store="table"), order_0, "... in a table"),
        ("pages-order-0-zero", lambda: pages(4, zero=True), order_0, "free pages are zeroed"),
        ("pages-order-0-poison", lambda: pages(4, poison=True), order_0, "... are poisoned"),
        ("pages-order-1", many_orders, order_1, "a block of order 1, through its own list"),
        ("pages-order-2", many_orders, order_2, "a block of order 2"),
        ("pages-order-3", many_orders, order_3, "a block of order 3"),
        ("pages-order-4", many_orders, order_4, "a whole pageblock"),
        ("pages-large", lambda: many_orders(pageblock_order=3), order_4,
         "a block above the pageblock order: past the per-CPU lists"),
        ("pages-pageblocks", lambda: pages(8, pageblock_order=2), whole_pageblocks,
         "pageblocks: a list keeps one"),
        ("pages-types", lambda: pages(8, pageblock_order=2), two_types,
         "a pageblock is claimed for another migratetype"),
        ("pages-steal", lambda: pages(4, pageblock_order=2).take(0, 0, 1), two_types,
         "a page is stolen from another migratetype"),
        ("pages-zones", lambda: pages(3, max_order=0, zones=(ZoneSpec(1), ZoneSpec(2))), order_0,
         "the home zone is empty: the next one"),
        ("pages-last", lambda: pages(2, max_order=1), order_0, "nothing is left: drain and again"),
        ("pages-bulk", pages, bulk_take_put, "three pages under one hold of the lock, and back"),
        ("pages-bulk-zones", lambda: pages(3, max_order=0, zones=(ZoneSpec(1), ZoneSpec(2))),
         bulk_take_put, "lists that cross zones"),
        ("pages-drain-all", lambda: pages().keep(0, 2).keep(1), drain_everybody, "all lists"),
        ("pages-drain-cpu", lambda: pages().keep(1, 2), drain_other, "another CPU's lists"),
        ("pages-drain-list", lambda: pages(pcp_form="list").keep(1, 2), drain_other,
         "another CPU's linked lists"),
        ("pages-spins", lambda: pages(spins=3), order_0, "some looks at a held lock, then a sleep"),
        ("pages-decay", lambda: pages(8, pcp_high=4), take_put_decay, "the high mark sinks"),
    )  # fmt: skip
    found = [Operation(name, world, (run, page_churn), text) for name, world, run, text in small]
    wait = Operation(
        "pages-wait", lambda: World.booted(1).take(1), (wait_take_put, put_held),
        "sleeps until the only page is freed", reaping=True,
    )  # fmt: skip
    remote = Operation(
        "pages-remote", lambda: pages().take(0), (page_churn, free_of_zero),
        "freed on another CPU than it was allocated on",
    )  # fmt: skip
    grow = Operation(
        "arrays-grow", pages, (grow_table, page_churn), "the array table takes a page for good",
        check=table_grew,
    )  # fmt: skip
    return [*found, wait, remote, grow]


def _ranges() -> list[Operation]:
    def blocks() -> World:
        return pages(4, pageblock_order=1)

    small = (
        ("range-isolate", blocks, isolate_and_back, "isolated, and back", 0),
        ("range-offline", blocks, offline_and_back, "offline, and online again", 0),
        ("range-contig", blocks, range_and_back, "a range across pageblocks, and back", 0),
        ("range-poison-free", pages, poison_free, "one page is cut out of a free block", 1),
        ("range-poison-used", lambda: pages().take(0), poison_used, "poisoned when it is freed", 1),
        ("hotplug", lambda: pages().keep(1), unplug_and_plug_other, "a slot is unplugged", 0),
        ("hotplug-sheaves", sheaves, unplug_and_plug_other, "... with sheaves", 0),
    )  # fmt: skip
    return [
        Operation(name, world, (run, object_churn if "sheaves" in name else page_churn), text, left)
        for name, world, run, text, left in small
    ]


def _objects() -> list[Operation]:
    small = (
        ("objects-slabs", lambda: objects(CF_NO_SHEAVES), objects_round, "slabs alone"),
        ("objects-exact", lambda: objects(CF_NO_SHEAVES | CF_EXACT), objects_round, "exact frees"),
        ("objects-shuffled", lambda: objects(CF_NO_SHEAVES | CF_SHUFFLE), objects_round,
         "a shuffled free list"),
        ("objects-hardened", lambda: objects(CF_NO_SHEAVES, harden=12345), objects_round,
         "scrambled free pointers"),
        ("objects-sheaves", sheaves, objects_round, "sheaves that run over"),
        ("objects-sheaves-exact", lambda: sheaves(ONE_EACH | CF_EXACT), objects_round,
         "sheaves, exact frees"),
        ("objects-debug", lambda: objects(CF_DEBUG, page_bytes=512), objects_round,
         "poison, red zones and tracks"),
        ("objects-bulk", lambda: objects(CF_NO_SHEAVES), objects_bulk, "three at once"),
        ("objects-bulk-sheaves", sheaves, objects_bulk, "three at once, through sheaves"),
        ("objects-bulk-debug", lambda: objects(CF_DEBUG, page_bytes=512), objects_bulk,
         "three at once, checked"),
        ("cache-shrink", lambda: sheaves().take_object(0).put_object(0), shrink_cache,
         "sheaves are flushed, empty slabs given back"),
        ("objects-sheaves-full", lambda: sheaves().take_object(0).take_object(0, 1).put_object(0)
         .put_object(0, 1), object_pair, "both sheaves are full: they change places"),
        ("objects-bulk-full", wide_sheaves, objects_bulk, "three at once, from a sheaf of two"),
        ("cache-shrink-wide", wide_sheaves, shrink_cache, "a sheaf with objects of two slabs"),
        ("cache-image", lambda: objects(CF_NO_SHEAVES, 6, page_bytes=512), create_with_image,
         "a debug cache with a constructor"),
        ("cache-create", lambda: objects(CF_NO_SHEAVES, 6, page_bytes=512), create_and_destroy,
         "a cache with sheaves is made and destroyed"),
    )  # fmt: skip
    reborn = Operation(
        "cache-reborn", lambda: objects(CF_NO_SHEAVES, caches=1), (destroy_cache, create_and_keep),
        "a cache is made where another one was destroyed",
    )  # fmt: skip
    return [
        *(Operation(name, world, (run, object_churn), text) for name, world, run, text in small),
        reborn,
    ]


def _kmalloc() -> list[Operation]:
    return [
        Operation("kmalloc-boot", without_kmalloc, (boot_kmalloc, kmalloc_big),
                  "size classes are made"),
        Operation("kmalloc-small", with_kmalloc, (kmalloc_small, kmalloc_small), "by a class"),
        Operation("kmalloc-large", with_kmalloc, (kmalloc_big, kmalloc_big), "whole pages"),
    ]  # fmt: skip


def _owners() -> list[Operation]:
    def with_pages() -> World:
        return pages().take(0).take(0, 1, 1).take(1)

    def with_objects() -> World:
        return objects(CF_NO_SHEAVES).take_object(0).take_object(0, 1).take_object(1)

    def in_sheaves() -> World:
        return sheaves().take_object(0).take_object(0, 1).take_object(1)

    return [
        Operation("reap-pages", with_pages, (page_churn_1, page_churn_1),
                  "the dead owns pages", reaping=True),
        Operation("reap-objects", with_objects, (object_churn_2, object_churn_2),
                  "the dead owns objects", reaping=True),
        Operation("reap-sheaves", in_sheaves, (object_churn_2, object_churn_2),
                  "the dead owns objects, freed through sheaves", reaping=True),
        Operation("recover-beside", pages, (page_churn, recover_too),
                  "two recover at once: one waits for the other"),
        Operation("adopt-page", lambda: pages().take(0), (page_churn_1, adopt_page),
                  "a page is passed on", reaping=True),
        Operation("adopt-object", lambda: objects(CF_NO_SHEAVES).take_object(0),
                  (object_churn_2, adopt_one), "an object is passed on", reaping=True),
    ]  # fmt: skip


OPERATIONS = {op.name: op for op in (*_pages(), *_ranges(), *_objects(), *_kmalloc(), *_owners())}
