"""Arguments of a program and of an exploration that can never work: refused, each with a cure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shmalloc import kernel
from shmalloc.errors import MisuseError
from shmalloc.memory import Ram
from shmalloc.words import store
from stress import Program, explore

WORDS = 4
MORE_THAN_64_BITS = 1 << 63


@kernel
def stores(mem, cpu):
    store(mem, 0, 1)


@kernel
def prepares_too_far(mem):
    mem[WORDS] = 1


@kernel
def prepares_a_quotient(mem):
    mem[0] = 1 // mem[1]


@kernel
def prepares_with_an_argument(mem, value):
    mem[0] = value


def prepares_in_python(ram: Ram) -> None:
    ram[WORDS] = 1


def program(**arguments: Any) -> Program:
    given: dict[str, Any] = {"name": "small", "words": WORDS, "threads": [stores], **arguments}
    return Program(**given)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"words": 2.0}, "words: 2.0; use a whole number"),
        ({"words": "4"}, "words: '4'; use a whole number"),
        ({"words": True}, "words: True; use a whole number"),
        ({"words": 0}, "words: 0; use 2 to 1,048,576"),
        ({"words": 3}, "words: 3; use a positive even number"),
        ({"words": 10**9}, "words: 1000000000; use 2 to 1,048,576"),
        ({"threads": 3}, "threads: 3; use a list"),
        ({"threads": []}, "threads: 0; use 1 to 64 kernels"),
        ({"init": [(WORDS, 1)]}, "init: word 4; use 0 to 3, or more words"),
        ({"init": [(-1, 1)]}, "init: word -1; use 0 to 3, or more words"),
        ({"init": [(1.0, 1)]}, r"init: \(1.0, 1\); use whole numbers"),
        ({"init": [(0, 1.5)]}, r"init: \(0, 1.5\); use whole numbers"),
        ({"init": [(0, MORE_THAN_64_BITS)]}, "init: word 0 = 9223372036854775808; use a value of"),
        ({"init": [0, 1]}, r"init: 0; use a list of \(index, value\)"),
        ({"init": {0: 1}}, r"init: \{0: 1\}; use a list of \(index, value\)"),
        ({"init": 7}, r"init: 7; use a list of \(index, value\)"),
        ({"init": np.zeros(WORDS)}, "init: an image of float64; use int64"),
        ({"init": np.zeros(2, dtype=np.int64)}, r"init: an image of shape \(2,\); use \(4,\)"),
        (
            {"init": np.full(WORDS, MORE_THAN_64_BITS, dtype=np.uint64)},
            "init: 9223372036854775808 does not fit into 64 bits",
        ),
        ({"init": prepares_with_an_argument}, r"init: prepares_with_an_argument; use a kernel"),
        ({"observe": [1.0]}, "observe: 1.0; use the index of a word, 0 to 3"),
        ({"observe": ["head"]}, "observe: 'head'; use the index of a word, 0 to 3"),
        ({"observe": [WORDS]}, "observe: word 4; use 0 to 3"),
        ({"observe": [("r", 1)]}, r"observe: \('r', 1\); use \('r', cpu\) with cpu 0 to 0"),
        ({"observe": 3}, "observe: 3; use a list"),
        ({"locks": [1.0]}, "locks: 1.0; use the index of a word, 0 to 3"),
        ({"locks": [-1]}, "locks: word -1; use 0 to 3"),
        ({"undefined": [(3, 1)]}, r"undefined: \(3, 1\) has no word; use first < end"),
        ({"undefined": [(3,)]}, r"undefined: \(3,\); use \(first, end\)"),
        ({"undefined": [(3, 5)]}, "undefined: word 5; use 0 to 4"),
    ],
)
def test_a_program_that_cannot_be_laid_out_is_refused_where_it_is_made(arguments, message):
    with pytest.raises(MisuseError, match=message):
        program(**arguments)


@pytest.mark.parametrize("engine", ["native", "interpreted"])
@pytest.mark.parametrize(
    "init, message",
    [
        (prepares_too_far, r"init: word 4 is outside .* in .*prepares_too_far, .*\.py:\d+; "),
        (prepares_in_python, r"init: word 4 is outside the segment of 4 words; "),
        (prepares_a_quotient, r"init: division by zero in .*prepares_a_quotient, .*\.py:\d+; "),
    ],
)
def test_a_fault_of_the_kernel_that_prepares_memory_names_its_line(engine, init, message):
    with pytest.raises(MisuseError, match=message):
        explore(program(init=init), engine=engine)


def test_numbers_of_numpy_are_numbers():
    made = program(words=np.int64(WORDS), init=[(np.int32(1), np.int64(5))], observe=[np.int8(1)])
    assert explore(made).outcomes == {(5,): 1}


def test_an_initial_memory_from_a_generator_is_there_in_every_schedule():
    made = program(threads=[stores, stores], init=((at, 7) for at in (1, 2)), observe=[1, 2])
    assert set(explore(made, strategy="dfs").outcomes) == {(7, 7)}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"schedules": 0}, "schedules: 0; use at least 1"),
        ({"schedules": -1}, "schedules: -1; use at least 1"),
        ({"schedules": 1.5}, "schedules: 1.5; use at least 1"),
        ({"seconds": 0}, "seconds: 0; use more than 0"),
        ({"seconds": -1.0}, "seconds: -1.0; use more than 0"),
        ({"seconds": float("nan")}, "seconds: nan; use more than 0"),
        ({"seconds": "1"}, "seconds: '1'; use more than 0"),
        ({"workers": 1.5}, "workers: 1.5; use a whole number"),
        ({"depth": 1.5}, "depth: 1.5; use a whole number"),
        ({"seed": 0.5}, "seed: 0.5; use a whole number"),
        ({"step_limit": 10.0}, "step_limit: 10.0; use a whole number"),
        ({"step_limit": 0}, "step_limit: 0; use 1 to 10,000,000"),
        ({"free_spins": 0.5}, "free_spins: 0.5; use a whole number"),
        ({"preemptions": 0.5, "strategy": "dfs"}, "preemptions: 0.5; use a whole number"),
        ({"delays": -1, "strategy": "dfs"}, "delays: -1; use at least 0"),
    ],
)
def test_a_budget_or_a_bound_that_is_no_number_of_its_kind_is_refused(arguments, message):
    with pytest.raises(MisuseError, match=message):
        explore(program(), **arguments)
