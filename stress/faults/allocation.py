"""Allocation faults from the Python side: which allocations fail, and how many did.

The words belong to a CPU slot (shmalloc/kernels/fault_injection.py); write them only while no
kernel runs on it. Faults stay armed for the next process when the slot's process dies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shmalloc import constants as c
from shmalloc.memory import Ram

KINDS = {"page": c.FAULT_PAGE, "object": c.FAULT_OBJECT}
ALL_KINDS = c.FAULT_PAGE | c.FAULT_OBJECT
CHANCE_ONE = 1 << 31  # the compared half of the random number has 31 bits


@dataclass(frozen=True)
class AllocationFaults:
    """Which allocations fail: the ``nth`` from now, each ``every``-th, each with a ``chance``."""

    nth: int = 0
    every: int = 0
    chance: float = 0.0
    kinds: int = ALL_KINDS

    def arm(self, ram: Ram, slot: int, seed: int = 1) -> None:
        """Write the faults into the CPU slot at word ``slot``; ``seed`` is not 0."""
        ram[slot + c.C_FAULT_LEFT] = self.nth or self.every
        ram[slot + c.C_FAULT_EVERY] = self.every
        ram[slot + c.C_FAULT_CHANCE] = math.ceil(self.chance * CHANCE_ONE)
        ram[slot + c.C_FAULT_RANDOM] = seed
        ram[slot + c.C_FAULT_COUNT] = 0
        ram.store(slot + c.C_FAULTS, self.kinds)


def disarm(ram: Ram, slot: int) -> int:
    """Disarm the faults of the slot; returns how many occurred since they were armed."""
    ram.store(slot + c.C_FAULTS, 0)
    return ram[slot + c.C_FAULT_COUNT]
