"""``expect``: a failure in the middle of a kernel, with its line, on every engine."""

from __future__ import annotations

import pytest

from shmalloc import Arena, ExpectationFault, KernelFault, kernel
from shmalloc.words import expect, fetch_add, load, store
from stress import Program, explore, replay

ENGINES = ["native", "interpreted"]
every_engine = pytest.mark.parametrize("engine", ENGINES)


@kernel
def is_alone(mem, cpu):
    inside = fetch_add(mem, 0, 1)
    expect(mem, inside == 0, 7)
    fetch_add(mem, 0, -1)


@kernel
def first_and_last(mem, cpu):
    expect(mem, cpu == 0, 0)
    store(mem, 0, 1)


@kernel
def through_another(mem, cpu):
    store(mem, 0, cpu)
    demand(mem, load(mem, 0))


@kernel
def demand(mem, value):
    expect(mem, value < 1, -2)


@kernel
def check_by_expectation(mem):
    expect(mem, mem[0] == 5, 3)
    return 0


@kernel
def negative(mem, value):
    expect(mem, value >= 0, 40 - value)
    return value


ALONE = Program("alone", 2, [is_alone, is_alone], code_name={7: "not alone"}.get)


def line_of(function, text):
    """Where ``text`` stands in the source of ``function``, by Python's own table of lines."""
    import inspect

    lines, first = inspect.getsourcelines(function)
    return first + next(k for k, line in enumerate(lines) if text in line)


@every_engine
@pytest.mark.parametrize("strategy", ["auto", "dfs", "dpor", "random", "pct", "pos", "surw"])
def test_an_expectation_that_is_not_met_fails_at_its_step(engine, strategy):
    failure = explore(ALONE, strategy, engine=engine).failure
    assert failure is not None
    assert (failure.kind, failure.code) == ("expectation", 7)
    assert failure.trace.faulted is not None
    assert failure.trace.faulted.line == line_of(is_alone, "expect(")
    assert len(failure.trace.steps) == 2, "the steps behind it are not made"
    assert "Expectation 7 (not alone) was not met in is_alone, test_expect.py:" in failure.cause
    assert failure.headline == "alone: expectation 7 not alone"


@every_engine
@pytest.mark.parametrize("again", ENGINES)
def test_its_token_replays_on_both_engines(engine, again):
    failure = explore(ALONE, engine=engine).failure
    assert failure is not None
    assert "/expectation/7/" in failure.schedule
    assert replay(ALONE, failure.schedule, engine=again).reproduced


@every_engine
@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_one_that_is_met_is_no_step(engine, memory):
    program = Program("met", 2, [is_alone], observe=[0])
    result = explore(program, "dpor", memory, engine=engine, seconds=None)
    assert result.verdict == "passed-exhausted"
    assert result.steps == 2 * result.schedules


@every_engine
def test_one_before_the_first_step_with_the_code_0(engine):
    failure = explore(Program("first", 2, [first_and_last] * 2), engine=engine).failure
    assert failure is not None
    assert (failure.kind, failure.code, failure.trace.steps) == ("expectation", 0, ())
    assert replay(failure.program, failure.schedule, engine=engine).reproduced


@every_engine
def test_the_line_is_that_of_the_kernel_that_expects(engine):
    failure = explore(Program("deep", 2, [through_another] * 2), engine=engine).failure
    assert failure is not None
    assert (failure.kind, failure.code) == ("expectation", -2)
    assert failure.trace.faulted is not None
    assert failure.trace.faulted.line == line_of(demand, "expect(")


@every_engine
def test_a_check_may_expect(engine):
    program = Program("checked", 2, [is_alone], check=check_by_expectation)
    failure = explore(program, engine=engine).failure
    assert failure is not None
    assert (failure.kind, failure.code) == ("expectation", 3)
    assert failure.trace.faulted is not None
    assert failure.trace.faulted.line == line_of(check_by_expectation, "expect(")


@every_engine
def test_a_worker_raises_a_fault_with_the_code_and_the_line(engine):
    with Arena.create(size="1MiB", engine=engine) as arena:
        assert arena.run(negative) == arena.cpu
        with pytest.raises(
            ExpectationFault, match=r"expectation 41 was not met in .*negative"
        ) as e:
            arena.engine.call(negative, arena.segment.ram, -1)
    assert (e.value.code, e.value.line) == (41, line_of(negative, "expect("))
    assert isinstance(e.value, AssertionError) and isinstance(e.value, KernelFault)
