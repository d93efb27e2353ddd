"""``Plan``: a trace as the streams that the replay kernels read, one for each CPU of the recording.

::

    rows of the trace   0 1 2 3 4 5 6 ...              in time order
    slot 0              S 0   2     S 5 ... S L L S    its events in order, and sync points
    slot 1              S   1   3 4 S   6 ... S L S    at the same places in time

An event is one word (see the diagram in workloads/trace.py). A free names the slot and the position
where its block was allocated, and finds the handle there, so ids need no table.

Sync points lie at the start, at equal distances of events, directly after the row with the most
live pages, and at the end. After the end each slot frees what the recording never freed (L), and a
last sync point ends the round. A wait is always for a row that is earlier in time, so waits cannot
form a cycle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shmalloc import constants as c
from stress.trace.format import OBJECT_ALLOC, PAGE_ALLOC, PAGE_FREE, Trace
from stress.workloads import trace as trace_kernels
from stress.workloads.trace_sample import SAMPLE_WORDS

SYNC_POINTS = 64
SYNC, LEFT = -1, -2  # in the rows of a stream
PAGE_BYTES = 4096
_SLACK_CACHES = 16  # for caches that are not in the trace
_PAGES_OF_A_CACHE = 24  # sheaves, and a slab or two that are partly used on each CPU


@dataclass(frozen=True, eq=False)
class Plan:
    """The streams of a trace, and where they go in a work area. Made by ``Plan.of(trace)``."""

    trace: Trace
    streams: tuple[np.ndarray, ...]
    rows: tuple[np.ndarray, ...]  # of each stream: the trace's row of each event, SYNC, or LEFT
    sample_rows: np.ndarray  # number of rows before each sample
    cache_bytes: np.ndarray

    @classmethod
    def of(cls, trace: Trace) -> Plan:
        sample_rows = _sample_rows(trace)
        slot = np.searchsorted(np.array(trace.cpus), trace.cpu)
        rows = tuple(
            _with_syncs(np.flatnonzero(slot == s), sample_rows) for s in range(len(trace.cpus))
        )
        position = np.zeros(len(trace), dtype=np.int64)
        for mine in rows:
            position[mine[mine >= 0]] = np.flatnonzero(mine >= 0)
        words = _words(trace, slot, position)
        left = _never_freed(trace)
        ends = [_epilogue(trace, s, position, left[slot[left] == s]) for s in range(len(rows))]
        streams = tuple(
            np.append(_stream(words, m), end) for m, end in zip(rows, ends, strict=True)
        )
        whole = tuple(np.append(m, _end_rows(len(end))) for m, end in zip(rows, ends, strict=True))
        return cls(trace, streams, whole, sample_rows, _cache_bytes(trace))

    @property
    def slots(self) -> int:
        return len(self.streams)

    @property
    def samples_at(self) -> int:
        return trace_kernels.T_DATA + trace_kernels.CACHE_WORDS * len(self.cache_bytes)

    @property
    def stream_at(self) -> int:
        end = self.samples_at + SAMPLE_WORDS * len(self.sample_rows)
        return -(-end // c.LINE) * c.LINE

    @property
    def work_words(self) -> int:
        """Words of one work area, as long as the longest stream needs it."""
        longest = max(len(stream) for stream in self.streams)
        words = self.stream_at + trace_kernels.EVENT_WORDS * longest
        return -(-words // c.LINE) * c.LINE

    @property
    def caches(self) -> int:
        return len(self.cache_bytes) + _SLACK_CACHES

    @cached_property
    def live_pages(self) -> np.ndarray:
        """Pages that are live in the recording at each sample."""
        return np.asarray(np.cumsum(self.trace.page_delta())[self.sample_rows - 1])

    @property
    def needed_pages(self) -> int:
        return needed_pages(self.trace)

    def area(self, slot: int, loop: bool) -> np.ndarray:
        """The image of a work area, to be added to what every workload gets."""
        image = np.zeros(self.work_words, dtype=np.int64)
        stream = self.streams[slot]
        image[trace_kernels.TP_EVENTS] = len(stream)
        image[trace_kernels.TP_STREAM] = self.stream_at
        image[trace_kernels.TP_SAMPLES] = self.samples_at
        image[trace_kernels.TP_CACHES] = trace_kernels.T_DATA
        image[trace_kernels.TP_CACHE_COUNT] = len(self.cache_bytes)
        image[trace_kernels.TP_LOOP] = int(loop)
        if slot == 0:
            table = image[trace_kernels.T_DATA : self.samples_at]
            table[0::2], table[1::2] = self.cache_bytes, -1
        end = self.stream_at + trace_kernels.EVENT_WORDS * len(stream)
        image[self.stream_at : end : trace_kernels.EVENT_WORDS] = stream
        return image

    def expected(self, slot: int, rounds: int, cursor: int) -> dict[str, int]:
        """What ``slot`` has done after ``rounds`` whole rounds and ``cursor`` events more."""
        rows, remote = self.rows[slot], self.trace.remote()
        total: dict[str, int] = {}
        for part, times in ((rows, rounds), (rows[:cursor], 1)):
            done = part[part >= 0]
            by_kind = np.bincount(self.trace.kind[done], minlength=4)
            for name, count in zip(
                self.trace.counts(), (*by_kind, remote[done].sum()), strict=True
            ):
                total[name] = total.get(name, 0) + int(count) * times
        return total


def needed_pages(trace: Trace) -> int:
    """An estimate of the RAM that a replay without failures needs: pages and slabs."""
    sizes, is_object = _cache_bytes(trace), trace.kind >= OBJECT_ALLOC
    own = sizes[np.where(is_object, trace.flag, 0)] if is_object.any() else 0
    delta = np.where(is_object, np.where(trace.is_alloc, own, -own), 0)
    slabs = int(np.cumsum(delta).max(initial=0)) // PAGE_BYTES
    pages = trace.peak_pages() + slabs
    return int(pages * 1.1) + _PAGES_OF_A_CACHE * len(trace.cpus) * len(sizes) + 512


def _sample_rows(trace: Trace) -> np.ndarray:
    """The number of rows before each sample: equal distances, the peak, the end."""
    even = np.linspace(0, len(trace), SYNC_POINTS + 1)[1:].astype(np.int64)
    peak = int(np.argmax(np.cumsum(trace.page_delta()))) + 1
    return np.unique(np.append(even[even > 0], peak))


def _with_syncs(rows: np.ndarray, sample_rows: np.ndarray) -> np.ndarray:
    """The rows of one slot with SYNC at the start and wherever a sample is taken."""
    places = np.searchsorted(rows, sample_rows)
    return np.insert(rows, np.append(0, places), SYNC)


def _words(trace: Trace, slot: np.ndarray, position: np.ndarray) -> np.ndarray:
    """The event word of every row."""
    is_page = trace.kind <= PAGE_FREE
    what = np.where(is_page, trace.arg, trace.flag).astype(np.int64)
    mt = np.where(trace.kind == PAGE_ALLOC, trace.flag, 0).astype(np.int64)
    partner = trace.alloc_row()[trace.id]
    place = slot[partner] << trace_kernels.TRACE_SLOT_SHIFT
    place |= position[partner] << trace_kernels.TRACE_POSITION_SHIFT
    words = trace.kind.astype(np.int64) | what << trace_kernels.TRACE_WHAT_SHIFT
    return np.asarray(words | np.where(trace.is_alloc, mt << trace_kernels.TRACE_MT_SHIFT, place))


def _never_freed(trace: Trace) -> np.ndarray:
    """The rows of allocations without a free."""
    freed = np.zeros(int(trace.id.max()) + 1, dtype=bool)
    freed[trace.id[~trace.is_alloc]] = True
    return np.flatnonzero(trace.is_alloc & ~freed[trace.id])


def _epilogue(trace: Trace, slot: int, position: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Words that free what ``slot`` allocated and the recording never freed; a sync point."""
    kind = trace.kind[left].astype(np.int64)
    what = np.where(kind == PAGE_ALLOC, trace.arg[left], trace.flag[left]).astype(np.int64)
    place = (
        slot << trace_kernels.TRACE_SLOT_SHIFT
        | position[left] << trace_kernels.TRACE_POSITION_SHIFT
    )
    words = (kind + 1) | trace_kernels.TRACE_LEFT | what << trace_kernels.TRACE_WHAT_SHIFT | place
    return np.append(words, trace_kernels.TRACE_SYNC)


def _end_rows(length: int) -> np.ndarray:
    return np.append(np.full(length - 1, LEFT), SYNC)


def _stream(words: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The words of one slot: its events, and sync points numbered from 0."""
    is_sync = rows == SYNC
    number = np.cumsum(is_sync) - 1
    sync = trace_kernels.TRACE_SYNC | number << trace_kernels.TRACE_WHAT_SHIFT
    return np.where(is_sync, sync, words[rows])


def _cache_bytes(trace: Trace) -> np.ndarray:
    """Object size of each cache: the largest one requested (a kmalloc cache has many)."""
    sizes = np.ones(len(trace.caches), dtype=np.int64)
    allocs = trace.kind == OBJECT_ALLOC
    np.maximum.at(sizes, trace.flag[allocs], trace.arg[allocs].astype(np.int64))
    return sizes
