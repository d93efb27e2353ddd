"""The sleeping lock and the per-CPU lock, one call at a time, while a script plays the others.

Schedules find what breaks mutual exclusion. They cannot tell how long a lock spins, when it asks
to be handed over, or what it counts: that is said here.
"""

from __future__ import annotations

import pytest

from shmalloc import constants as c
from shmalloc.kernels.cpu_lock import spin_or_skip, try_spin, unspin
from shmalloc.kernels.lock import lock, lock_or_skip, take_over, unlock, wake_all
from shmalloc.kernels.reporting import claim_at
from support.pauses import EPOCH, SPINS, WORD, Scripted, becomes, called_off, nothing, owner

ME, OTHER = 2, 6
C, KEPT, HANDOFF = c.LOCK_CONTENDED, c.LOCK_KEPT, c.LOCK_HANDOFF
RELAX = ("relax",)
SPUN = (nothing,) * SPINS


def asleep(value: int) -> tuple[str, int, int]:
    return ("wait", WORD, value)


# --- the sleeping lock ---------------------------------------------------------------------------
def test_a_free_lock_is_taken_by_one_compare_exchange_and_counted_as_nothing():
    mem = Scripted()
    mem.call(lock, WORD, ME)
    assert (mem[WORD], mem.tries, mem.seen) == (owner(ME), 1, [])
    assert mem.count(ME, c.EV_LOCK_SLOW) == 0


def test_a_held_lock_is_counted_once_whatever_it_takes():
    mem = Scripted(*SPUN, becomes(0), held=owner(OTHER))
    mem.call(lock, WORD, ME)
    assert mem.count(ME, c.EV_LOCK_SLOW) == 1


def test_it_spins_as_often_as_the_geometry_says_and_then_sleeps_on_the_flagged_word():
    mem = Scripted(*SPUN, becomes(0), held=owner(OTHER))
    mem.call(lock, WORD, ME)
    assert mem.seen == [RELAX] * SPINS + [asleep(owner(OTHER) | C)]
    assert mem.count(ME, c.EV_LOCK_SLEEP) == 1


def test_while_it_spins_it_only_reads_a_lock_that_is_held():
    mem = Scripted(*SPUN, becomes(0), held=owner(OTHER))
    mem.call(lock, WORD, ME)
    assert mem.tries == 1 + 1 + 1  # at first, to set the flag, and after the sleep


def test_a_lock_that_is_released_while_it_spins_is_taken_without_the_flag():
    mem = Scripted(nothing, becomes(0), held=owner(OTHER))
    mem.call(lock, WORD, ME)
    assert (mem[WORD], mem.seen) == (owner(ME), [RELAX] * 2)


def test_who_has_slept_takes_it_with_the_flag_for_there_may_be_other_sleepers():
    mem = Scripted(*SPUN, becomes(0), held=owner(OTHER))
    mem.call(lock, WORD, ME)
    assert mem[WORD] == owner(ME) | C


def test_a_flag_that_is_there_is_not_set_again():
    mem = Scripted(*SPUN, becomes(0), held=owner(OTHER) | C)
    mem.call(lock, WORD, ME)
    assert (mem.seen[-1], mem.tries) == (asleep(owner(OTHER) | C), 1 + 1)


def test_a_kept_lock_is_not_for_one_that_has_not_slept():
    mem = Scripted(*SPUN, becomes(0), held=KEPT)
    mem.call(lock, WORD, ME)
    assert mem.seen == [RELAX] * SPINS + [asleep(KEPT)]


def test_a_kept_lock_is_for_one_that_has_slept_once():
    mem = Scripted(*SPUN, becomes(KEPT), held=owner(OTHER))
    mem.call(lock, WORD, ME)
    assert mem[WORD] == owner(ME) | C


def test_who_has_slept_more_often_than_it_spins_asks_to_be_handed_the_lock():
    mem = Scripted(*SPUN, *(nothing,) * (SPINS + 1), becomes(KEPT), held=owner(OTHER))
    mem.call(lock, WORD, ME)
    slept = [seen for seen in mem.seen if seen != RELAX]
    assert slept == [asleep(owner(OTHER) | C)] * (SPINS + 1) + [asleep(owner(OTHER) | KEPT)]


@pytest.mark.parametrize(
    ("held", "left", "wakes"),
    [
        (owner(ME), 0, 0),
        (owner(ME) | C, 0, 1),
        (owner(ME) | KEPT, KEPT, 1),
    ],
)
def test_a_release_wakes_one_sleeper_if_there_may_be_one(held, left, wakes):
    mem = Scripted(held=held)
    mem.call(unlock, WORD)
    assert (mem[WORD], mem.seen) == (left, [("wake", WORD, 1)] * wakes)


def test_a_release_sees_the_flag_that_a_sleeper_sets_at_the_last_moment():
    mem = Scripted(held=owner(ME))
    mem.before = {1: becomes(owner(ME) | C), 2: becomes(owner(ME) | KEPT)}
    mem.call(unlock, WORD)
    assert (mem[WORD], mem.seen, mem.tries) == (KEPT, [("wake", WORD, 1)], 3)


@pytest.mark.parametrize(
    ("held", "left"),
    [
        (owner(ME), owner(ME)),
        (owner(ME) | C, owner(ME) | C),
        (owner(ME) | KEPT, owner(ME) | C),
        (KEPT, 0),
        (0, 0),
    ],
)
def test_a_handoff_is_withdrawn_and_everyone_is_woken(held, left):
    mem = Scripted(held=held)
    mem.call(wake_all, WORD)
    assert (mem[WORD], mem.seen) == (left, [("wake", WORD, c.MAX_CLAIMS)])


@pytest.mark.parametrize("flags", [0, C, KEPT])
def test_the_lock_of_the_dead_is_taken_over_with_its_flags(flags):
    mem = Scripted(held=owner(OTHER, EPOCH - 2) | flags)
    assert mem.call(take_over, WORD, ME, OTHER)
    assert (mem[WORD], mem.seen) == (owner(ME) | flags, [])
    assert mem.count(ME, c.EV_TAKEOVER) == 1


def test_a_withdrawal_sees_what_changed_at_the_last_moment():
    mem = Scripted(held=owner(OTHER) | KEPT)
    mem.before = {1: becomes(KEPT)}
    mem.call(wake_all, WORD)
    assert (mem[WORD], mem.tries) == (0, 2)


def test_a_take_over_keeps_the_flag_that_a_sleeper_sets_at_the_last_moment():
    mem = Scripted(nothing, held=owner(OTHER))
    mem.before = {1: becomes(owner(OTHER) | C)}
    assert mem.call(take_over, WORD, ME, OTHER)
    assert (mem[WORD], mem.seen) == (owner(ME) | C, [RELAX])


@pytest.mark.parametrize("held", [0, owner(ME), owner(OTHER - 1) | C, KEPT])
def test_a_lock_that_the_dead_does_not_hold_is_left_alone(held):
    mem = Scripted(held=held)
    assert not mem.call(take_over, WORD, ME, OTHER)
    assert (mem[WORD], mem.count(ME, c.EV_TAKEOVER)) == (held, 0)


# --- a wait that can be called off ---------------------------------------------------------------
def give_up_word(mem: Scripted) -> int:
    return mem[claim_at(mem, ME) + c.C_GIVE_UP]


def test_a_free_lock_is_taken_at_once_by_one_that_could_do_without():
    mem = Scripted()
    assert mem.call(lock_or_skip, WORD, ME)
    assert (mem[WORD], mem.tries, mem.seen) == (owner(ME), 1, [])
    assert mem.count(ME, c.EV_LOCK_SLOW) == 0


def test_a_wait_that_is_called_off_ends_counted_and_leaves_no_request_for_the_lock():
    flagged = owner(OTHER) | KEPT
    mem = Scripted(*SPUN, nothing, called_off(ME), held=flagged)
    assert not mem.call(lock_or_skip, WORD, ME)
    assert mem.seen[-2:] == [asleep(flagged), ("wake", WORD, c.MAX_CLAIMS)]
    assert (mem[WORD], give_up_word(mem)) == (owner(OTHER) | C, 0)
    assert mem.count(ME, c.EV_DRAIN_SKIP) == 1


def test_what_called_off_an_earlier_wait_does_not_end_this_one():
    mem = Scripted(*SPUN, nothing, becomes(0), held=owner(OTHER))
    called_off(ME)(mem)
    assert mem.call(lock_or_skip, WORD, ME)
    assert (mem[WORD], mem.count(ME, c.EV_DRAIN_SKIP)) == (owner(ME) | C, 0)


def test_a_wait_for_another_lock_that_is_called_off_does_not_end_this_one():
    mem = Scripted(*SPUN, called_off(ME, WORD + 2), becomes(0), held=owner(OTHER))
    assert mem.call(lock_or_skip, WORD, ME)
    assert mem[WORD] == owner(ME) | C


def test_one_that_must_have_the_lock_takes_no_notice():
    mem = Scripted(*SPUN, called_off(ME), becomes(0), held=owner(OTHER))
    mem.call(lock, WORD, ME)
    assert (mem[WORD], give_up_word(mem)) == (owner(ME) | C, WORD)


# --- the per-CPU lock ----------------------------------------------------------------------------
def test_a_per_cpu_lock_that_is_free_is_taken_and_one_that_is_held_is_not_waited_for():
    mem = Scripted()
    assert mem.call(try_spin, WORD, ME)
    assert mem[WORD] == owner(ME)
    assert not mem.call(try_spin, WORD, OTHER)
    assert (mem[WORD], mem.seen) == (owner(ME), [])


def test_a_remote_drainer_gives_way_and_says_what_it_waits_for():
    mem = Scripted(nothing, nothing, becomes(0), held=owner(OTHER))
    mem.call(spin_or_skip, WORD, ME, OTHER)
    assert mem.seen == [("notice", WORD), RELAX] * 3
    assert mem[WORD] == owner(ME)


def test_a_remote_drainer_takes_a_free_lock_at_once():
    mem = Scripted()
    mem.call(spin_or_skip, WORD, ME, OTHER)
    assert (mem[WORD], mem.seen, mem.tries) == (owner(ME), [], 1)


def test_a_per_cpu_lock_is_free_after_its_release():
    mem = Scripted(held=owner(ME))
    mem.call(unspin, WORD, ME)
    assert mem[WORD] == 0
