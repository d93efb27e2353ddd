"""Objects after a kill: rebuild node lists, barns and sheaves, and find out what became of a chain.

Authorities: a slab's descriptor says which list it is on, a sheaf's SF_WHERE says where it is, an
owner word which claim uses an object, and a claim's intent which chain it holds (slot_intent.py).
Lists, counters and pointers are derived from these.

recover.py decides the order: node lists before anything that reads a free list, intents before
sheaves. Each step may be killed and started again. Nothing here runs unless a process has died.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.barn import barn_push, barn_put, in_hand, move_sheaf
from shmalloc.kernels.bits import order_of
from shmalloc.kernels.cache import slab_of_address
from shmalloc.kernels.cache_set import hold_slab
from shmalloc.kernels.cpu_lock import spin_or_skip, unspin
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.lock import owner_word, unlock
from shmalloc.kernels.object_chain import last_of, on_free_list
from shmalloc.kernels.object_init import init_on_free
from shmalloc.kernels.objects import (
    chain_count,
    chain_first,
    chain_pfn,
    cpu_part,
    entry_address,
    entry_in_slab,
    free_link,
    home_node,
    is_debug,
    is_exact,
    is_live,
    is_slab_of,
    make_chain,
    node_of_slab,
    node_part,
    object_at,
    own_part,
    owner_at,
    owner_of_entry,
)
from shmalloc.kernels.reporting import claim_at, cpu_of
from shmalloc.kernels.sheaf import drop_slab, flush
from shmalloc.kernels.slab_debug import paint
from shmalloc.kernels.slab_lists import relist_node
from shmalloc.kernels.slab_put import put_chain
from shmalloc.kernels.slot_intent import intend_put, intent_done
from shmalloc.kernels.slots import is_dead
from shmalloc.kernels.zone import descriptor_at, frame_at
from shmalloc.units import (
    CacheWords,
    Chain,
    Claim,
    Cpu,
    CpuWords,
    Entry,
    Int,
    Memory,
    NodeId,
    Owner,
    Pfn,
    SheafWords,
    WordIndex,
)
from shmalloc.words import fixed, load, load2, load_relaxed, store, store_relaxed


@kernel
def sheaf_at(mem: Memory, cache: CacheWords, i: int) -> SheafWords:
    """The ``i``-th sheaf of a cache."""
    return mem[cache + cs.K_SHEAVES] + i * mem[cache + cs.K_SHEAF_STRIDE]


@unit
def rebuild_node(mem: Memory, cache: CacheWords, node_id: NodeId) -> None:
    """Rebuild the lists and counters of slabs of one node; KN_LOCK taken over."""
    relist_node(mem, cache, node_id)
    for holder in range(load(mem, c.H_CLAIMS_USED)):
        settle_take(mem, cache, node_id, claim_at(mem, holder))


@kernel
def settle_take(mem: Memory, cache: CacheWords, node_id: NodeId, slot: CpuWords) -> None:
    """Decide whether the dead holder of KN_LOCK made the swap that takes a chain; note it in its
    intent.

    No live claim is mistaken for it: an intent to take exists only under this lock, which is ours
    now.
    """
    if (
        load(mem, slot + c.C_INTENT) != cs.INTENT_TAKE
        or load_relaxed(mem, slot + c.C_INTENT_CACHE) != cache
    ):
        return
    chain = load_relaxed(mem, slot + c.C_INTENT_CHAIN)
    w0, w1 = load2(mem, descriptor_at(mem, chain_pfn(chain)))
    if not is_slab_of(w0, mem[cache + cs.K_ID]) or node_of_slab(mem, w0) != node_id:
        return
    if on_free_list(mem, cache, chain_pfn(chain), w1, chain_first(chain)):
        store(mem, slot + c.C_INTENT, cs.INTENT_NONE)
    else:
        store(mem, slot + c.C_INTENT, cs.INTENT_TAKEN)


@unit
def rebuild_barn(mem: Memory, cache: CacheWords, node_id: NodeId) -> None:
    """Rebuild the lists of a barn; KN_BARN_LOCK taken over."""
    lists = node_part(mem, cache, node_id)
    mem[lists + cs.KN_BARN_FULL] = 0
    mem[lists + cs.KN_BARN_EMPTY] = 0
    store_relaxed(mem, lists + cs.KN_NR_BARN_FULL, 0)
    store_relaxed(mem, lists + cs.KN_NR_BARN_EMPTY, 0)
    for i in range(mem[cache + cs.K_SHEAF_COUNT]):
        sheaf = sheaf_at(mem, cache, i)
        if load(mem, sheaf + cs.SF_WHERE) == lists:
            if mem[sheaf + cs.SF_SIZE] > 0:
                barn_push(mem, lists, cs.KN_BARN_FULL, sheaf)
            else:
                barn_push(mem, lists, cs.KN_BARN_EMPTY, sheaf)


@unit
def rebuild_part(mem: Memory, cache: CacheWords, cpu: Cpu) -> None:
    """Rebuild the main and the spare sheaf of a CPU; KC_LOCK taken over."""
    part = cpu_part(mem, cache, cpu)
    old = mem[part + cs.KC_MAIN]
    main: SheafWords = 0
    spare: SheafWords = 0
    for i in range(mem[cache + cs.K_SHEAF_COUNT]):
        sheaf = sheaf_at(mem, cache, i)
        if load(mem, sheaf + cs.SF_WHERE) == part:
            mend_sheaf(mem, cache, sheaf)
            if main == 0:
                main = sheaf
            elif sheaf == old:
                spare = main
                main = sheaf
            else:
                spare = sheaf
    mem[part + cs.KC_MAIN] = main
    mem[part + cs.KC_SPARE] = spare


@kernel
def mend_sheaf(mem: Memory, cache: CacheWords, sheaf: SheafWords) -> None:
    """Drop entries of live objects and duplicate entries; for a sheaf whose holder died.

    An object that is live and in a sheaf was being allocated or freed when the kill came: it
    belongs to its owner. Duplicates: entries were being moved down (drop_slab).
    """
    kept = 0
    count_kept(mem, cache, sheaf)
    for i in range(mem[sheaf + cs.SF_SIZE]):
        entry = mem[sheaf + cs.SF_OBJECTS + i]
        live = is_live(load_relaxed(mem, owner_of_entry(mem, entry)))
        if not live and not has_entry(mem, sheaf, kept, entry):
            mem[sheaf + cs.SF_OBJECTS + kept] = entry
            kept += 1
    store(mem, sheaf + cs.SF_SIZE, kept)


@kernel
def count_kept(mem: Memory, cache: CacheWords, sheaf: SheafWords) -> None:
    """Count the object, if any, that a dead CPU had freed exactly but not yet counted (push_freed).

    Its mark goes last. A stale copy of the entry may lie past the end of another sheaf of the dead
    CPU: without the mark it means nothing there.
    """
    size = mem[sheaf + cs.SF_SIZE]
    if is_exact(mem, cache) and size < mem[cache + cs.K_CAPACITY]:
        entry = mem[sheaf + cs.SF_OBJECTS + size]
        if is_kept_by_dead(mem, cache, entry):
            init_on_free(mem, cache, entry_address(entry))
            mem[sheaf + cs.SF_SIZE] = size + 1
    for i in range(mem[sheaf + cs.SF_SIZE]):
        mark = owner_of_entry(mem, mem[sheaf + cs.SF_OBJECTS + i])
        if load_relaxed(mem, mark) >= cs.KEPT:
            store(mem, mark, 0)


@kernel
def is_kept_by_dead(mem: Memory, cache: CacheWords, entry: Entry) -> bool:
    """Whether ``entry``, which lies past the end of a sheaf and may never have been written, names
    an object that a dead claim freed into a sheaf. As long as it does, the object's slab cannot go
    away.
    """
    pfn = slab_of_address(mem, entry_address(entry))
    if pfn < 0:
        return False
    found = entry_in_slab(
        mem, cache, mem[cache + cs.K_ID], pfn, page_state(mem, pfn), entry_address(entry)
    )
    if found != entry:
        return False
    owner = load_relaxed(mem, owner_of_entry(mem, entry))
    holder = (owner & c.LOCK_HOLDER_MASK) - 1
    return owner >= cs.KEPT and is_dead(mem, holder) and owner == cs.KEPT | owner_word(mem, holder)


@kernel
def has_entry(mem: Memory, sheaf: SheafWords, size: int, entry: Entry) -> bool:
    """Whether one of the first ``size`` entries of a sheaf is ``entry``."""
    for i in range(size):
        if mem[sheaf + cs.SF_OBJECTS + i] == entry:
            return True
    return False


@unit
def settle_put(mem: Memory, claim: Claim, victim: Claim) -> None:
    """Decide whether the dead claim made the swap that gives a chain back: finish it, else TAKEN.

    No lock of the dead is left. Ends with no intent, or with TAKEN: a chain to be given back.
    """
    slot = claim_at(mem, victim)
    if load(mem, slot + c.C_INTENT) != cs.INTENT_PUT:
        return
    origin = load_relaxed(mem, slot + c.C_INTENT_FROM)
    chain = load_relaxed(mem, slot + c.C_INTENT_CHAIN)
    made = was_put(
        mem, claim, load_relaxed(mem, slot + c.C_INTENT_CACHE), chain, in_hand(mem, victim)
    )
    if origin == 0 and not made:
        store(mem, slot + c.C_INTENT, cs.INTENT_TAKEN)
        return
    if is_slot(mem, origin):
        if made:
            store(mem, origin + c.C_INTENT, cs.INTENT_NONE)  # its chain is back; it is dead
    elif origin != 0 and made:
        drop_slab(mem, origin, mem[origin + cs.SF_SIZE], frame_at(mem, chain_pfn(chain)))
    intent_done(mem, victim)


@kernel
def is_slot(mem: Memory, origin: Int) -> bool:
    """Whether an intent's C_INTENT_FROM is a claim's record, not a sheaf."""
    return c.CPUS_AT <= origin < c.CPUS_AT + fixed(mem, c.H_CLAIMS) * c.C_STRIDE


@kernel
def was_put(mem: Memory, claim: Claim, cache: CacheWords, chain: Chain, mark: Owner) -> bool:
    """Whether a chain whose first object was marked is back in its slab (slot_intent.py)."""
    pfn = chain_pfn(chain)
    held = hold_slab(mem, claim, mem[cache + cs.K_ID], pfn)
    if held == 0:
        return True  # the chain emptied the slab, which is gone
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    first = chain_first(chain)
    owner = load_relaxed(mem, owner_at(mem, frame_at(mem, pfn), order_of(w0), first - 1))
    made = owner != mark or on_free_list(mem, cache, pfn, w1, first)
    unlock(mem, held)
    return made


@unit
def settle_taken(mem: Memory, claim: Claim, victim: Claim) -> None:
    """Give the chain of a dead claim back to its slab, except what is live or in a sheaf.

    Objects become live in the order of the chain, so the rest is its end.
    """
    slot = claim_at(mem, victim)
    if load(mem, slot + c.C_INTENT) != cs.INTENT_TAKEN:
        return
    cache = load_relaxed(mem, slot + c.C_INTENT_CACHE)
    chain = load_relaxed(mem, slot + c.C_INTENT_CHAIN)
    sheaf = load_relaxed(mem, slot + c.C_INTENT_FROM)
    left = chain_count(chain)
    first = chain_first(chain)
    pfn = chain_pfn(chain)
    if sheaf != 0 and mem[sheaf + cs.SF_SIZE] > load_relaxed(mem, slot + c.C_INTENT_SIZE):
        left = 0  # they are in that sheaf
    while left > 0 and is_live(load_relaxed(mem, mark_of(mem, pfn, first))):
        first = free_link(mem, cache, object_at(mem, cache, pfn, first - 1))
        left -= 1
    if left > 0:
        # Written before live objects may change again: the walk above must not run a second time
        # over their links.
        store(mem, slot + c.C_INTENT_CHAIN, make_chain(pfn, first, left))
        give_chain(mem, claim, cache, make_chain(pfn, first, left), slot)
    intent_done(mem, victim)


@kernel
def mark_of(mem: Memory, pfn: Pfn, first: int) -> WordIndex:
    """Word index of the owner word of the object with index + 1 = ``first``."""
    return owner_at(mem, frame_at(mem, pfn), order_of(page_state(mem, pfn)), first - 1)


@kernel
def give_chain(mem: Memory, claim: Claim, cache: CacheWords, chain: Chain, origin: Int) -> None:
    """Put the chain that the intent of ``origin``, a claim's record, names back in its slab."""
    pfn = chain_pfn(chain)
    last = last_of(mem, cache, chain)
    if chain_count(chain) == 1:
        init_on_free(mem, cache, last)  # it was being freed, and perhaps wiped only in part
    if is_debug(mem, cache):
        paint(mem, cache, last, 0)  # one object, perhaps painted only in part
    store(mem, mark_of(mem, pfn, chain_first(chain)), cs.GIVEN | owner_word(mem, claim))
    intend_put(mem, claim, cache, chain, origin)
    put_chain(mem, claim, cache, chain, last)
    store(mem, origin + c.C_INTENT, cs.INTENT_NONE)
    intent_done(mem, claim)


@unit
def sweep_sheaves(mem: Memory, claim: Claim, cache: CacheWords, victim: Claim) -> None:
    """Flush the sheaves that a dead process had in its hands, and put them back in a place.

    Those of its CPU stay for the others on it.
    """
    for i in range(mem[cache + cs.K_SHEAF_COUNT]):
        sheaf = sheaf_at(mem, cache, i)
        if load(mem, sheaf + cs.SF_WHERE) == in_hand(mem, victim):
            mend_sheaf(mem, cache, sheaf)
            flush(mem, claim, cache, sheaf)
            place_sheaf(mem, claim, cache, victim, sheaf)


@kernel
def place_sheaf(
    mem: Memory, claim: Claim, cache: CacheWords, victim: Claim, sheaf: SheafWords
) -> None:
    """Give an empty sheaf to the CPU of the dead if it lacks one, else to its barn.

    To the barn, too, if who has the lock of that CPU's sheaves does not run.
    """
    part = own_part(mem, cache, victim)
    live = load(mem, cache + cs.K_STATE) == cs.CACHE_LIVE
    cpu = cpu_of(mem, victim)
    if live and spin_or_skip(mem, part + cs.KC_LOCK, claim, cpu) > 0:
        empty: WordIndex = 0
        if mem[part + cs.KC_MAIN] == 0:
            empty = part + cs.KC_MAIN
        elif mem[part + cs.KC_SPARE] == 0:
            empty = part + cs.KC_SPARE
        if empty != 0:
            move_sheaf(mem, sheaf, part)
            mem[empty] = sheaf
        unspin(mem, part + cs.KC_LOCK, claim)
        if empty != 0:
            return
    barn_put(mem, claim, node_part(mem, cache, home_node(mem, victim)), sheaf)
