"""Intent words: what a claim is doing with a chain of free objects, for recovery.

::

    C_INTENT         0: nothing | TAKE | TAKEN | PUT
    C_INTENT_CACHE   word index of the cache descriptor
    C_INTENT_CHAIN   the chain: slab, index + 1 of its first object, length   (objects.py)
    C_INTENT_FROM    where the chain goes (TAKEN) or comes from (PUT): a sheaf; the record of a dead
                     claim, whose chain it was; 0: one object, whose owner word tells
    C_INTENT_SIZE    TAKEN: how many entries the sheaf had before

A free object is on a free list, in a sheaf, or part of the chain that a claim's intent names; a
live one has an owner word. There are no other places, so nothing is lost when a process dies. A few
instructions lie between a two-word swap of a slab and the note that it was made. If the process
dies there, the recovering process finds out whether it was made:

- TAKE, written before the swap that takes the chain: the claim holds the node lock. If not made,
  the first object is still on the free list, since no other CPU takes without that lock.
- PUT, written before the swap that gives it back, often without any lock. Before it, the first
  object's owner word is marked GIVEN | life. A CPU that takes objects off a free list clears their
  marks under the node lock before its own swap. So, under that lock: the swap was not made if the
  mark is still there and the object is not on the free list.

One process per claim: two that shared one would overwrite each other's words. The words are written
with release, in this order, because a kill may come between any two of them; only recover.py reads
them.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import hot, kernel
from shmalloc.kernels.reporting import claim_at
from shmalloc.units import CacheWords, Chain, Claim, Int, Memory, SheafWords
from shmalloc.words import store, store_relaxed


@kernel
def announce(
    mem: Memory, claim: Claim, kind: int, cache: CacheWords, chain: Chain, origin: Int
) -> None:
    """Write an intent; it takes effect with its kind, the last word."""
    slot = claim_at(mem, claim)
    store(mem, slot + c.C_INTENT, cs.INTENT_NONE)  # never the old kind with the new words
    store_relaxed(mem, slot + c.C_INTENT_CACHE, cache)
    store_relaxed(mem, slot + c.C_INTENT_CHAIN, chain)
    store_relaxed(mem, slot + c.C_INTENT_FROM, origin)
    store(mem, slot + c.C_INTENT, kind)


@kernel
def intend_take(mem: Memory, claim: Claim, cache: CacheWords, chain: Chain) -> None:
    """About to take ``chain`` off the free list of its slab; node lock held."""
    announce(mem, claim, cs.INTENT_TAKE, cache, chain, 0)


@hot
def chain_is_ours(mem: Memory, claim: Claim) -> None:
    """Note that the swap was made; called before the node lock is released."""
    store(mem, claim_at(mem, claim) + c.C_INTENT, cs.INTENT_TAKEN)


@kernel
def chain_goes_to(mem: Memory, claim: Claim, sheaf: SheafWords, size: int) -> None:
    """Note that the chain's objects go behind the first ``size`` entries of a sheaf."""
    store_relaxed(mem, claim_at(mem, claim) + c.C_INTENT_SIZE, size)
    store(mem, claim_at(mem, claim) + c.C_INTENT_FROM, sheaf)


@kernel
def intend_put(mem: Memory, claim: Claim, cache: CacheWords, chain: Chain, origin: Int) -> None:
    """About to give ``chain``, which comes from ``origin``, back to its slab."""
    announce(mem, claim, cs.INTENT_PUT, cache, chain, origin)


@hot
def intent_done(mem: Memory, claim: Claim) -> None:
    """Clear the intent: all objects of the chain are where they belong."""
    store(mem, claim_at(mem, claim) + c.C_INTENT, cs.INTENT_NONE)
