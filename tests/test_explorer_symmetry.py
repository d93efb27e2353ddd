"""``symmetry=True``: alike CPUs up to permutation, judged by brute force over all schedules.

The brute force knows nothing of the reduction: of all schedules it takes the classes of those in
which alike CPUs make their first steps in the order of their numbers.
"""

from __future__ import annotations

import random

import pytest

from shmalloc import kernel
from shmalloc.words import cas, exchange, fetch_add, load, store, wait, wake
from stress import Program, explore
from stress.explorer.symmetry import alike
from stress.machine.vocabulary import returned
from support import reference
from support.explorations import ENGINES
from support.reference import Event, Instruction, Straight

WORDS = 4
OPS = ("load", "store", "fetch_add", "exchange", "cas")
every_engine = pytest.mark.parametrize("engine", ENGINES)


@kernel
def access(mem, what, word, value):
    if what == 0:
        load(mem, word)
    elif what == 1:
        store(mem, word, value)
    elif what == 2:
        fetch_add(mem, word, value)
    elif what == 3:
        exchange(mem, word, value)
    else:
        cas(mem, word, 0, value)


@kernel
def one_access(mem, cpu, what, word, value):
    access(mem, what, word, value)


@kernel
def two_accesses(mem, cpu, first, word, second, other):
    access(mem, first, word, 1)
    access(mem, second, other, 2)


def random_codes(rng: random.Random) -> list[tuple[tuple[int, int], ...]]:
    """The accesses of 3 or 4 CPUs, two or three of which are alike."""
    ours, theirs = (
        tuple((rng.randrange(len(OPS)), rng.randrange(2)) for _ in range(rng.choice((1, 2))))
        for _ in range(2)
    )
    many = rng.choice((2, 3))
    return [ours] * many + ([theirs] if many == 3 or ours == theirs else [theirs, ours][:1])


def program_of(codes: list[tuple[tuple[int, int], ...]]) -> Program:
    threads = [
        (one_access, *code[0], 1) if len(code) == 1 else (two_accesses, *code[0], *code[1])
        for code in codes
    ]
    return Program("alike", WORDS, threads, observe=[0, 1])


def straight_of(codes: list[tuple[tuple[int, int], ...]]) -> Straight:
    def row(k: int, what: int, word: int) -> Instruction:
        return (
            Instruction(OPS[what], word, 0, k + 1)
            if OPS[what] == "cas"
            else Instruction(OPS[what], word, k + 1)
        )

    cpus = tuple(tuple(row(k, *one) for k, one in enumerate(code)) for code in codes)
    return Straight("alike", (0,) * WORDS, cpus)


def in_order(execution: tuple[Event, ...], groups: list[tuple[int, ...]]) -> bool:
    """Whether each group makes its first steps in the order of numbers."""
    first: dict[int, int] = {}
    for at, event in enumerate(execution):
        if not event.name.flush:
            first.setdefault(event.name.cpu, at)
    return all([first[cpu] for cpu in g] == sorted(first[cpu] for cpu in g) for g in groups)


def expected(straight: Straight, memory: str, groups: list[tuple[int, ...]]) -> int:
    keys = {
        reference.class_key(execution)
        for execution in reference.executions(straight, memory)
        if in_order(execution, groups)
    }
    return len(keys)


@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_random_programs_have_the_classes_in_order_and_all_outcomes(memory, rng):
    compared = reduced = 0
    while compared < 25:
        codes = random_codes(rng)
        straight, program = straight_of(codes), program_of(codes)
        if reference.schedules(straight, memory) > 3_000:
            continue
        groups = alike(program)
        options = {"seconds": None, "races": False, "memory": memory}
        half = explore(program, "dpor", symmetry=True, **options)
        whole = explore(program, "dpor", **options)
        assert half.verdict == "passed-exhausted", codes
        assert (half.classes, half.redundant) == (expected(straight, memory, groups), 0), codes
        assert set(half.outcomes) == set(whole.outcomes), codes
        reduced += half.classes < whole.classes
        compared += 1
    assert reduced > 5


@every_engine
def test_dfs_tries_a_sixth_of_the_orders_of_three_alike_cpus(engine):
    program = Program("adds", 2, [(one_access, 2, 0, 1)] * 3, observe=[0])
    result = explore(program, "dfs", symmetry=True, engine=engine, races=False)
    assert (result.verdict, result.schedules) == ("passed-exhausted", 1)
    assert explore(program, "dfs", engine=engine, races=False).schedules == 6


@kernel
def lossy(mem, cpu):
    store(mem, 0, load(mem, 0) + 1)


@kernel
def all_counted(mem):
    return 0 if mem[0] == 3 else 1


@every_engine
@pytest.mark.parametrize("strategy", ["dfs", "dpor", "auto"])
def test_a_failure_is_found_and_its_token_replays_without_symmetry(strategy, engine):
    from stress import replay

    program = Program("lossy", 2, [lossy] * 3, check=all_counted)
    result = explore(program, strategy, symmetry=True, engine=engine)
    assert result.verdict == "failed"
    assert replay(program, result.failure.schedule, engine=engine).reproduced


def test_the_result_says_which_cpus_are_alike_and_how_many_classes_there_may_be():
    program = Program("adds", 2, [(one_access, 2, 0, 1)] * 4)
    result = explore(program, "dpor", symmetry=True)
    assert result.classes == 1
    assert result.note.endswith(
        "CPUs 0, 1, 2, 3 are alike and were explored up to permutation: at most 24 classes without"
        " symmetry"
    )


def test_a_random_strategy_says_that_it_does_not_use_symmetry():
    program = Program("adds", 2, [(one_access, 2, 0, 1)] * 4)
    note = explore(program, "random", symmetry=True, schedules=5, engine="interpreted").note
    assert "only dfs and dpor use it" in note and "up to permutation" not in note


def test_the_count_of_dpor_does_not_change_by_itself():
    assert explore(Program("adds", 2, [(one_access, 2, 0, 1)] * 4), "dpor").classes == 24


@kernel
def sleeps(mem, cpu):
    wait(mem, 0, 0)
    fetch_add(mem, 1, 1)


@kernel
def wakes_one(mem, cpu):
    wake(mem, 0, 1)


def test_sleepers_are_alike_for_a_wake_may_take_any_of_them():
    program = Program("sleepers", 2, [sleeps, sleeps, wakes_one, wakes_one], observe=[1])
    half, whole = (
        explore(program, "dfs", symmetry=symmetry, stop_on_failure=False, seconds=None)
        for symmetry in (True, False)
    )
    assert half.schedules < whole.schedules / 2
    assert 0 < half.failures < whole.failures
    assert set(half.outcomes) == set(whole.outcomes) == {(2,)}


# --- what is not alike ----------------------------------------------------------------------------
@kernel
def numbered(mem, cpu):
    store(mem, 0, cpu)


@kernel
def by_result(mem):
    return 0 if returned(mem, 0) == 0 else 1


@pytest.mark.parametrize(
    "options",
    [
        {"threads": [numbered] * 2},
        {"threads": [(one_access, 2, 0, 1), (one_access, 2, 0, 2)]},
        {"threads": [lossy] * 2, "check": by_result},
        {"threads": [lossy] * 2, "observe": [("r", 0)]},
    ],
    ids=["number", "arguments", "result", "observed"],
)
def test_cpus_that_something_tells_apart_are_not_alike(options):
    program = Program("told apart", 2, **options)
    assert alike(program) == []
    assert "no two CPUs are alike" in explore(program, "dpor", symmetry=True).note
