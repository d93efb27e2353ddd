"""Objects that are zero when they are handed out, or when they come back (H_INIT).

Linux's init_on_alloc and init_on_free, for caches whose bytes are not decided otherwise: not with
a template, whose image must survive, and not with CF_POISON, whose pattern is checked. Pages are
filled by fill.py.

INIT_ALLOC    all words of the object are zero when its owner gets it
INIT_FREE     they are zero as long as it is free, but for the free pointer, which is wiped when it
              is handed out: nothing of an owner is there for who reads free memory

Rules. An object is wiped when its free has won, and before anything else can hand it out; what a
process that died in between had not wiped, recovery wipes (recover_objects.py). A chain's links lie
in its objects, so one that is taken is initialized when the intent that names it is over.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import hot, kernel, unit
from shmalloc.units import CacheWords, Memory, ObjectAddress, WordIndex
from shmalloc.words import fixed


@hot
def init_on_alloc(mem: Memory, cache: CacheWords, address: ObjectAddress) -> None:
    """Make an object that has just become ours what its owner shall find."""
    if fixed(mem, c.H_INIT) != 0:
        init_object(mem, cache, address)


@hot
def init_on_free(mem: Memory, cache: CacheWords, address: ObjectAddress) -> None:
    """Wipe an object whose life ends."""
    if fixed(mem, c.H_INIT) & c.INIT_FREE != 0:
        wipe_object(mem, cache, address)


@kernel
def is_initialized(mem: Memory, cache: CacheWords) -> bool:
    """Whether H_INIT means the objects of this cache (Linux: slab_want_init_on_alloc)."""
    return mem[cache + cs.K_TEMPLATE] == 0 and mem[cache + cs.K_FLAGS] & cs.CF_POISON == 0


@unit
def init_object(mem: Memory, cache: CacheWords, address: ObjectAddress) -> None:
    if not is_initialized(mem, cache):
        return
    if fixed(mem, c.H_INIT) & c.INIT_ALLOC != 0:
        wipe_object(mem, cache, address)
    mem[address + mem[cache + cs.K_LINK]] = 0


@unit
def wipe_object(mem: Memory, cache: CacheWords, address: ObjectAddress) -> None:
    if is_initialized(mem, cache):
        for at in range(address, address + mem[cache + cs.K_OBJECT_WORDS]):
            mem[at] = 0


@kernel
def unwiped_word(mem: Memory, cache: CacheWords, address: ObjectAddress) -> WordIndex:
    """The first word of a free object that should be zero and is not, or -1."""
    if fixed(mem, c.H_INIT) & c.INIT_FREE == 0 or not is_initialized(mem, cache):
        return -1
    for at in range(address, address + mem[cache + cs.K_OBJECT_WORDS]):
        if mem[at] != 0 and at != address + mem[cache + cs.K_LINK]:
            return at
    return -1
