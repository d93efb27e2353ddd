"""Recovery with real processes: one dies or stops inside an operation, the other continues."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from shmalloc import Arena, MisuseError
from shmalloc import constants as c
from shmalloc.recovery import recover
from support import dying
from support.runs import wait_until

VICTIM = 1
IN_THE_LOCK = 3  # writes: inside of the zone lock, its lists half changed


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena.create(
        size="256KiB", cpus=3, page_bytes=512, max_order=dying.TOP_ORDER, pageblock_order=3, spins=0
    ) as made:
        yield made


def zone_lock(arena: Arena) -> int:
    return arena.segment.ram[arena.segment.layout.zone(0) + c.Z_LOCK]


def killed_in_the_lock(arena: Arena) -> None:
    child = dying.start(arena.segment, VICTIM, "take_block", IN_THE_LOCK, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert zone_lock(arena) & c.LOCK_HOLDER_MASK == VICTIM + 1


def test_a_waiter_notices_that_the_owner_of_the_lock_is_dead(arena: Arena) -> None:
    killed_in_the_lock(arena)
    pfn = arena.alloc_pages(order=dying.TOP_ORDER)
    arena.free_pages(pfn, dying.TOP_ORDER)
    assert zone_lock(arena) == 0


def test_the_waiter_recovers_the_slot_when_it_is_out_of_the_allocator(arena: Arena) -> None:
    killed_in_the_lock(arena)
    arena.alloc_pages(order=dying.TOP_ORDER)
    assert (arena.slots()[VICTIM].free, arena.validate()) == (True, [])


def test_a_stopped_owner_is_not_taken_for_a_dead_one(arena: Arena) -> None:
    child = dying.start(arena.segment, VICTIM, "take_block", IN_THE_LOCK, signal.SIGSTOP)
    wait_until(
        lambda: zone_lock(arena) & c.LOCK_HOLDER_MASK == VICTIM + 1, "the child to hold the lock"
    )
    taken: list[int] = []
    waiter = threading.Thread(target=lambda: taken.append(arena.alloc_pages(order=dying.TOP_ORDER)))
    waiter.start()
    slept = arena.segment.layout.cpu(arena.cpu) + c.C_EVENTS + c.EV_LOCK_SLEEP
    # it has looked for a dead owner three times
    wait_until(lambda: arena.segment.ram[slept] >= 4, "four sleeps of the waiter")
    assert (taken, arena.slots()[VICTIM].dead) == ([], False)
    child.send_signal(signal.SIGCONT)
    assert child.wait() == 0
    waiter.join(60)
    assert len(taken) == 1


def test_recover_names_whose_slot_it_was(arena: Arena) -> None:
    killed_in_the_lock(arena)
    slot = arena.slots()[VICTIM]
    recovered = arena.recover()
    assert [(r.cpu, r.pid, r.start) for r in recovered] == [(VICTIM, slot.pid, slot.start)]


def test_recover_finds_no_dead_among_the_living(arena: Arena) -> None:
    assert arena.recover() == []


def test_what_the_dead_owned_is_reaped(arena: Arena) -> None:
    arena.cache("small", 40)
    child = dying.start(arena.segment, VICTIM, "own_and_free", -1, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    (recovered,) = arena.recover()
    assert arena.reap(recovered) == 2 + 3  # of three blocks and four objects one each was freed


def test_a_death_that_a_newcomer_recovered_is_told_to_the_next_supervisor(arena: Arena) -> None:
    arena.cache("small", 40)
    child = dying.start(arena.segment, VICTIM, "own_and_free", -1, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    with Arena.attach(arena.name) as newcomer:
        assert (newcomer.cpu, arena.slots()[VICTIM].free) == (2, True)
    with Arena.attach(arena.name) as newcomer:
        assert newcomer.cpu == 2  # a new life of slot 1 could hide the death
    (told,) = arena.recover()
    assert (told.cpu, told.pid, arena.reap(told)) == (VICTIM, child.pid, 2 + 3)
    assert arena.recover() == []


def test_a_slot_of_the_dead_cannot_recover(arena: Arena) -> None:
    killed_in_the_lock(arena)
    with pytest.raises(MisuseError, match=f"claim {VICTIM} is one of those"):
        recover(arena.segment, by=VICTIM, engine="interpreted")


def test_a_zombie_is_dead(arena: Arena) -> None:
    child = dying.start(arena.segment, VICTIM, "take_block", IN_THE_LOCK, signal.SIGKILL)
    # /proc calls it a zombie as soon as its first thread has ended, while others still exist
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert [r.cpu for r in arena.recover()] == [VICTIM]
    child.wait()
