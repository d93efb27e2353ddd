"""Waits that return without a wake: tried at every wait, if the program says so."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from shmalloc import kernel
from shmalloc.errors import MisuseError
from shmalloc.words import expect, load, store, wait, wake
from stress import Program, explore, replay, sync
from stress.explorer.digest import digest_of
from stress.programs import PROGRAMS
from support.explorations import executed, schedules_of, searching, small_program
from support.trace_classes import trace_key

ENGINES = ["native", "interpreted"]
STRATEGIES = ["auto", "dfs", "dpor", "random", "pct", "pos", "surw"]
every_engine = pytest.mark.parametrize("engine", ENGINES)
MUTEX, CONDITION, VALUE = 0, 1, 2


@kernel
def waits_once(mem, cpu):
    """``if`` where ``while`` belongs."""
    sync.mutex_lock(mem, MUTEX, cpu)
    if mem[VALUE] == 0:
        sync.condition_wait(mem, CONDITION, MUTEX, cpu)
    expect(mem, mem[VALUE] == 1, 7)
    sync.mutex_unlock(mem, MUTEX, cpu)


@kernel
def signals(mem, cpu):
    sync.mutex_lock(mem, MUTEX, cpu)
    mem[VALUE] = 1
    sync.condition_signal(mem, CONDITION)
    sync.mutex_unlock(mem, MUTEX, cpu)


@kernel
def waits_for_a_value(mem, cpu):
    """How often it waited."""
    waits = 0
    while load(mem, 0) == 0:
        wait(mem, 0, 0)
        waits += 1
    return waits


@kernel
def sets_the_value(mem, cpu):
    store(mem, 0, 1)
    wake(mem, 0, 1)


ONCE = Program("once", 4, [waits_once, signals])
LOOP = Program("loop", 2, [waits_for_a_value, sets_the_value], observe=[("r", 0)])


@every_engine
def test_a_wait_without_a_loop_passes_as_long_as_nothing_wakes_by_itself(engine):
    assert explore(ONCE, "dpor", engine=engine, seconds=None).verdict == "passed-exhausted"


@every_engine
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_wait_without_a_loop_fails_when_it_wakes_by_itself(strategy, engine):
    program = replace(ONCE, spurious=1)
    failure = explore(program, strategy, engine=engine, seconds=60).failure
    assert failure is not None
    assert (failure.kind, failure.code) == ("expectation", 7)
    assert "wait word 1: woke by itself" in failure.report() or "woke by itself" in failure.report()
    for again in ENGINES:
        assert replay(program, failure.schedule, engine=again).reproduced


@every_engine
@pytest.mark.parametrize("strategy", ["dfs", "dpor"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_waits_return_as_the_program_says(count, strategy, engine):
    program = replace(LOOP, spurious=count)
    result = explore(program, strategy, engine=engine, seconds=None)
    assert result.verdict == "passed-exhausted"
    assert max(waits for (waits,) in result.outcomes) == count + 1


@pytest.mark.parametrize("memory", ["sc", "tso"])
@pytest.mark.parametrize(
    "name", ["sync-mutex", "sync-condition", "sync-semaphore", "sync-barrier", "sync-once-3"]
)
def test_the_primitives_bear_it(name, memory):
    program = replace(PROGRAMS[name](), spurious=1)
    result = explore(program, "dpor", memory, seconds=100)
    assert (result.verdict, result.redundant) == ("passed-exhausted", 0), str(result)


@pytest.mark.parametrize("memory", ["sc", "tso"])
@pytest.mark.parametrize("part", range(3))
def test_dpor_finds_what_dfs_finds_and_repeats_no_class(part, memory, rng):
    exhausted = 0
    for _program in range(25):
        program = replace(small_program(rng.randrange(1 << 30), pairs=False), spurious=1)
        print(program.name)
        dpor = searching(program, "dpor", memory, "native")
        keys = Counter(
            trace_key(executed(machine), buffered=memory != "sc")
            for machine in schedules_of(dpor, 400)
        )
        assert keys.total() == len(keys) and dpor.found().redundant == 0
        dfs = searching(program, "dfs", memory, "native")
        dfs.machine.call(dfs.driver, 0, 20_000)
        if dpor.found().exhausted and dfs.found().exhausted:
            assert set(dpor.found().outcomes) == set(dfs.found().outcomes)
            exhausted += 1
    assert exhausted > 8


def test_it_is_in_the_digest_of_a_token():
    assert digest_of(LOOP) != digest_of(replace(LOOP, spurious=1))


@pytest.mark.parametrize("count", [-1, 1.0, 1001])
def test_a_wrong_number_is_refused(count):
    with pytest.raises(MisuseError, match="spurious"):
        replace(LOOP, spurious=count)
