"""The code of the litmus tests: what each process does to one cell, natively and in the model.

A cell is two words, ``x`` and ``y``, zero at first: on separate lines, or (pair tests) the two
halves of one aligned pair. A shape is a kernel ``(mem, cpu, x, y)``: what process ``cpu`` does. It
returns the values that it read, two bits each, the first one lowest (``both``). Written values are
1 to 3. Only processes 0 and 1 may return something: those two results and the final ``x`` and ``y``
are the outcome.

``play`` chooses the shape by its number. That is the one source of both sides: compiled, the loop
of cells.py plays it over thousands of cells in real processes; under the explorer ``in_model``
plays it once, over one cell (catalogue.py). Loads are acquire and stores are release, which on
x86-64 are plain moves, so any reordering is the processor's.
"""

from __future__ import annotations

from shmalloc.dialect import kernel
from shmalloc.units import Cpu, Memory, WordIndex
from shmalloc.words import (
    cas2,
    exchange,
    fence,
    fetch_add,
    fixed,
    heavy_fence,
    light_fence,
    load,
    load2,
    store,
)

SB = 0
SB_FENCE = 1
SB_RMW = 2
MP = 3
LB = 4
CORR = 5
TWO_PLUS_TWO_W = 6
R = 7
S = 8
TWO_WORD = 9
TWO_WORD_TORN = 10
RMW = 11
IRIW = 12
SB_ASYMMETRIC = 13
VALUE_BITS = 2
MODEL_SHAPE = 0  # the memory of a model's program: shape, places of x and y, the cell
MODEL_X = 1
MODEL_Y = 2
MODEL_CELL = 4


@kernel
def both(mem: Memory, first: int, second: int) -> int:
    """Two values read, as one result."""
    return first | second << VALUE_BITS


@kernel
def sb(mem: Memory, cpu: Cpu, x: WordIndex, y: WordIndex) -> int:
    """Store buffering: each stores its word and reads the other's."""
    if cpu == 0:
        store(mem, x, 1)
        return load(mem, y)
    store(mem, y, 1)
    return load(mem, x)


@kernel
def sb_fence(mem: Memory, cpu: Cpu, x: WordIndex, y: WordIndex) -> int:
    if cpu == 0:
        store(mem, x, 1)
        fence(mem)
        return load(mem, y)
    store(mem, y, 1)
    fence(mem)
    return load(mem, x)


@kernel
def sb_rmw(mem: Memory, cpu: Cpu, x: WordIndex, y: WordIndex) -> int:
    """The store is an exchange: a locked instruction drains the store buffer."""
    if cpu == 0:
        exchange(mem, x, 1)
        return load(mem, y)
    exchange(mem, y, 1)
    return load(mem, x)


@kernel
def sb_asymmetric(mem: Memory, cpu: Cpu, x: WordIndex, y: WordIndex) -> int:
    """One side has no instruction between store and load; the other interrupts it."""
    if cpu == 0:
        store(mem, x, 1)
        light_fence(mem)
        return load(mem, y)
    store(mem, y, 1)
    heavy_fence(mem, x)
    return load(mem, x)


@kernel
def mp(mem: Memory, cpu: Cpu, x: WordIndex, y: WordIndex) -> int:
    """Message passing: data, then flag; flag, then data."""
    if cpu == 0:
        store(mem, x, 1)
        store(mem, y, 1)
        return 0
    flag = load(mem, y)
    return both(mem, flag, load(mem, x))


@kernel
def lb(mem: Memory, cpu: Cpu, x: WordIndex, y: WordIndex) -> int:
    """Load buffering: each reads the other's word and then stores its own."""
    if cpu == 0:
        seen = load(mem, x)
        store(mem, y, 1)
        return seen
    seen = load(mem, y)
    store(mem, x, 1)
    return seen


@kernel
def corr(mem: Memory, cpu: Cpu, x: WordIndex, y: WordIndex) -> int:
    """Coherence: two reads of one word by one process."""
    if cpu == 0:
        store(mem, x, 1)
        return 0
    first = load(mem, x)
    return both(mem, first, load(mem, x))


@kernel
def two_plus_two_w(mem: Memory, cpu: Cpu, x: WordIndex, y: WordIndex) -> int:
    """Both store to both words, in opposite orders."""
    if cpu == 0:
        store(mem, x, 1)
        store(mem, y, 2)
    else:
        store(mem, y, 1)
        store(mem, x, 2)
    return 0


@kernel
def r(mem: Memory, cpu: Cpu, x: WordIndex, y: WordIndex) -> int:
    """A store, against a store followed by a read."""
    if cpu == 0:
        store(mem, x, 1)
        store(mem, y, 1)
        return 0
    store(mem, y, 2)
    return load(mem, x)


@kernel
def s(mem: Memory, cpu: Cpu, x: WordIndex, y: WordIndex) -> int:
    """A read, then a store to what the other stored first."""
    if cpu == 0:
        store(mem, x, 2)
        store(mem, y, 1)
        return 0
    seen = load(mem, y)
    store(mem, x, 1)
    return seen


@kernel
def swap_pair(mem: Memory, x: WordIndex) -> int:
    """Both halves of the pair at ``x``, from 0 to 1 to 2, each step by one two-word swap."""
    cas2(mem, x, 0, 0, 1, 1)
    cas2(mem, x, 1, 1, 2, 2)
    return 0


@kernel
def two_word(mem: Memory, cpu: Cpu, x: WordIndex, y: WordIndex) -> int:
    """A pair that is swapped, read by load2."""
    if cpu == 0:
        return swap_pair(mem, x)
    first, second = load2(mem, x)
    return both(mem, first, second)


@kernel
def two_word_torn(mem: Memory, cpu: Cpu, x: WordIndex, y: WordIndex) -> int:
    """The same pair, read half by half."""
    if cpu == 0:
        return swap_pair(mem, x)
    first = load(mem, x)
    return both(mem, first, load(mem, y))


@kernel
def rmw(mem: Memory, cpu: Cpu, x: WordIndex, y: WordIndex) -> int:
    """Both add one: neither may be lost."""
    return fetch_add(mem, x, 1)


@kernel
def iriw(mem: Memory, cpu: Cpu, x: WordIndex, y: WordIndex) -> int:
    """Independent reads of independent writes: do two readers agree on the order of two stores?"""
    if cpu == 0:
        seen = load(mem, x)
        return both(mem, seen, load(mem, y))
    if cpu == 1:
        seen = load(mem, y)
        return both(mem, seen, load(mem, x))
    if cpu == 2:
        store(mem, x, 1)
        return 0
    store(mem, y, 1)
    return 0


@kernel
def play(mem: Memory, shape: int, cpu: Cpu, x: WordIndex, y: WordIndex) -> int:
    """What process ``cpu`` does to one cell in the test of that number, and what it read."""
    if shape == SB:
        return sb(mem, cpu, x, y)
    if shape == SB_FENCE:
        return sb_fence(mem, cpu, x, y)
    if shape == SB_RMW:
        return sb_rmw(mem, cpu, x, y)
    if shape == MP:
        return mp(mem, cpu, x, y)
    if shape == LB:
        return lb(mem, cpu, x, y)
    if shape == CORR:
        return corr(mem, cpu, x, y)
    if shape == TWO_PLUS_TWO_W:
        return two_plus_two_w(mem, cpu, x, y)
    if shape == R:
        return r(mem, cpu, x, y)
    if shape == S:
        return s(mem, cpu, x, y)
    if shape == TWO_WORD:
        return two_word(mem, cpu, x, y)
    if shape == TWO_WORD_TORN:
        return two_word_torn(mem, cpu, x, y)
    if shape == RMW:
        return rmw(mem, cpu, x, y)
    if shape == IRIW:
        return iriw(mem, cpu, x, y)
    return sb_asymmetric(mem, cpu, x, y)


@kernel
def in_model(mem: Memory, cpu: Cpu) -> int:
    """One cell under the explorer; memory says which test it is and where its words are."""
    shape = fixed(mem, MODEL_SHAPE)
    return play(mem, shape, cpu, fixed(mem, MODEL_X), fixed(mem, MODEL_Y))
