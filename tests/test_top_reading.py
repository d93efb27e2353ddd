"""What ``shmstress top`` reads from a segment, against what a test did to it and counted itself."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from shmalloc import Arena
from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.errors import CorruptionError, SegmentError
from shmalloc.layout import cache_stride, first_node_part
from stress.top.frame import frame
from stress.top.locks import Locks
from stress.top.processes import Process, Sleepers
from stress.top.reading import Observer, rates
from stress.top.source import SegmentSource, json_text
from support import dying
from support.runs import wait_until

VICTIM, IN_THE_LOCK = 1, 3  # slot and writes: in a kernel that holds the lock of zone 0
PAGES = 512


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena.create(
        size="256KiB", cpus=3, page_bytes=512, max_order=dying.TOP_ORDER, pageblock_order=3, spins=0
    ) as made:
        yield made


@pytest.fixture
def observer(arena: Arena) -> Iterator[Observer]:
    with Observer(arena.name, walks=1) as made:
        yield made


# --- pages ---------------------------------------------------------------------------------------


def test_pages_by_state_are_those_that_were_allocated(arena, observer):
    for order in (0, 2, 4):
        arena.alloc_pages(order=order)
    pages = observer.look().map.pages
    assert (pages[c.T_ALLOCATED], sum(pages)) == (1 + 4 + 16, PAGES)


def test_the_map_shows_a_block_where_it_lies(arena, observer):
    pfn = arena.alloc_pages(order=4)
    cells = observer.look().map.cells()
    assert set(cells[pfn : pfn + 16]) == {c.T_ALLOCATED} and len(cells) == PAGES


def test_a_map_of_fewer_cells_joins_neighbours_and_keeps_the_majority(arena, observer):
    blocks = [arena.alloc_pages(order=4) for _ in range(3)]
    cells = observer.look().map.cells(PAGES // 16)
    taken = {cell for cell, state in enumerate(cells) if state == c.T_ALLOCATED}
    assert taken == {pfn // 16 for pfn in blocks}


def test_free_pages_and_those_on_lists_are_what_is_left(arena, observer):
    pfns = [arena.alloc_pages() for _ in range(40)]
    for pfn in pfns[:15]:
        arena.free_pages(pfn)
    now = observer.look()
    assert now.statistics.used_pages == 25
    zone_free = sum(zone.free_pages for zone in now.statistics.zones)
    assert now.cpus[arena.cpu].pages == PAGES - 25 - zone_free > 0
    assert sum(n << k for k, n in enumerate(now.cpus[arena.cpu].by_order[:4])) == (
        now.cpus[arena.cpu].pages
    )


def test_free_blocks_by_order_add_up_to_the_free_pages(arena, observer):
    arena.alloc_pages(order=3)
    (zone,) = observer.look().statistics.zones
    assert sum(count << order for order, count in enumerate(zone.free_blocks)) == zone.free_pages


# --- caches --------------------------------------------------------------------------------------


def test_live_objects_are_those_allocated_and_not_freed(arena, observer):
    cache = arena.cache("inode", 40)
    objects = [cache.alloc() for _ in range(60)]
    for address in objects[:17]:
        cache.free(address)
    (seen,) = observer.look().caches
    assert (seen.name, seen.object_bytes, seen.live, seen.state) == ("inode", 40, 43, "live")
    assert seen.count.in_use == seen.live + seen.in_sheaves <= seen.count.objects


def test_full_partial_and_empty_slabs_are_told_apart(arena, observer):
    cache = arena.cache("dentry", 64, sheaves=False)
    page_words, pages = arena.segment.geometry.page_words, cache.statistics().slab_pages
    first = arena.segment.layout.at["frames"]

    def slab_of(address: int) -> int:
        return (address - first) // page_words // pages

    objects = [cache.alloc() for _ in range(2)]
    while len({slab_of(address) for address in objects}) < 4:
        objects.append(cache.alloc())  # three full slabs, and one with one object
    (seen,) = observer.look().caches
    assert (seen.count.slabs, seen.count.full, seen.partial, seen.live) == (4, 3, 1, len(objects))
    for address in objects:
        cache.free(address)
    (seen,) = observer.look().caches
    assert (seen.count.full, seen.partial, seen.live) == (0, 0, 0)
    assert seen.count.empty == seen.count.slabs


def test_the_sheaves_of_a_slot_hold_what_was_freed_on_it(arena, observer):
    cache = arena.cache("inode", 40)
    cache.free(cache.alloc())
    now = observer.look()
    (seen,) = now.caches
    mine = now.cpus[arena.cpu]
    assert 0 < mine.objects == seen.in_sheaves <= mine.room
    assert all(cpu.objects == 0 for cpu in now.cpus if cpu.slot.cpu != arena.cpu)


def test_size_classes_of_kmalloc_are_named(arena, observer):
    arena.kmalloc(60)
    names = {cache.name for cache in observer.look().caches}
    assert {"kmalloc-8", "kmalloc-64"} <= names


# --- slots, locks, waiters -----------------------------------------------------------------------


def test_looking_takes_no_slot(arena, observer):
    before = [(slot.pid, slot.users, slot.epoch) for slot in arena.slots()]
    now = observer.look()
    assert [(slot.pid, slot.users, slot.epoch) for slot in arena.slots()] == before
    assert [cpu.process.pid if cpu.process else 0 for cpu in now.cpus] == [os.getpid(), 0, 0]


def held(observer: Observer, state: str):
    """The lock of zone 0, once its holder is in that state."""
    found = []

    def is_so() -> bool:
        found[:] = [lock for lock in observer.look().locks if lock.name == "zone 0"]
        return bool(found) and found[0].process is not None and found[0].process.state == state

    wait_until(is_so, f"the lock of zone 0 to be held by a {state} process")
    return found[0]


def test_a_stopped_holder_is_named_with_its_pid_its_command_and_who_waits(arena, observer):
    child = dying.start(arena.segment, VICTIM, "take_block", IN_THE_LOCK, signal.SIGSTOP)
    lock = held(observer, "stopped")
    assert (lock.cpu, lock.process.pid, lock.current) == (VICTIM, child.pid, True)
    assert "dying.py" in lock.process.command
    waiter = threading.Thread(target=arena.alloc_pages, args=(dying.TOP_ORDER,))
    waiter.start()
    wait_until(
        lambda: held(observer, "stopped").waiting == (os.getpid(),), "a thread to sleep on the lock"
    )
    now = observer.look()
    assert now.cpus[VICTIM].holds == ("zone 0",)
    assert re.search(rf"^zone 0 +1 +{child.pid} +stopped .* 1 ", frame(SourceOf(arena.name)), re.M)
    child.send_signal(signal.SIGCONT)
    assert child.wait() == 0
    waiter.join(60)


def test_a_lock_that_stays_held_says_for_how_long(arena, observer):
    child = dying.start(arena.segment, VICTIM, "take_block", IN_THE_LOCK, signal.SIGSTOP)
    assert held(observer, "stopped").held_s >= 0
    first = observer.look()
    now = observer.look()
    (lock,) = now.locks
    assert lock.held_s == pytest.approx(first.locks[0].held_s + now.clock_s - first.clock_s)
    child.kill()
    child.wait()


def test_a_lock_whose_holder_goes_on_working_is_not_one_that_stays_held(arena, observer):
    ram, layout = arena.segment.ram, arena.segment.layout
    word = (
        layout.at["caches"] + 5 * cache_stride(layout.geometry) + first_node_part(layout.geometry)
    )
    ram[word] = ram[layout.cpu(arena.cpu) + c.C_EPOCH] << c.LIFE_EPOCH_SHIFT | (arena.cpu + 1)
    observer.look()
    assert observer.look().locks[0].held_s > 0
    arena.alloc_pages()
    (lock,) = observer.look().locks
    ram[word] = 0
    assert (lock.name, lock.held_s) == ("cache 5 node 0", 0)


def test_a_dead_holder_is_called_dead(arena, observer):
    child = dying.start(arena.segment, VICTIM, "take_block", IN_THE_LOCK, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    lock = held(observer, "dead")
    assert (lock.process.pid, lock.process.command) == (child.pid, "")
    assert observer.look().cpus[VICTIM].slot.dead
    text = frame(SourceOf(arena.name))
    assert f"zone 0     1   {child.pid}   dead" in text


class SourceOf(list):
    """The panels of a segment, read once."""

    def __init__(self, name: str) -> None:
        source = SegmentSource(name)
        source.read()
        super().__init__(source.panels("number"))
        source.close()


def test_the_holder_of_an_earlier_life_is_no_process(arena, observer):
    ram, layout = arena.segment.ram, arena.segment.layout
    ram[layout.zone(0) + c.Z_LOCK] = arena.cpu + 1  # of epoch 0: this process claimed epoch 1
    (lock,) = observer.look().locks
    ram[layout.zone(0) + c.Z_LOCK] = 0
    assert (lock.current, lock.process) == (False, None)


def test_every_lock_of_the_layout_is_looked_at(arena, observer):
    """Against the names of all words: whatever is called a lock is one."""
    locks = Locks(arena.segment.layout)
    names = locks._names
    layout = arena.segment.layout
    until = layout.at["history"]
    called = {word for word in range(until) if names.name(word).endswith(("lock", "recovery"))}
    unused = {word for word in called if "pageblock" in names.name(word)}
    assert set(locks.words.tolist()) == called - unused


def test_who_waits_for_memory_is_told(arena, observer):
    seat = arena.segment.layout.at["seats"] + 5
    arena.segment.ram[seat] = 2 + 1
    now = observer.look()
    arena.segment.ram[seat] = 0
    assert now.waiters == (2,) and now.cpus[2].waits_for == "memory"


def test_the_intent_of_a_slot_is_put_in_words(arena, observer):
    cache = arena.cache("inode", 40)
    ram, at = arena.segment.ram, arena.segment.layout.cpu(arena.cpu)
    ram[at + c.C_INTENT_CACHE] = arena.segment.layout.at["caches"]
    ram[at + c.C_INTENT_CHAIN] = 17 << cs.CH_PFN_SHIFT | 3 << cs.CH_COUNT_SHIFT | 1
    ram[at + c.C_INTENT] = cs.INTENT_PUT
    now = observer.look()
    ram[at + c.C_INTENT] = cs.INTENT_NONE
    assert now.cpus[0].intent == "gives back 3 objects of cache 0 'inode' to pfn 17"
    assert cache.number == 0


def test_a_sleeper_is_not_guessed_where_the_system_does_not_tell(monkeypatch):
    def refuse(pid: int) -> list[int]:
        raise PermissionError

    monkeypatch.setattr("stress.top.processes._futexes", refuse)
    assert Sleepers(1).by_word([Process(os.getpid(), 0, "running", "")]) is None


# --- counters, violations, the end ---------------------------------------------------------------


def test_rates_are_what_was_done_between_two_looks(arena, observer):
    before = observer.look()
    for _ in range(30):
        arena.free_pages(arena.alloc_pages())
    now = observer.look()
    per_s = rates(now, before)
    assert round(per_s.events["alloc"] * per_s.seconds) == 30
    assert round(per_s.cpus[arena.cpu] * per_s.seconds) == 60
    assert rates(now, None) is None


def test_violations_are_counted_and_told(arena, observer):
    pfn = arena.alloc_pages(order=2)
    arena.free_pages(pfn, order=2)
    with pytest.raises(CorruptionError):
        arena.free_pages(pfn, order=2)
    now = observer.look()
    assert (now.reported, now.violations[0].invariant) == (1, "M_DOUBLE_FREE")
    assert f"pfn {pfn}" in now.violations[0].where
    assert "1 violation" in frame(SourceOf(arena.name))


def test_a_removed_segment_is_told_and_the_last_of_it_stays(arena, observer):
    arena.alloc_pages(order=4)
    arena.segment.unlink()
    now = observer.look()
    assert now.removed and now.map.pages[c.T_ALLOCATED] == 16


def test_a_truncated_segment_ends_in_a_sentence(arena, observer):
    path = f"/dev/shm/{arena.name}"
    os.truncate(path, 4096)
    with pytest.raises(SegmentError, match="truncated while it was watched"):
        observer.look()
    os.truncate(path, arena.segment.layout.bytes)


# --- a segment of any contents -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["random", "minus one", "large"])
def test_no_contents_of_a_segment_break_a_picture(arena, observer, rng, kind):
    """Everything behind the header's fixed words is overwritten while it is looked at."""
    ram, layout = arena.segment.ram, arena.segment.layout
    saved = ram.array.copy()
    noise = noise_of(kind, len(saved), rng)
    first, end = layout.at["geometry"], layout.at["zones"]
    ram.array[c.H_STOP : first] = noise[c.H_STOP : first]
    ram.array[end:] = noise[end:]
    source = SegmentSource(arena.name)
    try:
        for _ in range(2):
            source.read()
            assert frame(source.panels("fill"), 100) and json_text(source)
    finally:
        source.close()
        ram.array[:] = saved


def noise_of(kind: str, count: int, rng: random.Random) -> np.ndarray:
    if kind == "random":
        words = np.random.default_rng(rng.getrandbits(32)).integers(-(2**63), 2**63 - 1, count)
        return words.astype(np.int64)
    return np.full(count, -1 if kind == "minus one" else 2**62, dtype=np.int64)
