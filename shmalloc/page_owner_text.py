"""Sampled allocations in the forms of Linux's debugfs, for eyes and scripts that know these.

::

    page_owner      a paragraph for each block of pages       /sys/kernel/debug/page_owner
    show_stacks     pages by call stack                       page_owner_stacks/show_stacks
    alloc_traces    objects by call stack, cache by cache     slab/<cache>/alloc_traces

The formats are those of mm/page_owner.c (``print_page_owner``, ``stack_print``) and mm/slub.c
(``slab_debugfs_show``). A frame is ``function (file:line)``. The mask is the migratetype: other
flags of a request are not kept. ``pid`` is the thread, ``tgid`` the process, ``ts`` on
CLOCK_MONOTONIC; of an entry whose process was killed before its stack was saved, there are no
frames, and both are the process.

Counts of ``show_stacks`` and ``alloc_traces`` are scaled up from the sample to all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from shmalloc import constants as c
from shmalloc.descriptor_text import type_text
from shmalloc.page_owner import PageOwner, Sample
from shmalloc.proc_text import MIGRATETYPES
from shmalloc.report_text import ReportText
from shmalloc.slab_counts import size_class_name

ByStack = tuple[tuple[str, ...], list[Sample]]


class PageOwnerText:
    """The texts about one segment. ``word``: one of its words now."""

    def __init__(self, owner: PageOwner, word: Callable[[int], int]) -> None:
        self._owner, self._word = owner, word
        self._samples = owner.samples()

    def page_owner(self) -> str:
        """A paragraph for each sampled block: how it was allocated, its state, its stack."""
        return "".join(self._block(one) for one in self._samples if not one.is_object)

    def show_stacks(self) -> str:
        """Each stack with its base pages, most first."""
        blocks = [one for one in self._samples if not one.is_object]
        groups = [(round(_pages(group)), stack) for stack, group in by_stack(blocks)]
        ordered = sorted(groups, key=lambda one: -one[0])
        return "".join(f"{_lines(stack)}nr_base_pages: {pages}\n\n" for pages, stack in ordered)

    def alloc_traces(self) -> str:
        """For each cache with sampled objects, its name, then its call stacks, most first."""
        parts = []
        objects = [one for one in self._samples if one.is_object]
        for cache in sorted({one.owner for one in objects}):
            groups = by_stack(one for one in objects if one.owner == cache)
            ordered = sorted(groups, key=lambda one: -_count(one[1]))
            parts.append(f"{self._cache_name(cache)}:\n")
            parts += [self._trace(stack, group) for stack, group in ordered]
        return "".join(parts)

    def _block(self, one: Sample) -> str:
        geometry = self._owner.layout.geometry
        block = one.where >> geometry.pageblock_order
        mt = one.word0 >> c.MT_SHIFT & c.MT_MASK
        block_mt = self._word(self._owner.layout.at["blocks"] + block) & c.MT_MASK
        zone = one.word0 >> c.ZONE_SHIFT & c.ZONE_MASK
        node = self._word(self._owner.layout.zone(min(zone, len(geometry.zones) - 1)) + c.Z_NODE)
        state = type_text(one.word0 & c.TYPE_MASK).lower()
        return (
            f"Page allocated via order {one.order}, mask {mt:#x}({MIGRATETYPES[mt]}),"
            f" pid {one.thread or one.pid}, tgid {one.pid} ({one.command}),"
            f" ts {one.time_ns or 0} ns\n"
            f"PFN {one.where:#x} type {MIGRATETYPES[mt]} Block {block} type"
            f" {MIGRATETYPES[block_mt]} Flags {one.word0:#x}({state}|node={node}|zone={zone})\n"
            f"{_lines(one.stack)}\n"
        )

    def _trace(self, stack: tuple[str, ...], group: list[Sample]) -> str:
        ages = [self._owner.age_s(one) or 0.0 for one in group]
        pids = [one.pid for one in group]
        cpus = sorted({self._cpu_of(one.claim) for one in group})
        shown = f"{min(ages):.0f}"
        if min(ages) != max(ages):
            shown += f"/{sum(ages) / len(ages):.0f}/{max(ages):.0f}"
        pid = f"{min(pids)}" if min(pids) == max(pids) else f"{min(pids)}-{max(pids)}"
        return (
            f"{round(_count(group)):7} {stack[0] if stack else '<not-available>'} age={shown}"
            f" pid={pid} cpus={','.join(map(str, cpus))}\n"
            + "".join(f"        {line}\n" for line in stack)
            + "\n"
        )

    def _cpu_of(self, claim: int) -> int:
        known = 0 <= claim < self._owner.layout.geometry.claims
        return self._word(self._owner.layout.cpu(claim) + c.C_CPU) if known else -1

    def _cache_name(self, cache: int) -> str:
        return cache_name(self._word, self._owner, cache)


class _Words:
    """Words by index, for what reads a segment that way."""

    def __init__(self, word: Callable[[int], int]) -> None:
        self._word = word

    def __getitem__(self, index: int) -> int:
        return self._word(index)


def cache_name(word: Callable[[int], int], owner: PageOwner, cache: int) -> str:
    """The name of a cache, or ``kmalloc-64``, or ``cache-3``."""
    words = _Words(word)
    name = ReportText(words, owner.layout).cache_name(cache)
    return name or size_class_name(words, owner.layout, cache) or f"cache-{cache}"


def by_stack(samples: Iterable[Sample]) -> Iterator[ByStack]:
    """The samples of each stack; those without one are together."""
    groups: dict[tuple[str, ...], list[Sample]] = {}
    for one in samples:
        groups.setdefault(one.stack, []).append(one)
    yield from groups.items()


def _lines(stack: Sequence[str]) -> str:
    return "".join(f" {line}\n" for line in stack)


def _count(samples: Iterable[Sample]) -> float:
    return sum(one.weight for one in samples)


def _pages(samples: Iterable[Sample]) -> float:
    return sum(one.weight * one.pages for one in samples)
