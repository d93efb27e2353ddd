"""What the explorer detects, on both engines: races, torn pairs, waiting, memory, invariants.

Happens-before is tested in one chosen schedule (``run_schedule``): an order that a schedule has
only by chance must not hide a race. The absence of reports is tested in every schedule (``dfs``).
"""

from __future__ import annotations

from typing import Any

import pytest

import model_programs as m
from shmalloc.engine import ops
from shmalloc.errors import MisuseError
from stress import Program, explore
from stress.explorer.result import Exploration
from support.explorer_kernels import (
    DATA,
    FLAG,
    LOCK,
    OTHER,
    OTHER_LOCK,
    PAIR,
    Instruction,
    await_,
    cas_,
    exchange_,
    fence_,
    fetch_add_,
    hold,
    load2_,
    load_,
    load_relaxed_,
    never_both,
    never_flag_alone,
    read,
    read_validated,
    run_schedule,
    script,
    store_,
    store_relaxed_,
    swap_in_a_loop,
    swap_zeros,
    wait_,
    wake_one,
    write,
)

THIRD_LOCK = 8
RACE = ("race", DATA)
TORN = ("torn", PAIR)


@pytest.fixture(params=["native", "interpreted"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def try_all(program: Program, engine: str, **options: Any) -> Exploration:
    """Every schedule, up to the first that fails."""
    return explore(program, strategy="dfs", engine=engine, seconds=None, **options)


def passes(program: Program, engine: str, **options: Any) -> bool:
    return try_all(program, engine, **options).verdict == "passed-exhausted"


def failure_of(program: Program, engine: str, **options: Any) -> Any:
    result = try_all(program, engine, **options)
    assert result.verdict == "failed"
    return result.failure


# --- data races ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (write(DATA), write(DATA)),
        (write(DATA), read(DATA)),
        (read(DATA), write(DATA)),
        (write(DATA), load_(DATA)),
        (load_(DATA), write(DATA)),
        (read(DATA), store_(DATA)),
        (store_(DATA), read(DATA)),
        (store_(DATA), write(DATA)),
        (write(DATA), store_relaxed_(DATA)),
        (write(DATA), fetch_add_(DATA)),
        (fetch_add_(DATA), write(DATA)),
        (write(DATA), cas_(DATA, 0, 1)),
        (write(DATA), load2_(DATA)),
        (write(DATA), wait_(DATA, 0)),
    ],
)
def test_a_plain_access_races_with_an_access_that_nothing_orders(engine, one, other):
    assert run_schedule(engine, script([one], [other])) == RACE


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (read(DATA), read(DATA)),
        (read(DATA), load_(DATA)),
        (store_(DATA), store_relaxed_(DATA)),
        (store_(DATA), load_relaxed_(DATA)),
        (fetch_add_(DATA), exchange_(DATA, 3)),
        (write(DATA), write(OTHER)),
    ],
)
def test_two_reads_or_two_atomic_accesses_or_two_words_do_not_race(engine, one, other):
    assert passes(script([one], [other]), engine)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (write(PAIR + 1), load2_(PAIR)),
        (write(PAIR + 1), swap_zeros(PAIR)),  # which fails
        (read(PAIR + 1), swap_zeros(PAIR)),
        (swap_zeros(PAIR), read(PAIR + 1)),
    ],
)
def test_the_second_half_of_a_pair_races_too(engine, one, other):
    assert run_schedule(engine, script([one], [other])) == ("race", PAIR + 1)


def test_a_read_by_one_of_several_readers_races_with_a_later_write(engine):
    reader = [read(DATA), store_(FLAG)]
    program = script(reader, [read(DATA)], [load_(FLAG), write(DATA)])
    assert run_schedule(engine, program) == RACE


@pytest.mark.parametrize(
    ("publish", "receive"),
    [
        ([store_(FLAG)], [load_(FLAG)]),
        ([exchange_(FLAG, 1)], [load_(FLAG)]),
        ([store_(FLAG)], [cas_(FLAG, 1, 2)]),
        ([store_(FLAG)], [cas_(FLAG, 7, 2)]),  # one that fails acquires, too
        ([swap_zeros(PAIR)], [load2_(PAIR)]),
        ([fence_(), store_relaxed_(FLAG)], [load_(FLAG)]),
        ([store_(FLAG)], [load_relaxed_(FLAG), fence_()]),
        ([fence_(), store_relaxed_(FLAG)], [load_relaxed_(FLAG), fence_()]),
    ],
)
def test_a_hand_over_orders_what_came_before_it(engine, publish, receive):
    program = script([write(DATA), *publish], [*receive, write(DATA)])
    assert run_schedule(engine, program) is None


@pytest.mark.parametrize(
    ("publish", "receive"),
    [
        ([store_relaxed_(FLAG)], [load_(FLAG)]),
        ([store_(FLAG)], [load_relaxed_(FLAG)]),
        ([store_relaxed_(FLAG), fence_()], [load_(FLAG)]),  # the fence comes too late
        ([store_(FLAG)], [fence_(), load_relaxed_(FLAG)]),  # ... too early
        ([store_(FLAG)], [load_(OTHER)]),
        ([fence_()], [fence_()]),  # nothing was handed over between them
    ],
)
def test_a_relaxed_hand_over_orders_nothing(engine, publish, receive):
    program = script([write(DATA), *publish], [*receive, write(DATA)])
    assert run_schedule(engine, program) == RACE


def test_what_comes_after_the_release_is_not_published(engine):
    program = script([store_(FLAG), write(DATA)], [load_(FLAG), write(DATA)])
    assert run_schedule(engine, program) == RACE


def test_an_update_by_a_third_cpu_continues_the_release_sequence(engine):
    program = script([write(DATA), store_(FLAG)], [fetch_add_(FLAG)], [load_(FLAG), read(DATA)])
    assert run_schedule(engine, program) is None


@pytest.mark.parametrize("overwrite", [store_(FLAG, 2), store_relaxed_(FLAG)])
def test_a_store_by_a_third_cpu_ends_the_release_sequence(engine, overwrite):
    program = script([write(DATA), store_(FLAG)], [overwrite], [load_(FLAG), read(DATA)])
    assert run_schedule(engine, program) == RACE


def test_a_wake_orders_what_it_wakes(engine):
    program = script([wait_(FLAG), read(DATA)], [write(DATA), wake_one(FLAG)])
    assert run_schedule(engine, program) is None


def test_what_the_waker_does_later_is_not_ordered_by_its_wake(engine):
    program = script([wait_(FLAG), read(DATA)], [wake_one(FLAG), write(DATA)])
    assert run_schedule(engine, program) == RACE


@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_a_lock_orders_its_critical_sections(engine, memory):
    section = [hold(LOCK), write(DATA), store_(LOCK, 0)]
    assert passes(script(section, section), engine, memory=memory)


@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_data_set_up_by_one_cpu_and_then_published_is_read_without_a_race(engine, memory):
    program = script([write(DATA), store_(FLAG)], [await_(FLAG), read(DATA)], name="published")
    assert passes(program, engine, memory=memory)


def test_a_relaxed_publication_is_found_in_spite_of_the_wait(engine):
    program = script([await_(FLAG), read(DATA)], [write(DATA), store_relaxed_(FLAG)])
    assert failure_of(program, engine).kind == "race"


def test_a_buffered_store_publishes_nothing_before_its_flush(engine):
    program = script([write(DATA), store_(FLAG)], [load_(FLAG), read(DATA)])
    kept_in_the_buffer = ("0.1-0", "0.2-1")
    assert run_schedule(engine, program, *kept_in_the_buffer, memory="tso") == RACE


def test_a_buffered_store_publishes_at_its_flush(engine):
    program = script([write(DATA), store_(FLAG)], [load_(FLAG), read(DATA)])
    flushed_late = ("0.1-0", "0.2-2", "2.1-2", "2.2-1")
    assert run_schedule(engine, program, *flushed_late, memory="tso") is None


def test_a_store_publishes_what_was_known_when_it_was_made_not_when_it_is_flushed(engine):
    program = script([store_(FLAG), write(DATA)], [load_(FLAG), read(DATA)])
    data_still_buffered = ("0.1-0", "0.2-2", "2.1-1")
    assert run_schedule(engine, program, *data_still_buffered, memory="tso") == RACE


def test_races_are_not_searched_unless_asked_for(engine):
    assert passes(script([write(DATA)], [write(DATA)]), engine, races=False)


def test_a_race_names_the_two_accesses(engine):
    failure = failure_of(script([write(DATA)], [read(OTHER), read(DATA)]), engine)
    pair = [failure.trace.steps[index] for index in failure.trace.conflict]
    assert sorted((step.cpu, step.op, step.address) for step in pair) == [
        (0, ops.OP_WRITE, DATA),
        (1, ops.OP_READ, DATA),
    ]


# --- torn pairs ----------------------------------------------------------------------------------
HALVES = [load_(PAIR), load_(PAIR + 1)]
SWAP = [swap_zeros(PAIR)]
BETWEEN_THE_HALVES = "0.1-1"


def test_a_cpu_that_ends_with_halves_of_two_states_has_used_them(engine):
    assert run_schedule(engine, script(HALVES, SWAP), BETWEEN_THE_HALVES) == TORN


@pytest.mark.parametrize(
    "use",
    [fetch_add_(OTHER), store_(OTHER), store_relaxed_(OTHER), cas_(OTHER, 0, 1), swap_zeros(OTHER)],
)
def test_halves_of_two_states_are_used_where_another_word_is_changed(engine, use):
    program = script([*HALVES, use, load2_(PAIR)], SWAP)  # load2 would be in time for the end
    assert run_schedule(engine, program, BETWEEN_THE_HALVES) == TORN


@pytest.mark.parametrize(
    "no_use", [load_(OTHER), cas_(OTHER, 5, 1), fence_(), fetch_add_(PAIR), write(OTHER)]
)
def test_halves_of_two_states_are_not_used_by_what_changes_no_other_word_for_others(engine, no_use):
    program = script([*HALVES, no_use, load2_(PAIR)], SWAP)
    assert run_schedule(engine, program, BETWEEN_THE_HALVES) is None


def test_a_torn_pair_ends_in_the_step_that_uses_it(engine):
    program = script([*HALVES, fetch_add_(OTHER), load_(FLAG)], SWAP)
    assert failure_of(program, engine).trace.steps[-1].op == ops.OP_FETCH_ADD


def test_a_torn_pair_names_the_two_reads(engine):
    failure = failure_of(script([load_(FLAG), *HALVES], SWAP), engine)
    pair = [failure.trace.steps[index] for index in failure.trace.conflict]
    assert [(step.cpu, step.address) for step in pair] == [(0, PAIR), (0, PAIR + 1)]


@pytest.mark.parametrize("directive", ["s.0-1", "0.2-1"])
def test_halves_of_one_state_are_not_torn(engine, directive):
    assert run_schedule(engine, script([*HALVES, fetch_add_(OTHER)], SWAP), directive) is None


@pytest.mark.parametrize(
    "code",
    [
        [load2_(PAIR), fetch_add_(OTHER)],
        [*HALVES, load2_(PAIR), fetch_add_(OTHER)],
        [*HALVES, *HALVES, fetch_add_(OTHER)],
        [*HALVES, swap_zeros(PAIR), fetch_add_(OTHER)],
    ],
    ids=["load2", "load2 afterwards", "read again", "tried to swap"],
)
def test_a_pair_read_or_swapped_as_one_is_not_torn(engine, code):
    assert run_schedule(engine, script(code, SWAP), BETWEEN_THE_HALVES) is None


def test_looking_at_the_first_half_again_validates_even_where_it_has_changed(engine):
    program = script([*HALVES, load_(PAIR), fetch_add_(OTHER)], SWAP)
    assert run_schedule(engine, program, "0.2-1") is None


def test_an_update_of_one_half_tears_nothing(engine):
    program = script([*HALVES, fetch_add_(OTHER)], [fetch_add_(PAIR + 1)])
    assert passes(program, engine)


def test_a_swap_that_leaves_one_half_as_it_was_tears_nothing(engine):
    swap_of_cpu_0 = [swap_zeros(PAIR)]  # for (1, 0)
    program = script(swap_of_cpu_0, [*HALVES, fetch_add_(OTHER)])
    assert run_schedule(engine, program, "s.0-1", "1.1-0") is None


@pytest.mark.parametrize("kernel_", [read_validated, swap_in_a_loop])
def test_a_reader_that_validates_or_retries_holds_no_torn_pair_in_any_schedule(engine, kernel_):
    program = Program("careful", 8, [kernel_, swap_in_a_loop])
    assert passes(program, engine)


# --- waiting -------------------------------------------------------------------------------------
BUSY = [store_(OTHER)] * 3


def take_one_and_wait(cpu: int, mine: int, theirs: int, other: int) -> list[Instruction]:
    """Hold a lock, sleep while the other CPU holds the other one, release."""
    return [cas_(mine, 0, 1 + cpu), wait_(theirs, 1 + other), store_(mine, 0), wake_one(mine)]


def crosswise(one: int, other: int) -> list[list[Instruction]]:
    """Two CPUs of these numbers, each waiting for the lock of the other."""
    return [
        take_one_and_wait(one, LOCK, OTHER_LOCK, other),
        take_one_and_wait(other, OTHER_LOCK, LOCK, one),
    ]


def test_a_deadlock_is_seen_when_the_cycle_closes_though_another_cpu_could_go_on(engine):
    program = script(*crosswise(0, 1), BUSY, locks=[LOCK, OTHER_LOCK])
    failure = failure_of(program, engine)
    assert failure.kind == "deadlock"
    assert {step.cpu for step in failure.trace.steps} == {0, 1}
    assert [one.cpu for one in failure.trace.blocked] == [0, 1]


def test_the_cpus_of_a_deadlock_come_in_the_order_of_the_cycle(engine):
    ring = [
        take_one_and_wait(0, LOCK, OTHER_LOCK, 2),
        take_one_and_wait(1, THIRD_LOCK, LOCK, 0),
        take_one_and_wait(2, OTHER_LOCK, THIRD_LOCK, 1),
    ]
    program = script(*ring, BUSY, locks=[LOCK, OTHER_LOCK, THIRD_LOCK])
    failure = explore(program, "random", engine=engine).failure
    assert [(one.cpu, one.address, one.holder) for one in failure.trace.blocked] == [
        (0, OTHER_LOCK, 2),
        (2, THIRD_LOCK, 1),
        (1, LOCK, 0),
    ]


def test_a_sleeper_outside_of_the_cycle_comes_behind_it(engine):
    one, other = crosswise(1, 2)
    one += [store_(OTHER), wake_one(OTHER)]
    failure = failure_of(script([wait_(OTHER)], one, other, locks=[LOCK, OTHER_LOCK]), engine)
    assert [one.cpu for one in failure.trace.blocked] == [1, 2, 0]


def test_who_sleeps_at_a_word_that_is_no_lock_waits_for_no_holder(engine):
    program = script([store_(OTHER, 0)], [wait_(OTHER, 0)], locks=[LOCK])
    failure = failure_of(program, engine)
    assert [(one.address, one.holder) for one in failure.trace.blocked] == [(OTHER, None)]


def test_without_locks_a_deadlock_is_seen_when_no_cpu_can_continue(engine):
    failure = failure_of(script(*crosswise(0, 1), BUSY), engine)
    assert failure.kind == "deadlock"
    assert [step.cpu for step in failure.trace.steps].count(2) == len(BUSY)


def test_a_sleeper_at_a_lock_whose_holder_runs_is_no_deadlock(engine):
    program = script(
        [cas_(LOCK, 0, 1), store_(LOCK, 0), wake_one(LOCK)], [wait_(LOCK, 1)], locks=[LOCK]
    )
    assert passes(program, engine)


def test_spinning_for_ever_is_a_livelock_and_names_the_words(engine):
    failure = failure_of(script([await_(FLAG)], [await_(OTHER)]), engine)
    assert failure.kind == "livelock"
    assert [(one.address, one.spinning) for one in failure.trace.blocked] == [
        (FLAG, True),
        (OTHER, True),
    ]


@pytest.mark.parametrize("strategy", ["dfs", "random", "dpor"])
def test_a_schedule_longer_than_the_step_limit_is_abandoned_not_passed(engine, strategy):
    program = script([store_(DATA)] * 3, [])
    result = explore(program, strategy, step_limit=2, schedules=5, engine=engine)
    assert (result.verdict, result.failure) == ("abandoned", None)
    assert result.abandoned == result.schedules > 0


@pytest.mark.parametrize("strategy", ["dfs", "random", "dpor"])
def test_a_schedule_that_is_cut_after_a_cpu_is_done_repeats(engine, strategy):
    """Its trace has no step for the one that comes after the limit."""
    program = script([store_(DATA)] * 3, [store_(OTHER)] * 3)
    result = explore(program, strategy, step_limit=5, schedules=5, engine=engine)
    assert (result.verdict, result.note) == ("abandoned", "")


def test_a_schedule_as_long_as_the_step_limit_is_complete(engine):
    assert passes(script([store_(DATA)] * 3, []), engine, step_limit=3)


# --- memory --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "access", [store_(10**9), read(-1), load2_(PAIR + 1), swap_zeros(PAIR + 1)]
)
def test_an_access_outside_of_memory_is_a_failure_that_names_it(engine, access):
    failure = failure_of(script([], [load_(DATA), access]), engine)
    assert failure.kind == "memory"
    fault = failure.trace.fault
    assert (fault.cpu, fault.local, fault.address) == (1, 2, access.i)


@pytest.mark.parametrize("where", ["check", "invariant"])
def test_a_check_or_an_invariant_outside_of_memory_is_a_failure(engine, where):
    program = Program("outside", 8, [m.increment], **{where: m.read_behind_the_end})
    assert failure_of(program, engine).kind == "memory"


@pytest.mark.parametrize(
    "access",
    [read(DATA), load_(DATA), load_relaxed_(DATA), load2_(DATA), load2_(DATA & ~1),
     cas_(DATA, 0, 1), fetch_add_(DATA), exchange_(DATA, 1), wait_(DATA, 5)],
)  # fmt: skip
def test_a_read_of_a_word_that_was_never_written_is_a_failure(engine, access):
    failure = failure_of(script([access], undefined=[(DATA, DATA + 1)]), engine)
    assert failure.kind == "undefined"
    assert failure.trace.fault.address == access.i


def test_the_second_word_of_a_pair_may_be_the_one_that_was_never_written(engine):
    assert failure_of(script([load2_(DATA)], undefined=[(DATA + 1, DATA + 2)]), engine).kind == (
        "undefined"
    )


@pytest.mark.parametrize("memory", ["sc", "tso"])
@pytest.mark.parametrize("access", [read(DATA), cas_(DATA, 1, 2)])
def test_a_word_is_defined_once_it_was_written(engine, memory, access):
    program = script([store_(DATA), access], undefined=[(DATA, DATA + 1)])
    assert passes(program, engine, memory=memory)


def test_a_word_is_undefined_again_in_the_next_schedule(engine):
    program = script([store_(DATA)], [read(DATA)], undefined=[(DATA, DATA + 1)])
    failure = failure_of(program, engine, races=False)
    assert failure.kind == "undefined"
    assert failure.found_after == 2


def test_a_kernel_that_calls_itself_is_refused_by_name(engine):
    program = Program("deep", 8, [m.deep, m.increment])
    with pytest.raises(MisuseError, match="descend: recursion is not allowed"):
        explore(program, engine=engine)


# --- invariants ----------------------------------------------------------------------------------
ONE_AT_A_TIME: list[list[Instruction]] = [
    [store_(DATA, 1), store_(DATA, 0)],
    [store_(FLAG, 1), store_(FLAG, 0)],
]


@pytest.mark.parametrize("strategy", ["dfs", "dpor", "random"])
def test_an_invariant_fails_in_the_step_that_breaks_it(engine, strategy):
    program = script(*ONE_AT_A_TIME, invariant=never_both)
    failure = explore(program, strategy, engine=engine).failure
    assert (failure.kind, failure.code) == ("invariant", 5)
    assert len(failure.trace.steps) == 2
    assert failure.trace.steps[-1].value == 1


@pytest.mark.parametrize("first", [0, 1])
def test_dpor_sees_what_lasts_one_step_between_writes_that_nothing_relates(engine, first):
    """The writes commute, except for the invariant."""
    codes = [[store_(DATA, 0)], [store_(FLAG, 0)]]
    program = script(
        *codes[:: 1 - 2 * first], init=[(DATA, 1), (FLAG, 1)], invariant=never_flag_alone
    )
    result = explore(program, "dpor", engine=engine)
    assert (result.verdict, result.failure and result.failure.code) == ("failed", 6)


def test_without_an_invariant_dpor_tries_one_order_of_unrelated_writes(engine):
    assert explore(script(*ONE_AT_A_TIME), "dpor", engine=engine).classes == 1


def test_an_invariant_is_not_seen_as_an_access(engine):
    plain = [hold(LOCK), write(DATA), store_(LOCK, 0)]
    program = script(plain, plain, [load_(FLAG)], invariant=never_both)
    assert passes(program, engine)


def test_an_invariant_adds_no_step(engine):
    codes = [[store_(DATA)], [store_(DATA)]]
    counts = {
        try_all(script(*codes, invariant=watcher), engine).steps for watcher in (None, never_both)
    }
    assert counts == {2 * 2}


def test_an_invariant_sees_the_memory_and_not_the_buffers(engine):
    """A store that never left its buffer has not happened."""
    program = script([store_(DATA)], [store_(FLAG)], invariant=never_both)
    failure = failure_of(program, engine, memory="tso")
    assert failure.trace.steps[-1].op == ops.OP_FLUSH
