"""Memory models through ``explore``: exactly the outcomes that each allows, and what buffers do."""

from __future__ import annotations

import re
from itertools import accumulate
from math import comb
from pathlib import Path

import pytest

import stress
from shmalloc.engine import ops
from shmalloc.errors import MisuseError
from stress import Exploration, explore
from stress.machine import block as cb
from stress.machine.machine import Event, events_of
from support import reference
from support.explorations import (
    CAS,
    CAS2,
    ENGINES,
    EXCHANGE,
    FENCE,
    FETCH_ADD,
    FETCH_AND,
    FETCH_OR,
    LOAD,
    LOAD2,
    PLAIN_READ,
    PLAIN_WRITE,
    SPIN_LOCK,
    STORE,
    STORE_RELAXED,
    WAIT,
    WAKE,
    Code,
    as_program,
    coded,
    schedules_of,
    searching,
)
from support.litmus_programs import LITMUS

BUFFERED = ("tso", "pso")
EXHAUSTIVE = {"sc": "dpor", "tso": "dpor", "pso": "dfs"}
FEW = 3_000  # schedules that the interpreted engine runs in a second

every_engine = pytest.mark.parametrize("engine", ENGINES)
every_model = pytest.mark.parametrize("memory", reference.MEMORY_MODELS)
buffered = pytest.mark.parametrize("memory", BUFFERED)


def all_outcomes(
    program: reference.Straight, memory: str, engine: str, strategy: str
) -> Exploration:
    result = explore(
        as_program(program),
        strategy,
        memory,
        seconds=None,
        races=False,
        engine=engine,
        step_limit=200,
    )
    assert result.verdict == "passed-exhausted"
    return result


# --- litmus tests ---------------------------------------------------------------------------------
CASES = [
    pytest.param(litmus, memory, engine, id=f"{litmus.program.name}-{memory}-{engine}")
    for litmus in LITMUS
    for memory in reference.MEMORY_MODELS
    for engine in ENGINES
    if engine == "native" or memory != "pso" or reference.schedules(litmus.program, "pso") <= FEW
]


@pytest.mark.parametrize(("litmus", "memory", "engine"), CASES)
def test_a_litmus_test_shows_exactly_the_allowed_outcomes(litmus, memory, engine):
    result = all_outcomes(litmus.program, memory, engine, EXHAUSTIVE[memory])
    assert set(result.outcomes) == reference.outcomes(litmus.program, memory)
    weak = any(litmus.is_weak(outcome) for outcome in result.outcomes)
    assert weak == (memory in litmus.allowed)


@every_model
@pytest.mark.parametrize("strategy", ["random", "pct", "pos", "surw"])
def test_random_strategies_show_no_other_outcomes_and_all_of_store_buffering(strategy, memory):
    program = LITMUS[0].program
    result = explore(
        as_program(program), strategy, memory, schedules=2_000, seconds=None, races=False
    )
    assert set(result.outcomes) == reference.outcomes(program, memory)


def test_dpor_under_pso_is_refused():
    with pytest.raises(MisuseError, match="dpor under pso"):
        explore(as_program(LITMUS[0].program), "dpor", "pso")


# --- what a buffer does ---------------------------------------------------------------------------
X, Y, LOCK = 0, 1, 2
Z = LOCK
ASKS_THE_MODEL = re.compile(r"\bcb\.(MODEL|SC|TSO|PSO)\b|[!=]= \"(sc|tso|pso)\"")
LOAD_X, LOAD_Y = (LOAD, X, 0, 0), (LOAD, Y, 0, 0)
DRAINING = {
    "cas": CAS,
    "cas2": CAS2,
    "exchange": EXCHANGE,
    "fetch_add": FETCH_ADD,
    "fetch_or": FETCH_OR,
    "fetch_and": FETCH_AND,
    "fence": FENCE,
    "wait": WAIT,
    "wake": WAKE,
}
Schedule = tuple[Event, ...]


def store(word: int, value: int) -> Code:
    return STORE, word, value, 0


def relaxed(word: int, value: int) -> Code:
    return STORE_RELAXED, word, value, 0


def every_schedule(memory: str, *codes: list[Code], engine: str = "native") -> list[Schedule]:
    """The events of every schedule."""
    search = searching(coded("buffers", *codes), "dfs", memory, engine)
    found = [events_of(world.block) for world in schedules_of(search, 10_000)]
    assert search.done
    return found


def step_of(schedule: Schedule, cpu: int, op: int, word: int = X) -> int:
    """When ``cpu`` first did ``op`` to ``word``."""
    return next(at for at, event in enumerate(schedule) if event[:3] == (cpu, op, word))


def unflushed(schedule: Schedule) -> list[int]:
    """How many stores were in the buffer of CPU 0 after each step."""
    change = {ops.OP_STORE: 1, ops.OP_FLUSH: -1}
    return list(accumulate(change.get(event.op, 0) for event in schedule if event.cpu == 0))


def test_nothing_is_flushed_under_sc():
    for schedule in every_schedule("sc", [store(X, 1), LOAD_Y], [store(Y, 1), LOAD_X]):
        assert all(event.op != ops.OP_FLUSH for event in schedule)


@every_engine
@buffered
def test_a_store_is_seen_at_once_by_its_cpu_and_after_its_flush_by_others(memory, engine):
    for schedule in every_schedule(memory, [store(X, 5), LOAD_X], [LOAD_X], engine=engine):
        own, other = (step_of(schedule, cpu, ops.OP_LOAD) for cpu in (0, 1))
        visible = step_of(schedule, 0, ops.OP_FLUSH) < other
        assert (schedule[own].value, schedule[other].value) == (5, 5 * visible)


@buffered
def test_a_load_takes_the_youngest_own_store(memory):
    for schedule in every_schedule(memory, [store(X, 5), store(X, 6), LOAD_X]):
        assert schedule[step_of(schedule, 0, ops.OP_LOAD)].value == 6


@every_engine
@buffered
def test_load2_takes_each_half_from_the_own_buffer_or_from_memory(memory, engine):
    pair = [store(Y, 5), (LOAD2, X, 0, 0)]
    seen = set()
    for schedule in every_schedule(memory, pair, [store(X, 7)], engine=engine):
        event = schedule[step_of(schedule, 0, ops.OP_LOAD2)]
        visible = step_of(schedule, 1, ops.OP_FLUSH) < schedule.index(event)
        assert (event.value, event.second) == (7 * visible, 5)
        seen.add(visible)
    assert seen == {True, False}


@buffered
def test_a_load_may_pass_the_flush_of_an_earlier_store(memory):
    passed = {
        step_of(schedule, 0, ops.OP_LOAD, Y) < step_of(schedule, 0, ops.OP_FLUSH)
        for schedule in every_schedule(memory, [store(X, 1), LOAD_Y])
    }
    assert passed == {True, False}


@every_engine
@buffered
@pytest.mark.parametrize("name", DRAINING)
def test_fences_updates_and_system_calls_wait_until_the_buffer_is_empty(name, memory, engine):
    op = next(number for number, text in ops.NAMES.items() if text == name)
    code = [store(X, 1), store(LOCK, 1), (DRAINING[name], X, 0, 1)]
    for schedule in every_schedule(memory, code, engine=engine):
        flushes = [at for at, event in enumerate(schedule) if event.op == ops.OP_FLUSH]
        assert len(flushes) == 2
        assert max(flushes) < step_of(schedule, 0, op)


def test_under_pso_a_ninth_store_waits_for_a_flush():
    schedules = every_schedule("pso", [store(X, 1)] * 9)
    assert max(max(unflushed(schedule)) for schedule in schedules) == cb.PSO_DEPTH == 8
    catalan = comb(18, 9) // 10  # orders of 9 stores and their flushes, of which one needs room
    assert len(schedules) == catalan - 1


@buffered
def test_a_schedule_ends_with_empty_buffers(memory):
    for schedule in every_schedule(memory, [store(X, 1), store(Y, 2)], [store(X, 3)]):
        assert unflushed(schedule)[-1] == 0


@pytest.mark.parametrize(("memory", "overtakes"), [("tso", {False}), ("pso", {False, True})])
def test_stores_to_two_words_are_flushed_in_order_but_under_pso(memory, overtakes):
    assert overtakes == {
        step_of(schedule, 0, ops.OP_FLUSH, Y) < step_of(schedule, 0, ops.OP_FLUSH, X)
        for schedule in every_schedule(memory, [store(X, 1), relaxed(Y, 1)])
    }


@buffered
def test_stores_to_one_word_are_flushed_in_order(memory):
    for schedule in every_schedule(memory, [store(X, 1), store(Y, 7), store(X, 2), store(X, 3)]):
        flushed = [e.value for e in schedule if e.op == ops.OP_FLUSH and e.address == X]
        assert flushed == [1, 2, 3]


@buffered
def test_a_release_store_is_flushed_after_all_that_is_older(memory):
    for schedule in every_schedule(memory, [relaxed(X, 1), relaxed(Y, 1), store(Z, 1)]):
        last = step_of(schedule, 0, ops.OP_FLUSH, Z)
        assert last > max(step_of(schedule, 0, ops.OP_FLUSH, word) for word in (X, Y))


def test_under_pso_a_later_relaxed_store_overtakes_a_release():
    assert {True, False} == {
        step_of(schedule, 0, ops.OP_FLUSH, Y) < step_of(schedule, 0, ops.OP_FLUSH, X)
        for schedule in every_schedule("pso", [store(X, 1), relaxed(Y, 1)])
    }


# --- the seam -------------------------------------------------------------------------------------
def test_only_the_memory_models_themselves_know_which_model_is_explored():
    """A new model is a row, a module and its branches: nothing else has to be found and changed."""
    known = {"models.py", "visibility.py", "buffers.py", "block_layout.py"}
    asking = {
        path.name
        for path in Path(stress.__path__[0]).rglob("*.py")
        if ASKS_THE_MODEL.search(path.read_text())
    }
    assert asking - known == set()


# --- a lock released by a plain store -------------------------------------------------------------
LOCKED_INCREMENT = [
    (SPIN_LOCK, LOCK, 0, 0),
    (PLAIN_READ, X, 0, 0),
    (PLAIN_WRITE, X, 1, 0),
]
# (X, Y, LOCK, what the CPUs read and their number): each reads what the other wrote, or the start
IN_TURN = {(3, 0, 0, 0, 2), (3, 0, 0, 2, 1)}


def locked_increments(memory: str, engine: str, races: bool, unlock: Code) -> Exploration:
    code = [*LOCKED_INCREMENT, unlock]
    program = coded("locked", code, code, init=(0, 0, 0))
    strategy = EXHAUSTIVE[memory]
    return explore(program, strategy, memory, seconds=None, engine=engine, races=races)


@every_engine
@pytest.mark.parametrize("memory", reference.MEMORY_MODELS)
def test_a_lock_may_be_released_by_a_store(memory, engine):
    result = locked_increments(memory, engine, True, store(LOCK, 0))
    assert (result.verdict, set(result.outcomes)) == ("passed-exhausted", IN_TURN)


def test_under_pso_a_relaxed_release_of_a_lock_overtakes_what_it_protects():
    result = locked_increments("pso", "native", False, relaxed(LOCK, 0))
    assert result.verdict == "passed-exhausted"
    assert set(result.outcomes) > IN_TURN
