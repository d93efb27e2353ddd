"""Random numbers for kernels: a generator whose state is one word of memory.

The numbers are the same compiled and in plain Python, because no intermediate exceeds 63 bits:
Python would grow such a number, int64 would wrap.

The generator is a xorshift on 62 bits (Marsaglia 2003) with shifts chosen for that width: the step
matrix has order 2**62 - 1, so every state except zero is visited (tests/test_seeds.py proves it).
Its bits are linear, so the high half of the output is low * odd + high modulo 2**31; with the low
half that is a bijection of the state, hence uniform. It is for workloads and faults, not for
secrets.
"""

from __future__ import annotations

from shmalloc.dialect import kernel
from shmalloc.units import Memory, WordIndex

STATE_MASK = (1 << 62) - 1
SHIFT_A = 7
SHIFT_B = 13
SHIFT_C = 26
KEEP_A = STATE_MASK >> SHIFT_A
KEEP_C = STATE_MASK >> SHIFT_C
LOW_31 = (1 << 31) - 1
ODD_31 = 1812433253  # Knuth, TAOCP 2, 3.3.4 table 1 (Borosh and Niederreiter)


@kernel
def next_random(mem: Memory, at: WordIndex) -> int:
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
def below(mem: Memory, bits: int, limit: int) -> int:
    """``bits`` of ``next_random`` as a number from 0 to ``limit - 1``; ``limit`` below 2**31.

    Uses the high half, as a multiply and a shift: a modulo would favour small numbers.
    """
    return ((bits >> 31) * limit) >> 31
