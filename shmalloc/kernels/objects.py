"""Where the objects of a slab lie, and which claim owns each.

A slab is one block of pages, cut into objects; its bookkeeping is at its end::

    [ K_FIRST | object 0 | object 1 | ...     | owner words, grow down | list node: 2 words ]
              |<- K_STRIDE ->|                  ... of 1 | of 0        |

One owner word for each object: 0 while it is free (in its slab or in a sheaf), else the lock word
of the claim that allocated it, its number and epoch (lock.py). With GIVEN the object is also free:
that claim put it back in its slab, and no CPU has taken it since (slot_intent.py); with KEPT, that
claim is putting it into a sheaf (sheaf.py). The word tells a live object from a free one, names
what a dead process held, and costs one plain store each way: a bit map would need an atomic
operation, since neighbours in one word belong to different CPUs, and a sheaf pair would cost twice
as much (docs/decisions/, "owner words").

A free pointer holds index + 1 of the next free object (0: last), xored with a secret of its cache
and its own address, swabbed, if the geometry gives a secret (H_HARDEN; Linux:
CONFIG_SLAB_FREELIST_HARDENED). So a pointer that is overwritten is none. It is plain data of
the owner of the free object: the holder of a chain, or the slab's free list, which other CPUs only
extend at its head.

A sheaf keeps an object as an entry, which saves looking it up again::

    [ word address | index in its slab: 16 bits | order of its slab: 4 bits ]

This file changes no list and no counter (slab.py does).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import hot, kernel
from shmalloc.kernels.bits import order_of, zone_of_word
from shmalloc.kernels.reporting import cpu_at, cpu_of
from shmalloc.kernels.zone import frame_at, zone_at
from shmalloc.units import (
    CacheId,
    CacheWords,
    Chain,
    Claim,
    Cpu,
    CpuPart,
    Entry,
    Memory,
    NodeId,
    NodePart,
    ObjectAddress,
    Order,
    Owner,
    Pfn,
    Word0,
    Word1,
    WordIndex,
)
from shmalloc.words import cas, fixed, load_relaxed, store, store_relaxed


@kernel
def add(mem: Memory, at: WordIndex, delta: int) -> None:
    """Change a counter that is written under a lock and read without it."""
    store_relaxed(mem, at, load_relaxed(mem, at) + delta)


@hot
def cache_at(mem: Memory, cache_id: CacheId) -> CacheWords:
    """Word index of a cache descriptor."""
    return fixed(mem, c.H_AT_CACHES) + cache_id * fixed(mem, c.H_CACHE_STRIDE)


@hot
def node_part(mem: Memory, cache: CacheWords, node_id: NodeId) -> NodePart:
    """Word index of the part of cache ``cache`` that belongs to a node."""
    return +(cache + first_node_part(mem) + node_id * cs.KN_STRIDE)


@hot
def first_node_part(mem: Memory) -> int:
    """Offset of the node parts in a cache descriptor: behind those of all CPUs."""
    return cs.K_CPUS + fixed(mem, c.H_CPUS) * cs.KC_STRIDE


@hot
def cpu_part(mem: Memory, cache: CacheWords, cpu: Cpu) -> CpuPart:
    """Word index of the part of cache ``cache`` that belongs to CPU ``cpu``."""
    return +(cache + cs.K_CPUS + cpu * cs.KC_STRIDE)


@hot
def own_part(mem: Memory, cache: CacheWords, claim: Claim) -> CpuPart:
    """The part of the CPU that claim ``claim`` is on."""
    return cpu_part(mem, cache, cpu_of(mem, claim))


@hot
def cpu_node(mem: Memory, cpu: Cpu) -> NodeId:
    """The home node of CPU ``cpu``."""
    return fixed(mem, cpu_at(mem, cpu) + c.C_NODE)


@hot
def home_node(mem: Memory, claim: Claim) -> NodeId:
    """The home node of the CPU that claim ``claim`` is on."""
    return cpu_node(mem, cpu_of(mem, claim))


@hot
def node_of_slab(mem: Memory, w0: Word0) -> NodeId:
    """The node whose lists a slab is on: that of its zone."""
    return fixed(mem, zone_at(mem, zone_of_word(w0)) + c.Z_NODE)


@hot
def is_debug(mem: Memory, cache: CacheWords) -> bool:
    return mem[cache + cs.K_FLAGS] & cs.CF_DEBUG != 0


@hot
def is_exact(mem: Memory, cache: CacheWords) -> bool:
    """Whether, of two concurrent frees of one object, one always loses."""
    return mem[cache + cs.K_FLAGS] & cs.CF_EXACT != 0


@hot
def is_slab_of(w0: Word0, cache_id: CacheId) -> bool:
    """Whether word 0 of a descriptor says: slab of ``cache_id``."""
    mask = c.TYPE_MASK | c.SLAB_CACHE_MASK << c.LINK_SHIFT
    return w0 & mask == c.T_SLAB | cache_id << c.LINK_SHIFT


@hot
def cache_of_word(w0: Word0) -> CacheId:
    return (w0 >> c.LINK_SHIFT) & c.SLAB_CACHE_MASK


@hot
def list_state(w0: Word0) -> int:
    """Which list a slab is on: SLAB_OFF_LIST, ON_PARTIAL, ON_FULL or FROZEN."""
    return (w0 >> (c.LINK_SHIFT + c.SLAB_LIST_SHIFT)) & c.SLAB_LIST_MASK


@kernel
def free_of(w1: Word1) -> int:
    """Index + 1 of the first free object, 0: none."""
    return (w1 >> c.S_FREE_SHIFT) & c.S_FREE_MASK


@kernel
def inuse_of(w1: Word1) -> int:
    """Objects that are not on the free list: live, or in a sheaf."""
    return (w1 >> c.S_INUSE_SHIFT) & c.S_INUSE_MASK


@kernel
def objects_of(w1: Word1) -> int:
    return (w1 >> c.S_OBJECTS_SHIFT) & c.S_OBJECTS_MASK


@kernel
def counters(w1: Word1, free: int, inuse: int, objects: int) -> Word1:
    """The next word 1: new fields, and a version that no earlier life of the slab had (ABA)."""
    version = ((w1 >> c.S_VERSION_SHIFT) + 1) & c.S_VERSION_MASK
    return (
        free << c.S_FREE_SHIFT
        | inuse << c.S_INUSE_SHIFT
        | objects << c.S_OBJECTS_SHIFT
        | version << c.S_VERSION_SHIFT
    )


@hot
def slab_words(mem: Memory, order: Order) -> int:
    return 1 << (fixed(mem, c.H_PAGE_SHIFT) + order)


@kernel
def slab_node(mem: Memory, pfn: Pfn, order: Order) -> WordIndex:
    """Word index of the slab's list node, which lies in the slab itself."""
    return frame_at(mem, pfn) + slab_words(mem, order) - cs.SLAB_NODE_WORDS


@kernel
def object_at(mem: Memory, cache: CacheWords, pfn: Pfn, index: int) -> ObjectAddress:
    """Word address of object ``index`` of the slab at ``pfn``."""
    return frame_at(mem, pfn) + mem[cache + cs.K_FIRST] + index * mem[cache + cs.K_STRIDE]


@hot
def slab_base(mem: Memory, address: ObjectAddress, order: Order) -> WordIndex:
    """First word of the slab of this order that covers ``address``: blocks are aligned."""
    frames = fixed(mem, c.H_AT_FRAMES)
    return frames + ((address - frames) & -slab_words(mem, order))


@hot
def index_at(mem: Memory, cache: CacheWords, base: WordIndex, address: ObjectAddress) -> int:
    """Number of the object that starts at ``address`` in the slab at ``base``, or -1.

    One multiplication instead of a division and its rest: K_RECIPROCAL is 2^40 / stride, rounded
    up. The high bits of the product are the quotient, and the low ones are below the reciprocal
    exactly where nothing is left over, for all offsets and strides up to 2^20 words (Lemire,
    Kaser, Kurz: "Faster remainder by direct computation").
    """
    slot = address - mem[cache + cs.K_FIRST] - base
    reciprocal = mem[cache + cs.K_RECIPROCAL]
    product = slot * reciprocal
    index = product >> cs.RECIPROCAL_SHIFT
    if slot < 0 or product & cs.RECIPROCAL_MASK >= reciprocal or index >= cs.SLAB_MAX_OBJECTS:
        return -1
    return index


@hot
def owner_at(mem: Memory, base: WordIndex, order: Order, index: int) -> WordIndex:
    """Word index of the owner word of object ``index``."""
    return base + slab_words(mem, order) - (cs.SLAB_NODE_WORDS + 1) - index


@hot
def has_owner_word(mem: Memory, cache: CacheWords, address: ObjectAddress, at: WordIndex) -> bool:
    """Whether ``at`` = owner_at(index of address) lies in the slab's map.

    The owner word of an index out of range would lie before the object's end.
    """
    return address - mem[cache + cs.K_FIRST] + mem[cache + cs.K_STRIDE] <= at


@hot
def is_live(owner: Owner) -> bool:
    """Whether an owner word says that the object is live."""
    return owner != 0 and owner < cs.GIVEN


@hot
def set_owner(mem: Memory, at: WordIndex, owner: Owner) -> bool:
    """Make a free object live; False if it already was (it is in two places)."""
    if is_live(load_relaxed(mem, at)):
        return False
    store_relaxed(mem, at, owner)
    return True


@hot
def clear_owner(mem: Memory, at: WordIndex, after: int, exact: int) -> bool:
    """End an object's life: the linearization point of its free. False if it was not live.

    Two steps, because an atomic one costs a third of the whole free. If two frees are ordered, the
    second is always caught. Two concurrent ones may both get through; then the object is in two
    sheaves, and ``set_owner`` refuses to allocate it while it is live. CF_EXACT closes the gap;
    debug caches have none, since they hold the node lock.

    ``after``: GIVEN | us for an object that goes to its slab, whose intent is announced; 0 for one
    that is leaked. (sheaf.py has the same for an object that goes into a sheaf.)
    """
    old = load_relaxed(mem, at)
    if not is_live(old):
        return False
    if exact:
        return cas(mem, at, old, after)
    store(mem, at, after)
    return True


@kernel
def owner_of(mem: Memory, pfn: Pfn, order: Order, index: int) -> Owner:
    """Owner word of an object, 0: free. The answer may be stale."""
    owner = load_relaxed(mem, owner_at(mem, frame_at(mem, pfn), order, index))
    if owner >= cs.GIVEN:
        return 0
    return owner


@kernel
def swabbed(address: ObjectAddress) -> int:
    """The five bytes of an address the other way round, at the upper end of 62 bits (Linux: swab):
    the low bits of a pointer, which vary most, are not those that vary most of its address."""
    upper = (address & 0xFF) << 54 | (address & 0xFF00) << 38 | (address & 0xFF0000) << 22
    return upper | (address & 0xFF000000) << 6 | ((address >> 32) & 0xFF) << 22


@hot
def link_key(secret: int, address: ObjectAddress) -> int:
    """What a free pointer at this object is xored with: 0 without a secret."""
    return secret ^ swabbed(address) if secret != 0 else 0


@hot
def link_at(mem: Memory, address: ObjectAddress, link: int, secret: int) -> int:
    """``free_link`` in a loop over many objects, which reads K_LINK and K_SECRET once."""
    return mem[address + link] ^ link_key(secret, address)


@kernel
def free_link(mem: Memory, cache: CacheWords, address: ObjectAddress) -> int:
    """Index + 1 of the next free object; arbitrary if the pointer was overwritten."""
    return link_at(mem, address, mem[cache + cs.K_LINK], mem[cache + cs.K_SECRET])


@kernel
def set_free_link(mem: Memory, cache: CacheWords, address: ObjectAddress, following: int) -> None:
    key = link_key(mem[cache + cs.K_SECRET], address)
    mem[address + mem[cache + cs.K_LINK]] = following ^ key


@kernel
def make_chain(pfn: Pfn, first: int, count: int) -> Chain:
    """A private chain as one word: slab, index + 1 of its first object, length."""
    return pfn << cs.CH_PFN_SHIFT | count << cs.CH_COUNT_SHIFT | first


@kernel
def chain_pfn(chain: Chain) -> Pfn:
    return chain >> cs.CH_PFN_SHIFT


@kernel
def chain_count(chain: Chain) -> int:
    return (chain >> cs.CH_COUNT_SHIFT) & cs.CH_COUNT_MASK


@kernel
def chain_first(chain: Chain) -> int:
    return chain & cs.CH_FIRST_MASK


@hot
def entry_of(address: ObjectAddress, index: int, order: Order) -> Entry:
    return address << cs.EN_ADDRESS_SHIFT | index << cs.EN_INDEX_SHIFT | order


@hot
def entry_address(entry: Entry) -> ObjectAddress:
    return entry >> cs.EN_ADDRESS_SHIFT


@hot
def entry_index(entry: Entry) -> int:
    return (entry >> cs.EN_INDEX_SHIFT) & cs.EN_INDEX_MASK


@hot
def entry_order(entry: Entry) -> Order:
    return entry & cs.EN_ORDER_MASK


@kernel
def entry_in_slab(
    mem: Memory, cache: CacheWords, cache_id: CacheId, pfn: Pfn, w0: Word0, address: ObjectAddress
) -> Entry:
    """Entry of an object of the block at ``pfn``, or E_STATE if ``cache_id`` has no such object."""
    if not is_slab_of(w0, cache_id):
        return c.E_STATE
    base = frame_at(mem, pfn)
    index = index_at(mem, cache, base, address)
    if index < 0:
        return c.E_STATE
    if not has_owner_word(mem, cache, address, owner_at(mem, base, order_of(w0), index)):
        return c.E_STATE
    return entry_of(address, index, order_of(w0))


@hot
def owner_of_entry(mem: Memory, entry: Entry) -> WordIndex:
    """Word index of the owner word of an entry's object."""
    return owner_at(mem, entry_base(mem, entry), entry_order(entry), entry_index(entry))


@hot
def entry_base(mem: Memory, entry: Entry) -> WordIndex:
    """First word of the slab of an entry."""
    return slab_base(mem, entry_address(entry), entry_order(entry))
