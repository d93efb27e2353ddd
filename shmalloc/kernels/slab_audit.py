"""Walk and recount everything of the object allocator: I_SLAB, I_SHEAF, I_BYTES.

The descriptors are the authority: a walk over pfns finds all slabs, then all redundant data is
compared::

    slab     free list length = objects - inuse, acyclic, no live object on it
             live objects <= inuse; says partial <=> has a free object (or is frozen)
    node     slabs that say partial = length of the partial list = its counter; same for full
    sheaf    size <= capacity; its objects are objects of the cache, not live, nowhere else
    cache    sum of inuse = live objects + objects in sheaves; every sheaf is in exactly one place
    bytes    red zones, poison and leftovers of debug caches

For a quiet allocator: no CPU is inside an operation. An object in flight between a slab and a sheaf
would be counted in neither. Changes nothing but the report table.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.cache_set import live_in_slab, next_slab
from shmalloc.kernels.descriptor import head_of, in_range, page_state
from shmalloc.kernels.lists import next_of, prev_of
from shmalloc.kernels.objects import (
    cache_at,
    cache_of_word,
    cpu_part,
    entry_address,
    entry_base,
    entry_index,
    entry_order,
    free_link,
    free_of,
    inuse_of,
    is_debug,
    is_slab_of,
    list_state,
    node_of_slab,
    node_part,
    object_at,
    objects_of,
    owner_of,
)
from shmalloc.kernels.reporting import report
from shmalloc.kernels.slab import free_list_problem, full_state
from shmalloc.kernels.slab_debug import bad_bytes, bad_rest
from shmalloc.kernels.slab_format import objects_that_fit
from shmalloc.kernels.zone import descriptor_at, pfn_of_word
from shmalloc.units import (
    CacheId,
    CacheWords,
    Cpu,
    Entry,
    Int,
    Memory,
    NodeId,
    Pfn,
    SheafWords,
    Word0,
    Word1,
    WordIndex,
)
from shmalloc.words import fixed, load, load2, load_relaxed


@kernel
def complain(mem: Memory, cpu: Cpu, code: int, where: Int, expected: Int, found: Int) -> int:
    """1 and one report if the two numbers differ, else 0."""
    if expected == found:
        return 0
    report(mem, cpu, code, where, expected, found)
    return 1


@kernel
def wrong_counter(mem: Memory, cpu: Cpu, code: int, at: WordIndex, counted: int) -> int:
    """1 and one report if the counter at ``at`` differs from the count, else 0."""
    return complain(mem, cpu, code, c.AT_WORD | at, counted, load_relaxed(mem, at))


@unit
def audit_slabs(mem: Memory, cpu: Cpu) -> int:
    """Check every cache; returns the number of violations, each of them reported."""
    bad = 0
    for cache_id in range(fixed(mem, c.H_CACHES)):
        if load(mem, cache_at(mem, cache_id) + cs.K_STATE) != cs.CACHE_NONE:
            bad += audit_cache(mem, cpu, cache_id)
    return bad + audit_orphans(mem, cpu)


@unit
def audit_orphans(mem: Memory, cpu: Cpu) -> int:
    """Report slabs whose cache does not exist."""
    bad = 0
    pfn = 0
    while pfn < fixed(mem, c.H_PAGES):
        w0 = page_state(mem, pfn)
        if type_of(w0) == c.T_TAIL:
            pfn += 1
        else:
            if type_of(w0) == c.T_SLAB and not exists(mem, cache_of_word(w0)):
                report(mem, cpu, c.I_SLAB, pfn, -1, c.AT_CACHE | cache_of_word(w0))
                bad += 1
            pfn += 1 << order_of(w0)
    return bad


@kernel
def exists(mem: Memory, cache_id: CacheId) -> bool:
    return (
        cache_id < fixed(mem, c.H_CACHES)
        and load(mem, cache_at(mem, cache_id) + cs.K_STATE) != cs.CACHE_NONE
    )


@unit
def audit_cache(mem: Memory, cpu: Cpu, cache_id: CacheId) -> int:
    """Check one cache: its slabs one by one, then the sums."""
    cache = cache_at(mem, cache_id)
    bad = 0
    live = 0
    inuse = 0
    pfn = next_slab(mem, 0, cache_id)
    while pfn >= 0:
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        if list_state(w0) != cs.SLAB_FROZEN:
            bad += audit_slab(mem, cpu, cache, pfn, w0, w1)
            live += live_in_slab(mem, pfn, w0, w1)
            inuse += inuse_of(w1)
        pfn = next_slab(mem, pfn + (1 << order_of(w0)), cache_id)
    for node_id in range(fixed(mem, c.H_NODES)):
        bad += audit_node(mem, cpu, cache, cache_id, node_id)
    kept = objects_in_sheaves(mem, cache)
    bad += complain(mem, cpu, c.I_SHEAF, c.AT_CACHE | cache_id, inuse, live + kept)
    return bad + audit_sheaves(mem, cpu, cache, cache_id)


@unit
def audit_slab(mem: Memory, cpu: Cpu, cache: CacheWords, pfn: Pfn, w0: Word0, w1: Word1) -> int:
    """Check one slab that is not frozen: counters, free list, live map, bytes."""
    objects = objects_of(w1)
    bad = complain(mem, cpu, c.I_SLAB, pfn, objects_that_fit(mem, cache, order_of(w0)), objects)
    bad += complain(mem, cpu, c.I_SLAB, pfn, 0, w1 & c.S_FROZEN_BIT)
    if bad != 0:
        return bad
    expected = full_state(mem, cache)
    if free_of(w1) != 0:
        expected = c.SLAB_ON_PARTIAL
    bad += complain(mem, cpu, c.I_SLAB, pfn, expected, list_state(w0))
    if free_list_problem(mem, cpu, cache, pfn, w1, c.I_SLAB) != 0:
        return bad + 1
    bad += audit_free_list(mem, cpu, cache, pfn, w0, w1)
    if live_in_slab(mem, pfn, w0, w1) > inuse_of(w1):
        report(mem, cpu, c.I_SLAB, pfn, inuse_of(w1), live_in_slab(mem, pfn, w0, w1))
        bad += 1
    if is_debug(mem, cache):
        bad += audit_bytes(mem, cpu, cache, pfn, w0, objects)
    return bad


@kernel
def audit_free_list(
    mem: Memory, cpu: Cpu, cache: CacheWords, pfn: Pfn, w0: Word0, w1: Word1
) -> int:
    """Report live objects on the free list; the list itself is sound."""
    bad = 0
    following = free_of(w1)
    for _ in range(objects_of(w1) - inuse_of(w1)):
        address = object_at(mem, cache, pfn, following - 1)
        if owner_of(mem, pfn, order_of(w0), following - 1) != 0:
            report(mem, cpu, c.I_SLAB, address, 0, 1)
            bad += 1
        following = free_link(mem, cache, address)
    return bad


@kernel
def audit_bytes(mem: Memory, cpu: Cpu, cache: CacheWords, pfn: Pfn, w0: Word0, objects: int) -> int:
    """Check red zones, poison and leftovers of a debug slab."""
    bad = bad_rest(mem, cpu, cache, pfn, order_of(w0), objects, c.I_BYTES)
    for index in range(objects):
        live = 0
        if owner_of(mem, pfn, order_of(w0), index) != 0:
            live = 1
        bad += bad_bytes(mem, cpu, cache, object_at(mem, cache, pfn, index), live, c.I_BYTES)
    return bad


@kernel
def audit_node(mem: Memory, cpu: Cpu, cache: CacheWords, cache_id: CacheId, node_id: NodeId) -> int:
    """Check the lists and counters of one node against the descriptors."""
    lists = node_part(cache, node_id)
    partial = 0
    full = 0
    slabs = 0
    pfn = next_slab(mem, 0, cache_id)
    while pfn >= 0:
        w0 = page_state(mem, pfn)
        if node_of_slab(mem, w0) == node_id:
            state = list_state(w0)
            slabs += 1
            if state == c.SLAB_ON_PARTIAL:
                partial += 1
            if state == c.SLAB_ON_FULL:
                full += 1
        pfn = next_slab(mem, pfn + (1 << order_of(w0)), cache_id)
    bad = wrong_counter(mem, cpu, c.I_SLAB, lists + cs.KN_NR_SLABS, slabs)
    bad += wrong_counter(mem, cpu, c.I_SLAB, lists + cs.KN_NR_PARTIAL, partial)
    bad += wrong_counter(mem, cpu, c.I_SLAB, lists + cs.KN_NR_FULL, full)
    bad += audit_slab_list(mem, cpu, lists + cs.KN_PARTIAL, partial, cache_id, c.SLAB_ON_PARTIAL)
    return bad + audit_slab_list(mem, cpu, lists + cs.KN_FULL, full, cache_id, c.SLAB_ON_FULL)


@kernel
def audit_slab_list(
    mem: Memory, cpu: Cpu, head: WordIndex, length: int, cache_id: CacheId, state: int
) -> int:
    """Check that a list has ``length`` nodes, linked both ways, of slabs that name the list."""
    bad = 0
    before = head
    at = next_of(mem, head)
    for _ in range(length):
        if at == head or at == 0:
            break
        if prev_of(mem, at) != before:
            back = c.AT_WORD | prev_of(mem, at)
            report(mem, cpu, c.I_LIST_LINKS, c.AT_WORD | at, c.AT_WORD | before, back)
            return bad + 1
        pfn = head_of(mem, pfn_of_word(mem, at))
        if pfn < 0 or not is_slab_of(page_state(mem, pfn), cache_id):
            report(mem, cpu, c.I_SLAB, c.AT_WORD | at, c.AT_CACHE | cache_id, pfn)
            return bad + 1
        bad += complain(mem, cpu, c.I_SLAB, pfn, state, list_state(page_state(mem, pfn)))
        before = at
        at = next_of(mem, at)
    return bad + complain(
        mem, cpu, c.I_LIST_LINKS, c.AT_WORD | head, c.AT_WORD | head, c.AT_WORD | at
    )


@kernel
def objects_in_sheaves(mem: Memory, cache: CacheWords) -> int:
    """Sum of the sizes of all sheaves of a cache, wherever they are."""
    kept = 0
    for i in range(mem[cache + cs.K_SHEAF_COUNT]):
        kept += mem[mem[cache + cs.K_SHEAVES] + i * mem[cache + cs.K_SHEAF_STRIDE] + cs.SF_SIZE]
    return kept


@unit
def audit_sheaves(mem: Memory, cpu: Cpu, cache: CacheWords, cache_id: CacheId) -> int:
    """Check every sheaf of a cache: its place, its size, its objects."""
    bad = 0
    count = mem[cache + cs.K_SHEAF_COUNT]
    for node_id in range(fixed(mem, c.H_NODES)):
        lists = node_part(cache, node_id)
        full = barn_length(mem, lists + cs.KN_BARN_FULL, count)
        empty = barn_length(mem, lists + cs.KN_BARN_EMPTY, count)
        bad += wrong_counter(mem, cpu, c.I_SHEAF, lists + cs.KN_NR_BARN_FULL, full)
        bad += wrong_counter(mem, cpu, c.I_SHEAF, lists + cs.KN_NR_BARN_EMPTY, empty)
    for i in range(count):
        sheaf = mem[cache + cs.K_SHEAVES] + i * mem[cache + cs.K_SHEAF_STRIDE]
        bad += complain(mem, cpu, c.I_SHEAF, sheaf, 1, places_of(mem, cache, sheaf, count))
        size = mem[sheaf + cs.SF_SIZE]
        if size < 0 or size > mem[cache + cs.K_CAPACITY]:
            report(mem, cpu, c.I_SHEAF, sheaf, mem[cache + cs.K_CAPACITY], size)
            bad += 1
        else:
            bad += audit_entries(mem, cpu, cache, cache_id, i, size)
    return bad


@kernel
def barn_length(mem: Memory, head: WordIndex, limit: int) -> int:
    """Sheaves on a barn list, at most ``limit`` + 1."""
    length = 0
    at = mem[head]
    while at != 0 and length <= limit:
        length += 1
        at = mem[at + cs.SF_NEXT]
    return length


@kernel
def on_barn_list(mem: Memory, head: WordIndex, sheaf: SheafWords, limit: int) -> int:
    at = mem[head]
    for _ in range(limit):
        if at == sheaf:
            return 1
        if at == 0:
            return 0
        at = mem[at + cs.SF_NEXT]
    return 0


@kernel
def places_of(mem: Memory, cache: CacheWords, sheaf: SheafWords, limit: int) -> int:
    """In how many places a sheaf is: CPU slots and barns."""
    places = 0
    for victim in range(fixed(mem, c.H_CPUS)):
        part = cpu_part(mem, cache, victim)
        if mem[part + cs.KC_MAIN] == sheaf:
            places += 1
        if mem[part + cs.KC_SPARE] == sheaf:
            places += 1
    for node_id in range(fixed(mem, c.H_NODES)):
        lists = node_part(cache, node_id)
        places += on_barn_list(mem, lists + cs.KN_BARN_FULL, sheaf, limit)
        places += on_barn_list(mem, lists + cs.KN_BARN_EMPTY, sheaf, limit)
    return places


@kernel
def audit_entries(
    mem: Memory, cpu: Cpu, cache: CacheWords, cache_id: CacheId, number: int, size: int
) -> int:
    """Check the objects of sheaf ``number``: free objects of the cache, each in this place only."""
    bad = 0
    sheaf = mem[cache + cs.K_SHEAVES] + number * mem[cache + cs.K_SHEAF_STRIDE]
    for i in range(size):
        entry = mem[sheaf + cs.SF_OBJECTS + i]
        address = entry_address(entry)
        pfn = pfn_of_word(mem, entry_base(mem, entry))
        if not in_range(mem, pfn) or not is_slab_of(page_state(mem, pfn), cache_id):
            report(mem, cpu, c.I_SHEAF, address, c.AT_CACHE | cache_id, pfn)
            bad += 1
        elif address != object_at(mem, cache, pfn, entry_index(entry)):
            report(
                mem,
                cpu,
                c.I_SHEAF,
                address,
                object_at(mem, cache, pfn, entry_index(entry)),
                address,
            )
            bad += 1
        elif owner_of(mem, pfn, entry_order(entry), entry_index(entry)) != 0:
            report(mem, cpu, c.I_SHEAF, address, 0, 1)
            bad += 1
        elif is_kept_again(mem, cache, number, i, entry):
            report(mem, cpu, c.I_SHEAF, address, 1, 2)
            bad += 1
    return bad


@kernel
def is_kept_again(mem: Memory, cache: CacheWords, number: int, index: int, entry: Entry) -> bool:
    """Whether an entry is also later in its own sheaf or in a later one."""
    for other in range(number, mem[cache + cs.K_SHEAF_COUNT]):
        sheaf = mem[cache + cs.K_SHEAVES] + other * mem[cache + cs.K_SHEAF_STRIDE]
        first = 0
        if other == number:
            first = index + 1
        for i in range(first, mem[sheaf + cs.SF_SIZE]):
            if mem[sheaf + cs.SF_OBJECTS + i] == entry:
                return True
    return False
