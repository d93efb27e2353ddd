"""Kernels as interpreted engines run them: the lines they report, and the wraps left out."""

from __future__ import annotations

import ast
import dis
import random
import sys
from collections.abc import Iterator
from types import FrameType, FunctionType
from typing import Any

import pytest

from shmalloc.compiler.integers import BOUNDS, INT64, INT_MAX, INT_MIN, SHIFTS, Range, wrap
from shmalloc.compiler.runnable import runnable
from shmalloc.memory import Ram
from support import meaning_kernels as meaning
from support import memory_kernels as accesses

OF_CODE = ("co_filename", "co_name", "co_qualname", "co_firstlineno", "co_argcount")


def lines_of(kernel: FunctionType, *arguments: Any) -> list[tuple[str, int]]:
    """Each line that a call runs, by name of its function."""
    seen: list[tuple[str, int]] = []

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in (meaning.__file__, accesses.__file__):
            return None
        if event == "line":
            seen.append((frame.f_code.co_qualname, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        kernel(*arguments)
    finally:
        sys.settrace(before)
    return seen


@pytest.mark.parametrize("name", OF_CODE)
@pytest.mark.parametrize(
    "kernel", [meaning.counted, meaning.is_even, meaning.chain, accesses.between]
)
def test_it_says_that_it_is_the_kernel(kernel: FunctionType, name: str) -> None:
    made = runnable(kernel, kernel is not meaning.is_even)
    assert getattr(made.__code__, name) == getattr(kernel.__code__, name)
    assert (made.__module__, made.__doc__) == (kernel.__module__, kernel.__doc__)


@pytest.mark.parametrize(
    ("kernel", "arguments"),
    [
        (meaning.counted, (1, 6, 2)),
        (meaning.until_found, (1,)),
        (meaning.passes_three_on, (4,)),
        (meaning.skips_and_leaves, (9,)),
        (accesses.on_a_cpu, (1, 3)),
        (accesses.over_lines, (1, 2)),
    ],
)
def test_a_debugger_sees_the_lines_of_the_source(
    kernel: FunctionType, arguments: tuple[int, ...]
) -> None:
    expected = lines_of(kernel, Ram.of_words(16), *arguments)
    assert lines_of(runnable(kernel), Ram.of_words(16), *arguments) == expected
    assert expected


def test_a_debugger_sees_locals_and_constants_by_their_names() -> None:
    made = runnable(meaning.down_by_three)
    assert made.__globals__["STEP"] == meaning.STEP
    assert set(meaning.down_by_three.__code__.co_varnames) <= set(made.__code__.co_varnames)


def test_a_kernel_is_rewritten_once() -> None:
    assert runnable(accesses.between).__globals__["innermost"] is runnable(accesses.innermost)


# --- where wraps are left out --------------------------------------------------------------------
def wraps(kernel: FunctionType) -> bool:
    return ".wrap" in runnable(kernel).__code__.co_names


@pytest.mark.parametrize(
    "kernel",
    [
        meaning.add,
        meaning.multiply,
        meaning.divide,
        meaning.negate,
        meaning.size,
        meaning.shift_left,
    ],
)
def test_what_can_leave_64_bits_is_wrapped(kernel: FunctionType) -> None:
    assert wraps(kernel)


@pytest.mark.parametrize(
    "kernel",
    [
        meaning.remainder,
        meaning.divide_by_eight,
        meaning.remainder_of_eight,
        meaning.shift_right,
        meaning.invert,
        meaning.mask_of_a_sum,
        meaning.true_plus_true,
        meaning.chosen,
        meaning.of_a_module,
    ],
)
def test_what_cannot_leave_64_bits_is_not(kernel: FunctionType) -> None:
    assert not wraps(kernel)


def test_a_word_is_a_method_of_the_memory() -> None:
    made = dis.get_instructions(runnable(accesses.updates))
    functions = {i.argval for i in made if i.opname == "LOAD_GLOBAL"}
    assert functions == {".wrap"}


# --- ranges --------------------------------------------------------------------------------------
def some_ranges(rng: random.Random, around: Range) -> Iterator[Range]:
    corners = (0, 1, -1, 2, 7, 63, 1 << 31, 1 << 62, INT_MAX, INT_MIN, -5, 100)
    while True:
        low, high = sorted(rng.choice((rng.choice(corners), rng.randint(-70, 70))) for _ in "ab")
        if Range(low, high).within(*around):
            yield Range(low, high)


@pytest.mark.parametrize("operator", BOUNDS, ids=lambda operator: operator.__name__)
def test_no_result_is_outside_of_its_bounds(
    operator: type[ast.operator], rng: random.Random
) -> None:
    shifts = operator in (ast.LShift, ast.RShift)
    tree = ast.Expression(
        ast.BinOp(ast.Name("a", ast.Load()), operator(), ast.Name("b", ast.Load()))
    )
    compute = eval(f"lambda a, b: {ast.unparse(tree)}")
    lefts, rights = some_ranges(rng, INT64), some_ranges(rng, SHIFTS if shifts else INT64)
    for _ in range(500):
        left, right = next(lefts), next(rights)
        bounds = BOUNDS[operator](left, right)
        for _ in range(20):
            a, b = (rng.choice((r.low, r.high, rng.randint(*r))) for r in (left, right))
            if b or operator not in (ast.FloorDiv, ast.Mod):
                assert bounds.low <= compute(a, b) <= bounds.high, (left, right, a, b)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (INT_MAX, INT_MAX),
        (INT_MAX + 1, INT_MIN),
        (INT_MIN - 1, INT_MAX),
        (1 << 64, 0),
        (-(1 << 64) - 5, -5),
        (3 << 200, 0),
    ],
)
def test_an_integer_wraps_to_its_lowest_64_bits(value: int, expected: int) -> None:
    assert wrap(value) == expected
