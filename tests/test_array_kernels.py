"""References to arrays, as kernels: against a model, and where memory or a table runs out.

What concurrent calls and deaths do to them is for the programs and crash cases ``arrays-*``.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from shmalloc import constants as c
from shmalloc.arena import Arena
from shmalloc.array_words import held_of, held_records, tickets
from shmalloc.engine import Engine
from shmalloc.errors import OutOfMemoryError
from shmalloc.kernels.array_recovery import copy_references, reap_tickets, recover_arrays
from shmalloc.kernels.shared_arrays import (
    drop_array,
    load_array,
    make_array,
    make_run,
    open_array,
    send_array,
)

SMALL = {"page_bytes": 256, "cpus": 4, "max_order": 3, "pageblock_order": 2}
PAGES = 64
CPUS = 3


class World:
    """An arena, its kernels on any CPU, and who holds what by the answers: [cpu, slot, number]."""

    def __init__(self, engine: Engine) -> None:
        self.arena = Arena.create(size=PAGES * 256, engine=engine.name, **SMALL)
        self.held: dict[int, list[tuple[int, int, int]]] = {}  # by the word of the pages

    def do(self, kernel: Any, cpu: int, *arguments: int) -> Any:
        return self.arena.engine.call(kernel, self.arena.segment.ram, cpu, *arguments)

    def make(self, cpu: int, order: int) -> int:
        slot, number, data, held = self.do(make_array, cpu, order)
        if slot >= 0:
            assert data not in self.held
            self.held[data] = [(cpu, slot, number)]
            assert held == sum(ref[0] == cpu for refs in self.held.values() for ref in refs)
        return int(data)

    def entry(self, data: int) -> tuple[int, int]:
        layout = self.arena.segment.layout
        pfn = (data - layout.at["frames"]) // self.arena.geometry.page_words
        word = self.arena.segment.ram[layout.at["arrays"] + pfn * c.AR_STRIDE]
        return pfn, word

    def open(self, cpu: int, data: int) -> None:
        pfn, word = self.entry(data)
        slot, number, _ = self.do(open_array, cpu, pfn, word >> c.AR_GENERATION_SHIFT)
        self.held[data].append((cpu, slot, number))

    def drop(self, data: int, which: int) -> None:
        cpu, slot, number = self.held[data].pop(which)
        left = self.do(drop_array, cpu, slot, number)
        assert left == len(self.held[data])
        assert self.do(drop_array, cpu, slot, number) == c.E_STATE
        if not self.held[data]:
            del self.held[data]

    def check(self) -> None:
        for data, refs in self.held.items():
            assert self.entry(data)[1] & c.AR_REFS_MASK == len(refs)
        for cpu in range(CPUS):
            mine = {(s, n) for refs in self.held.values() for owner, s, n in refs if owner == cpu}
            assert set(held_records(self.arena.segment, cpu)) == mine
            assert held_of(self.arena.segment, cpu) == len(mine)
        assert self.arena.validate() == []


@pytest.fixture
def world(engine: Engine) -> Any:
    made = World(engine)
    yield made
    made.arena.close()


def test_counts_and_records_are_those_of_a_model(world: World, rng: random.Random) -> None:
    for step in range(150):
        live = list(world.held)
        if live and rng.random() < 0.4:
            data = rng.choice(live)
            world.drop(data, rng.randrange(len(world.held[data])))
        elif live and rng.random() < 0.5:
            world.open(rng.randrange(CPUS), rng.choice(live))
        else:
            world.make(rng.randrange(CPUS), rng.randrange(2))
        if step % 25 == 0:
            world.check()
    for cpu in range(CPUS):
        world.do(recover_arrays, cpu, cpu)
    world.held.clear()
    world.check()


def test_a_ticket_is_loaded_once_and_then_adds_references(world: World) -> None:
    data = world.make(0, 0)
    pfn, word = world.entry(data)
    generation = word >> c.AR_GENERATION_SHIFT
    record, number = world.do(send_array, 0, world.held[data][0][1], 7)
    world.do(drop_array, 0, *world.held.pop(data)[0][1:])
    assert [(claim, n) for claim, _, n in tickets(world.arena.segment)] == [(0, number)]
    counts = []
    for cpu in (1, 2):
        taken = world.do(load_array, cpu, record, number, pfn, generation)
        assert taken[0] >= 0
        counts.append(world.entry(data)[1] & c.AR_REFS_MASK)
    assert (counts, tickets(world.arena.segment)) == ([1, 2], [])
    for cpu in (1, 2):
        world.do(recover_arrays, cpu, cpu)
    assert world.do(load_array, 1, record, number, pfn, generation)[0] == c.E_STATE


def test_an_orphan_is_reaped_after_its_grace(world: World) -> None:
    data = world.make(1, 0)
    world.do(send_array, 1, world.held[data][0][1], 7)
    world.do(recover_arrays, 0, 1)
    assert world.entry(data)[1] & c.AR_REFS_MASK == 1
    assert [world.do(reap_tickets, 0, 1, now, 50) for now in (100, 149, 150)] == [0, 0, 1]
    assert world.entry(data)[1] & c.AR_REFS_MASK == 0


def test_a_forged_ticket_is_left_alone(world: World) -> None:
    data = world.make(0, 0)
    pfn, word = world.entry(data)
    generation = word >> c.AR_GENERATION_SHIFT
    record, number = world.do(send_array, 0, world.held[data][0][1], 7)
    held_number = world.held[data][0][2]
    forged = [(record, number + 1), (record, 0), (record + 1, number), (record - 4, held_number)]
    forged += [(wild, number) for wild in (-4, 0, data, 1 << 40, (1 << 62))]
    for bad in forged:
        taken = world.do(load_array, 1, *bad, pfn, generation)
        world.do(drop_array, 1, *taken[:2])
        assert world.entry(data)[1] & c.AR_REFS_MASK == 2
    assert world.do(load_array, 1, record, number, pfn, generation + 1)[0] == c.E_STATE


def test_a_copy_has_the_same_slots_and_numbers_that_were_never_used(world: World) -> None:
    arrays = [world.make(0, 0) for _ in range(9)]
    world.drop(arrays.pop(3), 0)
    segment = world.arena.segment
    held, seen = list(held_records(segment, 0)), set()
    for _ in range(2):
        assert seen.isdisjoint(number for _, number in held_records(segment, 2))
        copied, first, moved = world.do(copy_references, 0, 2)
        copies = list(held_records(segment, 2))
        assert (copied, moved) == (8, 0)
        assert copies == [(slot, first + slot) for slot, _ in held]
        assert seen.isdisjoint(number for _, number in copies)
        seen.update(number for _, number in copies)
        world.do(recover_arrays, 1, 2)
    assert seen.isdisjoint(number for _, number in held)
    assert [world.entry(data)[1] & c.AR_REFS_MASK for data in arrays] == [1] * 8


def test_a_copy_leaves_tickets_of_the_dead_alone(world: World) -> None:
    first, second = world.make(2, 0), world.make(0, 0)
    sent = [world.do(send_array, 2, world.held[first][0][1], 7) for _ in range(3)]
    world.do(recover_arrays, 1, 2)
    for data in (first, second):
        pfn, word = world.entry(data)
        for _ in range(3):
            world.do(open_array, 0, pfn, word >> c.AR_GENERATION_SHIFT)
    copied, number, moved = world.do(copy_references, 0, 2)
    segment = world.arena.segment
    held = list(held_records(segment, 2))
    assert (copied, moved) == (7, 3) and len({slot for slot, _ in held}) == 7
    assert sorted(one for _, one in held) == [number + slot for slot, _ in held_records(segment, 0)]
    assert [claim for claim, _, _ in tickets(segment)] == [2] * len(sent)
    assert world.entry(first)[1] & c.AR_REFS_MASK == 3 + 3 + 3


def test_a_run_takes_no_page_too_many_and_is_found_again_when_it_was_freed(world: World) -> None:
    world.make(0, 0)
    world.arena.drain()
    before = world.arena.statistics()
    slot, number, data, _ = world.do(make_run, 0, 13, 0)
    after = world.arena.statistics()
    assert after.used_pages == before.used_pages + 13
    gained = np.subtract(after.zones[0].free_blocks, before.zones[0].free_blocks)
    assert gained.tolist() == [1, 1, 0, -2]
    assert world.do(drop_array, 0, slot, number) == 0
    assert world.arena.statistics().zones[0].free_blocks == before.zones[0].free_blocks
    assert world.do(make_run, 0, 13, 40)[2] > data
    assert world.do(make_run, 0, 13, 0)[2] == data
    assert world.do(make_run, 0, PAGES, 0)[0] == c.E_NOMEM
    assert world.arena.validate() == []


def test_no_run_crosses_what_is_in_use(engine: Engine) -> None:
    with Arena.create(size=PAGES * 256, engine=engine.name, **SMALL) as arena:
        middle = PAGES // 2
        arena.alloc_contig_range(middle, middle + 1)
        large = [arena.full(17 * 256, value, "u1") for value in (1, 2)]  # 18 pages in 3 blocks each
        behind = arena.segment.layout.frame(middle)
        assert [array._ref.data > behind for array in large] == [False, True]
        for value, array in zip((1, 2), large, strict=True):
            assert arena.open_array(array.handle())[-1] == value
            assert arena.open(arena.send(array[5:]))[::-1][0] == value
        with pytest.raises(OutOfMemoryError):
            arena.empty(17 * 256, "u1")


def test_a_table_that_cannot_grow_takes_no_page(engine: Engine) -> None:
    with Arena.create(size=PAGES * 256, engine=engine.name, **SMALL) as arena:
        taken = []
        with pytest.raises(OutOfMemoryError):
            while True:
                taken.append(arena.alloc_pages())
        arena.free_pages(taken.pop())  # enough for a block, and not for a table
        with pytest.raises(OutOfMemoryError, match="empty: 128B"):
            arena.empty(8)
        assert arena.validate() == []
        assert arena.statistics().used_pages <= PAGES


def test_pages_freed_elsewhere_are_reported_when_the_array_goes(engine: Engine) -> None:
    with Arena.create(size=PAGES * 256, engine=engine.name, **SMALL) as arena:
        made = arena.empty(8)
        data = made._ref.data
        arena.free_pages((data - arena.segment.layout.at["frames"]) // arena.geometry.page_words)
        del made
        arena.collect()
        assert [found.invariant for found in arena.violations()] == ["M_DOUBLE_FREE"]
