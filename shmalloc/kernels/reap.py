"""Owners by label: free what a dead process owned, or adopt what it handed over.

A label names the owner of a page or an object: the life of the claim that allocated it (slots.py,
objects.py). A process that passes memory on names its life, and the receiver replaces that label by
its own (``adopt_pages``, ``adopt_object``). What still bears the label of the dead was not handed
over, and ``reap`` frees it; a receiver that comes later finds another label, whatever happened to
the memory, and takes nothing. Pages that the allocator itself uses (slabs, sheaves, the array
table), arrays, structures and templates have no owner.

``reap`` adopts each block and object, too, before it frees it: of a reaper and a receiver, or of
two reapers, one wins the swap of the label. A look at the label and a free are two steps, between
which a receiver may adopt what is then freed under it (docs/bugs.md 49). Who dies between adoption
and free owns it, as a receiver would, and is reaped in turn.

The walk over pages is lock-free. An object is adopted under the lock of its node, as only that
keeps its slab: the word of its owner may be a word of another process's page by then.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import detail_of, mt_of, next_word, order_of, type_of, zone_of_word
from shmalloc.kernels.cache import cache_free, slab_of_address
from shmalloc.kernels.cache_set import hold_slab
from shmalloc.kernels.descriptor import in_range, page_state, transition_owned
from shmalloc.kernels.lock import owner_word, unlock
from shmalloc.kernels.objects import (
    cache_at,
    has_owner_word,
    index_at,
    is_live,
    list_state,
    object_at,
    objects_of,
    owner_at,
)
from shmalloc.kernels.page_owner import note_adoption
from shmalloc.kernels.pages import free_pages_of
from shmalloc.kernels.reporting import record
from shmalloc.kernels.slab_lists import next_slab
from shmalloc.kernels.slots import label, label_of_life
from shmalloc.kernels.zone import descriptor_at, frame_at
from shmalloc.units import (
    CacheId,
    Claim,
    Label,
    Memory,
    ObjectAddress,
    Order,
    Owner,
    Pfn,
    Word0,
    Word1,
)
from shmalloc.words import cas, fixed, load, load2


@unit
def reap(mem: Memory, claim: Claim, victim: Claim, epoch: int) -> int:
    """Free all that life ``epoch`` of claim ``victim`` owns; how many blocks and objects."""
    life = epoch << c.LIFE_EPOCH_SHIFT | (victim + 1)
    return reap_objects(mem, claim, life) + reap_pages(mem, claim, label_of_life(life))


@unit
def reap_pages(mem: Memory, claim: Claim, holder: Label) -> int:
    """Free the blocks of pages with label ``holder``; how many."""
    freed = 0
    pfn = 0
    while pfn < fixed(mem, c.H_PAGES):
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        if type_of(w0) == c.T_TAIL:
            pfn += 1
        else:
            if is_owned_by(w0, w1, holder) and take_pages(mem, claim, pfn, w0, w1, w1):
                if free_pages_of(mem, claim, pfn, order_of(w0), w1) == 0:
                    freed += 1
            pfn += 1 << order_of(w0)
    return freed


@kernel
def take_pages(mem: Memory, claim: Claim, pfn: Pfn, w0: Word0, w1: Word1, new_owner: Owner) -> bool:
    """Make a block that was seen as (w0, w1) ours, if it still is as it was."""
    mine = next_word(
        w0, c.T_ALLOCATED, order_of(w0), zone_of_word(w0), mt_of(w0), label(mem, claim)
    )
    return transition_owned(mem, pfn, w0, w1, mine, new_owner)


@kernel
def is_owned_by(w0: Word0, w1: Word1, holder: Label) -> bool:
    """Whether a block belongs to the life with label ``holder``, not to the allocator."""
    if type_of(w0) != c.T_ALLOCATED or detail_of(w0) & c.LABEL_MASK != holder:
        return False
    if w1 == cs.OWNER_SLAB or w1 == cs.OWNER_SHEAVES or w1 == cs.OWNER_FROZEN:
        return False
    if w1 >> c.OWNER_STRUCTURE_SHIFT == c.OWNER_STRUCTURE >> c.OWNER_STRUCTURE_SHIFT:
        return False
    if w1 & c.OWNER_ARRAY != 0 or w1 >> c.OWNER_CLAIM_BITS == c.OWNER_ARRAYS >> c.OWNER_CLAIM_BITS:
        return False
    return w1 != c.OWNER_SHARED


@unit
def reap_objects(mem: Memory, claim: Claim, owner: Owner) -> int:
    """Free the objects of the life with owner word ``owner`` in every cache; how many."""
    freed = 0
    for cache_id in range(fixed(mem, c.H_CACHES)):
        if load(mem, cache_at(mem, cache_id) + cs.K_STATE) != cs.CACHE_NONE:
            pfn = next_slab(mem, 0, cache_id)
            while pfn >= 0:
                freed += reap_slab(mem, claim, cache_id, pfn, owner)
                pfn = next_slab(mem, pfn + 1, cache_id)
    return freed


@kernel
def reap_slab(mem: Memory, claim: Claim, cache_id: CacheId, pfn: Pfn, owner: Owner) -> int:
    """Free the objects of ``owner`` in one slab, which the last one may release; how many.

    One that is refused, with a report, stays ours, so no look finds it again.
    """
    freed = 0
    address = take_owned(mem, claim, cache_id, pfn, owner)
    while address > 0:
        if cache_free(mem, claim, cache_id, address) == 0:
            freed += 1
        address = take_owned(mem, claim, cache_id, pfn, owner)
    return freed


@kernel
def take_owned(
    mem: Memory, claim: Claim, cache_id: CacheId, pfn: Pfn, owner: Owner
) -> ObjectAddress:
    """Make an object of ``owner`` in the slab at ``pfn`` ours: its address, or 0; looks under the
    node lock."""
    held = hold_slab(mem, claim, cache_id, pfn)
    if held == 0:
        return 0
    found: ObjectAddress = 0
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    if list_state(w0) != cs.SLAB_FROZEN:
        for index in range(objects_of(w1)):
            at = owner_at(mem, frame_at(mem, pfn), order_of(w0), index)
            if found == 0 and load(mem, at) == owner:
                if cas(mem, at, owner, owner_word(mem, claim)):
                    found = object_at(mem, cache_at(mem, cache_id), pfn, index)
    unlock(mem, held)
    return found


@unit
def adopt_pages(
    mem: Memory, claim: Claim, pfn: Pfn, order: Order, giver: Owner, new_owner: Owner
) -> int:
    """Take over a block of ``giver``, a life (its owner word): our label and ``new_owner``.

    Returns 0, or E_STATE if the block does not, or no longer, belong to that life.
    """
    if not in_range(mem, pfn):
        return c.E_STATE
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    if not is_owned_by(w0, w1, label_of_life(giver)) or order_of(w0) != order:
        return c.E_STATE
    if not take_pages(mem, claim, pfn, w0, w1, new_owner):
        return c.E_STATE
    record(mem, claim, c.OP_ADOPT, order, pfn, new_owner)
    if fixed(mem, c.H_AT_PAGE_OWNER) != 0:
        note_adoption(mem, pfn, c.PO_PAGE, descriptor_at(mem, pfn))
    return 0


@unit
def adopt_object(
    mem: Memory, claim: Claim, cache_id: CacheId, address: ObjectAddress, giver: Owner
) -> int:
    """Take over an object of ``cache_id`` from ``giver``, a life. Returns 0 or E_STATE."""
    pfn = slab_of_address(mem, address)
    if pfn < 0 or cache_id < 0 or cache_id >= fixed(mem, c.H_CACHES) or not is_live(giver):
        return c.E_STATE
    held = hold_slab(mem, claim, cache_id, pfn)
    if held == 0:
        return c.E_STATE
    cache = cache_at(mem, cache_id)
    index = index_at(mem, cache, frame_at(mem, pfn), address)
    at = owner_at(mem, frame_at(mem, pfn), order_of(page_state(mem, pfn)), index)
    result = c.E_STATE
    if index >= 0 and has_owner_word(mem, cache, address, at):
        if cas(mem, at, giver, owner_word(mem, claim)):
            result = 0
            if fixed(mem, c.H_AT_PAGE_OWNER) != 0:
                note_adoption(mem, address, c.PO_OBJECT, at)
    unlock(mem, held)
    return result
