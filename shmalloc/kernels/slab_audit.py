"""Walk and recount the slabs of every cache: I_SLAB, I_LIST_LINKS, I_BYTES.

The descriptors are the authority: a walk over pfns finds all slabs, then all redundant data is
compared::

    slab     free list length = objects - inuse, acyclic, no live object on it
             live objects <= inuse; says partial <=> has a free object; frozen: nothing is free
    node     slabs that say partial = length of the partial list = its counter; same for full;
             all slabs and frozen slabs = their counters
    cache    sum of inuse = live objects + objects in sheaves (sheaf_audit.py has the sheaves)
    owners   free: 0, or the mark of the claim that put it back; live: a life of a claim
    bytes    red zones, poison and leftovers of debug caches; zeroes of init_on_free

For a quiet allocator: no CPU is inside an operation. An object in flight between a slab and a sheaf
would be counted in neither. Changes nothing but the report table.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.audit_cache import audit_descriptor, stands
from shmalloc.kernels.audit_header import audit_header
from shmalloc.kernels.audit_report import complain, is_link, wrong_word
from shmalloc.kernels.bits import legal_head, order_of, type_of
from shmalloc.kernels.cache_set import live_in_slab
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.lists import next_of, prev_of
from shmalloc.kernels.object_init import unwiped_word
from shmalloc.kernels.objects import (
    cache_at,
    cache_of_word,
    counters,
    free_link,
    free_of,
    inuse_of,
    is_debug,
    is_live,
    is_slab_of,
    list_state,
    node_of_slab,
    node_part,
    object_at,
    objects_of,
    owner_at,
    owner_of,
)
from shmalloc.kernels.reporting import report
from shmalloc.kernels.sheaf_audit import audit_sheaves, kept_in_sheaves
from shmalloc.kernels.slab import free_list_problem, full_state
from shmalloc.kernels.slab_debug import bad_bytes, bad_rest
from shmalloc.kernels.slab_format import objects_that_fit
from shmalloc.kernels.slab_lists import next_slab, slab_of_node
from shmalloc.kernels.zone import descriptor_at, frame_at
from shmalloc.units import (
    CacheId,
    CacheWords,
    Claim,
    Memory,
    NodeId,
    Owner,
    Pfn,
    Word0,
    Word1,
    WordIndex,
)
from shmalloc.words import fixed, load2, load_relaxed


@unit
def audit_slabs(mem: Memory, claim: Claim) -> int:
    """Check every cache; returns the number of violations, each of them reported."""
    bad = audit_header(mem, claim)
    if bad != 0:  # it leads everywhere else
        return bad
    for cache_id in range(fixed(mem, c.H_CACHES)):
        wrong = audit_descriptor(mem, claim, cache_id)
        if wrong == 0 and stands(mem, cache_id):
            wrong = audit_cache(mem, claim, cache_id)
        bad += wrong
    return bad + audit_orphans(mem, claim)


@unit
def audit_orphans(mem: Memory, claim: Claim) -> int:
    """Report slabs whose cache does not exist, and pages of sheaves that no cache names."""
    bad = 0
    pfn = 0
    while pfn < fixed(mem, c.H_PAGES):
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        if type_of(w0) == c.T_SLAB and not exists(mem, cache_of_word(w0)):
            report(mem, claim, c.I_SLAB, pfn, -1, c.AT_CACHE | cache_of_word(w0))
            bad += 1
        if type_of(w0) == c.T_ALLOCATED and w1 == cs.OWNER_SHEAVES and not names(mem, pfn):
            report(mem, claim, c.I_SHEAF, pfn, 1, 0)
            bad += 1
        pfn += span_of(mem, pfn, w0)
    return bad


@kernel
def span_of(mem: Memory, pfn: Pfn, w0: Word0) -> int:
    """Pages to step over, 1 at a tail and at what no block can be."""
    if legal_head(w0, pfn, fixed(mem, c.H_MAX_ORDER), fixed(mem, c.H_ZONES)):
        return 1 << order_of(w0)
    return 1


@kernel
def exists(mem: Memory, cache_id: CacheId) -> bool:
    return cache_id < fixed(mem, c.H_CACHES) and stands(mem, cache_id)


@kernel
def names(mem: Memory, pfn: Pfn) -> bool:
    """Whether a cache keeps its sheaves at ``pfn``."""
    for cache_id in range(fixed(mem, c.H_CACHES)):
        cache = cache_at(mem, cache_id)
        if mem[cache + cs.K_SHEAF_COUNT] > 0 and mem[cache + cs.K_SHEAF_PFN] == pfn:
            if stands(mem, cache_id):
                return True
    return False


@unit
def audit_cache(mem: Memory, claim: Claim, cache_id: CacheId) -> int:
    """Check one cache, whose descriptor is sealed: its slabs one by one, then the sums."""
    cache = cache_at(mem, cache_id)
    bad = 0
    used = 0  # objects that are not on a free list, and not live
    pfn = next_slab(mem, 0, cache_id)
    while pfn >= 0:
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        wrong = audit_slab_words(mem, claim, cache, pfn, w0, w1)
        if wrong == 0 and list_state(w0) != cs.SLAB_FROZEN:
            wrong = audit_slab(mem, claim, cache, pfn, w0, w1)
            used += inuse_of(w1) - live_in_slab(mem, pfn, w0, w1)
        bad += wrong
        pfn = next_slab(mem, pfn + span_of(mem, pfn, w0), cache_id)
    for node_id in range(fixed(mem, c.H_NODES)):
        bad += audit_node(mem, claim, cache, cache_id, node_id)
    wrong = audit_sheaves(mem, claim, cache, cache_id)
    if wrong == 0:
        kept = kept_in_sheaves(mem, cache)
        bad += complain(mem, claim, c.I_SHEAF, c.AT_CACHE | cache_id, used, kept)
    return bad + wrong


@kernel
def audit_slab_words(
    mem: Memory, claim: Claim, cache: CacheWords, pfn: Pfn, w0: Word0, w1: Word1
) -> int:
    """Check that a slab lies where a block can, and has the objects that fit into it."""
    legal = legal_head(w0, pfn, fixed(mem, c.H_MAX_ORDER), fixed(mem, c.H_ZONES))
    if not legal or pfn + (1 << order_of(w0)) > fixed(mem, c.H_PAGES):
        report(mem, claim, c.I_SLAB, pfn, c.IS_TYPE | c.T_SLAB, w0)
        return 1
    objects = objects_that_fit(mem, cache, order_of(w0))
    bad = complain(mem, claim, c.I_SLAB, pfn, objects, objects_of(w1))
    if w1 < 0:
        bad += complain(mem, claim, c.I_SLAB, pfn, 0, 1)
    if list_state(w0) != cs.SLAB_FROZEN:
        return bad + complain(mem, claim, c.I_SLAB, pfn, 0, w1 & c.S_FROZEN_BIT)
    fields = (1 << c.S_VERSION_SHIFT) - 1
    frozen = counters(w1, 0, objects, objects) & fields | c.S_FROZEN_BIT
    return bad + complain(mem, claim, c.I_SLAB, pfn, frozen, w1 & fields)


@unit
def audit_slab(mem: Memory, claim: Claim, cache: CacheWords, pfn: Pfn, w0: Word0, w1: Word1) -> int:
    """Check one slab that is not frozen: free list, owner words, bytes."""
    objects = objects_of(w1)
    expected = full_state(mem, cache)
    if free_of(w1) != 0:
        expected = c.SLAB_ON_PARTIAL
    bad = complain(mem, claim, c.I_SLAB, pfn, expected, list_state(w0))
    if free_list_problem(mem, claim, cache, pfn, w1, c.I_SLAB) != 0:
        return bad + 1
    bad += audit_free_list(mem, claim, cache, pfn, w0, w1)
    bad += audit_owner_words(mem, claim, pfn, w0, objects)
    if live_in_slab(mem, pfn, w0, w1) > inuse_of(w1):
        report(mem, claim, c.I_SLAB, pfn, inuse_of(w1), live_in_slab(mem, pfn, w0, w1))
        bad += 1
    if is_debug(mem, cache):
        bad += audit_bytes(mem, claim, cache, pfn, w0, objects)
    return bad + audit_wiped(mem, claim, cache, pfn, w0, objects)


@kernel
def audit_wiped(
    mem: Memory, claim: Claim, cache: CacheWords, pfn: Pfn, w0: Word0, objects: int
) -> int:
    """Report free objects that are not zero although the geometry says init_on_free."""
    bad = 0
    if fixed(mem, c.H_INIT) & c.INIT_FREE != 0:
        for index in range(objects):
            if owner_of(mem, pfn, order_of(w0), index) == 0:
                at = unwiped_word(mem, cache, object_at(mem, cache, pfn, index))
                if at >= 0:
                    report(mem, claim, c.I_BYTES, at, 0, mem[at])
                    bad += 1
    return bad


@kernel
def audit_free_list(
    mem: Memory, claim: Claim, cache: CacheWords, pfn: Pfn, w0: Word0, w1: Word1
) -> int:
    """Report live objects on the free list; the list itself is sound."""
    bad = 0
    following = free_of(w1)
    for _ in range(objects_of(w1) - inuse_of(w1)):
        address = object_at(mem, cache, pfn, following - 1)
        if owner_of(mem, pfn, order_of(w0), following - 1) != 0:
            report(mem, claim, c.I_SLAB, address, 0, 1)
            bad += 1
        following = free_link(mem, cache, address)
    return bad


@kernel
def audit_owner_words(mem: Memory, claim: Claim, pfn: Pfn, w0: Word0, objects: int) -> int:
    """Report owner words that are neither 0 nor a life of a claim, marked or not."""
    bad = 0
    for index in range(objects):
        at = owner_at(mem, frame_at(mem, pfn), order_of(w0), index)
        owner = load_relaxed(mem, at)
        if owner != 0 and not names_a_life(mem, owner):
            report(mem, claim, c.I_SLAB, c.AT_WORD | at, 0, owner)
            bad += 1
    return bad


@kernel
def names_a_life(mem: Memory, owner: Owner) -> bool:
    """Whether an owner word names a claim: live objects bear its life, free ones perhaps a mark."""
    life = owner
    if not is_live(owner):
        life = owner & ~(cs.GIVEN | cs.KEPT)
    holder = life & c.LOCK_HOLDER_MASK
    low = life & ((1 << c.LIFE_EPOCH_SHIFT) - 1)
    return life > 0 and low == holder and 0 < holder <= load_relaxed(mem, c.H_CLAIMS_USED)


@kernel
def audit_bytes(
    mem: Memory, claim: Claim, cache: CacheWords, pfn: Pfn, w0: Word0, objects: int
) -> int:
    """Check red zones, poison and leftovers of a debug slab."""
    bad = bad_rest(mem, claim, cache, pfn, order_of(w0), objects, c.I_BYTES)
    for index in range(objects):
        live = 0
        if owner_of(mem, pfn, order_of(w0), index) != 0:
            live = 1
        bad += bad_bytes(mem, claim, cache, object_at(mem, cache, pfn, index), live, c.I_BYTES)
    return bad


@kernel
def audit_node(
    mem: Memory, claim: Claim, cache: CacheWords, cache_id: CacheId, node_id: NodeId
) -> int:
    """Check the lists and counters of one node against the descriptors."""
    lists = node_part(mem, cache, node_id)
    partial = 0
    full = 0
    frozen = 0
    slabs = 0
    pfn = next_slab(mem, 0, cache_id)
    while pfn >= 0:
        w0 = page_state(mem, pfn)
        if node_of_slab(mem, w0) == node_id:
            state = list_state(w0)
            slabs += 1
            partial += int(state == c.SLAB_ON_PARTIAL)
            full += int(state == c.SLAB_ON_FULL)
            frozen += int(state == cs.SLAB_FROZEN)
        pfn = next_slab(mem, pfn + span_of(mem, pfn, w0), cache_id)
    bad = wrong_word(mem, claim, c.I_SLAB, lists + cs.KN_NR_SLABS, slabs)
    bad += wrong_word(mem, claim, c.I_SLAB, lists + cs.KN_NR_PARTIAL, partial)
    bad += wrong_word(mem, claim, c.I_SLAB, lists + cs.KN_NR_FULL, full)
    bad += wrong_word(mem, claim, c.I_SLAB, lists + cs.KN_NR_FROZEN, frozen)
    bad += audit_slab_list(mem, claim, lists + cs.KN_PARTIAL, partial, cache_id, c.SLAB_ON_PARTIAL)
    return bad + audit_slab_list(mem, claim, lists + cs.KN_FULL, full, cache_id, c.SLAB_ON_FULL)


@kernel
def audit_slab_list(
    mem: Memory, claim: Claim, head: WordIndex, length: int, cache_id: CacheId, state: int
) -> int:
    """Check that a list has ``length`` nodes, linked both ways, of slabs that name the list."""
    bad = 0
    before = head
    at = next_of(mem, head)
    for _ in range(length):
        if at == head or at == 0:
            break
        pfn = slab_of_node(mem, at)
        if pfn < 0 or not is_slab_of(page_state(mem, pfn), cache_id):
            report(mem, claim, c.I_SLAB, c.AT_WORD | at, c.AT_CACHE | cache_id, pfn)
            return bad + 1
        if prev_of(mem, at) != before or not is_link(mem[at]) or not is_link(mem[at + 1]):
            back = c.AT_WORD | prev_of(mem, at)
            report(mem, claim, c.I_LIST_LINKS, c.AT_WORD | at, c.AT_WORD | before, back)
            return bad + 1
        bad += complain(mem, claim, c.I_SLAB, pfn, state, list_state(page_state(mem, pfn)))
        before = at
        at = next_of(mem, at)
    if prev_of(mem, head) != before or not is_link(mem[head]) or not is_link(mem[head + 1]):
        report(mem, claim, c.I_LIST_LINKS, c.AT_WORD | (head + 1), c.AT_WORD | before, 0)
        bad += 1
    return bad + complain(
        mem, claim, c.I_LIST_LINKS, c.AT_WORD | head, c.AT_WORD | head, c.AT_WORD | at
    )
