"""Exhaustive searches against brute force: every class once, every schedule once, nothing missed.

The numbers to compare with come from reference.py, which shares nothing with the explorer, and from
formulas. Which random programs are compared depends on the seed of the session.
"""

from __future__ import annotations

import random
from collections import Counter
from itertools import permutations

import pytest

import model_programs as m
from stress import Exploration, Program, explore
from stress.explorer.found import Found
from stress.explorer.searches import Budget
from support import reference
from support.explorations import (
    CAS,
    ENGINES,
    EXCHANGE,
    FETCH_ADD,
    FETCH_OR,
    LOAD,
    LOAD2,
    PLAIN_READ,
    SPIN_THRICE,
    STORE,
    WAIT,
    WAKE,
    as_program,
    coded,
    executed,
    schedules_of,
    searching,
    small_program,
)
from support.litmus_programs import COUNTED, LITMUS, adders, load, store, straight
from support.reference import Instruction, Straight
from support.trace_classes import trace_key

EXHAUSTED = "passed-exhausted"
PARTS = range(3)
PROGRAMS = 15  # of a part
CLASSES = 500
WIDE = 8  # programs of a part
MOST_WIDE = 1000  # classes of one of them
MOST = 20_000

every_engine = pytest.mark.parametrize("engine", ENGINES)
# Brute force under tso takes milliseconds for these.
FEW_SCHEDULES = [one for one in COUNTED if reference.schedules(one.program, "tso") <= 5000]
counted = pytest.mark.parametrize("counted", COUNTED, ids=lambda counted: counted.program.name)
litmus = pytest.mark.parametrize("litmus", LITMUS, ids=lambda litmus: litmus.program.name)


def exhaust(
    program: Straight | Program, strategy: str, memory: str = "sc", engine: str = "native"
) -> Exploration:
    """Run every schedule, without detecting data races."""
    if isinstance(program, Straight):
        program = as_program(program)
    return explore(
        program, strategy, memory, seconds=None, races=False, engine=engine, step_limit=200
    )


def assert_each_class_once(program: Straight, memory: str, engine: str = "native") -> None:
    result = exhaust(program, "dpor", memory, engine)
    assert result.verdict == EXHAUSTED, (program, memory)
    assert result.classes == reference.classes(program, memory), (program, memory)
    assert result.schedules == result.classes
    assert result.redundant == 0, (program, memory)
    assert set(result.outcomes) == reference.outcomes(program, memory), (program, memory)


def assert_each_schedule_once(program: Straight, memory: str, engine: str = "native") -> None:
    result = exhaust(program, "dfs", memory, engine)
    assert result.verdict == EXHAUSTED, (program, memory)
    assert result.schedules == reference.schedules(program, memory), (program, memory)
    assert result.outcomes.total() == result.schedules
    assert set(result.outcomes) == reference.outcomes(program, memory), (program, memory)


def random_programs(rng: random.Random, limit: int) -> list[Straight]:
    first = rng.randrange(1 << 30)
    return [reference.random_straight_program(first + k, limit) for k in range(PROGRAMS)]


# --- counts that are known ------------------------------------------------------------------------
@every_engine
@pytest.mark.parametrize(("n", "classes"), [(2, 4), (3, 36), (4, 576)])
def test_n_lost_updates_have_factorial_n_squared_classes(n, classes, engine):
    program = Program(f"{n} increments", 16, [m.increment] * n)
    result = exhaust(program, "dpor", engine=engine)
    assert (result.verdict, result.classes, result.redundant) == (EXHAUSTED, classes, 0)


@every_engine
@counted
def test_families_have_as_many_classes_as_their_formula_says(counted, engine):
    result = exhaust(counted.program, "dpor", engine=engine)
    assert (result.verdict, result.classes, result.redundant) == (EXHAUSTED, counted.classes, 0)


def test_seven_blind_adders_have_5040_classes():
    assert exhaust(adders(7).program, "dpor").classes == 5040


@every_engine
@pytest.mark.parametrize(("memory", "classes"), [("sc", 3), ("tso", 4)])
def test_store_buffering_has_three_classes_and_a_fourth_under_tso(memory, classes, engine):
    shape = next(litmus for litmus in LITMUS if litmus.program.name == "SB")
    assert exhaust(shape.program, "dpor", memory, engine).classes == classes


@every_engine
@pytest.mark.parametrize("memory", ["sc", "tso"])
@litmus
def test_dpor_runs_each_class_of_a_litmus_test_once(litmus, memory, engine):
    assert_each_class_once(litmus.program, memory, engine)


@every_engine
@pytest.mark.parametrize("counted", FEW_SCHEDULES, ids=lambda counted: counted.program.name)
def test_dpor_runs_each_class_of_a_family_once_under_tso(counted, engine):
    assert_each_class_once(counted.program, "tso", engine)


# --- random programs, against brute force ---------------------------------------------------------
@pytest.mark.parametrize("part", PARTS)
def test_dpor_runs_each_class_of_random_programs_once(part, rng):
    for program in random_programs(rng, limit=2000):
        for memory in ("sc", "tso"):
            assert_each_class_once(program, memory)


def test_a_sleeper_does_not_cover_what_later_steps_of_the_schedule_contradict():
    """The class in which p3 writes z between the reads of p1, and x was written before all."""
    x, y, z = 0, 1, 2
    p0, p1, p2, p3 = (
        [load(y)],
        [load(z), load(z)],
        [store(x, 1), store(y, 1)],
        [store(z, 2), load(x)],
    )
    assert_each_class_once(straight("missed", p0, p1, p2, p3), "sc")


@pytest.mark.parametrize("memory", ["sc", "tso"])
@pytest.mark.parametrize("part", PARTS)
def test_dpor_runs_each_class_of_programs_of_many_cpus_once(part, memory, rng):
    """Programs of up to three CPUs never showed a class that dpor lost: docs/bugs.md 24."""
    compared = 0
    while compared < WIDE:
        program = reference.random_wide_program(rng)
        small = as_program(program)
        result = explore(small, "dpor", memory, MOST_WIDE, seconds=None, races=False)
        if result.verdict != EXHAUSTED:
            continue
        classes = reference.classes_by_prefixes(program, memory)
        if classes is not None:
            assert (result.classes, result.redundant) == (classes, 0), program
            assert set(result.outcomes) == reference.outcomes(program, memory), program
            compared += 1


@pytest.mark.parametrize("part", PARTS)
def test_dpor_and_dfs_try_each_value_of_a_choice_with_each_order(part, rng):
    for program in reference.random_choosing_programs(rng, PROGRAMS, limit=2000):
        for memory in ("sc", "tso"):
            assert_each_class_once(program, memory)
        assert_each_schedule_once(program, "pso")


def test_the_interpreted_engine_tries_each_value_with_each_order(rng):
    for program in reference.random_choosing_programs(rng, PROGRAMS, limit=200):
        for memory in ("sc", "tso"):
            assert_each_class_once(program, memory, "interpreted")
            assert_each_schedule_once(program, memory, "interpreted")


def test_both_enumerators_count_alike(rng):
    for program in random_programs(rng, limit=500):
        for memory in reference.MEMORY_MODELS:
            assert reference.classes_by_prefixes(program, memory) == reference.classes(
                program, memory
            )


@pytest.mark.parametrize("part", PARTS)
def test_dfs_runs_each_schedule_of_random_programs_once(part, rng):
    for program in random_programs(rng, limit=5000):
        for memory in reference.MEMORY_MODELS:
            assert_each_schedule_once(program, memory)


def test_the_interpreted_engine_runs_each_class_and_each_schedule_once(rng):
    for program in random_programs(rng, limit=200):
        for memory in ("sc", "tso"):
            assert_each_class_once(program, memory, "interpreted")
        for memory in reference.MEMORY_MODELS:
            assert_each_schedule_once(program, memory, "interpreted")


# --- programs that sleep, wake and spin -----------------------------------------------------------
@pytest.mark.parametrize("memory", ["sc", "tso"])
@pytest.mark.parametrize("part", PARTS)
def test_dpor_repeats_no_class_of_programs_that_sleep_and_spin(part, memory, rng):
    seen = 0
    while seen < CLASSES:
        # without cas2: the class depends on what it found, which is not in the log
        program = small_program(rng.randrange(1 << 30), pairs=False)
        search = searching(program, "dpor", memory, "native")
        keys = Counter(
            trace_key(executed(machine), buffered=memory != "sc")
            for machine in schedules_of(search, 200)
        )
        assert keys.total() == len(keys), program.name
        assert search.found().redundant == 0, program.name
        seen += len(keys)


@pytest.mark.parametrize("memory", ["sc", "tso"])
@pytest.mark.parametrize("part", PARTS)
def test_dpor_finds_what_dfs_finds_in_programs_that_sleep_and_spin(part, memory, rng):
    ended = 0
    for _program in range(2 * PROGRAMS):
        program = small_program(rng.randrange(1 << 30))
        dpor, dfs = (all_found(program, strategy, memory) for strategy in ("dpor", "dfs"))
        assert dpor.schedules <= dfs.schedules, program.name
        assert set(dpor.outcomes) >= set(dfs.outcomes), program.name
        if dfs.exhausted:
            assert set(dpor.outcomes) == set(dfs.outcomes), program.name
            assert bool(dpor.failures) == bool(dfs.failures), program.name
            ended += 1
    assert ended > PROGRAMS, "most programs are small enough to be exhausted"


def all_found(program: Program, strategy: str, memory: str, most: int = MOST) -> Found:
    search = searching(program, strategy, memory, "native")
    search.run(Budget(None, most))
    return search.found()


@every_engine
def test_dpor_tries_the_wake_before_a_wait_that_did_not_sleep(engine):
    exchange, wait, wake = (EXCHANGE, 0, 2, 0), (WAIT, 0, 0, 0), (WAKE, 0, 0, 0)
    program = coded("early wake", [exchange], [wait], [wake])
    result = exhaust(program, "dpor", engine=engine)
    assert result.failure is not None
    assert result.failure.kind == "deadlock"


@every_engine
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_dpor_tries_a_reader_of_one_half_before_a_cas2_that_failed_for_the_other(order, engine):
    codes = [[store(0, 1)], [Instruction("cas2", 0, 0, 2)], [load(1)]]
    program = Straight("half", (0, 0), tuple(tuple(codes[k]) for k in order))
    assert_each_class_once(program, "sc", engine)


def test_dpor_finds_what_dfs_finds_where_a_spin_reads_its_own_store_buffer():
    codes = [
        [(LOAD2, 0, 0, 0), (CAS, 0, 1, 2), (FETCH_ADD, 0, 1, 0)],
        [(STORE, 0, 2, 0), (SPIN_THRICE, 0, 0, 0), (PLAIN_READ, 0, 0, 0)],
        [(CAS, 0, 1, 0), (FETCH_OR, 0, 1, 0)],
    ]
    program = coded("own buffer", *codes, init=[1, 0])
    most = 100_000
    dpor, dfs = (all_found(program, strategy, "tso", most) for strategy in ("dpor", "dfs"))
    assert dfs.schedules < most, "it came to its end"
    assert set(dpor.outcomes) == set(dfs.outcomes)


@every_engine
@pytest.mark.parametrize("word", [-1, 10**9])
def test_dpor_reports_an_access_outside_of_memory_and_does_not_make_it(word, engine):
    program = coded("outside", [(LOAD, 0, 0, 0), (LOAD, word, 0, 0)], [(STORE, 0, 1, 0)])
    result = exhaust(program, "dpor", engine=engine)
    assert result.failure is not None
    assert result.failure.kind == "memory"
