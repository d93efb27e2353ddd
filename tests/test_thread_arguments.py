"""Arguments of threads, and checks that ask what the threads returned, on both engines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shmalloc import Ram, kernel
from shmalloc.engine import get_engine
from shmalloc.errors import DialectError, MisuseError
from shmalloc.words import cas, load
from stress import Program, explore, replay, returned
from stress.explorer.digest import digest_of

every_engine = pytest.mark.parametrize("engine", ["native", "interpreted"])


@kernel
def add(mem, cpu, word, amount):
    while True:
        old = load(mem, word)
        if cas(mem, word, old, old + amount):
            return old


@kernel
def add_carelessly(mem, cpu, word, amount):
    old = mem[word]
    mem[word] = old + amount
    return old


@kernel
def six(mem, cpu, a, b, c, d, e, f):
    mem[cpu] = a + 10 * b + 100 * c + 1000 * d + 10000 * e + 100000 * f
    return f


@kernel
def alone(mem, cpu):
    mem[cpu] = -1


@kernel
def both_added(mem):
    """One CPU came first and found 0; the other found what it had added."""
    first = returned(mem, 0)
    second = returned(mem, 1)
    return 0 if min(first, second) == 0 and mem[0] == 8 and first + second > 0 else 1


@kernel
def asks_too_far(mem):
    return returned(mem, 2)


@kernel
def asks_through_another(mem):
    return both_added(mem)


@kernel
def never(mem):
    return 0


ADDED = Program("added", 2, [(add, 0, 3), (add, 0, 5)], check=both_added)
LOST = Program("lost", 2, [(add_carelessly, 0, 3), (add_carelessly, 0, 5)], check=both_added)


@every_engine
@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_a_check_sees_what_the_threads_returned(engine, memory):
    result = explore(ADDED, "dpor", memory, engine=engine, seconds=None)
    assert result.verdict == "passed-exhausted"


@every_engine
def test_a_failure_names_the_arguments_and_its_token_replays(engine):
    failure = explore(LOST, engine=engine, races=False).failure
    assert failure is not None
    assert failure.lanes == ["cpu 0 add_carelessly(0, 3)", "cpu 1 add_carelessly(0, 5)"]
    assert replay(LOST, failure.schedule, engine=engine).reproduced


@every_engine
def test_a_thread_takes_up_to_six_arguments_and_its_neighbour_none(engine):
    program = Program("six", 4, [(six, 1, 2, 3, 4, 5, -6), alone], observe=[0, 1, ("r", 0)])
    result = explore(program, engine=engine)
    assert list(result.outcomes) == [(-600000 + 54321, -1, -6)]


@every_engine
def test_a_cpu_that_does_not_exist_returned_nothing(engine):
    program = replace(ADDED, check=asks_too_far)
    failure = explore(program, engine=engine).failure
    assert failure is not None
    assert failure.kind == "memory"


def test_arguments_are_in_the_digest_of_a_token():
    other = Program("added", 2, [(add, 0, 3), (add, 0, 6)], check=both_added)
    assert digest_of(ADDED) != digest_of(other)


def test_a_copy_of_a_program_keeps_its_arguments():
    assert replace(ADDED, check=None).arguments == ((0, 3), (0, 5))


@pytest.mark.parametrize(
    ("threads", "said"),
    [
        ([(add, 0)], r"add takes \(mem, cpu, word, amount\); it is called with \(mem, cpu, 0\)"),
        ([(add, 0, 1.5)], "threads: 1.5; use a whole number"),
        ([(add, 0, 1 << 63)], "threads: 9223372036854775808; use -"),
        ([(six, 1, 2, 3, 4, 5, 6, 7)], "7 arguments; use at most 6"),
        ([()], "threads:"),
    ],
)
def test_wrong_arguments_are_refused(threads, said):
    with pytest.raises(MisuseError, match=said):
        Program("wrong", 2, threads)


@kernel
def asks(mem, cpu):
    return returned(mem, 0)


def test_only_a_check_may_ask():
    for program in ({"threads": [asks]}, {"threads": [alone], "invariant": asks_through_another}):
        with pytest.raises(MisuseError, match=r"calls returned\(\); a check alone may call it"):
            Program("asks", 2, **program)


@pytest.mark.parametrize("engine", ["native", "interpreted"])
def test_a_worker_cannot_ask(engine):
    with pytest.raises((DialectError, MisuseError), match="returned"):
        get_engine(engine).call(asks, Ram.of_words(2), 0)
