"""Which free belongs to which allocation: rows with keys become a trace with ids.

The rows are brought into the order of their times first; where the times cannot be right, the order
of the lines is kept. Then, for each key (a pfn, an address), in that order: an allocation begins a
life, the next free of the key ends it. What has no partner is left out and counted:

- frees of memory that was allocated before the recording began, or is free already
- frees of a block in other pieces than it was allocated in

A key that is allocated again without a free in between was freed on a path without an event (a
bulk free, RCU), or the event is lost. The time of that free is unknown, so the first allocation has
none.

All of it works on whole columns: a few passes of numpy, about 130 bytes an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from shmalloc import constants as c
from stress.trace.format import PAGE_ALLOC, PAGE_FREE, Trace
from stress.trace.rows import Caches

EARLIER = "frees of memory allocated before the recording began"
AGAIN = "frees of memory that is free already"
PIECES = "frees in other pieces than allocated"
CUT = "events after a buffer was full"
_TASKS = 1 << 16
_HASHED = 1 << 32  # addresses below it are hashed, or those of a 32-bit kernel


@dataclass
class Pairing:
    """Makes the trace. ``counts``: what was left out; ``notes``: what is approximated."""

    one_space: bool = False  # pages and objects have keys of one kind: ids of a program's memory
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    _unseen: int = 0

    def trace(self, table: np.ndarray, caches: Caches, full_cpus: Iterable[int] = ()) -> Trace:
        """The rows of ``table`` as a trace; without those behind the first full buffer."""
        table = self._cut(self._in_order(table), full_cpus)
        kind, arg, flag = (np.ascontiguousarray(table[name]) for name in ("kind", "arg", "flag"))
        partner = self._partners(table, kind, arg)
        if self._unseen:
            self.notes.append(
                f"allocations never freed, since the free has no event: {self._unseen:,}"
            )
        is_alloc = kind & 1 == 0
        keep = np.flatnonzero(is_alloc | (partner >= 0))
        source = np.where(is_alloc, np.arange(len(table)), partner)[keep]  # of all but the place
        ids = np.cumsum(is_alloc)[source] - 1
        freed = ~is_alloc[keep]
        of_pages = kind[source] == PAGE_ALLOC
        time = table["time"][keep]
        return Trace(
            time_ns=time - time[:1],
            cpu=self._cpus(table["cpu"][keep]),
            task=_dense(table["pid"][keep], _TASKS).astype(np.uint16),
            kind=(kind[source] + freed).astype(np.uint8),
            id=ids.astype(np.uint32),
            arg=np.where(freed & ~of_pages, 0, arg[source]).astype(np.uint32),
            flag=np.where(freed & of_pages, 0, flag[source]).astype(np.uint16),
            caches=caches.names(),
        )

    def _in_order(self, table: np.ndarray) -> np.ndarray:
        """``table`` in order of time, if the times of each CPU go forward; else as it is."""
        time = table["time"]
        back = np.flatnonzero(time[1:] < time[:-1])
        if not back.size:
            return table
        by_cpu = np.argsort(table["cpu"], kind="stable")
        own_time, cpu = time[by_cpu], table["cpu"][by_cpu]
        if not ((own_time[1:] < own_time[:-1]) & (cpu[1:] == cpu[:-1])).any():
            self.notes.append(
                f"sorted by time, since times of different CPUs go back: {len(back):,} times"
            )
            return table[np.argsort(time, kind="stable")]
        self.notes.append(
            f"the order of the lines is kept, since times of one CPU go back: {len(back):,} times"
        )
        table = table.copy()
        table["time"] = np.maximum.accumulate(time)
        return table

    def _cut(self, table: np.ndarray, full_cpus: Iterable[int]) -> np.ndarray:
        """Without what was recorded after the buffer of one of these CPUs was full.

        From that moment its events are missing, so events of other CPUs have no order to them.
        """
        times = [table["time"][table["cpu"] == cpu] for cpu in full_cpus]
        ends = [int(own.max()) for own in times if len(own)]
        if not ends:
            return table
        kept = table[table["time"] <= min(ends)]
        self.counts[CUT] += len(table) - len(kept)
        return kept

    def _partners(self, table: np.ndarray, kind: np.ndarray, arg: np.ndarray) -> np.ndarray:
        """For each free the row of its allocation; -1 for what has none."""
        partner = np.full(len(table), -1, dtype=np.int32)
        is_page = kind <= PAGE_FREE
        spaces = [np.arange(len(table))]
        if not self.one_space:
            spaces = [np.flatnonzero(is_page), np.flatnonzero(~is_page)]
            keys = table["key"][spaces[1]]
            if len(keys) and keys.max() < _HASHED:
                self.notes.append(
                    "addresses have 32 bits: if they are hashed, two objects may look like one"
                )
        for rows in spaces:
            found = self._match(kind[rows], table["key"][rows], arg[rows])
            partner[rows] = np.where(found >= 0, rows[found], -1) if len(rows) else found
        return partner

    def _match(self, kind: np.ndarray, key: np.ndarray, arg: np.ndarray) -> np.ndarray:
        """``_partners`` among rows whose keys mean the same."""
        order = np.argsort(key, kind="stable").astype(np.int32)
        key, kind, arg = key[order], kind[order], arg[order]
        alloc = kind & 1 == 0
        place = np.arange(len(key), dtype=np.int32)
        first = np.append(True, key[1:] != key[:-1])[: len(key)]
        begin = np.maximum.accumulate(np.where(first, place, 0))
        last = np.maximum.accumulate(np.where(alloc, place, -1))  # the allocation before, if any
        known = ~alloc & (last >= begin)
        pieces = known & (kind == PAGE_FREE) & (arg != arg[last])
        able = np.flatnonzero(known & ~pieces)
        ends = able[np.append(True, last[able][1:] != last[able][:-1])[: len(able)]]
        partner = np.full(len(key), -1, dtype=np.int32)
        partner[order[ends]] = order[last[ends]]
        self.counts[EARLIER] += int((~alloc & ~known).sum())
        self.counts[PIECES] += int(pieces.sum())
        self.counts[AGAIN] += len(able) - len(ends)
        self._unseen += _unseen(key, alloc, last[ends])
        return partner

    def _cpus(self, cpu: np.ndarray) -> np.ndarray:
        """CPU numbers that fit: numbered anew if they are large, folded if they are too many."""
        distinct = len(np.unique(cpu))
        if distinct > c.MAX_TRACED_CPUS:
            self.notes.append(
                f"{distinct} CPUs were recorded, {c.MAX_TRACED_CPUS} can be replayed:"
                " some share one"
            )
            cpu = np.unique(cpu, return_inverse=True)[1] % c.MAX_TRACED_CPUS
        elif cpu.max(initial=0) > np.iinfo(np.uint8).max:
            cpu = _dense(cpu, c.MAX_TRACED_CPUS)
        return cpu.astype(np.uint8)


def _unseen(key: np.ndarray, alloc: np.ndarray, freed: np.ndarray) -> int:
    """Allocations without a free whose key is allocated again; all in order of keys."""
    is_freed = np.zeros(len(key), dtype=bool)
    is_freed[freed] = True
    allocs = np.flatnonzero(alloc)
    before, after = allocs[:-1], allocs[1:]
    return int(((key[before] == key[after]) & ~is_freed[before]).sum())


def _dense(values: np.ndarray, limit: int) -> np.ndarray:
    """Numbers from 0 in the order of ``values``; the last one stands for all that are too many."""
    if not len(values):
        return values
    return np.minimum(np.unique(values, return_inverse=True)[1], limit - 1)
