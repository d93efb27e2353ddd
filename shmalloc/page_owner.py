"""``PageOwner``: the sampled allocations of a segment that are still allocated, and their stacks.

Read from outside, while others allocate or after they died: an entry that is being written, or that
was when its writer was killed, is skipped, and so is one that changed while it was read, or whose
allocation was freed since. What is shown was allocated at the moment of its proof (page_owner.py of
the kernels); of a broken segment any number may come, so all are bounded before they are used.

The numbers are of a sample. ``Sample.weight`` says how many allocations an entry stands for, so
sums of weights are unbiased estimates (Horvitz and Thompson, 1952; decision 0025).

What this does not do: words for people (page_owner_text.py, leak_report.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.errors import MisuseError
from shmalloc.kernels.page_owner import SPREAD
from shmalloc.layout import Layout, cache_stride
from shmalloc.processes import printable
from shmalloc.sampled_layout import CHANCE_ONE, chance_of, page_owner_words

Read = Callable[[int, int], np.ndarray]  # a copy of so many words from a word on
MOST_TEXT_BYTES = 1 << 16


@dataclass(frozen=True)
class Sample:
    """One sampled allocation that is still allocated.

    ``where``: pfn of a block, or address of an object. ``owner``: owner word of a block, number of
    the cache of an object. ``word0``: of a block's descriptor; ``claim``, ``epoch``: who holds it
    now, by its label or owner word; ``adopted``: not the one that allocated it. ``pid``,
    ``command``, ``thread``: who allocated it.
    ``time_ns``: when, on CLOCK_MONOTONIC; None: not known. ``stack``: innermost frame first; empty:
    none was saved. ``weight``: allocations that it stands for. ``bytes``: of one.
    """

    is_object: bool
    where: int
    order: int
    owner: int
    word0: int
    claim: int
    epoch: int
    adopted: bool
    pid: int
    command: str
    thread: int
    time_ns: int | None
    handle: int
    stack: tuple[str, ...]
    weight: float
    bytes: int

    @property
    def pages(self) -> int:
        return 0 if self.is_object else 1 << self.order


class PageOwner:
    """The entries of one segment, of the moment at which they are asked for.

    Raises ``MisuseError`` for a segment that does not sample.
    """

    def __init__(self, layout: Layout, read: Read) -> None:
        if not layout.geometry.page_owner:
            raise MisuseError(
                "page_owner: allocations of this segment are not sampled; create it with"
                " page_owner='1/64', or shmstress run --geometry page-owner=1/64"
            )
        self.layout, self._read = layout, read
        self._table, self._depot = layout.at["page_owner"], layout.at["stacks"]
        self._stacks: dict[int, tuple[str, ...]] = {}

    @property
    def rate(self) -> int:
        """One page, or object, in so many is sampled."""
        return self.layout.geometry.page_owner

    @property
    def lost(self) -> int:
        """Samples that found no room in the table."""
        return self._word(self._table + c.PO_LOST)

    @property
    def lost_stacks(self) -> int:
        """Stacks that found no room in the depot."""
        return self._word(self._depot + c.SD_LOST)

    def samples(self) -> list[Sample]:
        """All that are allocated now, blocks before objects, by place."""
        first, again = self._copy(), self._copy()
        whole = ((first[0] & c.PO_READY) != 0) & (first[0] == again[0])
        whole &= (first[1] == again[1]).all(axis=1)
        rows = np.flatnonzero(whole)
        pairs = ((int(first[0][row]), first[1][row].tolist()) for row in rows)
        found = [sample for key, entry in pairs for sample in self._sample(key, entry)]
        return sorted(found, key=lambda one: (one.is_object, one.where))

    def of_page(self, pfn: int) -> Sample | None:
        """The one of the block that covers ``pfn``, if it was sampled."""
        orders = range(self.layout.geometry.max_order + 1)
        heads = sorted({pfn >> order << order for order in orders}, reverse=True)
        found = (one for head in heads for one in self._look_up(head, c.PO_PAGE))
        return next((one for one in found if pfn - one.where < one.pages), None)

    def of_object(self, address: int) -> Sample | None:
        """The one of the object at ``address``, if it was sampled."""
        return next(self._look_up(address, c.PO_OBJECT), None)

    # --- the table -----------------------------------------------------------------------------

    def _copy(self) -> tuple[np.ndarray, np.ndarray]:
        """(keys, entries: one row each). The keys lie in front, so they are read first."""
        geometry = self.layout.geometry
        words = self._read(self._table, page_owner_words(geometry.page_owner_entries)).copy()
        middle = c.PO_KEYS + geometry.page_owner_entries
        return words[c.PO_KEYS : middle], words[middle:].reshape(-1, c.PE_STRIDE)

    def _look_up(self, where: int, kind: int) -> Iterator[Sample]:
        """The sample of one place: its key stands in one window (kernels/page_owner.py)."""
        key = (where + 1) << c.PO_KEY_SHIFT | kind
        spread = (key >> 1 & (1 << 31) - 1) * SPREAD
        entries = self.layout.geometry.page_owner_entries
        start = spread >> 15 & entries - 1 & -c.PO_WINDOW
        keys = self._read(self._table + c.PO_KEYS + start, c.PO_WINDOW).tolist()
        for i, found in enumerate(keys):
            if found == key | c.PO_READY:
                at = self._table + c.PO_KEYS + entries + (start + i) * c.PE_STRIDE
                entry = self._read(at, c.PE_STRIDE).tolist()
                if self._word(self._table + c.PO_KEYS + start + i) == found:
                    yield from self._sample(found, entry)

    def _sample(self, key: int, entry: list[int]) -> Iterator[Sample]:
        """The sample of a complete entry, if what it names is still allocated."""
        is_object = key & c.PO_OBJECT != 0
        where = (key >> c.PO_KEY_SHIFT) - 1
        proof = entry[c.PE_PROOF]
        if not self._can_be(is_object, where, proof):
            return
        now = self._word(proof)
        seen, owner = entry[c.PE_SEEN], entry[c.PE_OWNER]
        if is_object:
            if now == seen and now > 0:
                yield self._finish(entry, is_object, where, 0, now, self._object_bytes(owner))
            return
        is_slab = owner == cs.OWNER_SLAB and now & c.TYPE_MASK == c.T_SLAB
        if now & ~c.POISON_BIT == seen or is_slab:
            order = min(now >> c.ORDER_SHIFT & c.ORDER_MASK, c.ORDERS - 1)
            size = self.layout.geometry.page_bytes << order
            yield self._finish(entry, is_object, where, order, now, size)

    def _can_be(self, is_object: bool, where: int, proof: int) -> bool:
        """Whether a proof lies where one of that allocation would lie."""
        frames, end = self.layout.at["frames"], self.layout.words
        if is_object:
            return frames <= where < proof < end
        return 0 <= where < self.layout.geometry.pages and proof == self.layout.descriptor(where)

    def _finish(
        self, entry: list[int], is_object: bool, where: int, order: int, proof: int, size: int
    ) -> Sample:
        holder = proof if is_object else self._holder(proof, entry[c.PE_LIFE])
        handle = entry[c.PE_STACK] & c.STACK_HANDLE_MASK
        name = np.array(entry[c.PE_COMMAND : c.PE_COMMAND + 2], np.int64).tobytes()
        return Sample(
            is_object=is_object,
            where=where,
            order=order,
            owner=entry[c.PE_OWNER],
            word0=0 if is_object else proof,
            claim=(holder & c.LOCK_HOLDER_MASK) - 1,
            epoch=holder >> c.LIFE_EPOCH_SHIFT,
            adopted=holder != entry[c.PE_LIFE],
            pid=entry[c.PE_PID],
            command=printable(name.rstrip(b"\0").decode("utf-8", "replace")),
            thread=entry[c.PE_THREAD],
            time_ns=self._time_ns(entry[c.PE_CLOCK]),
            handle=handle,
            stack=self.stack(handle),
            weight=CHANCE_ONE / chance_of(order, self.rate),
            bytes=size,
        )

    def _holder(self, word0: int, life: int) -> int:
        """The life that holds a block: of its label, whose epoch is cut to 21 bits."""
        detail = (word0 & c.LINK_MASK) >> c.LINK_SHIFT
        if word0 & c.TYPE_MASK != c.T_ALLOCATED:
            return life
        epoch = detail >> c.LABEL_EPOCH_SHIFT & c.LABEL_EPOCH_MASK
        same = life >> c.LIFE_EPOCH_SHIFT & c.LABEL_EPOCH_MASK == epoch
        claim = detail & c.CLAIM_MASK
        if same and claim + 1 == life & c.LOCK_HOLDER_MASK:
            return life
        return epoch << c.LIFE_EPOCH_SHIFT | claim + 1

    def _object_bytes(self, cache: int) -> int:
        if not 0 <= cache < self.layout.geometry.caches:
            return 0
        at = self.layout.at["caches"] + cache * cache_stride(self.layout.geometry)
        return self._word(at + cs.K_OBJECT_BYTES)

    def _word(self, at: int) -> int:
        return int(self._read(at, 1)[0])

    # --- time and stacks -----------------------------------------------------------------------

    @cached_property
    def _clocks(self) -> tuple[int, int, int, int]:
        """(clock, ns, later clock, later ns)."""
        found = self._read(self._table + c.PO_CLOCKS, 4).tolist()
        return found[0], found[1], found[2], found[3]

    def _time_ns(self, clock: int) -> int | None:
        first, first_ns, later, later_ns = self._clocks
        if not (0 < first < later and first_ns < later_ns):
            return None
        return first_ns + (clock - first) * (later_ns - first_ns) // (later - first)

    def age_s(self, sample: Sample) -> float | None:
        """Seconds since it was allocated; None: not known."""
        if sample.time_ns is None:
            return None
        return max(0, time.monotonic_ns() - sample.time_ns) / 1e9

    def stack(self, handle: int) -> tuple[str, ...]:
        """The frames of a stack, the innermost first; none for a handle that leads nowhere."""
        if handle not in self._stacks:
            self._stacks[handle] = self._read_stack(handle)
        return self._stacks[handle]

    def _read_stack(self, handle: int) -> tuple[str, ...]:
        size = self.layout.geometry.stack_words
        if not c.SD_TABLE <= handle <= size - c.SR_TEXT:
            return ()
        length = self._word(self._depot + handle + c.SR_BYTES)
        words = -(-length // 8)
        if not 0 < length <= MOST_TEXT_BYTES or handle + c.SR_TEXT + words > size:
            return ()
        text = self._read(self._depot + handle + c.SR_TEXT, words).tobytes()[:length]
        lines = text.decode("utf-8", "replace").split("\n")
        return tuple(printable(line) for line in lines)
