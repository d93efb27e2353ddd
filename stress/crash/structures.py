"""The cases of the structures without pages: their programs, and what must hold after a death.

Their supervisor marks the dead and wakes the sleepers again and again. Natively no supervisor does
that: a sleeper looks again after 50 ms, and finds that a life is over. What the check
of a program requires holds after a death as well, but for what docs/structures.md says is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shmalloc.dialect import Kernel, kernel
from shmalloc.structures.kernels.frames import F_RETURNED
from shmalloc.structures.kernels.ring import Q_READABLE, Q_WRITABLE
from shmalloc.structures.kernels.robust import RL_STATUS, UNUSABLE, robust_holder
from shmalloc.units import Claim, Memory
from shmalloc.words import load
from stress.crash.case import CrashCase
from stress.machine.program import Program
from stress.programs import structure_dicts, structure_locks, structure_pools, structure_queues
from stress.programs.structure_dict_actions import accounted
from stress.programs.structure_world import BODY, DIED, STUCK, bury, keep_awake


@kernel
def end_lives(mem: Memory, claim: Claim) -> int:
    """The supervisor of a lock or an atomic value."""
    bury(mem, claim)
    keep_awake(mem, claim, BODY, BODY)
    return 0


@kernel
def lock_survives(mem: Memory) -> int:
    """No living CPU holds the lock; whatever a death left, its next owner will be told of."""
    holder = robust_holder(mem[BODY])
    if holder != 0:
        return 0 if load(mem, DIED + (holder & 0xFF) - 1) != 0 else STUCK
    return structure_locks.lock_is_whole(mem)


@kernel
def usable_or_told(mem: Memory) -> int:
    """As ``lock_survives``; of a lock that became unusable nothing more is said."""
    if mem[BODY + RL_STATUS] == UNUSABLE:
        return 0
    return lock_survives(mem)


@kernel
def twins_survive(mem: Memory) -> int:
    return structure_locks.still_twins(mem)


@kernel
def nothing_to_keep(mem: Memory) -> int:
    """One access is one change: it was made or not."""
    return 0


@kernel
def end_queue_lives(mem: Memory, claim: Claim) -> int:
    """The supervisor of a queue."""
    bury(mem, claim)
    keep_awake(mem, claim, BODY + Q_READABLE, BODY + Q_WRITABLE)
    return 0


@kernel
def end_pool_lives(mem: Memory, claim: Claim) -> int:
    """The supervisor of a pool."""
    bury(mem, claim)
    keep_awake(mem, claim, BODY + F_RETURNED, BODY + F_RETURNED)
    return 0


@kernel
def end_dict_lives(mem: Memory, claim: Claim) -> int:
    """The supervisor of a dict, on which no CPU sleeps."""
    bury(mem, claim)
    return 0


Survival = tuple[Kernel, Kernel]  # the supervisor, the check
SURVIVALS: Mapping[str, Survival] = {
    "structure-lock-2": (end_lives, lock_survives),
    "structure-lock-3": (end_lives, lock_survives),
    "structure-lock-twice-2": (end_lives, lock_survives),
    "structure-lock-try-2": (end_lives, lock_survives),
    "structure-lock-inherit-2": (end_lives, lock_survives),
    "structure-lock-keep-2": (end_lives, lock_survives),
    "structure-lock-unusable-2": (end_lives, usable_or_told),
    "structure-lock-close-2": (end_lives, lock_survives),
    "structure-atomic-add-2": (end_lives, nothing_to_keep),
    "structure-atomic-exchange-3": (end_lives, nothing_to_keep),
    "structure-atomic-pair-3": (end_lives, twins_survive),
    **dict.fromkeys(structure_pools.PROGRAMS, (end_pool_lives, structure_pools.all_come_back)),
    **dict.fromkeys(structure_queues.PROGRAMS, (end_queue_lives, structure_queues.nothing_is_lost)),
    **{
        name: (end_dict_lives, structure_dicts.CHECKS.get(name, accounted))
        for name in structure_dicts.PROGRAMS
    },
}


def structure_case(name: str, build: Callable[[], Program]) -> CrashCase:
    """The case of a program of structure_world.py."""
    recover, check = SURVIVALS[name]
    return CrashCase(build(), recover, DIED, check)
