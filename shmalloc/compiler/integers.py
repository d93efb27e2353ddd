"""The int64 arithmetic of kernels in Python: how a value wraps, what faults, and what is provable.

Kernels compute with 64-bit two's complement integers, Python with unbounded ones. Two values are
*congruent* when they differ by a multiple of 2**64; ``wrap`` finds the one that an int64 holds.
The first half of this file is what rewritten kernels call where a value wraps or faults; the second
half are ranges: bounds of an expression, which tell rewrite_expressions.py what cannot happen.

Rules: ranges bound the unbounded Python value of an expression whose operands lie in theirs. The
functions take and return ints; a bool counts as 0 or 1.

This file knows no syntax tree but the classes of operators, and no memory.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import NamedTuple, NoReturn

BITS = 64
INT_MIN = -(1 << 63)
INT_MAX = (1 << 63) - 1
_HALF = 1 << 63
_MASK = (1 << 64) - 1


class Trap(ArithmeticError):
    """Arithmetic that has no result. ``kind`` is the kind of the fault that it becomes.

    It does not know where it happened: the entry of the kernel reads that from the traceback
    (rewrite.py), so that nothing is paid where nothing faults.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def wrap(value: int) -> int:
    """The int64 that is congruent to ``value``."""
    return (value + _HALF & _MASK) - _HALF


def no_shift() -> NoReturn:
    raise Trap("shift")


def no_step() -> NoReturn:
    raise Trap("step")


# --- ranges --------------------------------------------------------------------------------------
class Range(NamedTuple):
    """Everything from ``low`` to ``high``, both included."""

    low: int
    high: int

    def fits(self) -> bool:
        """Whether each value in it is an int64 as it is."""
        return self.low >= INT_MIN and self.high <= INT_MAX

    def within(self, low: int, high: int) -> bool:
        return self.low >= low and self.high <= high


INT64 = Range(INT_MIN, INT_MAX)
BOOL = Range(0, 1)
SHIFTS = Range(0, BITS - 1)


def hull(*ranges: Range) -> Range:
    """The smallest range around all of them."""
    return Range(min(r.low for r in ranges), max(r.high for r in ranges))


def _corners(function: Callable[[int, int], int], left: Range, right: Range) -> Range:
    """The bounds of a function that is monotonic in each argument."""
    values = [function(a, b) for a in left for b in right]
    return Range(min(values), max(values))


def _bitwise(left: Range, right: Range) -> Range:
    """The bounds of ``|`` and ``^``: no result has more bits than the wider operand."""
    top = 1 << max(value.bit_length() for value in (*left, *right))
    return Range(0 if left.low >= 0 and right.low >= 0 else -top, top - 1)


def _and(left: Range, right: Range) -> Range:
    masks = [operand.high for operand in (left, right) if operand.low >= 0]
    return Range(0, min(masks)) if masks else _bitwise(left, right)


def _floor_div(left: Range, right: Range) -> Range:
    if right.low >= 0:  # 0 faults
        right = Range(max(right.low, 1), max(right.high, 1))
    if right.low > 0 or right.high < 0:
        return _corners(lambda a, b: a // b, left, right)
    size = max(abs(left.low), abs(left.high))
    return Range(-size, size)


def _mod(left: Range, right: Range) -> Range:
    high = max(right.high - 1, 0)
    if left.low >= 0 and right.low >= 0:
        high = min(high, left.high)
    return Range(min(right.low + 1, 0), high)


def _left(left: Range, right: Range) -> Range:
    return _corners(lambda a, b: a << b, left, right)


def _right(left: Range, right: Range) -> Range:
    return _corners(lambda a, b: a >> b, left, right)


# Shift counts must lie in SHIFTS, divisors may hold 0 (that faults and has no value).
BOUNDS: dict[type[ast.operator], Callable[[Range, Range], Range]] = {
    ast.Add: lambda a, b: Range(a.low + b.low, a.high + b.high),
    ast.Sub: lambda a, b: Range(a.low - b.high, a.high - b.low),
    ast.Mult: lambda a, b: _corners(lambda x, y: x * y, a, b),
    ast.BitAnd: _and,
    ast.BitOr: _bitwise,
    ast.BitXor: _bitwise,
    ast.FloorDiv: _floor_div,
    ast.Mod: _mod,
    ast.LShift: _left,
    ast.RShift: _right,
}
