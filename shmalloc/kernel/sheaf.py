"""Sheaves: arrays of free objects for each CPU slot, and the barn of each node.

::

    CPU part    [ lock | main | spare ]         sheaf   [ next | size | entries ... ]
    barn        lock | full -> sheaf -> sheaf   entry   object, see objects.py
                     | empty -> sheaf

The hot path is one array operation on ``main`` under the CPU's own lock, which it only ever
*tries*: where another process that shares the slot (or a drainer) holds it, the object goes
straight to or from its slab. Main empty or full: swap with the spare, else exchange it in the
barn, else refill or flush the spare. That last step runs with the lock released and the spare
taken out (KC_SPARE 0), since it takes node and zone locks and may be long.

Afterwards everything may have changed: another process on the slot may have refilled, or the
cache may be dying. So a sheaf comes back only into an *empty* spare slot, looked at again under
the lock, and goes to the barn otherwise; nothing is ever overwritten (bug S21: installed without
looking, a full sheaf was lost). Every sheaf is always in exactly one place: a CPU's main or spare,
a barn list, or the hands of one caller. All are made with the cache, so a free never needs memory.

KC_MAIN 0 means that the cache has no sheaves: a debug cache, or one that is being destroyed.
Order of locks: CPU part, then barn or node; never two CPU parts.
Linux: mm/slub.c, __pcs_replace_empty_main and __pcs_replace_full_main.
"""

from shmalloc.constants import EV_OBJ_REMOTE, EV_SHEAF_SWAP, E_NOMEM, H_CPUS, H_NODES
from shmalloc.constants_slab import (
    CACHE_DYING, KC_LOCK, KC_MAIN, KC_SPARE, KN_BARN_FULL, KN_BARN_LOCK, KN_NR_BARN_EMPTY,
    KN_NR_BARN_FULL, K_CAPACITY, K_STATE, SF_OBJECTS, SF_SIZE,
)  # fmt: skip
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernel.barn import barn_empty_for, barn_full_for, barn_pop, barn_put
from shmalloc.kernel.bits import order_of
from shmalloc.kernel.descriptor import page_state
from shmalloc.kernel.lock import lock, try_spin, unlock, unspin
from shmalloc.kernel.notes import event
from shmalloc.kernel.objects import (
    chain_count, chain_first, chain_pfn, cpu_part, entry_address, entry_base, entry_index,
    entry_of, free_link, home_node, node_part, object_at, set_free_link,
)  # fmt: skip
from shmalloc.kernel.pcp import spin_for_drain
from shmalloc.kernel.slab import put_chain, take_chain
from shmalloc.kernel.zone import pfn_of_word
from shmalloc.words import fixed, load, load_relaxed, store


@kernel
def push(mem, sheaf, entry):
    """Put an entry on a sheaf that is not full; its holder only."""
    size = mem[sheaf + SF_SIZE]
    mem[sheaf + SF_OBJECTS + size] = entry
    mem[sheaf + SF_SIZE] = size + 1


@kernel
def pop(mem, sheaf):
    """Take the entry that was put last off a sheaf that is not empty; its holder only."""
    size = mem[sheaf + SF_SIZE] - 1
    mem[sheaf + SF_SIZE] = size
    return mem[sheaf + SF_OBJECTS + size]


@unit
def fill(mem, cpu, k, sheaf):
    """Fill a sheaf in the caller's hands from the slabs; returns its size, or E_NOMEM at 0."""
    size = mem[sheaf + SF_SIZE]
    while size < mem[k + K_CAPACITY]:
        chain = take_chain(mem, cpu, k, mem[k + K_CAPACITY] - size)
        if chain < 0:
            break
        size = unchain(mem, k, chain, sheaf + SF_OBJECTS, size)
    mem[sheaf + SF_SIZE] = size
    if size == 0:
        return E_NOMEM
    return size


@kernel
def unchain(mem, k, chain, entries, size):
    """Write the objects of a private chain to ``entries[size:]``; returns the new size."""
    pfn = chain_pfn(chain)
    order = order_of(page_state(mem, pfn))
    following = chain_first(chain)
    for _ in range(chain_count(chain)):
        address = object_at(mem, k, pfn, following - 1)
        entry = entry_of(address, following - 1, order)
        following = free_link(mem, k, address)
        mem[entries + size] = entry
        size += 1
    return size


@unit
def flush(mem, cpu, k, sheaf):
    """Put all objects of a sheaf in the caller's hands back to their slabs, a run at a time."""
    size = mem[sheaf + SF_SIZE]
    while size > 0:
        size = flush_run(mem, cpu, k, sheaf + SF_OBJECTS, size)
    mem[sheaf + SF_SIZE] = 0


@kernel
def flush_run(mem, cpu, k, entries, size):
    """Put the last entry back together with all others of its slab; returns how many remain.

    One two-word swap returns the whole chain (Linux: build_detached_freelist).
    """
    newest = mem[entries + size - 1]
    base = entry_base(mem, newest)
    pfn = pfn_of_word(mem, base)
    last = entry_address(newest)
    first = entry_index(newest) + 1
    count = 1
    kept = 0
    for i in range(size - 1):
        entry = mem[entries + i]
        if entry_base(mem, entry) == base:
            set_free_link(mem, k, entry_address(entry), first)
            first = entry_index(entry) + 1
            count += 1
        else:
            mem[entries + kept] = entry
            kept += 1
    put_chain(mem, cpu, k, pfn, first, last, count)
    return kept


@unit
def put_one(mem, cpu, k, entry):
    """Put one object straight back to its slab, past the sheaves."""
    pfn = pfn_of_word(mem, entry_base(mem, entry))
    event(mem, cpu, EV_OBJ_REMOTE)
    put_chain(mem, cpu, k, pfn, entry_index(entry) + 1, entry_address(entry), 1)


@unit
def take_one(mem, cpu, k):
    """One entry straight from a slab, past the sheaves, or E_NOMEM."""
    chain = take_chain(mem, cpu, k, 1)
    if chain < 0:
        return chain
    pfn = chain_pfn(chain)
    index = chain_first(chain) - 1
    return entry_of(object_at(mem, k, pfn, index), index, order_of(page_state(mem, pfn)))


@unit
def bring_back(mem, cpu, k, sheaf):
    """A sheaf that was refilled or flushed outside of the lock: into the spare slot if that is
    still empty, else to the barn."""
    part = cpu_part(mem, k, cpu)
    if try_spin(mem, part + KC_LOCK, cpu):
        if mem[part + KC_MAIN] != 0 and mem[part + KC_SPARE] == 0:
            mem[part + KC_SPARE] = sheaf
            unspin(mem, part + KC_LOCK)
            return
        unspin(mem, part + KC_LOCK)
    if load(mem, k + K_STATE) == CACHE_DYING:
        # The destroyer has emptied the barn, or will find this sheaf in it: either way it must
        # not find objects there after its last look. What it finds missing makes it say E_BUSY.
        flush(mem, cpu, k, sheaf)
    barn_put(mem, cpu, node_part(k, home_node(mem, cpu)), sheaf)


@kernel
def pop_or_refill(mem, cpu, k, part):
    """An entry where main is empty or missing. KC_LOCK is held on entry and released here."""
    main = mem[part + KC_MAIN]
    spare = mem[part + KC_SPARE]
    if main == 0:
        unspin(mem, part + KC_LOCK)
        return take_one(mem, cpu, k)
    if mem[main + SF_SIZE] > 0:  # somebody else who shares the slot was here
        entry = pop(mem, main)
        unspin(mem, part + KC_LOCK)
        return entry
    full = 0
    if spare != 0 and mem[spare + SF_SIZE] > 0:
        full = spare
        mem[part + KC_SPARE] = main
    else:
        full = barn_full_for(mem, cpu, node_part(k, home_node(mem, cpu)), main)
    if full != 0:
        mem[part + KC_MAIN] = full
        entry = pop(mem, full)
        unspin(mem, part + KC_LOCK)
        event(mem, cpu, EV_SHEAF_SWAP)
        return entry
    mem[part + KC_SPARE] = 0
    unspin(mem, part + KC_LOCK)
    if spare == 0:  # somebody else who shares the slot refills it this moment
        return take_one(mem, cpu, k)
    entry = fill(mem, cpu, k, spare)
    if entry > 0:
        entry = pop(mem, spare)
    bring_back(mem, cpu, k, spare)
    return entry


@unit
def push_or_flush(mem, cpu, k, part, entry):
    """Keep an entry where main is full or missing. KC_LOCK is held on entry and released here."""
    main = mem[part + KC_MAIN]
    spare = mem[part + KC_SPARE]
    if main == 0:
        unspin(mem, part + KC_LOCK)
        put_one(mem, cpu, k, entry)
        return
    room = 0
    if spare != 0 and mem[spare + SF_SIZE] < mem[k + K_CAPACITY]:
        room = spare
        mem[part + KC_SPARE] = main
    else:
        room = barn_empty_for(mem, cpu, node_part(k, home_node(mem, cpu)), main)
    if room != 0:
        mem[part + KC_MAIN] = room
        push(mem, room, entry)
        unspin(mem, part + KC_LOCK)
        event(mem, cpu, EV_SHEAF_SWAP)
        return
    mem[part + KC_SPARE] = 0
    unspin(mem, part + KC_LOCK)
    if spare == 0:
        put_one(mem, cpu, k, entry)
        return
    flush(mem, cpu, k, spare)
    push(mem, spare, entry)
    bring_back(mem, cpu, k, spare)


@kernel
def take_slowly(mem, cpu, k, part):
    """``take_entry`` where the hot path did not do: the lock is held by another, or main empty."""
    if not try_spin(mem, part + KC_LOCK, cpu):
        return take_one(mem, cpu, k)
    return pop_or_refill(mem, cpu, k, part)


@hot
def keep_entry(mem, cpu, k, entry):
    """Take a free object back: the hot path of a free on the slab's own node."""
    part = cpu_part(mem, k, cpu)
    if not try_spin(mem, part + KC_LOCK, cpu):
        put_one(mem, cpu, k, entry)
        return
    main = mem[part + KC_MAIN]
    if main != 0:
        size = mem[main + SF_SIZE]
        if size < mem[k + K_CAPACITY]:
            mem[main + SF_OBJECTS + size] = entry
            mem[main + SF_SIZE] = size + 1
            unspin(mem, part + KC_LOCK)
            return
    push_or_flush(mem, cpu, k, part, entry)


@kernel
def drain_part(mem, cpu, k, victim, after):
    """Flush main and spare of CPU slot ``victim`` in place, waiting for its lock.

    ``after`` is what the lock holds in the end: 0, or LOCK_OFFLINE.
    """
    part = cpu_part(mem, k, victim)
    if spin_for_drain(mem, part + KC_LOCK, cpu):
        if mem[part + KC_MAIN] != 0:
            flush(mem, cpu, k, mem[part + KC_MAIN])
        if mem[part + KC_SPARE] != 0:
            flush(mem, cpu, k, mem[part + KC_SPARE])
        store(mem, part + KC_LOCK, after)


@kernel
def drain_barn(mem, cpu, k, node):
    """Flush all sheaves of a node's barn; each is in our hands while it is flushed."""
    n = node_part(k, node)
    while True:
        lock(mem, n + KN_BARN_LOCK, cpu)
        sheaf = barn_pop(mem, n + KN_BARN_FULL, n + KN_NR_BARN_FULL)
        unlock(mem, n + KN_BARN_LOCK)
        if sheaf == 0:
            return
        flush(mem, cpu, k, sheaf)
        barn_put(mem, cpu, n, sheaf)


@unit
def drain_sheaves(mem, cpu, k):
    """Put every object of every sheaf back to its slab; sheaves stay where they are.

    A sheaf that somebody is refilling this moment is not seen.
    """
    for victim in range(fixed(mem, H_CPUS)):
        drain_part(mem, cpu, k, victim, 0)
    for node in range(fixed(mem, H_NODES)):
        drain_barn(mem, cpu, k, node)


@unit
def retire_sheaves(mem, cpu, k):
    """Take all sheaves away from the CPUs and flush them (cache destroy); K_STATE is DYING.

    Returns how many sheaves lie empty in the barns: all of them, unless one is in somebody's
    hands. Whoever finds KC_MAIN 0 afterwards goes to the slabs.
    """
    for victim in range(fixed(mem, H_CPUS)):
        part = cpu_part(mem, k, victim)
        n = node_part(k, home_node(mem, victim))
        held = spin_for_drain(mem, part + KC_LOCK, cpu)
        main = mem[part + KC_MAIN]
        spare = mem[part + KC_SPARE]
        mem[part + KC_MAIN] = 0
        mem[part + KC_SPARE] = 0
        if held:
            unspin(mem, part + KC_LOCK)
        if main != 0:
            barn_put(mem, cpu, n, main)
        if spare != 0:
            barn_put(mem, cpu, n, spare)
    empty = 0
    for node in range(fixed(mem, H_NODES)):
        drain_barn(mem, cpu, k, node)
        empty += load_relaxed(mem, node_part(k, node) + KN_NR_BARN_EMPTY)
    return empty
