"""``small_program``: a program that is data, so that thousands of them need one compilation.

One kernel reads the operations of its CPU from words that never change and performs them::

    0 .. 7     the words that the operations work on
    8 .. 15    FIRST + cpu: the row of the CPU's first operation; the next word ends them
    16 ..      CODE: a row for each operation, (number, word, four values)

An operation is a tuple of its name, its word and its values: ``("store", 0, 1)``. A value is a
number, or ``"r"``: what the CPU read last; ``"r+1"`` is one more. ``ACCESSES`` are the operations
that always end; ``BLOCKING`` those that may wait for another CPU, so that programs may deadlock.

The result of a CPU is what it read, two decimal digits for each value (a pair has two, a swap that
was made is 1), the first one leftmost; 0 if it read nothing. Results and final words are observed.

Not here are ``fixed``, ``mark``, ``notice`` and ``light_fence``, which are no steps of a schedule,
``heavy_fence``, which belongs to a ``light_fence``, and ``now``, whose value depends on more than
the order of conflicting accesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shmalloc.dialect import kernel
from shmalloc.errors import MisuseError
from shmalloc.units import Claim, Memory
from shmalloc.words import (
    cas,
    cas2,
    exchange,
    fence,
    fetch_add,
    fetch_and,
    fetch_or,
    fixed,
    give_way,
    load,
    load2,
    load_relaxed,
    relax,
    store,
    store_relaxed,
    wait,
    wake,
)
from stress.machine.program import Program
from stress.quantities import nearest

MOST_WORDS = 8
MOST_CPUS = 7
FIRST = 8
CODE = 16
ROW = 6
LARGEST = (1 << 62) - 1
NOTHING = -1  # what an operation returns that reads nothing
LAST = {"r": -1, "r+1": -2}

# What follows the name of an operation: a word, an even word, a value. Simplest first.
ACCESSES: dict[str, tuple[str, ...]] = {
    "load": ("word",),
    "store": ("word", "value"),
    "read": ("word",),
    "write": ("word", "value"),
    "load_relaxed": ("word",),
    "store_relaxed": ("word", "value"),
    "fence": (),
    "exchange": ("word", "value"),
    "fetch_add": ("word", "value"),
    "fetch_or": ("word", "value"),
    "fetch_and": ("word", "value"),
    "cas": ("word", "value", "value"),
    "load2": ("pair",),
    "cas2": ("pair", "value", "value", "value", "value"),
}
BLOCKING: dict[str, tuple[str, ...]] = {
    "spin": ("word", "value"),  # until the word is at least the value
    "wait": ("word", "value"),
    "wake": ("word", "value"),
    "relax": (),
    "give_way": (),
}
OPERATIONS = {**ACCESSES, **BLOCKING}
NUMBERS = {name: number for number, name in enumerate(OPERATIONS)}

Operation = tuple[Any, ...]


@dataclass(frozen=True, eq=False, repr=False)
class SmallProgram(Program):
    """A program of ``small_program``; its ``repr`` is the call that makes it."""

    text: str = ""

    def __repr__(self) -> str:
        return self.text


def small_program(threads: Sequence[Sequence[Operation]], init: Sequence[int]) -> SmallProgram:
    """The program that performs ``threads``, one sequence of operations for each CPU.

    ``init``: what the words hold first, at least two of them, an even number.

    Raises ``MisuseError`` for what is no operation, a word that is not there, or too many CPUs.
    """
    init = [_number("init", value) for value in init]
    if not 2 <= len(init) <= MOST_WORDS or len(init) % 2:
        raise MisuseError(f"init: {len(init)} words; use 2, 4, 6 or {MOST_WORDS}")
    if not 1 <= len(threads) <= MOST_CPUS:
        raise MisuseError(f"threads: {len(threads)} CPUs; use 1 to {MOST_CPUS}")
    rows: list[list[int]] = []
    image = list(enumerate(init))
    for cpu, operations in enumerate(threads):
        image.append((FIRST + cpu, len(rows)))
        rows += [_row(operation, len(init)) for operation in operations]
    image.append((FIRST + len(threads), len(rows)))
    code = [word for row in rows for word in row]
    image += [(CODE + offset, word) for offset, word in enumerate(code) if word]
    shown = [[tuple(operation) for operation in operations] for operations in threads]
    return SmallProgram(
        name="small",
        words=CODE + len(code),
        threads=(perform,) * len(threads),
        init=image,
        observe=[*(("r", cpu) for cpu in range(len(threads))), *range(len(init))],
        text=f"small_program({shown!r}, init={init!r})",
    )


def _row(operation: Operation, words: int) -> list[int]:
    name, *given = operation
    if name not in OPERATIONS:
        raise nearest(name, tuple(OPERATIONS), "operation")
    kinds = OPERATIONS[name]
    if len(given) != len(kinds):
        raise MisuseError(f"{operation!r}: {name} takes {', '.join(kinds) or 'nothing'}")
    row = [NUMBERS[name]]
    for kind, value in zip(kinds, given, strict=True):
        if kind == "value":
            row.append(_value(operation, value))
        elif value not in range(0, words, 2 if kind == "pair" else 1):
            raise MisuseError(f"{operation!r}: {kind} {value!r}; use 0 to {words - 1}, a pair even")
        else:
            row.append(value)
    return row + [0] * (ROW - len(row))


def _value(operation: Operation, value: Any) -> int:
    return LAST[value] if value in LAST else _number(repr(operation), value)


def _number(argument: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise MisuseError(f"{argument}: {value!r}; use 0 to 2**62 - 1 (in operations, 'r' as well)")
    return value


# --- the kernel: the numbers of operations are the places in OPERATIONS ---------------------------
@kernel
def perform(mem: Memory, claim: Claim) -> int:
    """Perform the operations of ``claim``; the values that it read, two digits each."""
    seen = 0
    last = 0
    for row in range(fixed(mem, FIRST + claim), fixed(mem, FIRST + claim + 1)):
        at = CODE + row * ROW
        what = fixed(mem, at)
        i = fixed(mem, at + 1)
        a = operand(mem, at + 2, last)
        found = NOTHING
        if what < 7:
            found = access(mem, what, i, a)
        elif what < 11:
            found = update(mem, what, i, a)
        elif what == 12:
            low, last = load2(mem, i)
            seen = (seen * 100 + low % 100) * 100 + last % 100
        elif what < 14:
            found = swap(mem, at, what, last)
        else:
            block(mem, what, i, a)
        if found != NOTHING:
            seen = seen * 100 + found % 100
            last = found
    return seen


@kernel
def operand(mem: Memory, at: int, last: int) -> int:
    """The value in the code at word ``at``: itself, or what was read last."""
    value: int = fixed(mem, at)
    return value if value >= 0 else last - value - 1


@kernel
def access(mem: Memory, what: int, i: int, a: int) -> int:
    if what == 0:
        return load(mem, i)
    if what == 1:
        store(mem, i, a)
    elif what == 2:
        return mem[i]
    elif what == 3:
        mem[i] = a
    elif what == 4:
        return load_relaxed(mem, i)
    elif what == 5:
        store_relaxed(mem, i, a)
    else:
        fence(mem)
    return NOTHING


@kernel
def update(mem: Memory, what: int, i: int, a: int) -> int:
    if what == 7:
        return exchange(mem, i, a)
    if what == 8:
        return fetch_add(mem, i, a)
    if what == 9:
        return fetch_or(mem, i, a)
    return fetch_and(mem, i, a)


@kernel
def swap(mem: Memory, at: int, what: int, last: int) -> int:
    """1 if the swap was made."""
    i = fixed(mem, at + 1)
    a = operand(mem, at + 2, last)
    b = operand(mem, at + 3, last)
    if what == 11:
        return 1 if cas(mem, i, a, b) else 0
    low = operand(mem, at + 4, last)
    high = operand(mem, at + 5, last)
    return 1 if cas2(mem, i, a, b, low, high) else 0


@kernel
def block(mem: Memory, what: int, i: int, a: int) -> None:
    if what == 14:
        while load(mem, i) < a:
            relax(mem)
    elif what == 15:
        wait(mem, i, a)
    elif what == 16:
        wake(mem, i, a)
    elif what == 17:
        relax(mem)
    else:
        give_way(mem)
