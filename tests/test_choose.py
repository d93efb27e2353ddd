"""``choose``: every value is tried, like every order of steps, and the token says which it was.

test_explorer_classes.py compares programs that choose with brute force.
"""

from __future__ import annotations

import pytest

from shmalloc import Ram, kernel
from shmalloc.engine import get_engine
from shmalloc.errors import DialectError, MisuseError
from shmalloc.words import expect, load, relax, store
from stress import Program, choose, explore, replay

ENGINES = ["native", "interpreted"]
STRATEGIES = ["auto", "dfs", "dpor", "random", "pct", "pos", "surw"]
every_engine = pytest.mark.parametrize("engine", ENGINES)


@kernel
def two_digits(mem, cpu):
    tens = choose(mem, 3)
    return 10 * tens + choose(mem, 4)


@kernel
def writes_perhaps(mem, cpu):
    if choose(mem, 2) == 0:
        store(mem, 0, 1)


@kernel
def reads(mem, cpu):
    return load(mem, 0)


@kernel
def fails_for_one(mem, cpu):
    first = choose(mem, 5)
    second = choose(mem, 5)
    expect(mem, first != 3 or second != 4 or load(mem, 0) == 0, 9)


@kernel
def gives_up_sometime(mem, cpu):
    while choose(mem, 2) == 0:
        relax(mem)


@kernel
def none(mem, cpu):
    return choose(mem, load(mem, 0))


@kernel
def chooses(mem):
    return choose(mem, 2)


@every_engine
@pytest.mark.parametrize("strategy", ["dfs", "dpor"])
@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_exhaustive_strategies_try_every_value_once(strategy, memory, engine):
    program = Program("digits", 2, [two_digits], observe=[("r", 0)])
    result = explore(program, strategy, memory, engine=engine, seconds=None)
    assert result.verdict == "passed-exhausted"
    assert dict(result.outcomes) == {(10 * a + b,): 1 for a in range(3) for b in range(4)}


@every_engine
@pytest.mark.parametrize("strategy", ["random", "pct", "pos", "surw"])
def test_random_strategies_draw_every_value(strategy, engine):
    program = Program("digits", 2, [two_digits, reads], observe=[("r", 0)])
    result = explore(program, strategy, engine=engine, schedules=400, seconds=None)
    assert len(result.outcomes) == 12


@every_engine
@pytest.mark.parametrize("threads", [[writes_perhaps, reads], [reads, writes_perhaps]])
def test_a_value_that_needs_no_order_has_one_class(threads, engine):
    """The store before or behind the load, or no store: three."""
    result = explore(Program("perhaps", 2, threads), "dpor", engine=engine, seconds=None)
    assert (result.verdict, result.classes, result.redundant) == ("passed-exhausted", 3, 0)


@every_engine
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_token_has_the_values_and_replays_on_both_engines(strategy, engine):
    program = Program("one", 2, [fails_for_one, writes_perhaps])
    failure = explore(program, strategy, engine=engine, seconds=60).failure
    assert failure is not None
    assert "0.0=3" in failure.schedule and "0.1=4" in failure.schedule
    for again in ENGINES:
        found = replay(program, failure.schedule, engine=again)
        assert found.reproduced and not found.changed
    assert [step.value for step in failure.trace.steps if step.cpu == 0][:2] == [3, 4]
    assert "choose = 3" in failure.report() and "first = choose(mem, 5)" in failure.report()


def test_every_directive_of_a_token_is_needed():
    program = Program("one", 2, [fails_for_one, writes_perhaps])
    failure = explore(program, "random", seconds=60).failure
    assert failure is not None
    head, _, schedule = failure.schedule.rpartition("/")
    directives = schedule.split(",")
    for k in range(len(directives)):
        rest = ",".join(directives[:k] + directives[k + 1 :]) or "-"
        assert not replay(program, f"{head}/{rest}").reproduced


def test_a_value_that_the_step_does_not_have_is_the_first_one():
    program = Program("digits", 2, [two_digits], check=None)
    failure = explore(Program("one", 2, [fails_for_one, writes_perhaps])).failure
    assert failure is not None
    token = failure.schedule.replace("/one/", "/digits/").rpartition("/")[0] + "/0.0=3"
    assert replay(program, token).kind == "passed"


@every_engine
def test_a_loop_that_chooses_is_no_livelock(engine):
    program = Program("sometime", 2, [gives_up_sometime])
    assert explore(program, "random", engine=engine, schedules=300, seconds=None).passed
    result = explore(program, "dpor", engine=engine, schedules=300, seconds=None, step_limit=500)
    assert result.verdict in ("passed-budget", "abandoned")


@kernel
def looks_and_chooses(mem, cpu):
    while choose(mem, 2) == 0:
        expect(mem, load(mem, 0) == 0, 1)


@kernel
def reads_one_of_two(mem, cpu):
    return load(mem, choose(mem, 2) * (cpu + 1))


def test_a_loop_without_relax_that_chooses_does_not_wait_for_others():
    program = Program("looks", 2, [looks_and_chooses, writes_perhaps])
    failure = explore(program, "random", seconds=60).failure
    assert failure is not None and failure.kind == "expectation"


def test_one_schedule_does_not_tell_whether_cpus_that_choose_ever_meet():
    assert explore(Program("meet", 4, [reads_one_of_two] * 2)).verdict == "passed-exhausted"


@every_engine
@pytest.mark.parametrize("count", [0, -1, 61])
def test_fewer_than_one_or_more_than_sixty_values_are_a_fault(count, engine):
    failure = explore(Program("none", 2, [none], init=[(0, count)]), engine=engine).failure
    assert failure is not None
    assert failure.kind == "arithmetic"
    assert "a choice of fewer than 1 or more than 60 values in none" in failure.cause


@every_engine
def test_sixty_values(engine):
    program = Program("sixty", 2, [none], init=[(0, 60)], observe=[("r", 0)])
    assert len(explore(program, "dpor", engine=engine).outcomes) == 60


def test_a_check_cannot_choose():
    with pytest.raises(MisuseError, match=r"check: chooses calls choose\(\); a thread alone may"):
        Program("checks", 2, [reads], check=chooses)


@every_engine
def test_a_worker_cannot_choose(engine):
    with pytest.raises((DialectError, MisuseError), match="choose"):
        get_engine(engine).call(two_digits, Ram.of_words(2), 0)
