"""Whether a life has ended: what a structure asks about the process that a word of it names.

A life is named by its owner word (shmalloc/kernels/lock.py). It is over when the process was marked
dead, and for ever after that: the recovery ends with another epoch. A kernel finds that in two
reads and may take over from the dead at once; it need not wait for the recovery. Kernels do not
find out that a process died: waiters do, and mark it (recovery.py).

A process that closes its arena ends its life as well, so it first gives back what it has
(structures/operations.py).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.reporting import cpu_at
from shmalloc.units import Memory, Owner
from shmalloc.words import load


@kernel
def life_is_over(mem: Memory, life: Owner) -> bool:
    """Whether ``life``, an owner word without flags and not 0, has ended in death."""
    slot = cpu_at(mem, (life & c.LOCK_HOLDER_MASK) - 1)
    epoch = load(mem, slot + c.C_EPOCH)
    if epoch != life >> c.LIFE_EPOCH_SHIFT:
        return True
    dead: bool = load(mem, slot + c.C_DEAD) == epoch + 1
    return dead
