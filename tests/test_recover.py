"""Recovery, one process at a time: killed before every write of every operation, in every geometry.

Nothing may be lost: when the dead slot is recovered, everything owned is reaped by its label, the
cache is destroyed, and every managed page must be free and merged. test_crash.py tests recovery
beside live CPUs (explored), test_recovery.py recovery of real processes.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.kernels import cache, cache_set, contig, pages, pcp, reap, recover, slots
from shmalloc.kernels.audit import audit, audit_teardown
from shmalloc.kernels.slab_audit import audit_slabs
from shmalloc.layout import ZoneSpec
from support.mortal import Killed, MortalRam
from support.operations import (
    DOCTOR,
    FIRST_EPOCH,
    OBJECTS,
    ONLY_CACHE,
    OPERATIONS,
    PAGES,
    SECOND_DOCTOR,
    VICTIM,
    RecoverySegment,
    life,
)

GEOMETRIES: dict[str, dict[str, Any]] = {
    "page": {},
    "page-list": {"pcp_form": "list"},
    "descriptor-list": {"link_store": "descriptor", "pcp_form": "list"},
    "table-list-poison": {"link_store": "table", "pcp_form": "list", "poison": True},
    "index": {"link_store": "index"},
    "two-nodes": {"zones": (ZoneSpec(32, 0), ZoneSpec(32, 1))},
}
ALL = [("page", name) for name in OPERATIONS]
ALL += [(geometry, name) for geometry in list(GEOMETRIES)[1:5] for name in PAGES]
ALL += [("two-nodes", name) for name in OBJECTS]
TWICE = ["free-orders", "contig", "drain-all", "object-alloc", "object-free", "object-free-debug"]
TWICE_STRIDE = 113  # every so manieth write of the recovery
STRIDE = {"page": 2}  # in the other geometries every seventh write, from one that the seed draws


def killed(world: RecoverySegment, name: str, writes: int) -> None:
    """Run the operation until it is killed instead of its next write."""
    try:
        OPERATIONS[name][1](MortalRam.over(world.ram, writes), world)
    except Killed:
        return


def recovered(mem: Any, doctor: int, *more: int) -> int:
    """Recover the victim, and dead recoverers, from slot ``doctor``. Returns the pages gained."""
    for dead in (VICTIM, *more):
        slots.mark_dead(mem, doctor, dead, FIRST_EPOCH + dead)
    return recover.recover(mem, doctor)


def problems(world: RecoverySegment) -> list[object]:
    """What is wrong after recovery; frees everything that any slot owns."""
    mem = world.ram
    found: list[object] = []
    if audit(mem, SECOND_DOCTOR) or audit_slabs(mem, SECOND_DOCTOR):
        found.append("the audit after recovery")
    for cpu in range(world.geometry.cpus):
        reap.reap(mem, SECOND_DOCTOR, cpu, FIRST_EPOCH + cpu)
    for number in range(world.geometry.caches):
        state = mem[world.layout.at["caches"] + number * mem[c.H_CACHE_STRIDE] + cs.K_STATE]
        if state != cs.CACHE_NONE and cache_set.cache_destroy(mem, SECOND_DOCTOR, number) != 0:
            found.append(f"cache {number} is busy with everything reaped")
    for start in range(0, world.geometry.pages, 4):
        contig.online_range(mem, SECOND_DOCTOR, start, start + 4)
    pcp.drain_all(mem, SECOND_DOCTOR)
    if audit_teardown(mem, SECOND_DOCTOR):
        found.append("the audit of the teardown")
    at = world.layout.at["reports"]
    for k in range(min(mem[c.H_REPORT_COUNT], 3)):
        found.append(tuple(mem[at + k * c.R_STRIDE + i] for i in range(5)))
    return found


def prepared(geometry: str, name: str) -> tuple[RecoverySegment, Any, int]:
    """A world ready for the operation, its image, and how many writes the operation makes."""
    world = RecoverySegment(**GEOMETRIES[geometry])
    OPERATIONS[name][0](world)
    image = world.ram.array.copy()
    counting = MortalRam.over(world.ram)
    OPERATIONS[name][1](counting, world)
    return world, image, counting.writes


@pytest.mark.parametrize(("geometry", "name"), ALL)
def test_nothing_is_lost_wherever_the_kill_comes(
    geometry: str, name: str, rng: random.Random
) -> None:
    world, image, writes = prepared(geometry, name)
    assert writes > 0
    stride = STRIDE.get(geometry, 7)
    for last in range(rng.randrange(stride), writes + 1, stride):
        world.ram.array[:] = image
        killed(world, name, last)
        recovered(world.ram, DOCTOR)
        assert problems(world) == [], f"killed before write {last + 1} of {writes}"


@pytest.mark.parametrize("name", TWICE)
def test_nothing_is_lost_when_the_recovery_is_killed_as_well(name: str) -> None:
    world, image, writes = prepared("page", name)
    for last in range(writes + 1):
        world.ram.array[:] = image
        killed(world, name, last)
        crashed = world.ram.array.copy()
        counting = MortalRam.over(world.ram)
        recovered(counting, DOCTOR)
        for second in range(last % TWICE_STRIDE, counting.writes, TWICE_STRIDE):
            world.ram.array[:] = crashed
            with pytest.raises(Killed):
                recovered(MortalRam.over(world.ram, second), DOCTOR)
            recovered(world.ram, SECOND_DOCTOR, DOCTOR)
            assert problems(world) == [], f"killed before writes {last + 1} and {second + 1}"


def test_without_recovery_something_is_lost() -> None:
    world, image, writes = prepared("page", "object-alloc")
    lost = 0
    for last in range(writes):
        world.ram.array[:] = image
        killed(world, "object-alloc", last)
        for lock in range(world.ram.words):  # held locks would wait for ever: open them, no more
            if world.ram[lock] == (FIRST_EPOCH + VICTIM) << 32 | (VICTIM + 1):
                world.ram[lock] = 0
        lost += problems(world) != []
    assert lost > writes // 4


def test_recovery_of_a_dead_cpu_that_did_nothing_changes_no_block() -> None:
    world = RecoverySegment()
    before = world.ram[world.layout.zone(0) + c.Z_FREE]
    assert recovered(world.ram, DOCTOR) == 0
    assert world.ram[world.layout.zone(0) + c.Z_FREE] == before


def test_recovery_may_be_repeated() -> None:
    world, image, _ = prepared("page", "object-free")
    world.ram.array[:] = image
    killed(world, "object-free", 20)
    for _ in range(2):
        recovered(world.ram, DOCTOR)
    assert problems(world) == []


def test_what_the_dead_handed_over_is_not_reaped() -> None:
    world, image, _ = prepared("page", "adopt")
    world.ram.array[:] = image
    pfn, order = world.blocks[0]
    assert reap.adopt_pages(world.ram, DOCTOR, pfn, order, life(VICTIM), 78) == 0
    recovered(world.ram, DOCTOR)
    assert reap.reap(world.ram, DOCTOR, VICTIM, FIRST_EPOCH + VICTIM) == 0
    assert world.ram[world.layout.descriptor(pfn) + 1] == 78


def test_an_object_that_was_handed_over_is_not_reaped() -> None:
    world, image, _ = prepared("page", "object-free")
    world.ram.array[:] = image
    given = reap.adopt_object(world.ram, DOCTOR, ONLY_CACHE, world.objects[0], life(VICTIM))
    assert given == 0
    recovered(world.ram, DOCTOR)
    assert reap.reap(world.ram, DOCTOR, VICTIM, FIRST_EPOCH + VICTIM) == len(world.objects) - 1


def test_nothing_is_adopted_that_is_free() -> None:
    world, _, _ = prepared("page", "adopt")
    assert reap.adopt_pages(world.ram, DOCTOR, 40, 0, life(VICTIM), 78) == c.E_STATE


def test_what_was_reaped_is_not_adopted_from_its_next_owner() -> None:
    """The message of a dead process arrives late: its page and object have new owners."""
    world, image, _ = prepared("page", "object-free")
    world.ram.array[:] = image
    mem, address = world.ram, world.objects[0]
    pfn = pages.alloc_pages(mem, VICTIM, 0, c.MT_MOVABLE, 7)
    recovered(mem, DOCTOR)
    reap.reap(mem, DOCTOR, VICTIM, FIRST_EPOCH + VICTIM)
    taken = [pages.alloc_pages(mem, DOCTOR, 0, c.MT_MOVABLE, 8) for _ in range(20)]
    others = [cache.cache_alloc(mem, DOCTOR, ONLY_CACHE) for _ in range(20)]
    assert pfn in taken and address in others
    assert reap.adopt_pages(mem, SECOND_DOCTOR, pfn, 0, life(VICTIM), 9) == c.E_STATE
    refused = reap.adopt_object(mem, SECOND_DOCTOR, ONLY_CACHE, address, life(VICTIM))
    assert refused == c.E_STATE


@pytest.mark.parametrize("pfn", [-1, 1 << 40])
def test_a_page_that_is_none_is_not_adopted(pfn: int) -> None:
    world, _, _ = prepared("page", "adopt")
    assert reap.adopt_pages(world.ram, DOCTOR, pfn, 0, life(VICTIM), 78) == c.E_STATE


def test_an_earlier_life_of_the_slot_is_not_reaped() -> None:
    world, image, _ = prepared("page", "free-orders")
    world.ram.array[:] = image
    world.ram[world.layout.cpu(VICTIM) + c.C_EPOCH] += 1
    slots.mark_dead(world.ram, DOCTOR, VICTIM, FIRST_EPOCH + VICTIM + 1)
    recover.recover(world.ram, DOCTOR)
    assert reap.reap(world.ram, DOCTOR, VICTIM, FIRST_EPOCH + 1 + VICTIM) == 0
    assert reap.reap(world.ram, DOCTOR, VICTIM, FIRST_EPOCH + VICTIM) == len(world.blocks)


def test_a_late_mark_of_an_earlier_life_means_nothing() -> None:
    world = RecoverySegment()
    recovered(world.ram, DOCTOR)
    assert slots.claim_slot(world.ram, VICTIM, VICTIM, 4711, 1) == VICTIM
    assert slots.mark_dead(world.ram, DOCTOR, VICTIM, FIRST_EPOCH + VICTIM) == 0
    recover.recover(world.ram, DOCTOR)
    assert world.ram[world.layout.cpu(VICTIM) + c.C_PID] == 4711


def test_a_slot_that_is_marked_cannot_be_claimed() -> None:
    world = RecoverySegment()
    slots.mark_dead(world.ram, DOCTOR, VICTIM, FIRST_EPOCH + VICTIM)
    assert slots.claim_slot(world.ram, VICTIM, VICTIM, 4711, 1) == c.E_AGAIN
