"""DPOR and loops that spin: a CPU that parked goes on when any word that it read has changed.

The classes to compare with are those of the schedules that dfs runs: it tries every one, knows no
races, and ``trace_key`` (support/trace_classes.py) divides them.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from shmalloc import kernel
from shmalloc.words import cas, load, relax, store
from stress import Program, explore
from stress.explorer.searches import Budget
from support.explorations import executed, schedules_of, searching
from support.trace_classes import trace_key

EXHAUSTED = "passed-exhausted"
FLAG, TURN, COUNT = 8, 10, 12  # of Dekker's algorithm
MOST = 2000  # schedules of a program that is compared
COMPARED = 8


@kernel
def sets_first(mem, cpu):
    store(mem, 0, 1)


@kernel
def sets_second(mem, cpu):
    store(mem, 2, 1)


@kernel
def sets_both(mem, cpu):
    store(mem, 0, 1)
    store(mem, 2, 1)


@kernel
def toggles_first(mem, cpu):
    """The first word changes and changes back; the second ends the spin."""
    store(mem, 0, 1)
    store(mem, 0, 0)
    store(mem, 2, 1)


@kernel
def toggles_second(mem, cpu):
    store(mem, 2, 1)
    store(mem, 2, 0)
    store(mem, 0, 1)


@kernel
def toggles_third(mem, cpu):
    store(mem, 4, 1)
    store(mem, 4, 0)


@kernel
def counts_first_until_second(mem, cpu):
    """Of the issue: it returns whether it ever saw the first word set."""
    seen = 0
    while load(mem, 2) == 0:
        seen = seen * 2 + load(mem, 0)
        relax(mem)
    return 1 if seen > 0 else 0


@kernel
def awaits_any(mem, cpu):
    first = load(mem, 0)
    second = load(mem, 2)
    while first + second == 0:
        relax(mem)
        first = load(mem, 0)
        second = load(mem, 2)
    return 2 * first + second


@kernel
def awaits_any_behind_third(mem, cpu):
    """As ``awaits_any``, but each spin begins with a word whose change alone ends no wait."""
    third = load(mem, 4)
    first = load(mem, 0)
    second = load(mem, 2)
    while first + second == 0:
        relax(mem)
        third = 2 * third + load(mem, 4)
        first = load(mem, 0)
        second = load(mem, 2)
    return 2 * first + second


@kernel
def awaits_both(mem, cpu):
    while load(mem, 0) * load(mem, 2) == 0:
        relax(mem)


@kernel
def passes_on(mem, cpu):
    while load(mem, 0) == 0:
        relax(mem)
    store(mem, 2, 1)


@kernel
def locks(mem, cpu):
    while not cas(mem, 6, 0, 1):
        relax(mem)
    store(mem, 0, load(mem, 0) + 1)
    store(mem, 6, 0)


@kernel
def dekker(mem, cpu):
    store(mem, FLAG + cpu, 1)
    while load(mem, FLAG + 1 - cpu) == 1:
        if load(mem, TURN) != cpu:
            store(mem, FLAG + cpu, 0)
            while load(mem, TURN) != cpu:
                relax(mem)
            store(mem, FLAG + cpu, 1)
        else:
            relax(mem)
    store(mem, COUNT, load(mem, COUNT) + 1)
    store(mem, TURN, 1 - cpu)
    store(mem, FLAG + cpu, 0)


@kernel
def counted_twice(mem):
    return 0 if mem[COUNT] == 2 else 1


THREADS = (
    sets_first, sets_second, sets_both, toggles_first, toggles_second, toggles_third,
    counts_first_until_second, awaits_any, awaits_any_behind_third, awaits_both, passes_on, locks,
)  # fmt: skip


def program_of(*threads) -> Program:
    name = " | ".join(thread.__name__ for thread in threads)
    return Program(name, 8, list(threads), observe=[("r", cpu) for cpu in range(len(threads))])


def exhausted(program: Program, memory: str = "sc") -> tuple[str, int | None, int]:
    result = explore(program, "dpor", memory, seconds=None, races=False)
    return result.verdict, result.classes, result.redundant


def keys_of(program: Program, strategy: str, memory: str) -> Counter[object]:
    search = searching(program, strategy, memory, "native")
    machines = schedules_of(search, MOST + 1)
    return Counter(trace_key(executed(machine), buffered=memory != "sc") for machine in machines)


@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_a_word_that_changes_and_changes_back_during_a_spin_ends_no_search(memory):
    program = program_of(toggles_first, counts_first_until_second)
    assert exhausted(program, memory) == (EXHAUSTED, 25, 0)


def test_dekker_is_proved():
    program = Program("dekker", 16, [dekker, dekker], check=counted_twice)
    verdict, _, redundant = exhausted(program)
    assert (verdict, redundant) == (EXHAUSTED, 0)


@pytest.mark.parametrize(
    "threads",
    [
        (sets_first, sets_second, awaits_any),
        (awaits_any, sets_first, sets_second),
        (sets_second, sets_first, awaits_any),
    ],
)
def test_either_of_two_changes_ends_a_wait(threads):
    """Two of the nine classes: it went on for one change, and read its word before the other."""
    assert exhausted(program_of(*threads)) == (EXHAUSTED, 9, 0)


def test_two_cpus_that_wait_for_the_same_changes():
    """Nine views each; six pairs would have seen the two changes in opposite orders."""
    threads = sets_first, sets_second, awaits_any, awaits_any
    assert exhausted(program_of(*threads)) == (EXHAUSTED, 75, 0)


@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_dpor_runs_each_class_of_random_programs_that_spin_once(memory, rng):
    compared = 0
    while compared < COMPARED:
        program = program_of(*rng.choices(THREADS, k=rng.choice((2, 3, 3, 3, 4))))
        if ends_within(program, memory):
            keys = keys_of(program, "dpor", memory)
            assert set(keys) == set(keys_of(program, "dfs", memory)), program.name
            assert keys.total() == len(keys), program.name
            compared += 1


def ends_within(program: Program, memory: str) -> bool:
    """Whether dfs ends within MOST schedules, and none spins for ever (how long is no class)."""
    search = searching(program, "dfs", memory, "native")
    search.run(Budget(None, MOST))
    found = search.found()
    return found.exhausted and not found.failures


def test_the_engines_agree_about_programs_that_spin(rng: random.Random):
    program = program_of(toggles_first, counts_first_until_second, toggles_third)
    counts = {
        engine: explore(program, "dpor", seconds=None, races=False, engine=engine).classes
        for engine in ("native", "interpreted")
    }
    assert counts["native"] == counts["interpreted"]
