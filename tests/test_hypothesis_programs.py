"""Small programs that Hypothesis draws: what they are, and that searches agree about them."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import find, given, seed, settings

from shmalloc import MisuseError
from shmalloc.memory import Ram
from stress import Program, explore
from stress.hypothesis import ACCESSES, BLOCKING, operations, programs, small_program, threads

SOME = settings(max_examples=60, database=None, deadline=None)


def drawn(rng: random.Random, test: Callable[..., None], **strategies: Any) -> None:
    """Run ``test`` on examples that depend on the session's seed and nothing else."""
    seed(rng.randrange(1 << 32))(SOME(given(**strategies)(test)))()


def outcomes(program: Program, strategy: str, memory: str = "sc") -> set[tuple[int, ...]]:
    found = explore(program, strategy, memory, seconds=None, races=False, step_limit=200)
    assert found.verdict == "passed-exhausted"
    return set(found.outcomes)


@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_dpor_finds_exactly_the_outcomes_that_dfs_finds(rng, memory):
    def agree(program: Program) -> None:
        assert outcomes(program, "dpor", memory) == outcomes(program, "dfs", memory)

    drawn(rng, agree, program=programs(max_cpus=3, max_accesses=2))


def test_the_smallest_program_that_store_buffers_change_stores_before_it_loads(rng):
    def differ(program: Program) -> bool:
        return outcomes(program, "dpor", "sc") != outcomes(program, "dpor", "tso")

    small = programs(max_cpus=2, accesses=["load", "store"], max_accesses=3)
    limits = settings(database=None, max_examples=5000)
    found = find(small, differ, settings=limits, random=rng)
    assert repr(found).count("('") <= 5
    assert re.search(r"\('store', \d, \d\), \('load', \d\)", repr(found)), found


def evaluated(thread: list[tuple[Any, ...]], words: list[int]) -> tuple[int, ...]:
    """What one CPU alone returns and leaves, by Python's own arithmetic."""
    seen, last = "", 0
    for name, *given_values in thread:
        i, *raw = given_values or [0]
        a, *more = [last + len(v) // 2 if isinstance(v, str) else v for v in raw] or [0]
        found: list[int] = []
        if name in ("load", "read", "load_relaxed"):
            found = [words[i]]
        elif name in ("store", "write", "store_relaxed"):
            words[i] = a
        elif name == "cas":
            found = [int(words[i] == a)]
            words[i] = more[0] if found == [1] else words[i]
        elif name == "load2":
            found = words[i : i + 2]
        elif name == "cas2":
            found = [int(words[i : i + 2] == [a, more[0]])]
            words[i : i + 2] = more[1:] if found == [1] else words[i : i + 2]
        elif name != "fence":
            found = [words[i]]
            change = {"exchange": a, "fetch_or": words[i] | a, "fetch_and": words[i] & a}
            words[i] = change.get(name, words[i] + a)
        seen += "".join(f"{value:02}" for value in found)
        last = found[-1] if found else last
    return int(seen or 0), *words


def test_a_thread_alone_does_what_its_operations_say(rng):
    def agree(thread: list[tuple[Any, ...]], words: list[int]) -> None:
        (outcome,) = outcomes(small_program([thread], words), "dpor")
        assert outcome == evaluated(thread, list(words))

    drawn(rng, agree, thread=threads(max_accesses=6), words=programs().map(initial_words))


def initial_words(program: Program) -> list[int]:
    return memory_of(program)[:2]


def memory_of(program: Program) -> list[int]:
    ram = Ram.of_words(program.words)
    program.initialize(ram)
    return ram.array.tolist()


def test_what_is_printed_can_be_pasted(rng):
    def repeats(program: Program) -> None:
        assert memory_of(eval(repr(program))) == memory_of(program)

    drawn(rng, repeats, program=programs(words=4, accesses=[*ACCESSES, *BLOCKING]))


@pytest.mark.parametrize("name", [*ACCESSES, *BLOCKING])
def test_every_operation_is_drawn_by_its_name(name, rng):
    assert find(operations(accesses=[name]), lambda drawn: True, random=rng)[0] == name


def test_what_may_wait_is_drawn_on_request_and_its_deadlocks_are_found():
    sleeper = small_program([[("wait", 0, 0)], [("store", 0, 1), ("wake", 0, 1)]], init=[0, 0])
    assert explore(sleeper, "dpor").passed
    lost = small_program([[("wait", 0, 0)], [("store", 0, 1)]], init=[0, 0])
    assert explore(lost, "dpor").failure.kind == "deadlock"


@pytest.mark.parametrize(
    ("threads_", "init", "said"),
    [
        ([[("lode", 0)]], [0, 0], "operation: 'lode'"),
        ([[("load", 2)]], [0, 0], "word 2; use 0 to 1"),
        ([[("load2", 1)]], [0, 0], "pair 1"),
        ([[("store", 0, -1)]], [0, 0], "-1; use 0"),
        ([[("store", 0)]], [0, 0], "store takes word, value"),
        ([[]] * 8, [0, 0], "8 CPUs"),
        ([[]], [0], "init: 1 words"),
    ],
)
def test_a_program_that_cannot_be_is_refused(threads_, init, said):
    with pytest.raises(MisuseError, match=re.escape(said)):
        small_program(threads_, init)


def test_without_hypothesis_the_cure_is_said():
    code = "import sys; sys.modules['hypothesis'] = None; from stress.hypothesis import programs"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'shmalloc[hypothesis]'" in ended.stderr.splitlines()[-1]
