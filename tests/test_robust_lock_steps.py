"""The robust lock, one call at a time, while a script plays the others (support/pauses.py)."""

from __future__ import annotations

import pytest

from shmalloc import constants as c
from shmalloc.kernels.reporting import claim_at
from shmalloc.structures.kernels.robust import (
    CONSISTENT,
    OWNER_DIED,
    RL_STATUS,
    UNUSABLE,
    make_consistent,
    robust_abandon,
    robust_lock,
    robust_unlock,
)
from support.pauses import EPOCH, SPINS, WORD, Action, Scripted, becomes, nothing, owner

ME, OTHER, THIRD = 2, 6, 4
C, KEPT = c.LOCK_CONTENDED, c.LOCK_KEPT
RELAX, SPUN = ("relax",), (nothing,) * SPINS
ALWAYS = 100  # sleeps, more than any script here has


def asleep(value: int) -> tuple[str, int, int]:
    return ("wait", WORD, value)


def memory(*script: Action, held: int = 0, status: int = CONSISTENT) -> Scripted:
    mem = Scripted(*script, held=held)
    mem[WORD + RL_STATUS] = status
    return mem


def taken(mem: Scripted, slept: int = 0, sleeps: int = ALWAYS) -> int:
    return mem.call(robust_lock, ME, WORD, slept, sleeps)


def dead(claim: int) -> Action:
    """The process of ``claim`` is marked dead during this pause."""

    def act(mem: Scripted) -> None:
        mem[claim_at(mem, claim) + c.C_DEAD] = EPOCH + 1

    return act


# --- taking --------------------------------------------------------------------------------------
def test_a_free_lock_is_taken_by_one_compare_exchange():
    mem = memory()
    assert taken(mem) == CONSISTENT
    assert (mem[WORD], mem.tries, mem.seen) == (owner(ME), 1, [])


def test_it_spins_and_then_sleeps_on_the_flagged_word():
    mem = memory(*SPUN, becomes(0), held=owner(OTHER))
    assert taken(mem) == CONSISTENT
    assert mem.seen == [RELAX] * SPINS + [asleep(owner(OTHER) | C)]
    assert mem[WORD] == owner(ME) | C  # there may be other sleepers


def test_a_lock_that_is_released_while_it_spins_is_taken_without_the_flag():
    mem = memory(nothing, becomes(0), held=owner(OTHER))
    assert taken(mem) == CONSISTENT
    assert (mem[WORD], mem.seen) == (owner(ME), [RELAX] * 2)


def test_a_flag_that_is_there_is_not_set_again():
    mem = memory(*SPUN, becomes(0), held=owner(OTHER) | C)
    assert taken(mem) == CONSISTENT
    assert (mem.seen[-1], mem.tries) == (asleep(owner(OTHER) | C), 2)


@pytest.mark.parametrize(("slept", "seen"), [(0, [RELAX] * SPINS + [asleep(KEPT)]), (1, [])])
def test_a_kept_lock_is_only_for_one_that_has_slept(slept, seen):
    mem = memory(*(*SPUN, becomes(KEPT))[: len(seen)], held=KEPT)
    assert taken(mem, slept) == CONSISTENT
    assert (mem.seen, mem[WORD]) == (seen, owner(ME) | C)


@pytest.mark.parametrize(("slept", "flags"), [(SPINS, C), (SPINS + 1, KEPT)])
def test_who_has_slept_more_often_than_it_spins_asks_to_be_handed_the_lock(slept, flags):
    mem = memory(*SPUN, becomes(0), held=owner(OTHER))
    assert taken(mem, slept) == CONSISTENT
    assert mem.seen[-1] == asleep(owner(OTHER) | flags)


@pytest.mark.parametrize(("slept", "sleeps"), [(0, 0), (0, 2), (5, 1)])
def test_it_gives_up_after_so_many_sleeps_and_counts_those_of_earlier_calls_apart(slept, sleeps):
    mem = memory(*SPUN, *(nothing,) * sleeps, held=owner(OTHER))
    assert taken(mem, slept, sleeps) == c.E_AGAIN
    assert len(mem.seen) == SPINS + sleeps
    assert mem[WORD] & ~KEPT == owner(OTHER)


def test_one_that_has_waited_is_told_what_the_last_owner_left():
    mem = memory(nothing, becomes(0), held=owner(OTHER), status=OWNER_DIED)
    assert taken(mem) == OWNER_DIED


def test_it_is_not_reentrant():
    mem = memory(held=owner(ME) | C)
    assert taken(mem) == c.E_BUSY
    assert (mem[WORD], mem.seen) == (owner(ME) | C, [])


# --- the dead ------------------------------------------------------------------------------------
def test_the_lock_of_a_life_that_is_over_is_taken_at_once_and_its_taker_is_told():
    mem = memory(held=owner(OTHER, EPOCH - 2))
    assert taken(mem) == OWNER_DIED
    assert (mem[WORD], mem[WORD + RL_STATUS]) == (owner(ME) | C, OWNER_DIED)
    assert mem.seen == []


def test_an_owner_that_is_marked_dead_while_one_sleeps_is_followed_by_the_sleeper():
    mem = memory(*SPUN, dead(OTHER), held=owner(OTHER))
    assert taken(mem) == OWNER_DIED
    assert mem[WORD] == owner(ME) | C


def test_of_two_heirs_one_gets_the_lock():
    mem = memory(*SPUN, becomes(0), held=owner(OTHER, EPOCH - 2))
    mem.before = {2: becomes(owner(THIRD) | C)}
    assert taken(mem) == CONSISTENT
    assert mem.seen == [RELAX] * SPINS + [asleep(owner(THIRD) | C)]


def test_an_unusable_lock_is_refused_and_let_go_even_by_an_heir():
    for held in (0, owner(OTHER, EPOCH - 2)):
        mem = memory(held=held, status=UNUSABLE)
        assert taken(mem) == c.E_STATE
        assert (mem[WORD], mem[WORD + RL_STATUS]) == (0, UNUSABLE)


# --- the owner -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("held", "status", "result", "left"),
    [
        (owner(ME) | C, OWNER_DIED, 0, CONSISTENT),
        (owner(ME), CONSISTENT, c.E_STATE, CONSISTENT),
        (owner(ME), UNUSABLE, c.E_STATE, UNUSABLE),
        (owner(OTHER), OWNER_DIED, c.E_STATE, OWNER_DIED),
        (0, OWNER_DIED, c.E_STATE, OWNER_DIED),
    ],
)
def test_only_the_owner_says_that_it_is_consistent_again(held, status, result, left):
    mem = memory(held=held, status=status)
    assert mem.call(make_consistent, ME, WORD) == result
    assert (mem[WORD], mem[WORD + RL_STATUS]) == (held, left)


@pytest.mark.parametrize(
    ("status", "keep", "left"),
    [
        (CONSISTENT, 0, CONSISTENT),
        (CONSISTENT, 1, CONSISTENT),
        (OWNER_DIED, 0, UNUSABLE),
        (OWNER_DIED, 1, OWNER_DIED),
    ],
)
def test_what_is_released_unrepaired_is_unusable_unless_it_is_kept(status, keep, left):
    mem = memory(held=owner(ME), status=status)
    assert mem.call(robust_unlock, ME, WORD, keep) == 0
    assert (mem[WORD], mem[WORD + RL_STATUS], mem.seen) == (0, left, [])


@pytest.mark.parametrize(("status", "left"), [(CONSISTENT, OWNER_DIED), (UNUSABLE, UNUSABLE)])
def test_what_is_abandoned_tells_its_next_owner_of_a_death(status, left):
    mem = memory(held=owner(ME), status=status)
    assert mem.call(robust_abandon, ME, WORD) == 0
    assert (mem[WORD], mem[WORD + RL_STATUS]) == (0, left)


@pytest.mark.parametrize("held", [0, owner(OTHER), owner(ME, EPOCH - 2), KEPT])
def test_who_does_not_hold_it_can_neither_release_nor_abandon_it(held):
    mem = memory(held=held, status=OWNER_DIED)
    assert mem.call(robust_unlock, ME, WORD, 0) == mem.call(robust_abandon, ME, WORD) == c.E_STATE
    assert (mem[WORD], mem[WORD + RL_STATUS], mem.seen) == (held, OWNER_DIED, [])


@pytest.mark.parametrize(("flags", "left", "wakes"), [(0, 0, 0), (C, 0, 1), (KEPT, KEPT, 1)])
def test_a_release_wakes_one_sleeper_if_there_may_be_one(flags, left, wakes):
    mem = memory(held=owner(ME) | flags)
    assert mem.call(robust_unlock, ME, WORD, 0) == 0
    assert (mem[WORD], mem.seen) == (left, [("wake", WORD, 1)] * wakes)


def test_a_release_sees_the_flag_that_a_sleeper_sets_at_the_last_moment():
    mem = memory(held=owner(ME))
    mem.before = {1: becomes(owner(ME) | C)}
    assert mem.call(robust_unlock, ME, WORD, 0) == 0
    assert (mem[WORD], mem.seen, mem.tries) == (0, [("wake", WORD, 1)], 2)
