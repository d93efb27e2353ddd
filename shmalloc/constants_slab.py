"""The numbers of the object allocator: words of a cache descriptor, a sheaf, a slab, a track.

A cache descriptor (H_AT_CACHES + id * H_CACHE_STRIDE, stride = ``layout.cache_stride``)::

    [ geometry of its objects: 64 words ][ CPU part: 16 ] x CPUs [ node part: 32 words ] x nodes

``cache_create`` writes it once, before the id is published; only K_STATE changes later.
"""

from shmalloc.constants import H_WAKE, HEADER_WORDS, LINE

# --- cache descriptor ---------------------------------------------------------------------------
K_STATE = 0
K_ID = 1
K_OBJECT_BYTES = 2
K_OBJECT_WORDS = 3
K_ALIGN = 4  # words
K_STRIDE = 5  # words from one object to the next
K_FIRST = 6  # offset of the first object in its slab
K_LINK = 7  # offset of the free pointer from its object
K_RECIPROCAL = 8  # 2^RECIPROCAL_SHIFT / stride, rounded up
K_FLAGS = 9
K_ORDER = 10
K_MIN_ORDER = 11  # the fallback: the smallest order that holds one object
K_MIN_PARTIAL = 12  # empty slabs are kept while the node has fewer partial ones
K_TEMPLATE = 13  # word address of the constructor's image of an object, 0: none
K_CAPACITY = 14  # objects in one sheaf, 0: no sheaves
K_SHEAVES = 15  # first sheaf
K_SHEAF_STRIDE = 16
K_SHEAF_COUNT = 17
K_SHEAF_PFN = 18
K_SHEAF_ORDER = 19
K_RED = 20  # offset of the right red zone from its object (debug)
K_TRACK = 21  # offset of the first track (debug)
K_SECRET = 22  # of the cache, for its free pointers; 0: they are plain
K_DESTROYER = 23  # owner word of the claim that is destroying it, DESTROYED: it is gone
K_SEAL = 24  # of the words that cache_create wrote (object_layout.py), never 0 while it exists
K_NAME = 25  # for the Python face; no kernel reads them
NAME_WORDS = 8
K_CPUS = 64  # the CPU parts start here; the node parts behind them (kernels/objects.py)
DESTROYED = 0x60E << 40  # no owner word: these name a CPU in their low bits
SEALED = 1 << 61
SEAL_MASK = SEALED - 1
SEAL_FACTOR = 0x5851F42D  # any odd number: a difference in one word stays one

CACHE_NONE = 0
CACHE_LIVE = 1
CACHE_DYING = 2  # destroyed while objects were live: frees continue, allocations are refused

# flags of cache_create
CF_CONSISTENCY = 1  # F: walk the free list of a slab before trusting it
CF_RED_ZONE = 2  # Z
CF_POISON = 4  # P; ignored with a template, whose bytes must survive
CF_TRACK = 8  # U
CF_DEBUG = 15
CF_SHUFFLE = 16  # the first free list of a slab is in a shuffled order
CF_NO_SHEAVES = 32
CF_EXACT = 64  # of two concurrent frees of one object one always loses
CF_CAPACITY_SHIFT = 8  # 8 bits: objects in a sheaf, 0: chosen by size
CF_BARN_SHIFT = 16  # 8 bits: sheaves in each node's barn, 0: BARN_SHEAVES
CF_CLASS_SHIFT = 24  # 4 bits: size class of kmalloc + 1, 0: an ordinary cache
CF_CLASS_MASK = 0xF
CF_FIELD = 0xFF

# --- node part ----------------------------------------------------------------------------------
KN_LOCK = 0
KN_NR_PARTIAL = 1
KN_PARTIAL = 2  # list head (two words, even)
KN_FULL = 4  # list head: full slabs of debug caches
KN_NR_FULL = 6
KN_NR_SLABS = 7
KN_NR_FROZEN = 8
KN_BARN_LOCK = 16
KN_BARN_FULL = 17  # first non-empty sheaf
KN_NR_BARN_FULL = 18
KN_BARN_EMPTY = 19
KN_NR_BARN_EMPTY = 20
KN_STRIDE = 32

# --- CPU part -----------------------------------------------------------------------------------
KC_LOCK = 0
KC_MAIN = 1  # sheaf in use; 0: this cache has no sheaves (debug, dying)
KC_SPARE = 2  # 0: a CPU that refills or flushes it holds it
KC_STRIDE = 16

# --- sheaf --------------------------------------------------------------------------------------
SF_NEXT = 0  # in the barn
SF_SIZE = 1
SF_WHERE = 2  # its place: a CPU part, a node part (barn), or GIVEN | the life that holds it
SF_OBJECTS = 3  # entries
EN_ADDRESS_SHIFT = 20  # entry: [ word address | index in its slab | order of its slab ]
EN_INDEX_SHIFT = 4
EN_INDEX_MASK = 0xFFFF
EN_ORDER_MASK = 0xF
BARN_SHEAVES = 4

# --- slab ---------------------------------------------------------------------------------------
SLAB_FROZEN = 3  # list state: failed a check, on no list, never reused
SLAB_NODE_WORDS = 2  # the list node, at the very end of the slab
RECIPROCAL_SHIFT = 40
RECIPROCAL_MASK = (1 << RECIPROCAL_SHIFT) - 1
SLAB_MAX_ORDER = 3  # a larger slab only if an object needs it (Linux: costly order)
SLAB_MAX_WORDS = 1 << 20  # the range of RECIPROCAL_SHIFT
SLAB_MAX_OBJECTS = 32767  # 15 bits of the descriptor
LEAK_REPORTS = 16  # live objects named by one cache_destroy

# --- a chain: free objects of one slab, linked by their free pointers, private ------------------
CH_FIRST_MASK = 0xFFFF  # index + 1 of the first object
CH_COUNT_SHIFT = 16
CH_COUNT_MASK = 0xFFFF
CH_PFN_SHIFT = 32

GIVEN = 1 << 61  # owner word of a free object on its way to its slab, by the life that follows
KEPT = 1 << 62  # ... on its way into a sheaf of this life (CF_EXACT); above GIVEN, too

# --- intents (kernels/slot_intent.py) ------------------------------------------------------------
INTENT_NONE = 0
INTENT_TAKE = 1
INTENT_TAKEN = 2
INTENT_PUT = 3

# --- track: the last allocation or free of an object ---------------------------------------------
TR_CLAIM = 0  # claim + 1; 0: never
TR_PID = 1
TR_SEQUENCE = 2
TR_SITE = 3
TR_WORDS = 4

# --- debug bytes (Linux: include/linux/poison.h), eight to a word; only ever compared -----------
RED_FREE_WORD = 0xBBBBBBBBBBBBBBBB - (1 << 64)
RED_LIVE_WORD = 0xCCCCCCCCCCCCCCCC - (1 << 64)
POISON_FREE_WORD = 0x6B6B6B6B6B6B6B6B
POISON_USE_WORD = 0x5A5A5A5A5A5A5A5A
POISON_END_BYTE = 0xA5
POISON_END_WORD = 0xA56B6B6B6B6B6B6B - (1 << 64)
REPORT_MASK = (1 << 63) - 1  # what reports keep of such a word

# --- owner words of pages that the object allocator holds ---------------------------------------
OWNER_SLAB = 0x51AB << 40
OWNER_SHEAVES = 0x51AC << 40
OWNER_FROZEN = 0x51AD << 40  # leaked: a slab that failed a check, of a cache that is gone
OWNER_LARGE = 0x51AE << 40  # kmalloc of more than the largest class

# --- kmalloc ------------------------------------------------------------------------------------
H_KMALLOC = 112  # header: cache id + 1 of each size class, 0: not booted
KMALLOC_CLASSES = 13

assert H_WAKE < H_KMALLOC and H_KMALLOC + KMALLOC_CLASSES <= HEADER_WORDS
assert KN_NR_BARN_FULL == KN_BARN_FULL + 1 and KN_NR_BARN_EMPTY == KN_BARN_EMPTY + 1
assert K_CPUS % LINE == 0 and KN_STRIDE % LINE == 0 and KC_STRIDE % LINE == 0
assert KN_PARTIAL % 2 == 0 and KN_FULL % 2 == 0
