"""``passed-exhausted`` is a proof: programs that fail in a way that a search could leave out."""

from __future__ import annotations

import pytest

from shmalloc.dialect import kernel
from shmalloc.words import expect, fence, load, relax, store, store_relaxed, wait, wake
from stress import Program, explore, replay, returned
from stress.explorer.left_out import left_out
from stress.explorer.sampling import Member, Sampler
from stress.explorer.searches import Budget
from stress.machine import block as cb
from stress.machine.block_layout import Settings
from stress.machine.patience import can_give_up
from support.explorations import ENGINES, searching

every_engine = pytest.mark.parametrize("engine", ENGINES)


# --- store buffers --------------------------------------------------------------------------------
@kernel
def stores_then_looks(mem, cpu, stores):
    store_relaxed(mem, 0, 1)
    for k in range(stores):
        store_relaxed(mem, 2, k)
    return load(mem, 1)


@kernel
def stores_and_fences(mem, cpu):
    store_relaxed(mem, 1, 1)
    fence(mem)
    return load(mem, 0)


@kernel
def one_of_the_two_saw_the_other(mem):
    return 0 if returned(mem, 0) + returned(mem, 1) > 0 else 1


def store_buffering(stores: int) -> Program:
    """SB, with more stores between the store and the load of CPU 0."""
    threads = [(stores_then_looks, stores), stores_and_fences]
    return Program("buffers", 4, threads, check=one_of_the_two_saw_the_other)


def test_a_load_may_pass_more_stores_than_a_small_buffer_holds():
    """x86-TSO forbids it for no number of stores, and processors have 40 entries and more."""
    result = explore(store_buffering(cb.TSO_DEPTH - 1), "dpor", "tso", seconds=None)
    assert (result.verdict, result.failure.kind) == ("failed", "check")


def test_where_a_buffer_was_full_a_pass_is_no_proof():
    result = explore(store_buffering(cb.TSO_DEPTH), "dpor", "tso", seconds=None)
    assert (result.verdict, result.guarantee) == ("passed-budget", "")
    assert f"a CPU made more than {cb.TSO_DEPTH} stores" in result.note


# --- sleepers -------------------------------------------------------------------------------------
@kernel
def sets_and_wakes_one(mem, cpu):
    store(mem, 0, 1)
    wake(mem, 0, 1)


@kernel
def hands_the_wake_on(mem, cpu):
    wait(mem, 0, 0)
    wake(mem, 0, 1)


@kernel
def keeps_the_wake(mem, cpu):
    wait(mem, 0, 0)


@pytest.mark.parametrize("strategy", ["dpor", "dfs", "random", "pct", "pos", "surw"])
def test_a_wake_may_take_any_of_the_sleepers(strategy):
    """Linux takes the one that slept first: the lowest CPU alone would hand the wake on."""
    program = Program("hand on", 2, [sets_and_wakes_one, hands_the_wake_on, keeps_the_wake])
    result = explore(program, strategy, schedules=2_000, seconds=None)
    assert (result.verdict, result.failure.kind) == ("failed", "deadlock")
    assert replay(program, result.failure.schedule).reproduced


@kernel
def wakes_half(mem, cpu):
    wake(mem, 0, 6)


def test_where_a_wake_has_more_sets_of_sleepers_than_are_tried_a_pass_is_no_proof():
    """Of 12 sleepers 6 can be chosen in 924 ways; the first schedule of DPOR puts all to sleep."""
    program = Program("many", 2, [*[keeps_the_wake] * 12, wakes_half])
    search = searching(program, "dpor", "sc", "native")
    search.run(Budget(None, 1))
    assert any("60 sets of sleepers" in reason for reason in left_out(search.block, "dpor"))


# --- spins that give up ---------------------------------------------------------------------------
@kernel
def gives_up(mem, cpu, spins):
    tries = 0
    while tries < spins:
        if load(mem, 0) == 1:
            return 0
        relax(mem)
        tries += 1
    store(mem, 1, 1)
    return 1


@kernel
def sees_that_it_gave_up(mem, cpu):
    store(mem, 2, 1)
    store(mem, 0, 1)
    return load(mem, 1)


@kernel
def nobody_saw_it(mem):
    return returned(mem, 1)


@every_engine
@pytest.mark.parametrize("strategy", ["dpor", "dfs"])
def test_a_spin_that_gives_up_is_tried_or_the_pass_is_no_proof(strategy, engine):
    """Under these strategies a CPU spins twice, and then waits for a change."""
    threads = [(gives_up, 5), sees_that_it_gave_up]
    program = Program("gives up", 4, threads, check=nobody_saw_it)
    options = {"strategy": strategy, "engine": engine, "seconds": None}
    few = explore(program, **options)
    assert (few.verdict, few.guarantee) == ("passed-budget", "")
    assert "cpu 0 counts while it spins" in few.note
    assert explore(program, free_spins=5, **options).verdict == "failed"


@every_engine
def test_spinning_for_long_and_giving_up_is_no_livelock(engine):
    program = Program("patient", 2, [(gives_up, 300)] * 2)
    result = explore(program, "random", schedules=2, seconds=None, engine=engine)
    assert result.verdict == "passed-budget"


@kernel
def counts_for_a_report(mem, cpu):
    spins = 0
    while load(mem, 0) == 0:
        relax(mem)
        spins += 1
    return spins


@kernel
def tries_thrice(mem, cpu):
    for _ in range(3):
        if load(mem, 0) == 1:
            return
        relax(mem)


@kernel
def counts_by_way_of_another_name(mem, cpu):
    old = new = 0
    while load(mem, 0) == 0:
        old = new
        new = old + 1
        if old > 9:
            break
        relax(mem)


@kernel
def keeps_what_it_read(mem, cpu):
    before = now = load(mem, 0)
    while before == now:
        relax(mem)
        before = now
        now = load(mem, 0)


@kernel
def loops_and_never_waits(mem, cpu):
    for k in range(3):
        store(mem, 0, k)


@pytest.mark.parametrize(
    ("kernel_", "can"),
    [
        (gives_up, True),
        (tries_thrice, True),
        (counts_by_way_of_another_name, True),
        (counts_for_a_report, False),
        (keeps_what_it_read, False),
        (loops_and_never_waits, False),
    ],
)
def test_only_a_loop_that_asks_for_what_it_counts_can_give_up(kernel_, can):
    assert can_give_up(kernel_) == can


# --- failures that are passed ---------------------------------------------------------------------
@kernel
def expects_the_store(mem, cpu):
    expect(mem, load(mem, 0) == 1, 5)


@kernel
def makes_the_store(mem, cpu):
    store(mem, 0, 1)


@kernel
def never_holds(mem):
    return 9


@pytest.mark.parametrize("strategy", ["auto", "dfs"])
def test_behind_a_failure_that_is_ignored_another_one_is_found(strategy):
    program = Program("two", 2, [expects_the_store, makes_the_store], check=never_holds)
    result = explore(program, strategy, known=lambda failure: failure.code == 5)
    assert (result.verdict, result.failure.code) == ("failed", 9)


def test_dpor_proves_nothing_where_a_schedule_ended_at_an_ignored_failure():
    program = Program("cut", 2, [expects_the_store, makes_the_store])
    result = explore(program, "dpor", known=lambda failure: True)
    assert (result.verdict, result.guarantee) == ("passed-budget", "")
    assert "1 schedule ended at a failure" in result.note


# --- the estimate of classes ----------------------------------------------------------------------
def test_a_beginning_that_cannot_be_made_ends_no_process():
    """CPU 0 has one step. A word that is found to be raced for changes what a beginning means."""
    program = Program("two stores", 2, [makes_the_store] * 2)
    sampler = Sampler(program, Settings(100), "native", seed=1)
    sampler.learn()
    sampler._probe(Member(1.0, (0, 0), ()), {})
    assert sampler.block[cb.OUTCOME] == cb.ERROR
