"""Check the words of a cache descriptor that say what the cache is, before anything follows them.

``cache_create`` writes them once and seals them (object_layout.py). A cache that exists is sealed
and no process destroys it; K_MIN_PARTIAL is 0 as soon as it is dying. The words of an id without a
cache mean nothing, except that a cache that was never destroyed cannot be gone.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.audit_report import complain, outside, wrong_word
from shmalloc.kernels.object_layout import seal_of, slabs_to_keep
from shmalloc.kernels.objects import cache_at
from shmalloc.units import CacheId, CacheWords, Claim, Memory
from shmalloc.words import load_relaxed


@unit
def audit_descriptor(mem: Memory, claim: Claim, cache_id: CacheId) -> int:
    """Check one descriptor; the number of violations, each of them reported."""
    cache = cache_at(mem, cache_id)
    state = load_relaxed(mem, cache + cs.K_STATE)
    if state == cs.CACHE_NONE:
        if load_relaxed(mem, cache + cs.K_DESTROYER) != 0:
            return 0
        return complain(
            mem, claim, c.I_FIXED, c.AT_WORD | (cache + cs.K_STATE), 0, mem[cache + cs.K_SEAL]
        )
    bad = outside(mem, claim, cache + cs.K_STATE, cs.CACHE_LIVE, cs.CACHE_DYING)
    bad += wrong_word(mem, claim, c.I_FIXED, cache + cs.K_ID, cache_id)
    bad += wrong_word(mem, claim, c.I_FIXED, cache + cs.K_DESTROYER, 0)
    for i in range(cs.K_ID, cs.K_SECRET + 1):
        bad += outside(mem, claim, cache + i, 0, cs.SEAL_MASK)
    if bad == 0:
        bad = wrong_word(mem, claim, c.I_FIXED, cache + cs.K_SEAL, seal_of(mem, cache))
    if bad == 0:
        bad = audit_keeping(mem, claim, cache, state)
    return bad


@kernel
def audit_keeping(mem: Memory, claim: Claim, cache: CacheWords, state: int) -> int:
    """Check how many empty slabs the cache keeps; its geometry is sealed."""
    kept = 0
    if state == cs.CACHE_LIVE:
        kept = slabs_to_keep(mem, cache)
    return wrong_word(mem, claim, c.I_FIXED, cache + cs.K_MIN_PARTIAL, kept)


@kernel
def stands(mem: Memory, cache_id: CacheId) -> bool:
    """Whether there is a cache of that id: live, or dying."""
    return load_relaxed(mem, cache_at(mem, cache_id) + cs.K_STATE) != cs.CACHE_NONE
