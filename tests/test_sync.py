"""stress.sync: each primitive keeps its promise in every class, and a deadlock is told."""

from __future__ import annotations

import threading

import pytest

from shmalloc import Ram, kernel
from shmalloc.engine import get_engine
from shmalloc.words import cas, exchange, expect, fetch_add, load, store, wait, wake
from stress import Program, explore, replay, sync
from stress.programs import PROGRAMS

ENGINES = ["native", "interpreted"]
every_engine = pytest.mark.parametrize("engine", ENGINES)
SMALL = [
    "sync-mutex",
    "sync-condition",
    "sync-broadcast",
    "sync-semaphore",
    "sync-barrier",
    "sync-once-3",
    "sync-threads-3",
]
A, B, VALUE = 0, 1, 2


@pytest.mark.parametrize("memory", ["sc", "tso"])
@pytest.mark.parametrize("name", [*SMALL, "sync-mutex-3", "sync-rwlock-3"])
def test_a_primitive_keeps_its_promise_in_every_class(name, memory):
    result = explore(PROGRAMS[name](), "dpor", memory, seconds=100)
    assert (result.verdict, result.redundant) == ("passed-exhausted", 0), str(result)


@pytest.mark.parametrize("name", ["sync-mutex", "sync-condition", "sync-semaphore"])
def test_the_interpreted_engine_agrees(name):
    counts = {explore(PROGRAMS[name](), "dpor", engine=e, seconds=100).classes for e in ENGINES}
    assert len(counts) == 1


# --- threads --------------------------------------------------------------------------------------
@kernel
def joins_too_early(mem, cpu):
    mem[VALUE] = 1
    sync.thread_join(mem, A)
    sync.thread_start(mem, A)


@kernel
def starts_twice(mem, cpu):
    sync.thread_start(mem, A)
    sync.thread_start(mem, A)


@kernel
def does_not_join(mem, cpu):
    sync.thread_start(mem, A)
    mem[VALUE] = mem[VALUE] + 1


@kernel
def child(mem, cpu):
    sync.thread_begin(mem, A)
    mem[VALUE] = mem[VALUE] + 1
    sync.thread_end(mem, A)


@every_engine
@pytest.mark.parametrize(
    ("starter", "kind"),
    [(joins_too_early, "deadlock"), (starts_twice, "expectation"), (does_not_join, "race")],
)
def test_a_thread_that_is_started_or_joined_wrongly_is_told(starter, kind, engine):
    failure = explore(Program("threads", 4, [starter, child]), engine=engine).failure
    assert failure is not None
    assert failure.kind == kind


# --- deadlocks -----------------------------------------------------------------------------------
@kernel
def both(mem, cpu, first, second):
    sync.mutex_lock(mem, first, cpu)
    sync.mutex_lock(mem, second, cpu)
    mem[VALUE] = mem[VALUE] + 1
    sync.mutex_unlock(mem, second, cpu)
    sync.mutex_unlock(mem, first, cpu)


CROSSED = Program(
    "crossed", 4, [(both, A, B), (both, B, A)], locks=[A, B], names={A: "first", B: "second"}
)


@every_engine
@pytest.mark.parametrize("strategy", ["auto", "dfs", "dpor", "random", "pct", "pos", "surw"])
def test_a_deadlock_is_reported_with_its_cycle(engine, strategy):
    failure = explore(CROSSED, strategy, engine=engine, seconds=100).failure
    assert failure is not None
    assert failure.kind == "deadlock"
    blocked = {one.cpu: (one.address, one.holder) for one in failure.trace.blocked}
    assert blocked == {0: (B, 1), 1: (A, 0)}
    assert replay(CROSSED, failure.schedule, engine=engine).reproduced
    ring = "Cpu 0 sleeps at second, held by cpu 1; cpu 1 sleeps at first, held by cpu 0."
    assert failure.cause.endswith(ring)
    lines = failure.report().splitlines()
    for cpu, word, holder in ((0, "second", 1), (1, "first", 0)):
        at = lines.index(f"  cpu {cpu} waits for {word} of cpu {holder}")
        assert lines[at + 4].strip() == "sync.mutex_lock(mem, second, cpu)"


@kernel
def goes_on(mem, cpu):
    for _ in range(9):
        fetch_add(mem, 3, 1)


def test_a_cycle_of_locks_is_not_told_as_a_sleep_of_all():
    program = Program("crossed", 4, [(both, A, B), (both, B, A), goes_on], locks=[A, B])
    failure = explore(program, engine="interpreted").failure
    assert failure is not None
    assert [one.cpu for one in failure.trace.blocked] == [0, 1]
    assert failure.cause.startswith("CPUs wait for locks of each other")


@kernel
def twice(mem, cpu):
    sync.mutex_lock(mem, A, cpu)
    sync.mutex_lock(mem, A, cpu)


@every_engine
def test_a_cpu_that_takes_its_own_mutex_waits_for_itself(engine):
    failure = explore(Program("twice", 2, [twice], locks=[A]), engine=engine).failure
    assert failure is not None
    assert failure.kind == "deadlock"
    assert [(one.cpu, one.address, one.holder) for one in failure.trace.blocked] == [(0, A, 0)]


@kernel
def take_two(mem, cpu):
    sync.semaphore_wait(mem, A)
    sync.semaphore_wait(mem, A)
    sync.semaphore_post(mem, A)
    sync.semaphore_post(mem, A)


@every_engine
def test_two_cpus_that_need_the_whole_count_each_may_deadlock(engine):
    program = Program("two", 2, [take_two] * 2, init=[(A, 2)])
    failure = explore(program, engine=engine).failure
    assert failure is not None
    assert failure.kind == "deadlock"
    assert [one.address for one in failure.trace.blocked] == [A, A]


@kernel
def missing_party(mem, cpu):
    sync.barrier_wait(mem, A, 3)


def test_a_barrier_waits_for_all_its_parties():
    failure = explore(Program("two of three", 2, [missing_party] * 2)).failure
    assert failure is not None
    assert failure.kind == "deadlock"


# --- broken primitives ---------------------------------------------------------------------------
@kernel
def lock_without_flag(mem, at, cpu):
    """The flag is not set again by a CPU that has slept: a second sleeper is forgotten."""
    while True:
        old = load(mem, at)
        if old == 0:
            if cas(mem, at, 0, cpu + 1):
                return
        elif old & sync.WAITED != 0 or cas(mem, at, old, old | sync.WAITED):
            wait(mem, at, old | sync.WAITED)


@kernel
def forgets_a_sleeper(mem, cpu):
    lock_without_flag(mem, A, cpu)
    mem[VALUE] = mem[VALUE] + 1
    sync.mutex_unlock(mem, A, cpu)


@kernel
def posts_blindly(mem, cpu):
    """Not atomic: two posts become one."""
    store(mem, A, load(mem, A) + 1)
    wake(mem, A, 1)


@kernel
def takes_two(mem, cpu):
    sync.semaphore_wait(mem, A)
    sync.semaphore_wait(mem, A)


@kernel
def unlocks_too_early(mem, cpu):
    """The writer opens the lock between its two writes."""
    sync.write_lock(mem, A, cpu)
    store(mem, VALUE, load(mem, VALUE) + 1)
    sync.write_unlock(mem, A, cpu)
    store(mem, VALUE + 1, load(mem, VALUE + 1) + 1)


@kernel
def reads_both(mem, cpu):
    sync.read_lock(mem, A)
    first = load(mem, VALUE)
    expect(mem, load(mem, VALUE + 1) == first, 5)
    sync.read_unlock(mem, A)


@kernel
def sleeps_outside(mem, cpu):
    """The condition is read when the mutex is free again: the signal between is lost."""
    sync.mutex_lock(mem, A, cpu)
    while mem[VALUE] == 0:
        sync.mutex_unlock(mem, A, cpu)
        wait(mem, B, load(mem, B))
        sync.mutex_lock(mem, A, cpu)
    sync.mutex_unlock(mem, A, cpu)


@kernel
def signals(mem, cpu):
    sync.mutex_lock(mem, A, cpu)
    mem[VALUE] = 1
    sync.mutex_unlock(mem, A, cpu)
    sync.condition_signal(mem, B)


@kernel
def done_before_it_is_made(mem, cpu):
    if sync.once_begin(mem, A):
        exchange(mem, A, sync.DONE)
        store(mem, VALUE, 1)
        wake(mem, A, sync.ALL)
    expect(mem, load(mem, VALUE) == 1, 6)


@kernel
def unlocks_what_another_holds(mem, cpu):
    if cpu == 0:
        sync.mutex_lock(mem, A, cpu)
    else:
        sync.mutex_unlock(mem, A, cpu)


@kernel
def reads_no_more(mem, cpu):
    sync.read_unlock(mem, A)


BROKEN = [
    ([forgets_a_sleeper] * 3, "deadlock", 0),
    ([posts_blindly, posts_blindly, takes_two], "deadlock", 0),
    ([unlocks_too_early, reads_both], "expectation", 5),
    ([sleeps_outside, signals], "deadlock", 0),
    ([done_before_it_is_made] * 2, "expectation", 6),
    ([unlocks_what_another_holds] * 2, "expectation", sync.NOT_HELD),
    ([reads_no_more], "expectation", sync.NO_READER),
]


@every_engine
@pytest.mark.parametrize(("threads", "kind", "code"), BROKEN)
def test_what_is_broken_is_found_and_replays(threads, kind, code, engine):
    program = Program("broken", 4, threads)
    failure = explore(program, engine=engine, seconds=60).failure
    assert failure is not None
    assert (failure.kind, failure.code) == (kind, code)
    assert replay(program, failure.schedule, engine=engine).reproduced


# --- natively ------------------------------------------------------------------------------------
ROUNDS = 2_000


@kernel
def count_up(mem, cpu, rounds):
    for _ in range(rounds):
        sync.mutex_lock(mem, A, cpu)
        mem[VALUE] = mem[VALUE] + 1
        sync.mutex_unlock(mem, A, cpu)


def test_the_mutex_excludes_threads_at_native_speed():
    ram, run = Ram.of_words(4), get_engine("native").bind(count_up)
    threads = [threading.Thread(target=run, args=(ram, cpu, ROUNDS)) for cpu in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), f"mutex {ram[A]:#x}, counted {ram[VALUE]}"
    assert (ram[A], ram[VALUE]) == (0, 3 * ROUNDS)
