"""A pass that proves nothing is none: checks without a result, budgets of no schedule.

Each fact is told of both engines.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from shmalloc import kernel
from shmalloc.errors import DialectError, MisuseError
from shmalloc.words import (
    cas,
    cas2,
    exchange,
    expect,
    fetch_add,
    fetch_and,
    fetch_or,
    load,
    mark,
    relax,
    store,
    store_relaxed,
)
from stress import Program, explore
from stress.explorer.result import VERDICT_OF, Exploration
from stress.verdict import Verdict

ZERO, MINUS_ONE, LOWEST, COUNT, QUOTIENT, REST, STEP = 0, 1, 2, 3, 4, 5, 6
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
INIT = [(MINUS_ONE, -1), (LOWEST, INT_MIN)]


@pytest.fixture(params=["native", "interpreted"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@kernel
def increments(mem, cpu):
    mem[COUNT] = mem[COUNT] + 1


@kernel
def wants_two(mem):
    return 0 if mem[COUNT] == 2 else 1


def explored(engine: str, thread: Any = increments, count: int = 2, **given: Any) -> Exploration:
    given.setdefault("init", INIT)
    options = {"races": False, "strategy": "dpor"} | given.pop("options", {})
    program = Program(name="small", words=8, threads=[thread] * count, **given)
    return explore(program, engine=engine, **options)


# --- results of checks ---------------------------------------------------------------------------
@kernel
def forgets_to_return(mem):
    mem[COUNT] == 2  # noqa: B015


@kernel
def returns_nothing(mem):
    return None


@kernel
def only_returns(mem):
    return


@kernel
def passes(mem):
    pass


@kernel
def returns_on_one_branch(mem):
    if mem[COUNT] == 2:
        return 0


@kernel
def returns_nothing_on_one_branch(mem):
    if mem[COUNT] == 2:
        return 0
    return None


@kernel
def returns_in_a_loop(mem):
    for at in range(mem[COUNT]):
        return at


@kernel
def returns_what_a_helper_does_not_give(mem):
    return forgets_to_return(mem)


@kernel
def returns_two(mem):
    return 0, 1


@pytest.mark.parametrize("role", ["check", "invariant"])
@pytest.mark.parametrize(
    "watcher",
    [
        forgets_to_return,
        returns_nothing,
        only_returns,
        passes,
        returns_on_one_branch,
        returns_nothing_on_one_branch,
        returns_in_a_loop,
        returns_what_a_helper_does_not_give,
        returns_two,
    ],
)
def test_a_check_without_a_result_on_every_path_is_refused_with_its_line(engine, role, watcher):
    with pytest.raises(MisuseError, match=rf"{watcher.__name__}\b.*; .*return") as refused:
        explored(engine, **{role: watcher})
    assert watcher is returns_two or "test_vacuous_checks.py:" in str(refused.value)


@kernel
def says_whether_it_is_two(mem):
    return mem[COUNT] == 2


def test_a_bool_counts_as_the_number_that_it_is(engine):
    failure = explored(engine, check=says_whether_it_is_two).failure
    assert failure is not None and (failure.kind, failure.code) == ("check", 1)


@kernel
def through_a_helper(mem):
    return wants_two(mem)


def test_a_result_that_comes_through_a_helper_is_one(engine):
    failure = explored(engine, check=through_a_helper).failure
    assert failure is not None and (failure.kind, failure.code) == ("check", 1)


# --- checks that write ---------------------------------------------------------------------------
@kernel
def writes(mem):
    mem[COUNT] = 2
    return 0


@kernel
def writes_in_place(mem):
    mem[COUNT] |= 2
    return 0


@kernel
def writes_what_is_there(mem):
    mem[COUNT] = mem[COUNT]
    return 0


@kernel
def stores(mem):
    store(mem, COUNT, 2)
    return 0


@kernel
def stores_relaxed(mem):
    store_relaxed(mem, COUNT, 2)
    return 0


@kernel
def swaps(mem):
    return int(cas(mem, COUNT, 2, 2)) * 0


@kernel
def swaps_nothing(mem):
    return int(cas(mem, COUNT, 77, 2))


@kernel
def swaps_two(mem):
    return int(cas2(mem, COUNT - 1, INT_MIN, 2, INT_MIN, 2)) * 0


@kernel
def exchanges(mem):
    return exchange(mem, COUNT, 2) * 0


@kernel
def adds(mem):
    return fetch_add(mem, COUNT, 0) * 0


@kernel
def sets_bits(mem):
    return fetch_or(mem, COUNT, 2) * 0


@kernel
def clears_bits(mem):
    return fetch_and(mem, COUNT, 2) * 0


@kernel
def counts(mem):
    mark(mem, COUNT)
    return 0


@kernel
def has_it_written(mem):
    return writes(mem)


WRITERS: dict[Any, int] = {
    **dict.fromkeys((writes, writes_in_place, writes_what_is_there, stores, stores_relaxed), COUNT),
    **dict.fromkeys((swaps, swaps_nothing, exchanges, adds, sets_bits, clears_bits), COUNT),
    **dict.fromkeys((counts, has_it_written), COUNT),
    swaps_two: COUNT - 1,
}


@pytest.mark.parametrize("role", ["check", "invariant"])
@pytest.mark.parametrize("watcher", WRITERS, ids=lambda watcher: watcher.__name__)
def test_a_check_that_writes_is_an_error_with_word_and_line(role, watcher):
    where = writes if watcher is has_it_written else watcher
    line = inspect.getsourcelines(where)[1] + 2
    for engine in ("native", "interpreted"):
        result = explored(engine, **{role: watcher})
        assert (result.verdict, result.failure) == ("error", None)
        said = f"the {role} wrote word {WRITERS[watcher]} at "
        assert result.note.startswith(said), result.note
        assert f"test_vacuous_checks.py:{line} in {where.__name__}; return" in result.note


@kernel
def writes_if_lost(mem):
    if mem[COUNT] == 1:
        mem[COUNT] = 2
    return 0


@pytest.mark.parametrize("strategy", ["auto", "dfs", "random", "pct"])
def test_a_write_of_a_check_in_some_schedule_is_an_error_by_any_strategy(engine, strategy):
    options = {"strategy": strategy, "schedules": 500}
    assert explored(engine, check=writes_if_lost, options=options).verdict == "error"


def test_no_failure_is_known_that_a_check_wrote_itself(engine):
    result = explored(engine, check=writes, options={"known": lambda failure: True})
    assert (result.verdict, result.known) == ("error", ())


@kernel
def reads_and_writes_behind_the_end(mem):
    mem[8] = 1
    return 0


@kernel
def swaps_an_odd_pair(mem):
    return 1 if cas2(mem, 1, 0, 0, 0, 0) else 0


@pytest.mark.parametrize("watcher", [reads_and_writes_behind_the_end, swaps_an_odd_pair])
def test_a_write_of_a_check_to_what_is_no_word_is_a_failure_of_memory(engine, watcher):
    failure = explored(engine, check=watcher).failure
    assert failure is not None and failure.kind == "memory"


@kernel
def takes_it_apart(mem):
    found = mem[COUNT]
    mem[COUNT] = 77
    return 0 if found == 2 else found


def test_a_check_that_says_so_may_write_and_the_next_schedule_sees_nothing_of_it(engine):
    options = {"strategy": "dfs", "stop_on_failure": False}
    result = explored(engine, check=takes_it_apart, check_writes=True, options=options)
    assert result.failure is not None and (result.failure.kind, result.failure.code) == ("check", 1)
    assert 0 < result.failures < result.schedules


def test_an_invariant_never_may(engine):
    assert explored(engine, invariant=writes, check_writes=True).verdict == "error"


# --- budgets -------------------------------------------------------------------------------------
@pytest.mark.parametrize("strategy", ["auto", "dpor", "dfs", "random", "pct"])
def test_a_budget_that_ends_before_the_first_schedule_is_no_pass(engine, strategy):
    result = explored(engine, check=wants_two, options={"seconds": 1e-9, "strategy": strategy})
    assert result.schedules > 0 or (
        not result.passed
        and VERDICT_OF[result.verdict] is Verdict.VACUOUS
        and "no schedule was run" in result.note
    )


# --- what has no meaning -------------------------------------------------------------------------
@kernel
def divides(mem, cpu):
    return 1 // load(mem, ZERO)


@kernel
def divides_rest(mem, cpu):
    return 1 % load(mem, ZERO)


@kernel
def divides_in_place(mem, cpu):
    mem[COUNT] //= mem[ZERO]


@kernel
def shifts_back(mem, cpu):
    return 1 << load(mem, MINUS_ONE)


@kernel
def shifts_right_back(mem, cpu):
    return 1 >> load(mem, MINUS_ONE)


@kernel
def shifts_too_far(mem, cpu):
    return 1 << (load(mem, ZERO) + 64)


@kernel
def steps_by_nothing(mem, cpu):
    for at in range(0, 5, load(mem, ZERO)):
        store(mem, COUNT, at)


@kernel
def quotient(number, divisor):
    return number // divisor


@kernel
def divides_in_a_helper(mem, cpu):
    return quotient(1, load(mem, ZERO))


FAULTY: dict[Any, tuple[Callable[..., Any], int]] = {
    divides: (divides, 2),
    divides_rest: (divides_rest, 2),
    divides_in_place: (divides_in_place, 2),
    shifts_back: (shifts_back, 2),
    shifts_right_back: (shifts_right_back, 2),
    shifts_too_far: (shifts_too_far, 2),
    steps_by_nothing: (steps_by_nothing, 2),
    divides_in_a_helper: (quotient, 2),
}


@pytest.mark.parametrize("thread", FAULTY, ids=lambda thread: thread.__name__)
def test_arithmetic_without_a_meaning_is_a_failure_with_its_line(engine, thread):
    where, offset = FAULTY[thread]
    failure = explored(engine, thread).failure
    assert failure is not None and failure.kind == "arithmetic"
    line = inspect.getsourcelines(where)[1] + offset
    assert f"{where.__name__}, test_vacuous_checks.py:{line}" in failure.cause


@pytest.mark.parametrize("thread", FAULTY, ids=lambda thread: thread.__name__)
def test_both_engines_fail_in_the_same_schedule(thread):
    tokens = {
        failure.schedule
        for engine in ("native", "interpreted")
        if (failure := explored(engine, thread).failure) is not None
    }
    assert len(tokens) == 1


@kernel
def divides_as_a_check(mem):
    return 1 // mem[ZERO]


@pytest.mark.parametrize("role", ["check", "invariant"])
def test_a_check_that_divides_by_zero_is_a_failure_with_its_line(engine, role):
    failure = explored(engine, **{role: divides_as_a_check}).failure
    assert failure is not None and failure.kind == "arithmetic"
    line = inspect.getsourcelines(divides_as_a_check)[1] + 2
    assert f"test_vacuous_checks.py:{line}" in failure.cause


@kernel
def wraps(mem, cpu):
    store(mem, COUNT, INT_MAX)
    fetch_add(mem, COUNT, 1)
    lowest = load(mem, LOWEST)
    minus_one = load(mem, MINUS_ONE)
    store(mem, QUOTIENT, lowest // minus_one)
    store(mem, REST, lowest % minus_one)
    store(mem, STEP, -lowest + abs(lowest) + (lowest - 1) + lowest * minus_one)
    return (lowest << 1) + (INT_MAX + load(mem, MINUS_ONE) * -2)


def test_numbers_wrap_in_64_bits_on_both_engines(engine):
    """-2**63 is its own negation, so -lowest + abs(lowest) is 0 and lowest - 1 is 2**63 - 1."""
    observe = [COUNT, QUOTIENT, REST, STEP, ("r", 0)]
    result = explored(engine, wraps, count=1, observe=observe)
    assert dict(result.outcomes) == {(INT_MIN, INT_MIN, 0, -1, INT_MIN + 1): 1}


# --- the dialect, in everything that is called ---------------------------------------------------
@kernel
def halves(mem):
    return mem[COUNT] / 2


@kernel
def reads_too_early(mem):
    if mem[COUNT] == 1:
        y = 3
    return y


@kernel
def recursive(mem):
    return recursive_again(mem)


@kernel
def recursive_again(mem):
    return recursive(mem)


@kernel
def shifts_by_a_constant(mem):
    return 1 << 70


@kernel
def thread_halves(mem, cpu):
    return halves(mem)


@kernel
def thread_reads_too_early(mem, cpu):
    return reads_too_early(mem)


@kernel
def thread_recursive(mem, cpu):
    return recursive(mem)


@kernel
def thread_shifts(mem, cpu):
    return shifts_by_a_constant(mem)


@kernel
def check_halves(mem):
    return halves(mem)


@kernel
def check_reads_too_early(mem):
    return reads_too_early(mem)


@kernel
def check_recursive(mem):
    return recursive(mem)


@kernel
def check_shifts(mem):
    return shifts_by_a_constant(mem)


REASONS = {
    halves: "use // and shifts",
    reads_too_early: "assign it on every path",
    recursive_again: (
        r"recursion is not allowed \(recursive -> recursive_again -> recursive\); use a loop"
    ),
    shifts_by_a_constant: "a shift by 70 bits; use 0 to 63",
}


@pytest.mark.parametrize(
    "role, caller, helper",
    [
        ("thread", thread_halves, halves),
        ("thread", thread_reads_too_early, reads_too_early),
        ("thread", thread_recursive, recursive_again),
        ("thread", thread_shifts, shifts_by_a_constant),
        *(
            (role, caller, helper)
            for role in ("check", "invariant", "init")
            for caller, helper in (
                (check_halves, halves),
                (check_reads_too_early, reads_too_early),
                (check_recursive, recursive_again),
                (check_shifts, shifts_by_a_constant),
            )
        ),
    ],
)
def test_a_helper_outside_of_the_dialect_is_refused_with_its_line(engine, role, caller, helper):
    given = {"thread": increments, role: caller}
    with pytest.raises(DialectError) as refused:
        explored(engine, **given)
    said = str(refused.value)
    first = inspect.getsourcelines(helper)[1]
    lines = f"{first}|{first + 2}|{first + 4}"
    assert re.search(rf"_checks\.py:({lines}): kernel {helper.__name__}: .*{REASONS[helper]}", said)


# --- loops that only a break leaves --------------------------------------------------------------
@kernel
def reads_until_it_is_stable(mem, cpu):
    while True:
        seen = load(mem, COUNT)
        store(mem, STEP, seen)
        if load(mem, COUNT) == seen:
            break
        relax(mem)
    return seen + 7


def test_what_a_loop_assigns_before_its_only_break_is_used_behind_it(engine):
    result = explored(engine, reads_until_it_is_stable, count=1, observe=[("r", 0)])
    assert (result.verdict, dict(result.outcomes)) == ("passed-exhausted", {(7,): 1})


# --- CPUs that wait without saying so, or never meet ---------------------------------------------
@kernel
def spins(mem, cpu):
    while load(mem, COUNT) == 0:
        pass


@kernel
def spins_through_a_helper(mem, cpu):
    while is_zero(mem):
        pass


@kernel
def is_zero(mem):
    return load(mem, COUNT) == 0


@kernel
def spins_by_swapping(mem, cpu):
    while not cas(mem, COUNT, 1, 2):
        pass


@kernel
def spins_by_exchanging(mem, cpu):
    while exchange(mem, LOWEST, INT_MIN) == INT_MIN:
        if load(mem, COUNT) == 1:
            break


@kernel
def spins_in_two_loops(mem, cpu):
    while True:
        seen = load(mem, COUNT)
        while seen == 0:
            seen = load(mem, COUNT)
            if seen == 0:
                break
        if seen == 1:
            return seen


@kernel
def opens(mem, cpu):
    store(mem, COUNT, 1)


SPINNERS: dict[Any, Callable[..., Any]] = {
    **{one: one for one in (spins, spins_by_swapping, spins_by_exchanging, spins_in_two_loops)},
    spins_through_a_helper: is_zero,
}


@pytest.mark.parametrize("memory", ["sc", "tso"])
@pytest.mark.parametrize("spinner", SPINNERS, ids=lambda spinner: spinner.__name__)
def test_a_loop_that_waits_without_relax_is_named(spinner, memory):
    program = Program("waits", 8, [spinner, opens], init=INIT)
    with pytest.raises(MisuseError) as refused:
        explore(program, "dpor", memory, step_limit=200)
    where = SPINNERS[spinner].__name__
    said = rf"cpu 0 spins without relax at .*test_vacuous_checks.py:\d+ in {where}; call relax"
    assert re.search(said, str(refused.value))


def test_the_engines_name_the_same_loop(engine):
    program = Program("waits", 8, [spins, opens], init=INIT)
    line = inspect.getsourcelines(spins)[1] + 2
    with pytest.raises(MisuseError, match=rf"checks.py:{line} in spins; call relax"):
        explore(program, "dpor", step_limit=200, engine=engine)


@kernel
def reads_often(mem, cpu):
    total = 0
    for _ in range(300):
        total += load(mem, COUNT) + 1
    return total


@kernel
def changes_often(mem, cpu):
    while load(mem, COUNT) < 300:
        fetch_add(mem, COUNT, 1)


@pytest.mark.parametrize("thread", [reads_often, changes_often])
def test_a_long_loop_that_ends_is_cut_and_no_spin(engine, thread):
    options = {"step_limit": 200, "schedules": 5}
    assert explored(engine, thread, options=options).verdict == "abandoned"


@kernel
def counts_alone(mem, cpu):
    mem[cpu] = mem[cpu] + 1


@kernel
def looks_at_both(mem, cpu):
    return load(mem, 0) + load(mem, 1)


@pytest.mark.parametrize("strategy", ["auto", "dfs", "random"])
def test_cpus_that_never_meet_are_told(engine, strategy):
    options = {"strategy": strategy, "schedules": 20}
    note = explored(engine, counts_alone, options=options).note
    assert "no two CPUs touch a common word" in note


@pytest.mark.parametrize("thread, count", [(looks_at_both, 2), (counts_alone, 1), (increments, 2)])
def test_cpus_that_meet_or_are_alone_are_not(engine, thread, count):
    options = {"strategy": "random", "schedules": 20}
    assert "common word" not in explored(engine, thread, count=count, options=options).note


@kernel
def never_the_first_alone(mem):
    return 1 if mem[0] == 1 and mem[1] == 0 else 0


def test_cpus_whose_order_an_invariant_sees_are_not(engine):
    found = [
        explored(engine, counts_alone, invariant=never_the_first_alone, init=(), options=options)
        for options in ({"strategy": "random", "schedules": 1, "seed": seed} for seed in range(6))
    ]
    assert {result.verdict for result in found} == {"failed", "passed-budget"}
    assert all("common word" not in result.note for result in found)


# --- programs that require nothing ----------------------------------------------------------------
@kernel
def expects_progress(mem, cpu):
    expect(mem, fetch_add(mem, COUNT, 1) < 2, 9)


@kernel
def adds(mem, cpu):
    fetch_add(mem, COUNT, 1)


@pytest.mark.parametrize("races, failures", [(True, "data race or deadlock"), (False, "deadlock")])
def test_a_pass_of_a_program_that_requires_nothing_says_what_it_means(engine, races, failures):
    program = Program("nothing", 4, [adds] * 2)
    note = explore(program, engine=engine, races=races).note
    assert "requires nothing" in note and f"ends in a {failures} or fault" in note


@pytest.mark.parametrize(
    "thread, required",
    [
        (adds, {"check": wants_two}),
        (adds, {"observe": [COUNT]}),
        (expects_progress, {}),
    ],
    ids=["check", "observe", "expect"],
)
def test_one_that_requires_something_does_not(thread, required):
    program = Program("something", 4, [thread] * 2, **required)
    assert explore(program, engine="interpreted").note == ""
