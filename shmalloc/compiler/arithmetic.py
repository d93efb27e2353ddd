"""Arithmetic of 64-bit integers as IR: wrap-around, floor division, checked shifts, ranges.

``+ - *`` and ``<<`` wrap. ``//`` and ``%`` round towards minus infinity, as Python's do; LLVM's
round towards zero, and its division of INT_MIN by -1 is undefined (x86 raises a signal), so that
divisor is handled apart. A constant divisor costs only the checks that it needs.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from shmalloc.compiler.code import RARELY, Code
from shmalloc.compiler.runtime import DIVISION, SHIFT, STEP

Fault = Callable[[int], None]
PLAIN: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.BitXor: "xor",
}
SHIFTS: dict[type[ast.operator], str] = {ast.LShift: "shl", ast.RShift: "ashr"}
COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Lt: "slt",
    ast.LtE: "sle",
    ast.Gt: "sgt",
    ast.GtE: "sge",
}
__all__ = ["COMPARISONS", "STEP", "binary", "bounds", "has_next", "in_range", "is_constant"]


def is_constant(value: str) -> bool:
    return not value.startswith("%")


def binary(code: Code, fault: Fault, operator: ast.operator, left: str, right: str) -> str:
    """``left operator right``."""
    kind = type(operator)
    if kind in PLAIN:
        return code.op(f"{PLAIN[kind]} i64 {left}, {right}")
    if kind in SHIFTS:
        if not is_constant(right):
            _require(code, fault, SHIFT, f"icmp ugt i64 {right}, 63")
        elif not 0 <= int(right) <= 63:  # a truth value that is constant stays in range
            fault(SHIFT)
            code.label(code.fresh("after"))
        return code.op(f"{SHIFTS[kind]} i64 {left}, {right}")
    floor = kind is ast.FloorDiv
    if is_constant(right):
        return _by_constant(code, fault, floor, left, int(right))
    _require(code, fault, DIVISION, f"icmp eq i64 {right}, 0")
    return _divide(code, floor, left, right)


def _require(code: Code, fault: Fault, what: int, broken: str) -> None:
    bad, good = code.fresh("bad"), code.fresh("good")
    code.branch(code.op(broken), bad, good, RARELY)
    code.label(bad)
    fault(what)
    code.label(good)


def _by_constant(code: Code, fault: Fault, floor: bool, left: str, divisor: int) -> str:
    if divisor == 0:
        fault(DIVISION)
        code.label(code.fresh("after"))
        return "0"
    if divisor > 0 and divisor & (divisor - 1) == 0:  # shifts and masks are floor already
        bits = divisor.bit_length() - 1
        return code.op(f"ashr i64 {left}, {bits}" if floor else f"and i64 {left}, {divisor - 1}")
    if divisor == -1:
        return code.op(f"sub i64 0, {left}") if floor else "0"
    return _floored(code, floor, left, str(divisor))


def _divide(code: Code, floor: bool, left: str, right: str) -> str:
    """By a variable that is not 0: by 1 in place of -1, whose result is known."""
    special = code.op(f"icmp eq i64 {right}, -1")
    divisor = code.op(f"select i1 {special}, i64 1, i64 {right}")
    usual = _floored(code, floor, left, divisor)
    if not floor:
        return code.op(f"select i1 {special}, i64 0, i64 {usual}")
    negated = code.op(f"sub i64 0, {left}")
    return code.op(f"select i1 {special}, i64 {negated}, i64 {usual}")


def _floored(code: Code, floor: bool, left: str, right: str) -> str:
    rest = code.op(f"srem i64 {left}, {right}")
    inexact = code.op(f"icmp ne i64 {rest}, 0")
    signs = code.op(f"xor i64 {rest}, {right}")
    apart = code.op(f"icmp slt i64 {signs}, 0")
    below = code.op(f"and i1 {inexact}, {apart}")
    if floor:
        quotient = code.op(f"sdiv i64 {left}, {right}")
        return code.op(f"sub i64 {quotient}, {code.wide(below)}")
    more = code.op(f"select i1 {below}, i64 {right}, i64 0")
    return code.op(f"add i64 {rest}, {more}")


# --- ranges --------------------------------------------------------------------------------------
def bounds(given: list[str]) -> tuple[str, str, str]:
    """Start, stop and step of a range from its one, two or three arguments."""
    if len(given) == 1:
        return "0", given[0], "1"
    return given[0], given[1], given[2] if len(given) == 3 else "1"


def in_range(code: Code, value: str, stop: str, step: str) -> str:
    """Whether a range that begins at ``value`` has a first element."""
    if is_constant(step):
        return code.op(f"icmp {'slt' if int(step) > 0 else 'sgt'} i64 {value}, {stop}")
    rises = code.op(f"icmp sgt i64 {step}, 0")
    up = code.op(f"icmp slt i64 {value}, {stop}")
    down = code.op(f"icmp sgt i64 {value}, {stop}")
    return code.op(f"select i1 {rises}, i1 {up}, i1 {down}")


def has_next(code: Code, now: str, stop: str, step: str) -> str:
    """Whether there is an element after ``now``, which is one.

    Asked of the distance to ``stop``, not of ``now + step``, which may wrap.
    """
    if step in ("1", "-1"):
        following = code.op(f"add i64 {now}, {step}")
        return code.op(f"icmp {'slt' if step == '1' else 'sgt'} i64 {following}, {stop}")
    if is_constant(step):
        search = _farther if int(step) > 0 else _farther_down
        return search(code, now, stop, step)
    rises = code.op(f"icmp sgt i64 {step}, 0")
    up, down = _farther(code, now, stop, step), _farther_down(code, now, stop, step)
    return code.op(f"select i1 {rises}, i1 {up}, i1 {down}")


def _farther(code: Code, now: str, stop: str, step: str) -> str:
    distance = code.op(f"sub i64 {stop}, {now}")
    return code.op(f"icmp ugt i64 {distance}, {step}")


def _farther_down(code: Code, now: str, stop: str, step: str) -> str:
    distance = code.op(f"sub i64 {now}, {stop}")
    size = str(-int(step)) if is_constant(step) else code.op(f"sub i64 0, {step}")
    return code.op(f"icmp ugt i64 {distance}, {size}")
