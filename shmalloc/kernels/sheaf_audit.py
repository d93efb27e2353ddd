"""Check the sheaves of one cache, whose descriptor is sealed: I_SHEAF.

Every sheaf is in exactly one place, a CPU's main or spare or a list of a barn, and its own word
says which. It holds at most as many objects as its capacity; an entry names an object of a slab of
this cache that is free, on no free list and in no other sheaf. A list of a barn has the sheaves
that it counts, those with objects on one and the empty ones on the other.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.audit_report import complain, wrong_word
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.descriptor import in_range
from shmalloc.kernels.object_chain import on_free_list
from shmalloc.kernels.objects import (
    cpu_part,
    entry_address,
    entry_base,
    entry_index,
    entry_of,
    entry_order,
    first_node_part,
    is_slab_of,
    node_part,
    object_at,
    objects_of,
    owner_of,
)
from shmalloc.kernels.reporting import report
from shmalloc.kernels.slab_format import objects_that_fit
from shmalloc.kernels.zone import descriptor_at, pfn_of_word
from shmalloc.units import (
    CacheId,
    CacheWords,
    Claim,
    Cpu,
    Entry,
    Int,
    Memory,
    Pfn,
    SheafWords,
    WordIndex,
)
from shmalloc.words import fixed, load2, load_relaxed


@unit
def audit_sheaves(mem: Memory, claim: Claim, cache: CacheWords, cache_id: CacheId) -> int:
    """Check every sheaf of a cache: its place, its size, its objects; the number of violations."""
    bad = audit_sheaf_pages(mem, claim, cache)
    for node_id in range(fixed(mem, c.H_NODES)):
        lists = node_part(mem, cache, node_id)
        bad += audit_barn(mem, claim, cache, lists + cs.KN_BARN_FULL)
        bad += audit_barn(mem, claim, cache, lists + cs.KN_BARN_EMPTY)
    for victim in range(fixed(mem, c.H_CPUS)):
        part = cpu_part(mem, cache, victim)
        bad += audit_pointer(mem, claim, cache, part + cs.KC_MAIN)
        bad += audit_pointer(mem, claim, cache, part + cs.KC_SPARE)
    for i in range(mem[cache + cs.K_SHEAF_COUNT]):
        size = mem[nth_sheaf(mem, cache, i) + cs.SF_SIZE]
        if not 0 <= size <= mem[cache + cs.K_CAPACITY]:
            most = mem[cache + cs.K_CAPACITY]
            report(mem, claim, c.I_SHEAF, nth_sheaf(mem, cache, i), most, size)
            bad += 1
    if bad != 0:  # what follows relies on these pointers and sizes
        return bad
    for i in range(mem[cache + cs.K_SHEAF_COUNT]):
        bad += audit_sheaf(mem, claim, cache, cache_id, i)
    return bad


@kernel
def nth_sheaf(mem: Memory, cache: CacheWords, number: int) -> SheafWords:
    return mem[cache + cs.K_SHEAVES] + number * mem[cache + cs.K_SHEAF_STRIDE]


@kernel
def is_sheaf(mem: Memory, cache: CacheWords, at: WordIndex) -> bool:
    """Whether a sheaf of the cache starts at ``at``."""
    count = mem[cache + cs.K_SHEAF_COUNT]
    stride = mem[cache + cs.K_SHEAF_STRIDE]
    distance = at - mem[cache + cs.K_SHEAVES]
    return count > 0 and 0 <= distance < count * stride and distance % stride == 0


@kernel
def audit_sheaf_pages(mem: Memory, claim: Claim, cache: CacheWords) -> int:
    """Check that the pages of the sheaves belong to the allocator."""
    if mem[cache + cs.K_SHEAF_COUNT] == 0:
        return 0
    pfn = mem[cache + cs.K_SHEAF_PFN]
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    if type_of(w0) == c.T_ALLOCATED and order_of(w0) == mem[cache + cs.K_SHEAF_ORDER]:
        return complain(mem, claim, c.I_SHEAF, pfn, cs.OWNER_SHEAVES, w1)
    report(mem, claim, c.I_SHEAF, pfn, c.IS_TYPE | c.T_ALLOCATED, w0)
    return 1


@kernel
def audit_pointer(mem: Memory, claim: Claim, cache: CacheWords, at: WordIndex) -> int:
    """Check a CPU's pointer to a sheaf: 0, or a sheaf that says it is there."""
    sheaf = mem[at]
    if sheaf == 0 or is_sheaf(mem, cache, sheaf):
        return 0
    report(mem, claim, c.I_SHEAF, c.AT_WORD | at, mem[cache + cs.K_SHEAVES], sheaf)
    return 1


@kernel
def audit_barn(mem: Memory, claim: Claim, cache: CacheWords, head: WordIndex) -> int:
    """Check one list of a barn: sheaves, as many as it counts, of its kind."""
    length = 0
    at = head
    sheaf = mem[head]
    full = int((head - cache - first_node_part(mem)) % cs.KN_STRIDE == cs.KN_BARN_FULL)
    while sheaf != 0 and length <= mem[cache + cs.K_SHEAF_COUNT]:
        if not is_sheaf(mem, cache, sheaf):
            report(mem, claim, c.I_SHEAF, c.AT_WORD | at, mem[cache + cs.K_SHEAVES], sheaf)
            return 1
        if int(mem[sheaf + cs.SF_SIZE] != 0) != full:
            report(mem, claim, c.I_SHEAF, sheaf, full, mem[sheaf + cs.SF_SIZE])
            return 1
        length += 1
        at = sheaf + cs.SF_NEXT
        sheaf = mem[at]
    return wrong_word(mem, claim, c.I_SHEAF, head + 1, length)


@kernel
def kept_in_sheaves(mem: Memory, cache: CacheWords) -> int:
    """Sum of the sizes of all sheaves of a cache, wherever they are."""
    kept = 0
    for i in range(mem[cache + cs.K_SHEAF_COUNT]):
        kept += mem[nth_sheaf(mem, cache, i) + cs.SF_SIZE]
    return kept


@kernel
def audit_sheaf(
    mem: Memory, claim: Claim, cache: CacheWords, cache_id: CacheId, number: int
) -> int:
    """Check that a sheaf is in one place, the one that it names, and check its entries."""
    sheaf = nth_sheaf(mem, cache, number)
    bad = complain(mem, claim, c.I_SHEAF, sheaf, 1, places_of(mem, cache, sheaf))
    if bad == 0:
        bad = complain(
            mem,
            claim,
            c.I_SHEAF,
            c.AT_WORD | (sheaf + cs.SF_WHERE),
            place_of(mem, cache, sheaf),
            mem[sheaf + cs.SF_WHERE],
        )
    for i in range(mem[sheaf + cs.SF_SIZE]):
        bad += audit_entry(mem, claim, cache, cache_id, number, i)
    return bad


@kernel
def on_barn_list(mem: Memory, cache: CacheWords, head: WordIndex, sheaf: SheafWords) -> int:
    """1 if a list, which was found sound, has the sheaf, else 0."""
    at = mem[head]
    for _ in range(mem[cache + cs.K_SHEAF_COUNT]):
        if at == sheaf:
            return 1
        if at == 0:
            return 0
        at = mem[at + cs.SF_NEXT]
    return 0


@kernel
def at_cpu(mem: Memory, cache: CacheWords, victim: Cpu, sheaf: SheafWords) -> int:
    """How many of a CPU's two pointers lead to the sheaf."""
    part = cpu_part(mem, cache, victim)
    return int(mem[part + cs.KC_MAIN] == sheaf) + int(mem[part + cs.KC_SPARE] == sheaf)


@kernel
def in_barn(mem: Memory, cache: CacheWords, node_id: int, sheaf: SheafWords) -> int:
    """On how many of a barn's two lists the sheaf is."""
    lists = node_part(mem, cache, node_id)
    found = on_barn_list(mem, cache, lists + cs.KN_BARN_FULL, sheaf)
    return found + on_barn_list(mem, cache, lists + cs.KN_BARN_EMPTY, sheaf)


@kernel
def places_of(mem: Memory, cache: CacheWords, sheaf: SheafWords) -> int:
    """In how many places a sheaf is: CPUs and barns."""
    places = 0
    for victim in range(fixed(mem, c.H_CPUS)):
        places += at_cpu(mem, cache, victim, sheaf)
    for node_id in range(fixed(mem, c.H_NODES)):
        places += in_barn(mem, cache, node_id, sheaf)
    return places


@kernel
def place_of(mem: Memory, cache: CacheWords, sheaf: SheafWords) -> Int:
    """The part of the descriptor whose CPU or barn has the sheaf."""
    for victim in range(fixed(mem, c.H_CPUS)):
        if at_cpu(mem, cache, victim, sheaf) != 0:
            return cpu_part(mem, cache, victim)
    for node_id in range(fixed(mem, c.H_NODES)):
        if in_barn(mem, cache, node_id, sheaf) != 0:
            return node_part(mem, cache, node_id)
    return 0


@kernel
def audit_entry(
    mem: Memory, claim: Claim, cache: CacheWords, cache_id: CacheId, number: int, position: int
) -> int:
    """Check one entry of sheaf ``number``: a free object of the cache, in this place only."""
    at = nth_sheaf(mem, cache, number) + cs.SF_OBJECTS + position
    entry = mem[at]
    pfn = slab_of_entry(mem, cache, cache_id, entry)
    if pfn < 0:
        report(mem, claim, c.I_SHEAF, c.AT_WORD | at, c.AT_CACHE | cache_id, entry & cs.REPORT_MASK)
        return 1
    w1 = load_relaxed(mem, descriptor_at(mem, pfn) + 1)
    if owner_of(mem, pfn, entry_order(entry), entry_index(entry)) != 0:
        report(mem, claim, c.I_SHEAF, entry_address(entry), 0, 1)
        return 1
    twice = on_free_list(mem, cache, pfn, w1, entry_index(entry) + 1)
    if twice or is_kept_again(mem, cache, number, position, entry):
        report(mem, claim, c.I_SHEAF, entry_address(entry), 1, 2)
        return 1
    return 0


@kernel
def slab_of_entry(mem: Memory, cache: CacheWords, cache_id: CacheId, entry: Entry) -> Pfn:
    """The slab whose object an entry names in full; -1 if there is none."""
    pfn = pfn_of_word(mem, entry_base(mem, entry))
    if entry < 0 or not in_range(mem, pfn):
        return -1
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    order = order_of(w0)
    index = entry_index(entry)
    if index >= objects_of(w1):
        return -1
    known = is_slab_of(w0, cache_id) and pfn + (1 << order) <= fixed(mem, c.H_PAGES)
    if not known or objects_of(w1) != objects_that_fit(mem, cache, order):
        return -1
    if entry != entry_of(object_at(mem, cache, pfn, index), index, order):
        return -1
    return pfn


@kernel
def is_kept_again(mem: Memory, cache: CacheWords, number: int, index: int, entry: Entry) -> bool:
    """Whether an entry is also later in its own sheaf or in a later one; all sizes are in range."""
    for other in range(number, mem[cache + cs.K_SHEAF_COUNT]):
        sheaf = nth_sheaf(mem, cache, other)
        first = 0
        if other == number:
            first = index + 1
        for i in range(first, mem[sheaf + cs.SF_SIZE]):
            if mem[sheaf + cs.SF_OBJECTS + i] == entry:
                return True
    return False
