"""Claims of living and dead processes on CPUs that they have alone, share, or unplug."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc import cpus
from shmalloc.engine import Engine
from shmalloc.errors import MisuseError
from shmalloc.kernels.pages import alloc_pages, free_pages
from shmalloc.layout import Geometry, ZoneSpec
from shmalloc.processes import own_identity
from shmalloc.recovery import recover
from shmalloc.segment import Segment

GEOMETRY = Geometry(
    zones=(ZoneSpec(pages=64, node=0), ZoneSpec(pages=64, node=1)),
    page_bytes=64,
    cpus=3,
    claims=8,
    max_order=3,
    pageblock_order=2,
)
DEAD = (1 << 22, 99)


@pytest.fixture
def segment(engine: Engine) -> Iterator[Segment]:
    with Segment.create(GEOMETRY, engine=engine.name) as made:
        yield made


def occupy(segment: Segment, cpu: int, pid: int, start: int) -> None:
    """As a process that is dead: its lock is gone."""
    at = segment.layout.cpu(cpu)
    words = {c.C_PID: pid, c.C_START: start, c.C_EPOCH: 1, c.C_STATE: c.CPU_ONLINE}
    for word, value in words.items():
        segment.ram[at + word] = value


def test_a_fresh_slot_is_empty_and_free(segment: Segment) -> None:
    assert [(s.state, s.free, s.pid, s.users) for s in cpus.slots(segment)] == [
        ("empty", True, 0, 0)
    ] * 3


def test_a_claim_takes_the_first_free_slot_and_names_its_owner(
    segment: Segment, engine: Engine
) -> None:
    assert cpus.claim(segment, engine=engine.name) == 0
    slot = cpus.slot(segment, 0)
    assert (slot.pid, slot.start) == own_identity()
    assert (slot.state, slot.alive, slot.free, slot.users) == ("online", True, False, 1)


def test_each_claim_starts_a_new_epoch(segment: Segment, engine: Engine) -> None:
    for epoch in (1, 3):
        cpus.claim(segment, 1, engine=engine.name)
        assert cpus.slot(segment, 1).epoch == epoch
        cpus.release(segment, 1, engine=engine.name)


def test_claims_on_one_cpu_have_numbers_of_their_own(segment: Segment, engine: Engine) -> None:
    numbers = [cpus.claim(segment, 1, engine=engine.name) for _ in range(3)]
    assert numbers == [1, 3, 4]
    assert [cpus.slot(segment, number).cpu for number in numbers] == [1, 1, 1]


def test_a_claim_is_taken_by_its_number_on_any_cpu(segment: Segment, engine: Engine) -> None:
    cpus.take(segment, 7, 2, engine=engine.name)
    assert (cpus.slot(segment, 7).cpu, cpus.slot(segment, 7).users) == (2, 1)
    with pytest.raises(MisuseError, match="claim: 7 is taken"):
        cpus.take(segment, 7, 1, engine=engine.name)


def test_an_arena_has_as_many_claims_as_it_was_made_with(segment: Segment, engine: Engine) -> None:
    assert {cpus.claim(segment, engine=engine.name) for _ in range(8)} == set(range(8))
    with pytest.raises(MisuseError, match="all 8 of this segment are taken"):
        cpus.claim(segment, engine=engine.name)


def test_a_released_slot_is_free(segment: Segment, engine: Engine) -> None:
    cpu = cpus.claim(segment, engine=engine.name)
    assert cpus.release(segment, cpu, engine=engine.name) == 0
    assert cpus.slot(segment, cpu).free


def test_a_claim_of_the_dead_is_not_taken(segment: Segment, engine: Engine) -> None:
    occupy(segment, 2, *DEAD)
    number = cpus.claim(segment, 2, engine=engine.name)
    assert (number, cpus.slot(segment, number).cpu, cpus.slot(segment, 2).dead) == (3, 2, True)


def test_a_dead_owners_slot_is_claimed_when_it_was_recovered(
    segment: Segment, engine: Engine
) -> None:
    occupy(segment, 2, *DEAD)
    recovered = recover(segment, by=cpus.claim(segment, 0, engine=engine.name), engine=engine.name)
    assert [(r.cpu, r.pid, r.start) for r in recovered] == [(2, *DEAD)]
    assert cpus.claim(segment, 2, engine=engine.name) == 2
    slot = cpus.slot(segment, 2)
    assert ((slot.pid, slot.start), slot.users) == (own_identity(), 1)


def test_a_dead_neighbour_on_a_cpu_is_recovered(segment: Segment, engine: Engine) -> None:
    with Segment.attach(segment.name) as other:
        dead = cpus.claim(other, 0, engine=engine.name)
        lives = cpus.claim(segment, 0, engine=engine.name)
    recovered = recover(segment, by=lives, engine=engine.name)
    assert [found.cpu for found in recovered] == [dead]
    assert (cpus.slot(segment, dead).free, cpus.slot(segment, lives).alive) == (True, True)


def test_an_empty_slot_is_preferred_to_a_dead_owners(segment: Segment, engine: Engine) -> None:
    occupy(segment, 0, *DEAD)
    assert cpus.claim(segment, engine=engine.name) == 1


def test_the_least_used_cpu_is_chosen_when_none_is_free(segment: Segment, engine: Engine) -> None:
    for cpu in (0, 0, 0, 1, 2, 2):
        cpus.claim(segment, cpu, engine=engine.name)
    assert cpus.slot(segment, cpus.claim(segment, engine=engine.name)).cpu == 1


def test_a_claim_of_a_slot_that_has_an_owner_fails(segment: Segment, engine: Engine) -> None:
    occupy(segment, 0, *own_identity())
    at = segment.layout.cpu(0)
    assert engine.call(cpus.claim_slot, segment.ram, 0, 0, *DEAD) == c.E_AGAIN
    assert segment.ram[at + c.C_PID] == own_identity()[0]


def test_a_claim_whose_labels_begin_anew_is_taken_when_no_page_bears_one(
    segment: Segment, engine: Engine
) -> None:
    """Labels have 21 bits of the epoch: 2^20 lives later, a page of the first would be ours."""
    run, ram, at = engine.call, segment.ram, segment.layout.cpu(0)
    other = cpus.claim(segment, 1, engine=engine.name)
    first = cpus.claim(segment, 0, engine=engine.name)
    pfn = run(alloc_pages, ram, first, 0, c.MT_MOVABLE, 7)
    cpus.release(segment, first, engine.name)
    ram[at + c.C_EPOCH] = c.LABEL_EPOCH_MASK + 1
    assert cpus.claim(segment, 0, engine=engine.name) not in (first, other)
    assert run(cpus.claim_slot, ram, first, 0, *DEAD) == c.E_AGAIN
    run(free_pages, ram, other, pfn, 0)
    assert run(cpus.claim_slot, ram, first, 0, *DEAD) == first


def test_a_claim_whose_lives_are_used_up_is_never_taken(segment: Segment, engine: Engine) -> None:
    segment.ram[segment.layout.cpu(0) + c.C_EPOCH] = cs.GIVEN >> c.LIFE_EPOCH_SHIFT
    assert engine.call(cpus.claim_slot, segment.ram, 0, 0, *DEAD) == c.E_AGAIN


def test_an_unplugged_slot_is_not_claimed(segment: Segment, engine: Engine) -> None:
    for _ in range(2):
        cpus.claim(segment, engine=engine.name)
    cpus.unplug(segment, 0, by=1, engine=engine.name)
    assert cpus.slot(segment, 0).state == "offline"
    with pytest.raises(MisuseError, match="slot 0 is unplugged"):
        cpus.claim(segment, 0, engine=engine.name)
    assert cpus.claim(segment, engine=engine.name) == 2


def test_a_plugged_slot_can_be_claimed_again(segment: Segment, engine: Engine) -> None:
    cpus.claim(segment, 0, engine=engine.name)
    cpus.unplug(segment, 0, by=0, engine=engine.name)
    cpus.plug(segment, 0, by=0, engine=engine.name)
    assert cpus.slot(segment, cpus.claim(segment, 0, engine=engine.name)).cpu == 0


def test_only_an_online_slot_can_be_unplugged(segment: Segment, engine: Engine) -> None:
    with pytest.raises(MisuseError, match="slot 1 is empty"):
        cpus.unplug(segment, 1, by=0, engine=engine.name)


@pytest.mark.parametrize("bad", [-1, 3, True, "0"])
def test_a_slot_that_does_not_exist_is_refused(segment: Segment, bad: object) -> None:
    with pytest.raises(MisuseError, match="CPU slots 0 to 2"):
        cpus.claim(segment, bad)  # type: ignore[arg-type]


CLAIMER = """
import sys
from shmalloc import cpus
from shmalloc.segment import Segment
with Segment.attach(sys.argv[1]) as segment:
    print(cpus.claim(segment), flush=True)
    sys.stdin.readline()
"""


def test_processes_that_claim_at_once_get_slots_of_their_own(segment: Segment) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, segment.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    claimed = [int(worker.stdout.readline()) for worker in workers if worker.stdout]
    owners = {slot.pid for slot in cpus.slots(segment)}
    for worker in workers:
        worker.communicate("\n", timeout=60)
    assert sorted(claimed) == [0, 1, 2]
    assert owners == {worker.pid for worker in workers}
