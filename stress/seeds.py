"""All randomness of a run, derived by name from one seed.

Two halves. Python derives a start value for every purpose with ``derive(seed, name)``: adding a
worker or a workload changes nobody else's numbers. Kernels draw from one word of memory with
``next_random``; it gives the same numbers compiled and in plain Python, because no intermediate
leaves 63 bits: where Python would grow a number, int64 would wrap.

The generator is a xorshift on 62 bits (Marsaglia 2003) with shifts found for that width: the step
matrix has order 2**62 - 1, so every state but zero is visited (tests/test_seeds.py proves it). Its
bits are linear, so the high half of the output is low * odd + high modulo 2**31; with the low half
that is a bijection of the state, hence uniform. It is for workloads, not for secrets.
"""

from __future__ import annotations

import random

from shmalloc.dialect import kernel

STATE_MASK = (1 << 62) - 1
SHIFT_A = 7
SHIFT_B = 13
SHIFT_C = 26
KEEP_A = STATE_MASK >> SHIFT_A
KEEP_C = STATE_MASK >> SHIFT_C
LOW_31 = (1 << 31) - 1
ODD_31 = 1812433253  # Knuth, TAOCP 2, 3.3.4 table 1 (Borosh and Niederreiter)
MASK_64 = (1 << 64) - 1


@kernel
def next_random(mem, at):
    """The next 62 random bits from the state in word ``at``, which only the caller may touch.

    The state must not be zero: zero stays zero.
    """
    x = mem[at]
    x = x ^ ((x & KEEP_A) << SHIFT_A)
    x = x ^ (x >> SHIFT_B)
    x = x ^ ((x & KEEP_C) << SHIFT_C)
    mem[at] = x
    low = x & LOW_31
    high = (low * ODD_31 + (x >> 31)) & LOW_31
    return (high << 31) | low


@kernel
def below(mem, bits, limit):
    """``bits`` of ``next_random`` as a number from 0 to ``limit - 1``; ``limit`` below 2**31.

    Uses the high half, as a multiply and a shift: a modulo would favour small numbers.
    """
    return ((bits >> 31) * limit) >> 31


def splitmix64(state: int) -> int:
    """One output of splitmix64 (Steele, Lea, Flood 2014) for ``state``."""
    z = (state + 0x9E3779B97F4A7C15) & MASK_64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK_64
    return z ^ (z >> 31)


def derive(seed: int, name: str) -> int:
    """The start value for the purpose ``name`` under ``seed``: 62 bits, never zero."""
    state = splitmix64(seed)
    for byte in name.encode():
        state = splitmix64(state ^ byte)
    return (splitmix64(state) & STATE_MASK) or 1


def fresh_seed() -> int:
    """A seed that no run had before: short enough to be typed from a log."""
    return random.SystemRandom().randrange(1, 1 << 32)
