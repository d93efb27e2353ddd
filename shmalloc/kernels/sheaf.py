"""Sheaves: arrays of free objects for each CPU, and the barn of each node.

::

    CPU part    [ lock | main | spare ]         sheaf   [ next | size | where | entries ... ]
    barn        lock | full -> sheaf -> sheaf   entry   object, see objects.py
                     | empty -> sheaf

The hot path is one array operation on ``main`` under the CPU's own lock, which it only ever
*tries*: if another process on the CPU (or a drainer) holds it, the object goes straight
to or from its slab. Main empty or full: swap with the spare, else exchange it in the barn, else
refill or flush the spare. That last step runs with the lock released and the spare taken out
(KC_SPARE 0), since it takes node and zone locks and may take long.

Afterwards everything may have changed: another process on the CPU may have refilled, or the cache
may be dying. So a sheaf returns only to an *empty* spare slot, checked again under the lock, and
goes to the barn otherwise; nothing is ever overwritten (bug S21: installed without a check, a full
sheaf was lost). Every sheaf is always in exactly one place: a CPU's main or spare, a barn list, or
held by one caller. All are made with the cache, so a free never needs memory.

A kill may come between any two writes. So an object becomes live before it leaves a sheaf, and is
in one before its owner word is cleared: what has both is live. With CF_EXACT two CPUs may free one
object at once, so being in a sheaf does not tell which won: the swap that ends the life names the
winner (KEPT), in whose sheaf the object is then counted. An intent names a chain.

KC_MAIN 0 means that the cache has no sheaves: a debug cache, or one that is being destroyed.
Order of locks: CPU part, then barn or node; never two CPU parts.
Linux: mm/slub.c, __pcs_replace_empty_main and __pcs_replace_full_main.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.barn import barn_empty_for, barn_full_for, barn_put, in_hand, move_sheaf
from shmalloc.kernels.bits import order_of
from shmalloc.kernels.cpu_lock import try_spin, unspin
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.lock import owner_word
from shmalloc.kernels.object_init import init_on_free
from shmalloc.kernels.objects import (
    chain_count,
    chain_first,
    chain_pfn,
    clear_owner,
    entry_address,
    entry_base,
    entry_index,
    entry_of,
    entry_order,
    home_node,
    is_exact,
    is_live,
    link_at,
    make_chain,
    node_part,
    object_at,
    own_part,
    owner_at,
    owner_of_entry,
    set_free_link,
    set_owner,
)
from shmalloc.kernels.reporting import event, report
from shmalloc.kernels.slab import take_chain
from shmalloc.kernels.slab_put import put_chain
from shmalloc.kernels.slot_intent import chain_goes_to, intend_put, intent_done
from shmalloc.kernels.zone import pfn_of_word
from shmalloc.units import (
    CacheWords,
    Chain,
    Claim,
    CpuPart,
    Entry,
    Gfp,
    Memory,
    ObjectAddress,
    Pfn,
    SheafWords,
    WordIndex,
)
from shmalloc.words import cas, load, load_relaxed, store, store_relaxed


@hot
def push_freed(
    mem: Memory,
    claim: Claim,
    cache: CacheWords,
    sheaf: SheafWords,
    size: int,
    entry: Entry,
    at: WordIndex,
) -> bool:
    """Put a live object on a sheaf of ``size`` that is not full, and end its life; holder only.

    ``at`` is the word of its owner (here and below: recomputing it from the entry costs 1 ns).

    False if it was not live after all: another free of it was faster. Clearing the owner word
    publishes the new size: an object that is in the sheaf and live still belongs to its owner.
    """
    owner = load_relaxed(mem, at)
    if not is_live(owner):
        return False
    mem[sheaf + cs.SF_OBJECTS + size] = entry
    if is_exact(mem, cache) and not cas(mem, at, owner, cs.KEPT | owner_word(mem, claim)):
        return False  # the entry behind the last one means nothing
    init_on_free(mem, cache, entry_address(entry))
    mem[sheaf + cs.SF_SIZE] = size + 1
    store(mem, at, 0)
    return True


@hot
def pop_live(mem: Memory, claim: Claim, sheaf: SheafWords, size: int) -> Entry:
    """Make the last object of a sheaf of ``size`` > 0 live and take it off; holder only.

    Returns its entry; -entry if it was live already: it is in two places.
    """
    entry = mem[sheaf + cs.SF_OBJECTS - 1 + size]
    fresh = set_owner(mem, owner_of_entry(mem, entry), owner_word(mem, claim))
    store(mem, sheaf + cs.SF_SIZE, size - 1)  # after the owner word: recovery relies on it
    if fresh:
        return entry
    return -entry


@unit
def in_two_places(mem: Memory, claim: Claim, entry: Entry) -> int:
    """Report an object to be allocated that is live already: its owner keeps it."""
    report(mem, claim, c.I_SHEAF, entry_address(entry), 0, 1)
    return c.E_STATE


@kernel
def pop_or_report(mem: Memory, claim: Claim, sheaf: SheafWords, size: int) -> Entry:
    """``pop_live`` whose failure is reported: E_STATE."""
    entry = pop_live(mem, claim, sheaf, size)
    if entry < 0:
        return in_two_places(mem, claim, -entry)
    return entry


@unit
def fill_sheaf(mem: Memory, claim: Claim, cache: CacheWords, sheaf: SheafWords, gfp: Gfp) -> int:
    """Fill a sheaf that the caller holds from the slabs; returns its size, or E_NOMEM at 0."""
    size = mem[sheaf + cs.SF_SIZE]
    while size < mem[cache + cs.K_CAPACITY]:
        chain = take_chain(mem, claim, cache, mem[cache + cs.K_CAPACITY] - size, gfp)
        if chain < 0:
            break
        chain_goes_to(mem, claim, sheaf, size)
        size = unchain(mem, cache, chain, sheaf + cs.SF_OBJECTS, size)
        store(mem, sheaf + cs.SF_SIZE, size)  # here they are in the sheaf, and the intent is void
        intent_done(mem, claim)
    if size == 0:
        return c.E_NOMEM
    return size


@kernel
def unchain(mem: Memory, cache: CacheWords, chain: Chain, entries: WordIndex, size: int) -> int:
    """Write the objects of a private chain to ``entries[size:]``; returns the new size."""
    pfn = chain_pfn(chain)
    order = order_of(page_state(mem, pfn))
    first = object_at(mem, cache, pfn, 0)
    stride = mem[cache + cs.K_STRIDE]
    link = mem[cache + cs.K_LINK]
    secret = mem[cache + cs.K_SECRET]
    following = chain_first(chain)
    for _ in range(chain_count(chain)):
        address: ObjectAddress = first + (following - 1) * stride
        entry = entry_of(address, following - 1, order)
        following = link_at(mem, address, link, secret)
        mem[entries + size] = entry
        size += 1
    return size


@kernel
def entry_of_index(mem: Memory, cache: CacheWords, pfn: Pfn, index: int) -> Entry:
    """Entry of an object of the slab at ``pfn``."""
    return entry_of(object_at(mem, cache, pfn, index), index, order_of(page_state(mem, pfn)))


@unit
def flush(mem: Memory, claim: Claim, cache: CacheWords, sheaf: SheafWords) -> None:
    """Put all objects of a sheaf that the caller holds back to their slabs, a run at a time."""
    size = mem[sheaf + cs.SF_SIZE]
    while size > 0:
        size = flush_run(mem, claim, cache, sheaf, size)


@kernel
def flush_run(mem: Memory, claim: Claim, cache: CacheWords, sheaf: SheafWords, size: int) -> int:
    """Put the last entry back with all others of its slab; returns how many remain.

    One two-word swap returns the whole chain (Linux: build_detached_freelist). The entries leave
    the sheaf afterwards: until then they tell recovery what the swap was about.
    """
    newest = mem[sheaf + cs.SF_OBJECTS + size - 1]
    base = entry_base(mem, newest)
    chain, last = link_run(mem, claim, cache, sheaf, size, base)
    if chain_count(chain) == 0:
        return drop_slab(mem, sheaf, size, base)
    # The mark comes before the intent: an intent without a mark says that the swap was made.
    mark = owner_at(mem, base, entry_order(newest), chain_first(chain) - 1)
    store_relaxed(mem, mark, cs.GIVEN | owner_word(mem, claim))
    intend_put(mem, claim, cache, chain, sheaf)
    put_chain(mem, claim, cache, chain, last)
    size = drop_slab(mem, sheaf, size, base)
    intent_done(mem, claim)
    return size


@kernel
def link_run(
    mem: Memory, claim: Claim, cache: CacheWords, sheaf: SheafWords, size: int, base: WordIndex
) -> tuple[Chain, ObjectAddress]:
    """Link the objects of a sheaf that lie in the slab at word ``base``: their chain, and its last
    object.

    Without those that are live. Only a free pointer that was overwritten brings an object to two
    places, of which one has given it out: its words are its owner's, the owner word above all.
    """
    first = 0
    count = 0
    last: ObjectAddress = 0
    for i in range(size - 1, -1, -1):
        entry = mem[sheaf + cs.SF_OBJECTS + i]
        if entry_base(mem, entry) == base:
            if is_live(load_relaxed(mem, owner_of_entry(mem, entry))):
                in_two_places(mem, claim, entry)
            else:
                if count == 0:
                    last = entry_address(entry)
                else:
                    set_free_link(mem, cache, entry_address(entry), first)
                first = entry_index(entry) + 1
                count += 1
    return make_chain(pfn_of_word(mem, base), first, count), last


@kernel
def drop_slab(mem: Memory, sheaf: SheafWords, size: int, base: WordIndex) -> int:
    """Remove the entries of the slab at word ``base`` from a sheaf; returns its new size.

    An entry only moves down, over one that was dropped or has moved: a process that dies here
    leaves duplicates, and loses none.
    """
    kept = 0
    for i in range(size):
        entry = mem[sheaf + cs.SF_OBJECTS + i]
        if entry_base(mem, entry) != base:
            mem[sheaf + cs.SF_OBJECTS + kept] = entry
            kept += 1
    store(mem, sheaf + cs.SF_SIZE, kept)
    return kept


@unit
def put_freed(mem: Memory, claim: Claim, cache: CacheWords, entry: Entry, at: WordIndex) -> bool:
    """Free a live object straight to its slab, past the sheaves. False: it was not live."""
    pfn = pfn_of_word(mem, entry_base(mem, entry))
    chain = make_chain(pfn, entry_index(entry) + 1, 1)
    intend_put(mem, claim, cache, chain, 0)
    freed = clear_owner(mem, at, cs.GIVEN | owner_word(mem, claim), is_exact(mem, cache))
    if freed:
        init_on_free(mem, cache, entry_address(entry))
        event(mem, claim, c.EV_OBJ_REMOTE)
        put_chain(mem, claim, cache, chain, entry_address(entry))
    intent_done(mem, claim)
    return freed


@unit
def take_one(mem: Memory, claim: Claim, cache: CacheWords, gfp: Gfp) -> Entry:
    """One live object straight from a slab, past the sheaves: its entry, or E_NOMEM, E_STATE."""
    chain = take_chain(mem, claim, cache, 1, gfp)
    if chain < 0:
        return +chain
    entry = entry_of_index(mem, cache, chain_pfn(chain), chain_first(chain) - 1)
    if not set_owner(mem, owner_of_entry(mem, entry), owner_word(mem, claim)):
        entry = in_two_places(mem, claim, entry)
    intent_done(mem, claim)
    return entry


@unit
def bring_back(mem: Memory, claim: Claim, cache: CacheWords, sheaf: SheafWords) -> None:
    """Return a sheaf that was refilled or flushed outside the lock: to the spare slot if that is
    still empty, else to the barn."""
    part = own_part(mem, cache, claim)
    if try_spin(mem, part + cs.KC_LOCK, claim):
        if mem[part + cs.KC_MAIN] != 0 and mem[part + cs.KC_SPARE] == 0:
            move_sheaf(mem, sheaf, part)
            mem[part + cs.KC_SPARE] = sheaf
            unspin(mem, part + cs.KC_LOCK, claim)
            return
        unspin(mem, part + cs.KC_LOCK, claim)
    if load(mem, cache + cs.K_STATE) == cs.CACHE_DYING:
        # The destroyer has emptied the barn, or will find this sheaf in it: either way it must not
        # find objects there after its last check. A missing sheaf makes it return E_BUSY.
        flush(mem, claim, cache, sheaf)
    barn_put(mem, claim, node_part(mem, cache, home_node(mem, claim)), sheaf)


@kernel
def take_spare(mem: Memory, claim: Claim, part: CpuPart) -> SheafWords:
    """Take the spare sheaf, if it is there; KC_LOCK held. 0: another process has it."""
    spare = mem[part + cs.KC_SPARE]
    if spare != 0:
        move_sheaf(mem, spare, in_hand(mem, claim))
        mem[part + cs.KC_SPARE] = 0
    return spare


@kernel
def pop_or_refill(mem: Memory, claim: Claim, cache: CacheWords, part: CpuPart, gfp: Gfp) -> Entry:
    """A live object when main is empty or missing: its entry, or E_NOMEM, E_STATE.

    KC_LOCK is held on entry and released here.
    """
    main = mem[part + cs.KC_MAIN]
    spare = mem[part + cs.KC_SPARE]
    if main == 0:
        unspin(mem, part + cs.KC_LOCK, claim)
        return take_one(mem, claim, cache, gfp)
    full: SheafWords = 0
    if mem[main + cs.SF_SIZE] > 0:  # another process on the CPU refilled it
        full = main
    elif spare != 0 and mem[spare + cs.SF_SIZE] > 0:
        full = spare
        mem[part + cs.KC_SPARE] = main
        event(mem, claim, c.EV_SHEAF_SWAP)
    else:
        full = barn_full_for(mem, claim, node_part(mem, cache, home_node(mem, claim)), main)
    if full != 0:
        mem[part + cs.KC_MAIN] = full
        entry = pop_or_report(mem, claim, full, mem[full + cs.SF_SIZE])
        unspin(mem, part + cs.KC_LOCK, claim)
        return entry
    spare = take_spare(mem, claim, part)
    unspin(mem, part + cs.KC_LOCK, claim)
    if spare == 0:  # another process on the CPU is refilling it
        return take_one(mem, claim, cache, gfp)
    size = fill_sheaf(mem, claim, cache, spare, gfp)
    entry = size
    if size > 0:
        entry = pop_or_report(mem, claim, spare, size)
    bring_back(mem, claim, cache, spare)
    return entry


@kernel
def room_for(mem: Memory, claim: Claim, cache: CacheWords, part: CpuPart) -> SheafWords:
    """A main sheaf with room, after a swap or an exchange if the old one is full; or 0."""
    main = mem[part + cs.KC_MAIN]
    if mem[main + cs.SF_SIZE] < mem[cache + cs.K_CAPACITY]:
        return main
    spare = mem[part + cs.KC_SPARE]
    room: SheafWords = 0
    if spare != 0 and mem[spare + cs.SF_SIZE] < mem[cache + cs.K_CAPACITY]:
        room = spare
        mem[part + cs.KC_SPARE] = main
        event(mem, claim, c.EV_SHEAF_SWAP)
    else:
        room = barn_empty_for(mem, claim, node_part(mem, cache, home_node(mem, claim)), main)
    if room != 0:
        mem[part + cs.KC_MAIN] = room
    return room


@unit
def push_or_flush(
    mem: Memory, claim: Claim, cache: CacheWords, part: CpuPart, entry: Entry, at: WordIndex
) -> bool:
    """End an object's life when main is full or missing. False: it was not live.

    KC_LOCK is held on entry and released here.
    """
    if mem[part + cs.KC_MAIN] == 0:
        unspin(mem, part + cs.KC_LOCK, claim)
        return put_freed(mem, claim, cache, entry, at)
    room = room_for(mem, claim, cache, part)
    if room != 0:
        freed = push_freed(mem, claim, cache, room, mem[room + cs.SF_SIZE], entry, at)
        unspin(mem, part + cs.KC_LOCK, claim)
        return freed
    spare = take_spare(mem, claim, part)
    unspin(mem, part + cs.KC_LOCK, claim)
    if spare == 0:
        return put_freed(mem, claim, cache, entry, at)
    flush(mem, claim, cache, spare)
    freed = push_freed(mem, claim, cache, spare, 0, entry, at)
    bring_back(mem, claim, cache, spare)
    return freed


@kernel
def take_slowly(mem: Memory, claim: Claim, cache: CacheWords, part: CpuPart, gfp: Gfp) -> Entry:
    """A live object when the hot path failed: another process holds the lock, or main is empty.

    Or when it was not tried: a sheaf may hold objects of other nodes.
    """
    if gfp & c.GFP_THISNODE != 0 or not try_spin(mem, part + cs.KC_LOCK, claim):
        return take_one(mem, claim, cache, gfp)
    return pop_or_refill(mem, claim, cache, part, gfp)


@hot
def keep_freed(mem: Memory, claim: Claim, cache: CacheWords, entry: Entry, at: WordIndex) -> bool:
    """End an object's life on the slab's own node: the hot path of a free. False: not live."""
    part = own_part(mem, cache, claim)
    if not try_spin(mem, part + cs.KC_LOCK, claim):
        return put_freed(mem, claim, cache, entry, at)
    main = mem[part + cs.KC_MAIN]
    if main != 0:
        size = mem[main + cs.SF_SIZE]
        if size < mem[cache + cs.K_CAPACITY]:
            freed = push_freed(mem, claim, cache, main, size, entry, at)
            unspin(mem, part + cs.KC_LOCK, claim)
            return freed
    return push_or_flush(mem, claim, cache, part, entry, at)
