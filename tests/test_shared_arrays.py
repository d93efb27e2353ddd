"""Arrays made and dropped in one kernel each: the writes of the kernels that these are made of."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from shmalloc import constants as c
from shmalloc.arena import Arena
from shmalloc.engine import Engine, get_engine
from shmalloc.errors import CorruptionError, OutOfMemoryError
from shmalloc.kernels.array_table import close_entry, drop_reference, grow_entries, open_entry
from shmalloc.kernels.pages import alloc_pages, free_pages_of
from shmalloc.kernels.shared_arrays import AR_RANGE, drop_array, enter_array, make_array
from shmalloc.memory import Ram
from support.page_segment import PageSegment

CALLED = (
    alloc_pages,
    close_entry,
    drop_array,
    drop_reference,
    enter_array,
    free_pages_of,
    grow_entries,
    make_array,
    open_entry,
)
PID = 4711
SMALL = {"page_bytes": 256, "cpus": 2, "max_order": 3, "pageblock_order": 2}
PAGES = 64
Made = tuple[int, int, int]


class Whole:
    """Arrays through the kernels that do it in one call."""

    def __init__(self, engine: Engine) -> None:
        engine.warm(CALLED)  # just these
        self.engine, self.world = engine, PageSegment(engine)
        self.mem = self.world.mem

    def do(self, kernel: Any, *arguments: int) -> Any:
        return self.engine.call(kernel, self.mem, 0, *arguments)

    def make(self, order: int) -> Made:
        made: Made = self.do(make_array, order, PID)
        return made

    def drop(self, entry: int, generation: int) -> int:
        return int(self.do(drop_array, entry, generation))


class Steps(Whole):
    """The same by one kernel after the other."""

    def make(self, order: int) -> Made:
        pfn = self.do(alloc_pages, order, c.MT_UNMOVABLE, c.OWNER_SHARED)
        if pfn < 0:
            return pfn, 0, 0
        data = self.world.layout.frame(pfn)
        entry = self.do(open_entry, data, order, PID)
        while entry < 0:
            page = self.do(alloc_pages, 0, c.MT_UNMOVABLE, c.OWNER_ARRAYS)
            if page < 0:
                self.do(free_pages_of, pfn, order, c.OWNER_SHARED)
                return page, 0, data
            self.do(grow_entries, page)
            entry = self.do(open_entry, data, order, PID)
        return entry, self.mem[entry + c.AR_COUNT] >> c.AR_GENERATION_SHIFT, data

    def drop(self, entry: int, generation: int) -> int:
        data, how = self.mem[entry + c.AR_DATA], self.mem[entry + c.AR_HOW]
        left = int(self.do(drop_reference, entry, generation))
        if left == 0:
            page_words = self.world.geometry.page_words
            pfn = (data - self.world.layout.at["frames"]) // page_words
            self.do(free_pages_of, pfn, how, c.OWNER_SHARED)
            self.do(close_entry, entry)
        return left


def test_making_and_dropping_leaves_the_memory_that_the_single_steps_leave(
    engine: Engine, rng: random.Random
) -> None:
    whole, steps = Whole(engine), Steps(engine)
    live: list[Made] = []
    for _ in range(200):
        if live and rng.random() < 0.5:
            entry, generation, _ = live.pop(rng.randrange(len(live)))
            stale = generation - (rng.random() < 0.1)
            answers = whole.drop(entry, stale), steps.drop(entry, stale)
            if stale != generation:
                live.append((entry, generation, 0))
        else:
            order = rng.randrange(4)
            answers = whole.make(order), steps.make(order)
            if answers[0][0] >= 0:
                live.append(answers[0])
        assert answers[0] == answers[1]
        assert np.array_equal(whole.mem.array, steps.mem.array)
    assert whole.world.audit() == 0


class Noting(Ram):
    """Keeps every write, in order: what a process has done so far when it dies at any moment."""

    written: list[tuple[object, ...]] | None = None

    def _note(self, *write: object) -> None:
        if self.written is not None:
            self.written.append(write)

    def __setitem__(self, i: int, value: int) -> None:
        self._note(i, value)
        super().__setitem__(i, value)

    store = store_relaxed = __setitem__

    def cas(self, i: int, old: int, new: int) -> bool:
        self._note("cas", i, old, new)
        return super().cas(i, old, new)

    def cas2(self, i: int, *words: int) -> bool:
        self._note("cas2", i, *words)
        return super().cas2(i, *words)

    def fetch_add(self, i: int, delta: int) -> int:
        self._note("add", i, delta)
        return super().fetch_add(i, delta)


def test_every_write_comes_in_the_order_of_the_single_steps() -> None:
    """So recovery treats a death between two of them like one in here."""
    engine = get_engine("interpreted")
    notes = []
    for kind in (Whole, Steps):
        arrays = kind(engine)
        arrays.mem = arrays.world.mem = mem = Noting(arrays.mem.array)
        mem.written = []
        made = [arrays.make(order) for order in (0, 2, 0)]
        for entry, generation, _ in made:
            assert arrays.drop(entry, generation) == 0
        notes.append(mem.written)
    assert notes[0] == notes[1]
    assert len(notes[0]) > 50


# --- through an arena ----------------------------------------------------------------------------
def small_arena(engine: Engine) -> Arena:
    return Arena.create(size=PAGES * 256, engine=engine.name, **SMALL)


def test_a_table_that_cannot_grow_gives_the_block_back(engine: Engine) -> None:
    with small_arena(engine) as arena:
        taken = []
        with pytest.raises(OutOfMemoryError):
            while True:
                taken.append(arena.alloc_pages())
        arena.free_pages(taken.pop())  # enough for a block, and not for a page of entries
        with pytest.raises(OutOfMemoryError, match="empty: 128B"):
            arena.empty(8)
        assert arena.statistics().used_pages == PAGES - 1
        assert arena.validate() == []


def test_a_block_freed_elsewhere_is_reported_by_the_last_close(engine: Engine) -> None:
    with small_arena(engine) as arena:
        made = arena.empty(8)
        entry = int.from_bytes(made.handle()[8:16], "little")
        data = arena.segment.ram[entry + c.AR_DATA]
        pfn = (data - arena.segment.layout.at["frames"]) // arena.geometry.page_words
        arena.free_pages(pfn)
        with pytest.raises(CorruptionError, match="close of an array"):
            made.close()
        assert int.from_bytes(arena.empty(8).handle()[8:16], "little") != entry


def test_the_block_of_a_large_array_is_told_apart(engine: Engine) -> None:
    with small_arena(engine) as arena:
        made = arena.empty(20 * 256, "u1")
        entry = int.from_bytes(made.handle()[8:16], "little")
        assert arena.segment.ram[entry + c.AR_HOW] == AR_RANGE | 21
        assert made.close() == 0
        assert arena.statistics().used_pages == 1


def test_an_entry_names_its_maker(engine: Engine) -> None:
    arrays = Whole(engine)
    entry, generation = arrays.do(enter_array, 0, 0, PID)
    words = [arrays.mem[entry + at] for at in range(c.AR_STRIDE)]
    assert words == [generation << c.AR_GENERATION_SHIFT | 1, 0, 0, PID]
