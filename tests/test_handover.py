"""What a process passes on survives its death, and nothing else; with real kills.

The sender is killed at any moment; half of its messages are read before it is reaped, half after.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from shmalloc import Arena, CorruptionError, MisuseError
from support import sender

READ_BEFORE = 40


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena.create(size="16MiB", cpus=4) as made:
        made.cache("passed on", 40)
        yield made


def messages(arena: Arena, seed: int) -> tuple[list[tuple[int, int, int]], int]:
    """What a sender passed on before it was killed, and how many of them were taken in time.

    It is dead when this returns, and not recovered.
    """
    child = sender.start(arena.name)
    assert child.stdout is not None
    in_time = random.Random(seed).randrange(1, READ_BEFORE)
    lines = [child.stdout.readline() for _ in range(in_time)]
    child.kill()
    lines += child.stdout.readlines()
    child.wait()
    whole = [line for line in lines if line.endswith("\n")]
    return [tuple(map(int, line.split())) for line in whole], in_time  # type: ignore[misc]


def take_all(arena: Arena, given: list[tuple[int, int, int]]) -> None:
    for pfn, address, giver in given:
        arena.adopt_pages(pfn, giver=giver)
        arena.open_cache("passed on").adopt(address, giver)


def free_all(arena: Arena, given: list[tuple[int, int, int]]) -> None:
    for pfn, address, _ in given:
        arena.free_pages(pfn)
        arena.open_cache("passed on").free(address)


def free_pages(arena: Arena) -> int:
    """Free pages when nothing hides on lists or in sheaves."""
    arena.open_cache("passed on").shrink()
    arena.drain()
    return arena.statistics().free_pages


@pytest.mark.parametrize("seed", range(3))
def test_what_was_adopted_in_time_stays_and_the_rest_is_reaped(arena: Arena, seed: int) -> None:
    before = free_pages(arena)
    given, in_time = messages(arena, seed)
    take_all(arena, given[:in_time])
    for dead in arena.recover():
        arena.reap(dead)
    assert arena.validate() == []
    free_all(arena, given[:in_time])
    assert (arena.violations(), free_pages(arena)) == ([], before)


def test_what_was_reaped_cannot_be_adopted_any_more(arena: Arena) -> None:
    given, _ = messages(arena, 7)
    for dead in arena.recover():
        arena.reap(dead)
    pfn, address, giver = given[0]
    with pytest.raises(CorruptionError, match=f"adopt_pages\\({pfn}"):
        arena.adopt_pages(pfn, giver=giver)
    with pytest.raises(CorruptionError, match=f"adopt\\({address}"):
        arena.open_cache("passed on").adopt(address, giver)


def test_a_late_message_takes_nothing_from_the_next_owner(arena: Arena) -> None:
    given, _ = messages(arena, 7)
    for dead in arena.recover():
        arena.reap(dead)
    passed = {pfn: giver for pfn, _, giver in given}
    ours = []
    while not passed.keys() & ours:
        ours.append(arena.alloc_pages())
    (pfn,) = passed.keys() & ours
    with pytest.raises(CorruptionError):
        arena.adopt_pages(pfn, giver=passed[pfn])
    assert f"by claim {arena.claim}" in arena.describe(pfn)


def test_every_claim_of_a_slot_is_another_life(arena: Arena) -> None:
    lives = set()
    for _ in range(3):
        with Arena.attach(arena.name) as other:
            lives.add(other.life)
    assert len(lives) == 3 and arena.life not in lives


@pytest.mark.parametrize("giver", [0, -1, 1 << 70])
def test_an_impossible_giver_is_refused(arena: Arena, giver: int) -> None:
    with pytest.raises(MisuseError, match="giver"):
        arena.adopt_pages(0, giver=giver)
