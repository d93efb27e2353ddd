"""The barn: where the CPUs of a node exchange full and empty sheaves.

::

    [ lock | full -> sheaf -> sheaf, count | empty -> sheaf, count ]     linked by SF_NEXT

"Full" means: not empty. An exchange gives one sheaf and takes one, so a barn never overflows, and
the sheaf that comes out belongs to the caller alone. The counts may be read without the lock;
everything else, including the sizes of the sheaves inside, is plain data under it.

Every sheaf says where it is (SF_WHERE), and that word is the authority: it changes under the lock
of the place, before the lists and pointers that lead to the sheaf. Recovery rebuilds those from
these words (recover_objects.py). A sheaf that a claim holds names the claim.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.lock import lock, owner_word, unlock
from shmalloc.kernels.objects import add
from shmalloc.kernels.reporting import event
from shmalloc.units import Claim, Int, Memory, NodePart, Owner, SheafWords
from shmalloc.words import load_relaxed, store


@kernel
def in_hand(mem: Memory, claim: Claim) -> Owner:
    """SF_WHERE of a sheaf that this life of the claim holds."""
    return cs.GIVEN | owner_word(mem, claim)


@kernel
def move_sheaf(mem: Memory, sheaf: SheafWords, where: Int) -> None:
    """Set where a sheaf is; under the lock of the place that it leaves or enters."""
    store(mem, sheaf + cs.SF_WHERE, where)


@kernel
def barn_push(mem: Memory, lists: NodePart, which: int, sheaf: SheafWords) -> None:
    """Put a sheaf on list ``which`` of node part ``lists``; barn lock held."""
    move_sheaf(mem, sheaf, lists)
    mem[sheaf + cs.SF_NEXT] = mem[lists + which]
    mem[lists + which] = sheaf
    add(mem, lists + which + 1, 1)


@kernel
def barn_pop(mem: Memory, lists: NodePart, which: int, where: Int) -> SheafWords:
    """A sheaf off a barn list, moved to ``where``, or 0; barn lock held."""
    sheaf = mem[lists + which]
    if sheaf != 0:
        move_sheaf(mem, sheaf, where)
        mem[lists + which] = mem[sheaf + cs.SF_NEXT]
        add(mem, lists + which + 1, -1)
    return sheaf


@kernel
def trade(mem: Memory, claim: Claim, lists: NodePart, wanted: int, mine: SheafWords) -> SheafWords:
    """Exchange ``mine`` for a sheaf off list ``wanted``, or 0. ``mine`` goes on the other list.

    A list is named by the word of its head in the node part; its count is the next word. ``mine``
    leaves first: a place never has more sheaves than it can hold.
    """
    # Read without the lock: missing a sheaf that arrives just now costs only a refill.
    if load_relaxed(mem, lists + wanted + 1) == 0:
        return 0
    given = cs.KN_BARN_EMPTY if wanted == cs.KN_BARN_FULL else cs.KN_BARN_FULL
    place = mem[mine + cs.SF_WHERE]
    lock(mem, lists + cs.KN_BARN_LOCK, claim)
    found = mem[lists + wanted]
    if found != 0:
        barn_push(mem, lists, given, mine)
        barn_pop(mem, lists, wanted, place)
    unlock(mem, lists + cs.KN_BARN_LOCK)
    if found != 0:
        event(mem, claim, c.EV_BARN_GET if wanted == cs.KN_BARN_FULL else c.EV_BARN_PUT)
    return found


@kernel
def barn_full_for(mem: Memory, claim: Claim, lists: NodePart, empty: SheafWords) -> SheafWords:
    """Exchange an empty sheaf for one with objects; 0 if the barn has none."""
    return trade(mem, claim, lists, cs.KN_BARN_FULL, empty)


@kernel
def barn_empty_for(mem: Memory, claim: Claim, lists: NodePart, full: SheafWords) -> SheafWords:
    """Exchange a full sheaf for an empty one; 0 if the barn has none."""
    return trade(mem, claim, lists, cs.KN_BARN_EMPTY, full)


@unit
def barn_put(mem: Memory, claim: Claim, lists: NodePart, sheaf: SheafWords) -> None:
    """Give a sheaf that the caller holds to the barn."""
    lock(mem, lists + cs.KN_BARN_LOCK, claim)
    if mem[sheaf + cs.SF_SIZE] > 0:
        barn_push(mem, lists, cs.KN_BARN_FULL, sheaf)
    else:
        barn_push(mem, lists, cs.KN_BARN_EMPTY, sheaf)
    unlock(mem, lists + cs.KN_BARN_LOCK)
