"""The barn: where the CPUs of a node exchange full and empty sheaves.

::

    [ lock | full -> sheaf -> sheaf, count | empty -> sheaf, count ]     linked by SF_NEXT

"Full" means: with objects. An exchange gives one sheaf and takes one, so a barn never overflows,
and the sheaf that comes out belongs to the caller alone. The counts may be read without the lock;
everything else, the sizes of the sheaves inside too, is plain data under it.
"""

from shmalloc.constants import EV_BARN_GET, EV_BARN_PUT
from shmalloc.constants_slab import (
    KN_BARN_EMPTY, KN_BARN_FULL, KN_BARN_LOCK, KN_NR_BARN_EMPTY, KN_NR_BARN_FULL, SF_NEXT, SF_SIZE,
)  # fmt: skip
from shmalloc.dialect import kernel, unit
from shmalloc.kernel.lock import lock, unlock
from shmalloc.kernel.notes import event
from shmalloc.kernel.objects import add
from shmalloc.words import load_relaxed


@kernel
def barn_push(mem, head, count, sheaf):
    mem[sheaf + SF_NEXT] = mem[head]
    mem[head] = sheaf
    add(mem, count, 1)


@kernel
def barn_pop(mem, head, count):
    """A sheaf off a barn list, or 0; barn lock held."""
    sheaf = mem[head]
    if sheaf != 0:
        mem[head] = mem[sheaf + SF_NEXT]
        add(mem, count, -1)
    return sheaf


@kernel
def trade(mem, cpu, n, wanted, given, mine, which):
    """Exchange ``mine``, which goes on list ``given``, for a sheaf off list ``wanted``, or 0.

    A list is named by the word of its head in the node part; its count is the next word.
    """
    # Read without the lock: to miss a sheaf that arrives this moment costs a refill, no more.
    if load_relaxed(mem, n + wanted + 1) == 0:
        return 0
    lock(mem, n + KN_BARN_LOCK, cpu)
    sheaf = barn_pop(mem, n + wanted, n + wanted + 1)
    if sheaf != 0:
        barn_push(mem, n + given, n + given + 1, mine)
    unlock(mem, n + KN_BARN_LOCK)
    if sheaf != 0:
        event(mem, cpu, which)
    return sheaf


@kernel
def barn_full_for(mem, cpu, n, empty):
    """Exchange an empty sheaf for one with objects; 0 where the barn has none."""
    return trade(mem, cpu, n, KN_BARN_FULL, KN_BARN_EMPTY, empty, EV_BARN_GET)


@kernel
def barn_empty_for(mem, cpu, n, full):
    """Exchange a full sheaf for an empty one; 0 where the barn has none."""
    return trade(mem, cpu, n, KN_BARN_EMPTY, KN_BARN_FULL, full, EV_BARN_PUT)


@unit
def barn_put(mem, cpu, n, sheaf):
    """Give a sheaf in the caller's hands to the barn."""
    lock(mem, n + KN_BARN_LOCK, cpu)
    if mem[sheaf + SF_SIZE] > 0:
        barn_push(mem, n + KN_BARN_FULL, n + KN_NR_BARN_FULL, sheaf)
    else:
        barn_push(mem, n + KN_BARN_EMPTY, n + KN_NR_BARN_EMPTY, sheaf)
    unlock(mem, n + KN_BARN_LOCK)
