"""Cases for each public operation that the explorer's programs lack, one for each form of it.

A case is an ``Operation`` in a state of initial_states.py. Some have variants as well, in which
they come to writes that no other case reaches.

Public operations are those that the Python faces call (pages.py, caches.py, arrays.py) and those of
which recovery consists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from shmalloc import constants_slab as cs
from shmalloc.layout import ZoneSpec
from stress.crash.actions import (
    adopt_page,
    bulk_take_put,
    drain_every_list,
    drain_other,
    free_of_zero,
    isolate_and_back,
    offline_and_back,
    order_0,
    order_1,
    order_2,
    order_3,
    order_4,
    page_churn,
    page_churn_1,
    poison_free,
    poison_used,
    put_held,
    range_and_back,
    recover_too,
    take_put_decay,
    two_types,
    unplug_and_plug_other,
    wait_take_put,
    whole_pageblocks,
    zone_rounds,
)
from stress.crash.array_operations import array_operations
from stress.crash.initial_states import (
    OBJECT_STATES,
    initialized,
    kept_offline,
    many_orders,
    objects,
    pages,
    room_for_another,
    sheaves,
    sheaves_of_zero,
    two_slabs,
    wide_sheaves,
    with_kmalloc,
    without_kmalloc,
)
from stress.crash.object_actions import (
    SMALL_BYTES,
    adopt_one,
    boot_checked,
    boot_kmalloc,
    boot_with_sheaves,
    create_and_destroy,
    create_and_keep,
    create_with_image,
    destroy_cache,
    kmalloc_big,
    kmalloc_round,
    kmalloc_small,
    object_churn,
    object_pair,
    objects_bulk,
    objects_bulk_many,
    objects_round,
    objects_written,
    reap_absent,
)
from stress.crash.operation import Operation
from stress.crash.try_operations import reclaim_operation, try_operations
from stress.programs.held import OBJECTS
from stress.programs.initial_state import InitialState, reshaped
from stress.programs.slab import EXACT_EACH, ONE_EACH, idle, shrink, take_and_put

# The variants (operation.py) that let an operation reach writes that it does not reach otherwise.
VARIED = {
    "list": (
        "pages-bulk-zones", "pages-decay", "pages-drain-all", "pages-drain-list", "pages-wait",
        "range-contig", "range-isolate", "range-offline", "range-poison-free", "hotplug-caches",
        "objects-exact", "objects-bulk-hardened", "kmalloc-slabs", "kmalloc-boot-sheaves",
        "cache-shrink-slabs", "cache-destroy", "reap-of-pages",
    ),
    "index": (
        "pages-bulk-zones", "pages-types", "pages-drain-list", "pages-large", "range-contig",
        "range-isolate", "range-offline", "range-poison-free", "hotplug-slabs", "cache-destroy",
    ),
    "bitmap": (
        "pages-bulk-zones", "pages-types", "pages-large", "range-contig", "range-poison-free",
        "hotplug-slabs",
    ),
    "waiter": (
        "pages-order-0-list", "pages-bulk", "pages-remote", "pages-wait", "pages-drain-all",
        "pages-drain-list", "range-isolate", "range-contig", "range-offline", "range-poison-used",
        "hotplug", "hotplug-slabs", "objects-slabs", "objects-bulk-slabs", "objects-many-short",
        "kmalloc-slabs", "kmalloc-boot-sheaves", "cache-shrink-wide", "cache-destroy",
        "reap-of-pages",
    ),
    "spins": (
        "pages-bulk-zones", "pages-drain-all", "pages-decay", "pages-wait", "range-contig",
        "range-isolate", "range-offline", "hotplug-caches", "objects-hardened",
        "objects-bulk-hardened", "kmalloc-small", "cache-shrink-full", "cache-create",
        "reap-of-slabs",
    ),
    "types": (
        "pages-bulk", "pages-drain-all", "pages-decay", "pages-pageblocks", "pages-remote",
        "pages-spins", "pages-wait", "range-contig", "range-isolate", "range-offline",
        "range-poison-free", "hotplug", "objects-slabs", "objects-bulk-slabs", "kmalloc-slabs",
        "cache-shrink-slabs", "cache-destroy", "reap-of-pages",
    ),
    "fill": (
        "pages-bulk-zones", "range-contig", "hotplug-caches", "hotplug-slabs",
        "objects-bulk-debug", "kmalloc-boot-sheaves", "cache-shrink-wide", "reap-of-pages",
    ),
    "init": (
        "pages-order-0", "pages-bulk", "objects-slabs", "objects-sheaves-exact", "objects-debug",
        "objects-many-sheaves", "kmalloc-sheaves", "reap-of-sheaves", "cache-shrink-wide",
    ),
    "sampled": ("pages-order-0", "range-contig", "objects-slabs", "adopt-page", "adopt-object"),
    "marked": ("cache-shrink-wide", "cache-destroy", "reap-of-hardened"),
}  # fmt: skip


def _pages() -> list[Operation]:
    small = (
        ("pages-order-0", pages, order_0, "refill, split, drain above the high mark, merge"),
        ("pages-order-0-list", lambda: pages(pcp_form="list"), order_0, "linked per-CPU lists"),
        ("pages-order-0-descriptor", lambda: pages(link_store="descriptor", pcp_form="list"),
         order_0, "list links in the descriptors"),
        ("pages-order-0-table", lambda: pages(link_store="table"), order_0, "links in a table"),
        ("pages-order-0-index", lambda: pages(link_store="index"), order_0,
         "arrays of free blocks: what leaves the middle is replaced by the last one"),
        ("pages-order-0-bitmap", lambda: pages(link_store="bitmap"), order_0,
         "bits of free blocks, and summaries of them"),
        ("pages-order-0-zero", lambda: pages(4, zero=True), order_0, "free pages are zeroed"),
        ("pages-order-0-poison", lambda: pages(4, poison=True), order_0, "free pages are poisoned"),
        ("pages-order-1", many_orders, order_1, "a block of order 1, through its own list"),
        ("pages-order-2", many_orders, order_2, "a block of order 2"),
        ("pages-order-3", many_orders, order_3, "a block of order 3"),
        ("pages-order-4", many_orders, order_4, "a whole pageblock"),
        ("pages-large", lambda: many_orders(pageblock_order=3), order_4,
         "a block above the pageblock order: past the per-CPU lists"),
        ("pages-pageblocks", lambda: pages(8, pageblock_order=2), whole_pageblocks,
         "whole pageblocks: a per-CPU list keeps one"),
        ("pages-types", lambda: pages(8, pageblock_order=2), two_types,
         "a pageblock is claimed for another migratetype"),
        ("pages-steal", lambda: pages(4, pageblock_order=2).take(0, 0, 1), two_types,
         "a page is stolen from another migratetype"),
        ("pages-zones", lambda: pages(3, max_order=0, zones=(ZoneSpec(1), ZoneSpec(2))), order_0,
         "the home zone is empty: the next one serves"),
        ("pages-last", lambda: pages(2, max_order=1), order_0, "nothing is left: drain and retry"),
        ("pages-bulk", pages, bulk_take_put, "three pages under one hold of the lock, and back"),
        ("pages-bulk-zones", lambda: pages(3, max_order=0, zones=(ZoneSpec(1), ZoneSpec(2))),
         bulk_take_put, "lists that cross zones"),
        ("pages-drain-all", lambda: pages().keep(0, 2).keep(1), drain_every_list, "all lists"),
        ("pages-drain-cpu", lambda: pages().keep(1, 2), drain_other, "another CPU's lists"),
        ("pages-drain-list", lambda: pages(pcp_form="list").keep(1, 2), drain_other,
         "another CPU's linked lists"),
        ("pages-spins", lambda: pages(spins=3), order_0, "a held lock: spins, then sleeps"),
        ("pages-decay", lambda: pages(8, pcp_high=4), take_put_decay, "the high mark sinks"),
    )  # fmt: skip
    found = [Operation(name, state, (run, page_churn), text) for name, state, run, text in small]
    wait = Operation(
        "pages-wait",
        lambda: InitialState.booted(1).take(1),
        (wait_take_put, put_held),
        "a CPU sleeps until the only page is freed",
        reaping=True,
    )
    remote = Operation(
        "pages-remote",
        lambda: pages().take(0),
        (page_churn, free_of_zero),
        "a page is freed on another CPU than the one that allocated it",
    )
    rounds = Operation(
        "zone-rounds",
        many_orders,
        (zone_rounds, zone_rounds),
        "a sleeper asks that the zone lock be kept for it, and dies",
    )
    return [*found, wait, remote, rounds]


def _ranges() -> list[Operation]:
    def blocks() -> InitialState:
        return pages(4, pageblock_order=1)

    small = (
        ("range-isolate", blocks, isolate_and_back, "a range is isolated, and back", 0),
        ("range-offline", blocks, offline_and_back, "a range goes offline, and online again", 0),
        ("range-contig", blocks, range_and_back, "a range across pageblocks, and back", 0),
        (
            "range-contig-full",
            lambda: pages(4, pageblock_order=1, pcp_batch=1, pcp_high=1),
            range_and_back,
            "a range is freed past a full per-CPU list",
            0,
        ),
        ("range-poison-free", pages, poison_free, "one page is cut out of a free block", 1),
        ("range-poison-used", lambda: pages().take(0), poison_used, "poisoned as it is freed", 1),
        ("hotplug", lambda: pages().keep(1), unplug_and_plug_other, "a slot is unplugged", 0),
        ("hotplug-sheaves", sheaves, unplug_and_plug_other, "... with sheaves", 0),
        ("hotplug-slabs", two_slabs, unplug_and_plug_other, "... and its slabs become empty", 0),
    )
    kept = Operation(
        "range-kept-offline",
        kept_offline,
        (isolate_and_back, order_0),
        "a range that CPU 1 has taken offline stays so, whichever CPU dies",
    )
    caches = Operation(
        "hotplug-caches",
        room_for_another,
        (unplug_and_plug_other, create_and_destroy),
        "a slot is unplugged while a cache is created and destroyed",
    )
    return [
        *(
            Operation(name, state, (run, object_churn if "-s" in name else page_churn), text, left)
            for name, state, run, text, left in small
        ),
        kept,
        caches,
    ]


def _objects() -> list[Operation]:
    """Objects one by one, by lists, by kmalloc, and those of a CPU that is gone."""
    found = []
    for name, (state, text) in OBJECT_STATES.items():
        found += [
            Operation(f"objects-{name}", state, (objects_round, object_churn), text),
            Operation(f"objects-bulk-{name}", state, (objects_bulk, object_churn),
                      f"three at once; {text}"),
            Operation(f"objects-many-{name}", state, (objects_bulk_many, object_churn),
                      f"seven at once; {text}"),
            Operation(f"kmalloc-{name}", partial(of_kmalloc, state), (kmalloc_round, kmalloc_round),
                      f"kmalloc and kfree; {text}"),
            Operation(f"reap-of-{name}", partial(of_absent, state), (reap_absent, object_churn),
                      f"objects of an absent CPU are freed; {text}"),
        ]  # fmt: skip
    return found


def of_kmalloc(state: Callable[[], InitialState]) -> InitialState:
    """The cache serves small requests of kmalloc."""
    return state().as_kmalloc(SMALL_BYTES)


def of_absent(state: Callable[[], InitialState]) -> InitialState:
    """A CPU slot on which no process runs owns objects."""
    with reshaped(more_cpus=1):
        made = state()
    for slot in range(OBJECTS):
        if made.may_take_object(made.absent, slot):
            made.give_away(made.absent, slot)
    return made


def _caches() -> list[Operation]:
    small = (
        (
            "cache-shrink",
            lambda: sheaves().take_object(0).put_object(0),
            shrink,
            "sheaves are flushed, empty slabs given back",
        ),
        ("cache-shrink-wide", wide_sheaves, shrink, "a sheaf with objects of two slabs"),
        ("cache-shrink-full", sheaves_of_zero, shrink, "a full sheaf in the barn"),
        ("cache-shrink-slabs", two_slabs, shrink, "two slabs are empty afterwards"),
        ("cache-image", room_for_another, create_with_image, "a debug cache with a constructor"),
        (
            "cache-create",
            room_for_another,
            create_and_destroy,
            "a cache with sheaves is created and destroyed",
        ),
        ("cache-destroy", two_slabs, destroy_cache, "with sheaves that hold all of two slabs"),
    )
    pair = Operation(
        "objects-pair",
        lambda: sheaves().take_object(0).take_object(0, 1).put_object(0).put_object(0, 1),
        (object_pair, object_churn),
        "full sheaves change places",
    )
    reborn = Operation(
        "cache-reborn",
        lambda: objects(cs.CF_NO_SHEAVES, caches=1),
        (destroy_cache, create_and_keep),
        "a cache is created in the place of a destroyed one",
    )
    found = [
        Operation(name, state, (run, idle if name == "cache-destroy" else object_churn), text)
        for name, state, run, text in small
    ]
    written = [
        Operation(
            f"objects-written-{name}",
            partial(initialized, made, flags),
            (objects_written, objects_written),
            "every object is written to by its owner",
        )
        for name, made, flags in (
            ("slabs", objects, cs.CF_NO_SHEAVES),
            ("sheaves", sheaves, ONE_EACH),
            ("exact", sheaves, EXACT_EACH),
        )
    ]
    return [*found, *written, pair, reborn]


def _kmalloc() -> list[Operation]:
    def room_for_classes() -> InitialState:
        return without_kmalloc(page_bytes=512, caches=16)

    return [
        Operation("kmalloc-boot", without_kmalloc, (boot_kmalloc, kmalloc_big),
                  "size classes are created"),
        Operation("kmalloc-boot-sheaves", room_for_classes, (boot_with_sheaves, kmalloc_big),
                  "size classes with sheaves are created"),
        Operation("kmalloc-boot-debug", room_for_classes, (boot_checked, kmalloc_big),
                  "size classes with checks are created"),
        Operation("kmalloc-boot-beside", without_kmalloc, (boot_kmalloc, create_and_destroy),
                  "size classes are created beside a cache"),
        Operation("kmalloc-small", with_kmalloc, (kmalloc_small, kmalloc_small), "by a class"),
        Operation("kmalloc-large", with_kmalloc, (kmalloc_big, kmalloc_big), "from whole pages"),
    ]  # fmt: skip


def _owners() -> list[Operation]:
    def with_pages() -> InitialState:
        return pages().take(0).take(0, 1, 1).take(1)

    def with_objects() -> InitialState:
        return objects(cs.CF_NO_SHEAVES).take_object(0).take_object(0, 1).take_object(1)

    def in_sheaves() -> InitialState:
        return sheaves().take_object(0).take_object(0, 1).take_object(1)

    def pages_of_absent() -> InitialState:
        with reshaped(more_cpus=1):
            made = pages()
        return (
            made.take(made.absent)
            .take(made.absent, 1, 1)
            .forget(made.absent)
            .forget(made.absent, 1)
        )

    return [
        Operation("reap-pages", with_pages, (page_churn_1, page_churn_1),
                  "the dead CPU owns pages", reaping=True),
        Operation("reap-objects", with_objects, (take_and_put, take_and_put),
                  "the dead CPU owns objects", reaping=True),
        Operation("reap-sheaves", in_sheaves, (take_and_put, take_and_put),
                  "the dead CPU owns objects, freed through sheaves", reaping=True),
        Operation("reap-of-pages", pages_of_absent, (reap_absent, page_churn),
                  "pages of an absent CPU are freed"),
        Operation("recover-beside", pages, (page_churn, recover_too),
                  "two CPUs recover at once: one waits for the other"),
        Operation("recover-recover", pages, (recover_too, recover_too),
                  "... and sleeps when the other one dies"),
        Operation("adopt-page", lambda: pages().take(0), (page_churn_1, adopt_page),
                  "a page is passed on", reaping=True),
        Operation("adopt-object", lambda: objects(cs.CF_NO_SHEAVES).take_object(0),
                  (take_and_put, adopt_one), "an object is passed on", reaping=True),
    ]  # fmt: skip


def _varied(plain: Mapping[str, Operation]) -> Iterator[Operation]:
    for name, chosen in VARIED.items():
        for which in chosen:
            yield plain[which].varied(name)


_PLAIN = {
    op.name: op
    for op in (
        *_pages(),
        *_ranges(),
        *_objects(),
        *_caches(),
        *_kmalloc(),
        *_owners(),
        *array_operations(),
        *try_operations(),
        reclaim_operation(),
    )
}
OPERATIONS = _PLAIN | {op.name: op for op in _varied(_PLAIN)}
