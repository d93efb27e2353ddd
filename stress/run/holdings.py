"""What a worker that died held, where in the code it was, and what it left without an owner.

Read from the words of the segment with numpy, from outside and while others go on. Nothing here
changes a word but ``forget``, which clears the dead worker's entries of the owner map.

When to compare: from the recovery of a slot until it is claimed again, only the controller frees or
takes what carries its label, because no workload that runs under kills hands anything to another
worker.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.layout import Layout, cache_stride, first_node_part
from shmalloc.memory import Ram
from stress.oracles.owners import ID_CLAIM_BITS
from stress.workloads.area import W_DATA
from stress.workloads.contig import (
    CONTIG_END,
    CONTIG_KIND,
    CONTIG_SLOTS,
    CONTIG_START,
    CONTIG_STRIDE,
    KIND_OFFLINE,
)
from stress.workloads.slabmix import MIX_CACHE_COUNT, MIX_CACHES

Words = NDArray[np.int64]

SLAB_READS = 10_000  # until one is not disturbed: each takes microseconds
_ALLOCATOR_OWNERS = (cs.OWNER_SLAB, cs.OWNER_SHEAVES, cs.OWNER_FROZEN)


@dataclass(frozen=True)
class Holdings:
    """What is labelled with one life of a slot: page blocks, and the pages the owner map knows.

    ``unknown_blocks``: those of which the owner map knows no page, without large ``kmalloc``s, for
    which it has no entries.
    """

    blocks: int
    unknown_blocks: int
    pages: frozenset[int]
    mapped: frozenset[int]

    @property
    def lost(self) -> frozenset[int]:
        """Pages that the worker owned and the allocator does not know as its own."""
        return self.mapped - self.pages


@dataclass(frozen=True)
class Orphaned:
    """What carries no label and is in no living worker's books."""

    caches: tuple[int, ...]
    offline: tuple[tuple[int, int], ...]  # ranges of pfns, pageblock by pageblock
    unplugged: tuple[int, ...]


class HoldingsReader:
    """A reader of one segment."""

    def __init__(self, ram: Ram, layout: Layout) -> None:
        self._ram = ram
        self._layout = layout
        words, geometry = ram.array, layout.geometry
        at = layout.at
        self._memmap = words[at["memmap"] : at["memmap"] + geometry.pages * c.D_WORDS].reshape(
            geometry.pages, c.D_WORDS
        )
        self._owners = words[at["owners"] : at["owners"] + geometry.pages]
        stride = cache_stride(geometry)
        caches = words[at["caches"] : at["caches"] + geometry.caches * stride]
        self._caches = caches.reshape(geometry.caches, stride)
        self._plain_locks = np.array(
            [c.H_CACHES_LOCK, c.H_RECOVERY]
            + [layout.zone(z) + c.Z_LOCK for z in range(len(geometry.zones))]
            + [
                layout.pcp(cpu, z) + c.P_LOCK
                for cpu in range(geometry.cpus)
                for z in range(len(geometry.zones))
            ]
        )
        first = first_node_part(geometry)
        nodes = [first + node * cs.KN_STRIDE for node in range(geometry.nodes)]
        self._cache_locks = np.array(
            [node + lock for node in nodes for lock in (cs.KN_LOCK, cs.KN_BARN_LOCK)]
            + [cs.K_CPUS + cpu * cs.KC_STRIDE + cs.KC_LOCK for cpu in range(geometry.cpus)]
        )

    def holds_lock(self, cpu: int, epoch: int) -> bool:
        """Whether this life of the slot holds a lock at this moment."""
        live = self._caches[self._caches[:, cs.K_STATE] != cs.CACHE_NONE]
        locks = np.concatenate(
            [self._ram.array[self._plain_locks], live[:, self._cache_locks].ravel()]
        )
        ours = (locks & c.LOCK_HOLDER_MASK == cpu + 1) & (locks >> c.LIFE_EPOCH_SHIFT == epoch)
        by_bias = self._ram.array[self._layout.cpu(cpu) + c.C_HOLDS] != 0
        return bool(ours.any() or by_bias)

    def is_inside(self, cpu: int, epoch: int) -> bool:
        """Whether a dead slot, not recovered yet, was in the middle of something.

        It held a lock, had announced an intent, was changing a CPU or waiting for memory, or had a
        block in its hands: in state PCP with its label, or on the way from or to a slab.
        A lower bound: others may have taken over its locks already.
        """
        slot = self._layout.cpu(cpu)
        states = self._ram.array[
            [self._layout.cpu(other) + c.C_STATE for other in range(self._layout.geometry.cpus)]
        ]
        first = self._layout.at["seats"]
        seats = self._ram.array[first : first + c.SEATS]
        changing = c.CPU_CHANGING | (cpu + 1) << c.CPU_CHANGER_SHIFT
        return (
            self.holds_lock(cpu, epoch)
            or self._ram.load(slot + c.C_INTENT) != 0
            or bool((seats & c.LOCK_HOLDER_MASK == cpu + 1).any())
            or bool((states == changing).any())
            or self._in_hand(cpu, epoch)
        )

    def _in_hand(self, cpu: int, epoch: int) -> bool:
        word0, word1 = self._memmap[:, 0], self._memmap[:, 1]
        detail = word0 >> c.LINK_SHIFT & c.LABEL_MASK
        kind = word0 & c.TYPE_MASK
        label = _label(cpu, epoch)
        if ((kind == c.T_ALLOCATED) & (word1 == cs.OWNER_SLAB) & (detail == label)).any():
            return True
        return bool(((kind == c.T_PCP) & (detail == label)).any())

    def holdings(self, cpu: int, epoch: int) -> Holdings:
        """Blocks and pages with the label of this life; pages that the owner map says are its."""
        word0, word1 = self._memmap[:, 0], self._memmap[:, 1]
        ours = (word0 & c.TYPE_MASK) == c.T_ALLOCATED
        ours &= (word0 >> c.LINK_SHIFT & c.LABEL_MASK) == _label(cpu, epoch)
        ours &= ~np.isin(word1, _ALLOCATOR_OWNERS)
        heads = np.flatnonzero(ours)
        orders = word0[heads] >> c.ORDER_SHIFT & c.ORDER_MASK
        blocks = [
            frozenset(range(head, head + (1 << order)))
            for head, order in zip(heads.tolist(), orders.tolist(), strict=True)
        ]
        mapped = frozenset(self._mapped(cpu).tolist())
        large = (word1[heads] == cs.OWNER_LARGE).tolist()
        unknown = sum(
            mapped.isdisjoint(block)
            for block, is_large in zip(blocks, large, strict=True)
            if not is_large
        )
        return Holdings(len(blocks), unknown, frozenset().union(*blocks), mapped)

    def objects(self, cpu: int, epoch: int) -> int:
        """Live objects that carry the word of this life, in slabs of any cache.

        Others work meanwhile, on the same slabs if caches are shared. What was read of a slab whose
        pair changed meanwhile may be of another slab, and counts for nothing (docs/bugs.md 23): it
        is read again. A slab with an object of the dead stays a slab.
        """
        heads = np.flatnonzero((self._memmap[:, 0] & c.TYPE_MASK) == c.T_SLAB)
        word = epoch << c.LIFE_EPOCH_SHIFT | cpu + 1
        return sum(self._objects_in(head, word) for head in heads.tolist())

    def _objects_in(self, head: int, word: int) -> int:
        """Objects in the slab at pfn ``head`` with an owner's word; 0 if it is none any more."""
        for _ in range(SLAB_READS):
            pair = self._memmap[head].copy()
            word0, word1 = pair.tolist()
            if word0 & c.TYPE_MASK != c.T_SLAB:
                return 0
            pages = 1 << (word0 >> c.ORDER_SHIFT & c.ORDER_MASK)
            end = (head + pages) << self._ram.load(c.H_PAGE_SHIFT)
            end += self._layout.at["frames"] - cs.SLAB_NODE_WORDS
            count = word1 >> c.S_OBJECTS_SHIFT & c.S_OBJECTS_MASK
            found = int((self._ram.array[end - count : end] == word).sum())
            if np.array_equal(self._memmap[head], pair):
                return found
        raise AssertionError(f"the slab at pfn {head} changed during {SLAB_READS} reads")

    def _mapped(self, cpu: int) -> NDArray[np.intp]:
        return np.flatnonzero(self._owners & ((1 << ID_CLAIM_BITS) - 1) == cpu + 1)

    def forget(self, cpu: int) -> None:
        """Clear the slot's entries of the owner map: its pages were freed for it."""
        self._owners[self._mapped(cpu)] = 0

    def orphaned(self, books: dict[int, str]) -> Orphaned:
        """What has no owner, with all workers parked; ``books``: slot -> workload of the living."""
        return Orphaned(
            tuple(self._orphaned_caches([cpu for cpu in books if books[cpu] == "slabmix"])),
            tuple(self._orphaned_ranges([cpu for cpu in books if books[cpu] == "contig"])),
            tuple(self._orphaned_slots([cpu for cpu in books if books[cpu] == "hotplug"])),
        )

    def _orphaned_caches(self, keepers: list[int]) -> list[int]:
        kept: set[int] = set()
        for cpu in keepers:
            at = self._layout.work(cpu) + MIX_CACHES
            kept.update(self._ram[at + i] - 1 for i in range(MIX_CACHE_COUNT))
        kept.update(self._ram[cs.H_KMALLOC + i] - 1 for i in range(cs.KMALLOC_CLASSES))
        exist = np.flatnonzero(self._caches[:, cs.K_STATE] != cs.CACHE_NONE)
        return [cache for cache in exist.tolist() if cache not in kept]

    def _orphaned_ranges(self, keepers: list[int]) -> list[tuple[int, int]]:
        step = 1 << self._layout.geometry.pageblock_order
        kept: set[int] = set()
        for cpu in keepers:
            for slot in range(CONTIG_SLOTS):
                at = self._layout.work(cpu) + W_DATA + slot * CONTIG_STRIDE
                if self._ram[at + CONTIG_KIND] == KIND_OFFLINE:
                    kept.update(
                        range(self._ram[at + CONTIG_START], self._ram[at + CONTIG_END], step)
                    )
        offline = np.flatnonzero(self._memmap[:, 0] & c.TYPE_MASK == c.T_OFFLINE)
        blocks = np.unique(offline // step * step).tolist()
        return [(block, block + step) for block in blocks if block not in kept]

    def _orphaned_slots(self, keepers: list[int]) -> list[int]:
        kept = {
            victim
            for cpu in keepers
            for victim in range(self._layout.geometry.cpus)
            if self._ram[self._layout.work(cpu) + W_DATA + victim] != 0
        }
        return [
            cpu
            for cpu in range(self._layout.geometry.cpus)
            if self._ram[self._layout.cpu(cpu) + c.C_STATE] == c.CPU_OFFLINE and cpu not in kept
        ]


def _label(cpu: int, epoch: int) -> int:
    """What a descriptor carries (shmalloc/kernels/slots.py)."""
    return (epoch & c.LABEL_EPOCH_MASK) << c.LABEL_EPOCH_SHIFT | cpu
