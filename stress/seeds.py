"""All randomness of a run, derived by name from one seed.

Python derives a start value for every purpose with ``derive(seed, name)``: a new worker or workload
changes no other's numbers. Kernels draw from one word of memory with ``next_random``
(shmalloc/kernels/random.py), the same numbers compiled and in plain Python.
"""

from __future__ import annotations

import random

from shmalloc.kernels.random import STATE_MASK, below, next_random

MASK_64 = (1 << 64) - 1

__all__ = ["STATE_MASK", "below", "derive", "fresh_seed", "next_random", "splitmix64"]


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
    """A new seed, short enough to type from a log."""
    return random.SystemRandom().randrange(1, 1 << 32)
