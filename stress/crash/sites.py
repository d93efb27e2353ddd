"""Write sites of the allocator: those in the source, and those at which a crash was tried.

A write site is a line that changes memory or wakes a waiter, in a kernel that a public operation
reaches. Kernels that run only after misuse or damage are left out, each with the reason: what they
protect is already broken, and the allocator promises nothing about it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from shmalloc.dialect import Kernel, callees
from shmalloc.kernels import (
    array_recovery,
    buddy,
    cache_bulk,
    cache_set,
    contig,
    fault_injection,
    free_area,
    hotplug,
    kmalloc,
    lock,
    pages,
    pages_bulk,
    pages_wait,
    pcp,
    pcp_lists,
    pcp_repair,
    poison,
    reap,
    rebuild,
    recover,
    repair,
    reporting,
    retire,
    shared_arrays,
    sheaf,
    slab,
    slab_lists,
    try_pages,
)
from shmalloc.kernels import cache as cache_kernels
from shmalloc.structures.kernels import (
    array_values,
    atomics,
    entries,
    frames,
    hashtable,
    hashtable_writes,
    ring,
    robust,
)
from stress.machine.site import Site

WRITING_WORDS = frozenset({
    "store", "store_relaxed", "cas", "cas2", "exchange", "fetch_add", "fetch_or", "fetch_and",
    "wake", "wait",
})  # fmt: skip
PUBLIC: tuple[Kernel, ...] = (
    pages.alloc_pages, pages_wait.alloc_pages_wait, pages_bulk.alloc_bulk, pages.free_pages,
    pages.free_pages_of, pages_bulk.free_bulk, try_pages.try_alloc_pages, try_pages.try_free_pages,
    pcp.drain_all, pcp.drain_cpu, pcp.pcp_decay,
    poison.poison_page, contig.isolate_range, contig.unisolate_range, contig.alloc_contig_range,
    contig.free_contig_range, contig.offline_range, contig.online_range, hotplug.unplug_cpu,
    hotplug.plug_cpu, cache_kernels.cache_alloc, cache_bulk.cache_alloc_bulk,
    cache_kernels.cache_free, cache_bulk.cache_free_bulk, cache_set.cache_create,
    cache_set.cache_shrink, cache_set.cache_destroy, kmalloc.kmalloc_boot, kmalloc.kmalloc,
    kmalloc.kfree, reap.adopt_pages, reap.adopt_object, reap.reap, shared_arrays.make_array,
    shared_arrays.make_run, shared_arrays.open_array, shared_arrays.drop_array,
    shared_arrays.send_array, shared_arrays.load_array, array_recovery.copy_references,
    array_recovery.reap_tickets, recover.recover, robust.robust_lock, robust.robust_unlock,
    robust.robust_abandon, robust.make_consistent, atomics.atomic_exchange, atomics.atomic_cas,
    atomics.atomic_add, atomics.pair_exchange, atomics.pair_cas, entries.make_structure,
    entries.add_block, entries.publish_structure, entries.end_structure, ring.queue_begin,
    ring.queue_publish, ring.queue_drop, ring.queue_reclaim, ring.queue_begin_wait,
    ring.queue_take, ring.queue_release, ring.queue_return, ring.queue_adopt,
    ring.queue_take_wait, frames.frame_take, frames.frame_take_wait, frames.frame_take_over,
    frames.frame_give, frames.frame_adopt, hashtable.dict_find, hashtable.dict_nth,
    hashtable.dict_length, hashtable_writes.dict_begin, hashtable_writes.dict_exchange,
    hashtable_writes.dict_drop, hashtable_writes.dict_reclaim, array_values.hold_array,
    array_values.end_array_value, array_values.end_all_references,
)  # fmt: skip
# Halves of operations that the explorer's programs call on their own (held.py).
HALVES = {
    "zone_take": "alloc_pages",
    "zone_put": "free_pages_of",
    "zone_free": "free_pages_of",
    "mark_isolated": "isolate_range",
    "mark_restored": "unisolate_range",
    "wait_at_zone": "alloc_pages_wait",
    "wait_at_list": "alloc_pages_wait",
    "cache_alloc_at": "cache_alloc",
    "cache_free_at": "cache_free",
}
OPERATION_NAMES = frozenset(function.__name__ for function in PUBLIC) | HALVES.keys()
# Kernels that run after misuse or damage, and why a crash inside them needs no recovery.
LEFT_OUT: dict[Kernel, str] = {
    reporting.report: "a violation was found: what follows is evidence, not operation",
    reporting.append_history: "only people read the history, no kernel does",
    fault_injection.should_fail: "only tests make allocations fail; the words belong to the test",
    sheaf.in_two_places: "an object was found in two places",
    slab.freeze: "a slab failed a check",
    lock.give_up: "a process that lives and does not run: only the system's clock can tell",
    buddy.note_damage: "a link of a free block was overwritten from outside",
    buddy.check_node: "pages are filled, and one of them was written to while it was free",
    repair.repair_zone: "a link of a free block was overwritten from outside",
    pcp_lists.cut_off: "a link of a per-CPU list was overwritten from outside",
    pcp_repair.repair_lists: "a link of a per-CPU list was overwritten from outside",
    slab_lists.relist_part: "the list node of a slab was overwritten from outside",
    rebuild.retire_marked: "a link of a free block was overwritten from outside",
    retire.retire_changed: "a free block was written to: a violation",
}


# Calls that happen only then.
ONLY_THEN: dict[tuple[Kernel, Kernel], str] = {
    (buddy.link_free, free_area.forget_links): "a link of a free block was overwritten",
}


@dataclass(frozen=True)
class Coverage:
    """Write sites of one operation, or of all: the known ones, and those hit."""

    name: str
    known: frozenset[Site]
    hit: frozenset[Site]

    @property
    def missing(self) -> list[Site]:
        return sorted(self.known - self.hit)

    def __str__(self) -> str:
        return f"{len(self.known & self.hit)}/{len(self.known)}"


def write_sites(entry: Kernel) -> frozenset[Site]:
    """All write sites that ``entry`` can reach."""
    found: set[Site] = set()
    for function in reachable(entry):
        found.update(_own_sites(function))
    return frozenset(found)


def reachable(entry: Kernel) -> list[Kernel]:
    """``entry`` and the kernels that it reaches without entering one that is left out."""
    found: dict[Kernel, None] = {}
    todo = [entry]
    while todo:
        function = todo.pop()
        if function not in found and function not in LEFT_OUT:
            found[function] = None
            todo.extend(to for to in callees(function) if (function, to) not in ONLY_THEN)
    return list(found)


def know_all_sites() -> None:
    """Read the sources now, so that an edit during a long run does not matter."""
    for function in PUBLIC:
        write_sites(function)


@cache
def _own_sites(function: Kernel) -> tuple[Site, ...]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    first = function.__code__.co_firstlineno
    file = function.__code__.co_filename
    lines = sorted({first + line - 1 for line in _writing_lines(tree)})
    return tuple(Site(file, line, function.__qualname__) for line in lines)


def _writing_lines(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in WRITING_WORDS:
                yield node.lineno
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            yield node.lineno


def coverage(hit: Iterable[tuple[str, Site]]) -> list[Coverage]:
    """By operation, with the total at the end, from the (operation, site) pairs hit."""
    by_name: dict[str, set[Site]] = {}
    every: set[Site] = set()
    for name, site in hit:
        by_name.setdefault(HALVES.get(name, name), set()).add(site)
        every.add(site)
    found = []
    known: set[Site] = set()
    for function in PUBLIC:
        sites = write_sites(function)
        known |= sites
        name = function.__name__
        found.append(Coverage(name, sites, frozenset(by_name.get(name, ()))))
    return [*found, Coverage("all", frozenset(known), frozenset(every))]
