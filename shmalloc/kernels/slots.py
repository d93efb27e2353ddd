"""CPU slots: which process runs as which virtual CPU.

::

    C_STATE | C_EPOCH | [C_PID C_START] | ... | C_USERS

The pair [pid, start time] is the slot's owner, (0, 0): none. It changes by one two-word swap, which
is the linearization point of every claim: with two separate words a claimer that saw a dead owner
could evict a live one that came in between and has the same pid. C_USERS counts the processes that
use the slot; those that only share it are not named. C_EPOCH counts the claims, so that a lock
taken in an earlier life of the slot can be recognized; sharing does not change it.

What a life of a slot holds is labelled with it: pages in their descriptors (``label``), objects in
their owner words and locks in their words (lock.py). C_DEAD names the last life that ended in
death, not just that there was one: a process that saw another dead may report it late, when the
slot was already recovered and claimed again. While the epoch is that life's, the slot is not
recovered (recover.py) and may not be claimed; recovery ends with the next epoch. A shared slot
cannot be recovered, since its labels do not tell one process from the other.

Kernels do not decide liveness; cpus.py does, and passes the pair that it saw.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.reporting import cpu_at
from shmalloc.units import Cpu, Int, Label, Memory, Owner, WordIndex
from shmalloc.words import cas, cas2, fetch_add, fixed, load, store


@kernel
def label(mem: Memory, cpu: Cpu) -> Label:
    """The mark of a page that this life of the slot holds: 12 bits of cpu, 21 of the epoch.

    The epoch cannot change while a kernel of the slot runs.
    """
    epoch = fixed(mem, cpu_at(mem, cpu) + c.C_EPOCH) & c.LABEL_EPOCH_MASK
    return epoch << c.LABEL_EPOCH_SHIFT | cpu


@kernel
def label_of_life(life: Owner) -> Label:
    """The label of a life that is named by its owner word (lock.py)."""
    epoch = (life >> c.LIFE_EPOCH_SHIFT) & c.LABEL_EPOCH_MASK
    return epoch << c.LABEL_EPOCH_SHIFT | ((life & c.LOCK_HOLDER_MASK) - 1)


@kernel
def label_cpu(detail: Int) -> Cpu:
    """The slot of the label of a life."""
    return detail & c.CLAIM_MASK


@kernel
def list_label(cpu: Cpu) -> Label:
    """The mark of a block on the per-CPU lists of ``cpu``.

    Written and replaced only under that P_LOCK: a block bears it if and only if it is on a list,
    or on its way to one or from one under the lock (pcp.py).
    """
    return c.LABEL_ON_LIST | cpu


@kernel
def is_dead(mem: Memory, cpu: Cpu) -> bool:
    """Whether the slot's current life ended in death and is not recovered yet."""
    slot = cpu_at(mem, cpu)
    return load(mem, slot + c.C_DEAD) == load(mem, slot + c.C_EPOCH) + 1


@kernel
def mark_dead(mem: Memory, cpu: Cpu, victim: Cpu, epoch: int) -> int:
    """Mark the process of life ``epoch`` of slot ``victim`` dead. A late mark means nothing.

    Mark all dead slots, then recover (recover.py). Returns 1, or 0 if that life was over already.
    """
    at = cpu_at(mem, victim) + c.C_DEAD
    old = load(mem, at)
    while old < epoch + 1:
        if cas(mem, at, old, epoch + 1):
            break
        old = load(mem, at)
    return int(is_dead(mem, victim))


@kernel
def publish(mem: Memory, at: WordIndex, value: int) -> int:
    """Write one word that makes everything written before it visible (the magic of a segment)."""
    store(mem, at, value)
    return 0


@kernel
def claim_slot(mem: Memory, cpu: Cpu, pid: int, start: int) -> Cpu:
    """Take a slot. E_AGAIN: it has an owner, or is being recovered; E_STATE: unplugged."""
    slot = cpu_at(mem, cpu)
    if load(mem, slot + c.C_STATE) == c.CPU_OFFLINE:
        return c.E_STATE
    if is_dead(mem, cpu):
        return c.E_AGAIN  # it is being recovered
    if not cas2(mem, slot + c.C_PID, 0, 0, pid, start):
        return c.E_AGAIN
    fetch_add(mem, slot + c.C_USERS, 1)
    fetch_add(mem, slot + c.C_EPOCH, 1)
    cas(mem, slot + c.C_STATE, c.CPU_EMPTY, c.CPU_ONLINE)  # fails if the slot was used before
    return cpu


@kernel
def share_slot(mem: Memory, cpu: Cpu) -> Cpu:
    """Use a slot that another process owns."""
    slot = cpu_at(mem, cpu)
    if load(mem, slot + c.C_STATE) == c.CPU_OFFLINE:
        return c.E_STATE
    fetch_add(mem, slot + c.C_USERS, 1)
    return cpu


@kernel
def release_slot(mem: Memory, cpu: Cpu, pid: int, start: int) -> int:
    """Stop using the slot; returns how many still do. Its lists stay for the next user."""
    slot = cpu_at(mem, cpu)
    # First the count: with the owner gone and the count left, the slot would never be found dead.
    left = fetch_add(mem, slot + c.C_USERS, -1) - 1
    cas2(mem, slot + c.C_PID, pid, start, 0, 0)  # fails if we only shared it
    return left
