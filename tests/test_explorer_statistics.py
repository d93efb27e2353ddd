"""What random strategies promise, judged by sampling: the bound of PCT, the uniformity of SURW.

A promise is judged with a margin of six standard deviations, so a test of a promise that holds
fails once in a thousand million runs. What is promised of SURW is computed by a formula.
"""

from __future__ import annotations

from collections import Counter
from math import factorial, prod, sqrt

import pytest

from shmalloc.dialect import kernel
from shmalloc.words import cas, exchange, fetch_add, fixed, load, relax, store
from stress import Program, explore
from stress.explorer.guarantee import PctRun, pct_guarantee

SCHEDULES = 10_000
MARGIN = 6
SEEN, NOISE, FAR = 4, 2, 6
ROUNDS = 8  # words that say how long a CPU works
MEMORIES = pytest.mark.parametrize("memory", ["sc", "tso"])


# --- programs with bugs of a known depth ----------------------------------------------------------
@kernel
def early(mem, cpu):
    for _ in range(10):
        fetch_add(mem, NOISE, 1)
    store(mem, SEEN, 1)


@kernel
def late(mem, cpu):
    for _ in range(3):
        fetch_add(mem, NOISE, 1)
    return load(mem, SEEN)


@kernel
def lost(mem, cpu):
    for _ in range(5):
        fetch_add(mem, NOISE, 1)
    store(mem, SEEN, load(mem, SEEN) + 1)


@kernel
def twice(mem, cpu):
    for _ in range(2):
        fetch_add(mem, NOISE, 1)
    if cpu == 0:
        store(mem, SEEN, 1)
        store(mem, SEEN, 3)
        return 0
    return load(mem, SEEN) * 4 + load(mem, SEEN)


def seeing(name: str, threads: list, observe: tuple) -> Program:
    return Program(name, 16, threads, observe=[observe])


# the outcome that needs that many orderings
DEEP = [
    (seeing("order", [early, late], ("r", 1)), 1, (1,)),
    (seeing("order of four", [early, late, late, late], ("r", 2)), 1, (1,)),
    (seeing("lost update", [lost, lost], SEEN), 2, (1,)),
    (seeing("lost update of three", [lost, lost, lost], SEEN), 2, (1,)),
    (seeing("both values", [twice, twice], ("r", 1)), 3, (7,)),
]


@MEMORIES
@pytest.mark.parametrize(("program", "depth", "bug"), DEEP, ids=lambda value: str(value))
def test_pct_shows_a_bug_as_often_as_its_bound_says(program, depth, bug, memory, shm_seed):
    result = explore(
        program, "pct", memory, SCHEDULES, None, shm_seed >> 24, depth=depth, races=False
    )
    chance = promised(result.guarantee, depth)
    expected = chance * SCHEDULES
    assert result.outcomes[bug] >= expected - MARGIN * sqrt(expected), (shm_seed, result.guarantee)


def promised(guarantee: str, depth: int) -> float:
    """``1 / (n * k**(depth - 1))``, of the n and k in the text."""
    values = dict(part.split(" = ") for part in guarantee.split("PCT: ")[1].split(", ")[:2])
    return 1 / (int(values["n"]) * int(values["k"]) ** (depth - 1))


# --- where there is no bound ----------------------------------------------------------------------
@kernel
def locked(mem, cpu):
    while cas(mem, SEEN, 0, 1) == False:  # noqa: E712
        relax(mem)
    store(mem, SEEN, 0)


LONG = Program("long", 16, [early, early])
REFUSED = [
    (LONG, {"step_limit": 15}, "cut at the step limit"),
    (LONG, {"step_limit": 24}, "too long"),
    (LONG, {"memory": "pso"}, "pso"),
    (Program("lock", 16, [locked] * 2), {}, "relaxed"),
]


@pytest.mark.parametrize(("program", "options", "why"), REFUSED)
def test_no_bound_of_pct_is_printed_where_it_does_not_hold(program, options, why):
    result = explore(program, "pct", schedules=500, depth=2, races=False, **options)
    assert "missed" not in result.guarantee
    assert "no bound of PCT" in result.note
    assert why in result.note


def test_store_buffers_have_priorities_and_count():
    result = explore(LONG, "pct", "tso", 500, depth=1, races=False)
    assert "n = 4" in result.guarantee


def run_of(schedules: int, counting: int, steps: int = 10, refusal: str = "") -> PctRun:
    return PctRun(2, steps, 2, schedules, counting, refusal)


def test_only_schedules_drawn_with_the_last_k_count():
    assert "of at most 0.358 (PCT: n = 2, k = 10, 20 of 100" in pct_guarantee([run_of(100, 20)])
    assert "of less than 1e-300 (PCT" in pct_guarantee([run_of(10**6, 10**6)])
    both = [run_of(100, 100, steps=9), run_of(100, 20)]
    assert "of at most 0.358 (PCT: n = 2, k = 10, 20 of 200" in pct_guarantee(both)


@pytest.mark.parametrize("runs", [[run_of(9, 0)], [run_of(9, 9), run_of(9, 9, refusal="pso")]])
def test_runs_without_a_bound_spoil_that_of_all(runs):
    assert pct_guarantee(runs) == ""


# --- SURW is uniform ------------------------------------------------------------------------------
@kernel
def touch(mem, cpu):
    """One access a turn: exchange returns who was before, so the results tell the interleaving."""
    before = 0
    for k in range(fixed(mem, ROUNDS + cpu)):
        before = before * 32 + exchange(mem, 0, 1 + cpu * 8 + k)
    return before


@kernel
def touch_and_go_on(mem, cpu):
    """As ``touch``, with accesses to a word of its own before and after."""
    for _ in range(3):
        fetch_add(mem, 32 + cpu, 1)
    before = touch(mem, cpu)
    for _ in range(5):
        fetch_add(mem, 32 + cpu, 1)
    return before


@kernel
def bystander(mem, cpu):
    for _ in range(4):
        fetch_add(mem, 32 + cpu, 1)


def chi_square(outcomes: Counter, kinds: int) -> float:
    expected = outcomes.total() / kinds
    seen = sum((count - expected) ** 2 for count in outcomes.values()) / expected
    return seen + (kinds - len(outcomes)) * expected


SHAPES = [(2, 2), (4, 4), (1, 6), (2, 5), (2, 2, 2), (1, 2, 3)]
KINDS = {
    "alone": ([touch] * 3, 0),
    "going on": ([touch_and_go_on] * 3, 0),
    "one goes on": ([touch_and_go_on, touch, touch], 0),
    "bystander": ([touch] * 3, 1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", SHAPES, ids=str)
def test_surw_is_uniform_over_the_interleavings_of_one_word(counts, kind, shm_seed):
    kernels, watching = KINDS[kind]
    threads = [*kernels[: len(counts)], *[bystander] * watching]
    program = Program(
        "uniform",
        64,
        threads,
        init=[(ROUNDS + cpu, count) for cpu, count in enumerate(counts)],
        observe=[0, *(("r", cpu) for cpu in range(len(counts)))],
    )
    result = explore(program, "surw", "sc", SCHEDULES, None, shm_seed >> 24, races=False)
    kinds = factorial(sum(counts)) // prod(factorial(count) for count in counts)
    free = kinds - 1
    assert chi_square(result.outcomes, kinds) < free + MARGIN * sqrt(2 * free) + 20, shm_seed


# --- a holder is not starved ----------------------------------------------------------------------
@kernel
def two_locks(mem, cpu):
    """Reads a word beside the first lock while holding it, as twostage of SCTBench does."""
    while cas(mem, 2, 0, 1) == False:  # noqa: E712
        relax(mem)
    seen = load(mem, 4)
    store(mem, 4, seen + 1)
    store(mem, 2, 0)
    while cas(mem, 6, 0, 1) == False:  # noqa: E712
        relax(mem)
    store(mem, 8, load(mem, 8) + 1)
    store(mem, 6, 0)


@kernel
def philosopher(mem, cpu):
    """Takes its fork, then that of its neighbour."""
    count = fixed(mem, 1)
    left = 8 + 2 * cpu
    right = 8 + 2 * ((cpu + 1) % count)
    while cas(mem, left, 0, 1) == False:  # noqa: E712
        relax(mem)
    while cas(mem, right, 0, 1) == False:  # noqa: E712
        relax(mem)
    store(mem, right, 0)
    store(mem, left, 0)


@pytest.mark.parametrize("strategy", ["surw", "pos", "random", "pct"])
def test_no_schedule_of_twenty_cpus_and_two_spin_locks_is_cut(strategy, shm_seed):
    program = Program("two locks", 16, [two_locks] * 20, observe=[8])
    result = explore(program, strategy, "sc", 300, None, shm_seed >> 24, races=False)
    assert (result.abandoned, result.outcomes) == (0, {(20,): 300}), shm_seed


@pytest.mark.parametrize("count", [2, 5, 7])
def test_surw_reports_the_deadlock_of_philosophers_who_spin(count, shm_seed):
    program = Program("philosophers", 64, [philosopher] * count, init=[(1, count)])
    result = explore(program, "surw", "sc", 3000, None, shm_seed >> 24, races=False)
    assert result.failure is not None, shm_seed
    assert (result.failure.kind, result.abandoned) == ("livelock", 0), shm_seed


def test_a_profile_of_a_schedule_that_spun_does_not_count_the_spins(shm_seed):
    """In the first schedule of this seed both CPUs spin until they are found to be livelocked."""
    program = Program("philosophers", 64, [philosopher] * 2, init=[(1, 2)])
    options = {"races": False, "stop_on_failure": False, "seconds": None}
    result = explore(program, "surw", schedules=300, seed=spinning_seed(program), **options)
    assert result.failures > 30


def spinning_seed(program: Program) -> int:
    """A seed of which the first schedule fails."""
    for seed in range(100):
        if not explore(program, "surw", schedules=1, seconds=None, seed=seed, races=False):
            return seed
    raise AssertionError("no schedule of a hundred fails")
