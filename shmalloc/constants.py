"""Every number that kernels and Python share. Kernels may use only UPPER_CASE ints, from here.

Contents: error codes, descriptor fields and states, migratetypes, the words of the header, of a
claim, a zone, a per-CPU page list, a cache, and the event counters.

A page descriptor is two words (16-byte aligned, bit 63 of both unused)::

    word 0  62     51 50 49 48  47   42 41   38 37                            4 3    0
            [version ][P][ mt ][ zone  ][order ][ link, or detail by type     ][type ]
    word 1  the allocatee: owner word, list link, slab counters, or reason, by type

The link field sits at the same bits in both words: a byte offset into the segment, a multiple of
16, so its own low four bits are zero and the type fits below it. Order, zone and migratetype sit
*above* it at the same place in every state, so one 8-byte read gives a consistent (type, order,
zone) whatever the link store. P: poison this page when it is freed (hwpoison of a page in use).
"""

# --- what kernels return instead of raising -------------------------------------------------
E_NOMEM = -1  # no block of that order, in no allowed zone
E_BUSY = -2  # a page of the range is in use, or a lock is held
E_INVAL = -3  # an argument that can never work
E_STATE = -4  # misuse: the descriptor is not in a state that allows it (a violation was reported)
E_AGAIN = -5  # try again: lost a race
E_STOPPED = -6  # the run is stopping

# --- page descriptors -----------------------------------------------------------------------
D_WORDS = 2
T_TAIL = 0  # inside a block; zero on purpose: a fresh memmap is all tails
T_FREE = 1  # head of a free block on a zone's list
T_PCP = 2  # owned by the allocator, on a per-CPU list or in flight between states
T_ALLOCATED = 3
T_SLAB = 4
T_ISOLATED = 5  # taken off the lists for alloc_contig_range or reporting
T_OFFLINE = 6
T_POISONED = 7  # broken memory, never allocated again
T_RESERVED = 8  # hole in a zone, or not managed
T_COUNT = 9
TYPE_MASK = 0xF

# which types may follow a type: one bit for each, row by row (docs/invariants.md draws the graph)
NEXT_OF_TAIL = 1 << T_FREE | 1 << T_ALLOCATED
NEXT_OF_FREE = (
    1 << T_TAIL
    | 1 << T_FREE
    | 1 << T_PCP
    | 1 << T_ALLOCATED
    | 1 << T_ISOLATED
    | 1 << T_OFFLINE
    | 1 << T_POISONED
)
NEXT_OF_PCP = 1 << T_TAIL | 1 << T_FREE | 1 << T_PCP | 1 << T_ALLOCATED | 1 << T_POISONED
NEXT_OF_ALLOCATED = 1 << T_ALLOCATED | 1 << T_PCP | 1 << T_SLAB
NEXT_OF_SLAB = 1 << T_SLAB | 1 << T_ALLOCATED
NEXT_OF_ISOLATED = 1 << T_FREE | 1 << T_ALLOCATED | 1 << T_TAIL
NEXT_OF_OFFLINE = 1 << T_FREE | 1 << T_TAIL
NEXT_OF_POISONED = 0
NEXT_OF_RESERVED = 0

LINK_SHIFT = 4
LINK_BITS = 34
LINK_MASK = ((1 << LINK_BITS) - 1) << LINK_SHIFT
STATE_MASK = TYPE_MASK | LINK_MASK  # of word 0: type and detail
CARRIED_MASK = ((1 << 63) - 1) ^ LINK_MASK  # what a link word carries beside the link
ORDER_SHIFT = 38
ORDER_MASK = 0xF
ZONE_SHIFT = 42
ZONE_MASK = 0x3F
MT_SHIFT = 48
MT_MASK = 0x3
POISON_BIT = 1 << 50
VERSION_SHIFT = 51
VERSION_MASK = 0xFFF

# detail of PCP, ALLOCATED, ISOLATED: who holds it (kernels/slots.py), a life of a claim,
# or the per-CPU lists of the CPU in the low bits
CLAIM_MASK = 0xFFF
LABEL_EPOCH_SHIFT = 12
LABEL_EPOCH_MASK = 0x1FFFFF
LABEL_ON_LIST = 1 << 33
LABEL_MASK = LABEL_ON_LIST | LABEL_EPOCH_MASK << LABEL_EPOCH_SHIFT | CLAIM_MASK

# word 0 detail of SLAB: cache id and which list the slab is on
SLAB_CACHE_MASK = 0xFFFF
SLAB_LIST_SHIFT = 16  # within the detail
SLAB_LIST_MASK = 0x3
SLAB_OFF_LIST = 0
SLAB_ON_PARTIAL = 1
SLAB_ON_FULL = 2  # debug caches keep their full slabs on a list

# word 1 of SLAB
S_FREE_SHIFT = 0  # index + 1 of the first free object, 0: none
S_FREE_MASK = 0xFFFF
S_INUSE_SHIFT = 16
S_INUSE_MASK = 0xFFFF
S_OBJECTS_SHIFT = 32
S_OBJECTS_MASK = 0x7FFF
S_FROZEN_BIT = 1 << 47  # failed a check: its objects are leaked, never reused
S_VERSION_SHIFT = 48
S_VERSION_MASK = 0x7FFF

# --- migratetypes ---------------------------------------------------------------------------
MT_UNMOVABLE = 0
MT_MOVABLE = 1
MT_RECLAIMABLE = 2
MT_PCP_TYPES = 3  # the first three have per-CPU lists
MT_ISOLATE = 3  # pageblock type: its free pages are not allocated
MT_COUNT = 4

# --- sizes ----------------------------------------------------------------------------------
ORDERS = 12  # lists in a free area; max_order <= 11
MAX_ZONES = 64
MAX_NODES = 64
MAX_CPUS = 1024
MAX_CLAIMS = 4096
MAX_TRACED_CPUS = 62  # of a recorded trace: its columns have a byte for a CPU
SEATS = 62  # sleepers for memory that are announced at once: one bit each in H_WAITERS
LINE = 16  # words: two cache lines, the prefetcher's unit

# --- link stores and per-CPU list forms ------------------------------------------------------
LINKS_PAGE = 0
LINKS_TABLE = 1
LINKS_DESCRIPTOR = 2  # from here on a page's node is its descriptor
LINKS_INDEX = 3  # from here on free blocks are on no linked list (kernels/free_area.py)
LINKS_BITMAP = 4
PCP_ARRAY = 0
PCP_LIST = 1

# --- header: word 0.. of every segment --------------------------------------------------------
H_MAGIC = 0
H_VERSION = 1
H_DIGEST = 2  # of all kernel sources and the geometry
H_WORDS = 3  # length of the segment in words
H_OWNER_PID = 4
H_OWNER_START = 5  # start time of the owner, clock ticks since boot
H_GEOMETRY = 6  # where the geometry's text (JSON, length first) lies
H_PAGE_SHIFT = 7  # log2 of the page in words
H_MAX_ORDER = 8
H_PAGEBLOCK_ORDER = 9
H_PAGES = 10  # pfn space: 0 .. H_PAGES
H_ZONES = 11
H_NODES = 12
H_CPUS = 13
H_LINKS = 14  # LINKS_*
H_LINK_BASE = 15  # node of pfn = H_LINK_BASE + (pfn << H_LINK_STRIDE)
H_LINK_STRIDE = 16
H_PCP_FORM = 17  # PCP_*
H_PCP_CAPACITY = 18  # words of one per-CPU array
H_FILL = 19  # FILL_*: how a freed page's bytes are overwritten
H_HISTORY_STOPS = 20  # 1: the first violation report ends the history; 2: it has
H_SPINS = 21  # tries on a held lock before sleeping
H_HISTORY = 22  # entries of each CPU's operation ring, power of two; 0: off
H_CACHES = 23
H_HARDEN = 24  # secret for slab free pointers, 0: off
H_CLAIMS = 25  # records of claims
H_OWNER_NAMESPACE = 26  # inode of the pid namespace in which H_OWNER_PID means something
H_SEGMENT_ID = 27  # random, in every array handle
H_MADE_S = 28  # when the segment was made, unix time
H_WATCHED = 30  # 1: operations are written down, in the history or by page_owner
H_INIT = 29  # INIT_*: objects that are zeroed (kernels/object_init.py)
H_AT_CPUS = 32  # offsets of the regions, in words
H_AT_ZONES = 33
H_AT_ZONELISTS = 34
H_AT_BLOCKS = 35  # one word a pageblock: its migratetype
H_AT_PCP = 36
H_AT_CACHES = 37
H_AT_MEMMAP = 38
H_AT_TABLE = 39
H_AT_REPORTS = 40
H_AT_HISTORY = 41
H_AT_SCRATCH = 42
H_AT_WORK = 43
H_AT_OWNERS = 44
H_AT_FRAMES = 45
H_PCP_STRIDE = 46  # words of one (cpu, zone) per-CPU structure
H_CACHE_STRIDE = 47
H_SCRATCH_WORDS = 48
H_WORK_WORDS = 49
H_OWNER_MAP = 50  # 1: the oracle's owner map is present
H_AT_LATENCY = 51  # 0: calls are not timed
H_STRUCTURES = 52  # entries for structures (structures/kernels/entries.py)
H_AT_STRUCTURES = 53
H_AT_ARRAYS = 54  # an entry a page: who uses the array that begins there
H_AT_REFERENCES = 55  # a word a claim: where its table of references begins
H_AT_SEATS = 56
H_CLOCK_KHZ = 57  # ticks of the processor's counter in a millisecond; 0: not measured
H_BIASED = 58  # 1: per-CPU locks are biased (kernels/cpu_lock.py)
H_AT_PAGE_OWNER = 61  # 0: allocations are not sampled
H_AT_STACKS = 62  # of no words unless they are
H_STOP = 64  # not fixed from here on: 1 = leave your loops
H_SEQUENCE = 65  # global operation counter
H_CACHES_LOCK = 66
H_REPORT_COUNT = 67
H_ARRAYS = 68  # tables of references made so far
H_RECOVERY = 72  # lock: one recovery at a time
H_CLAIMS_USED = 73  # records that were ever claimed lie below; only grows
H_WAITERS = 80  # bit per seat of a sleeper for memory; read by every free, so alone on its line
H_WAKE = 96  # futex word: odd while a process waits for memory, incremented at each wake-up
H_RECLAIM = 97  # futex word: odd while a reclaimer sleeps, incremented to wake it
HEADER_WORDS = 128
FILL_NONE = 0
FILL_POISON = 1  # 0xaa in every byte, checked at allocation
FILL_ZERO = 2  # likewise
FILL_WIPE = 3  # zero when it is freed, not checked (init_on_free)
FILL_CLEAR = 4  # zero when it is allocated (init_on_alloc)
INIT_ALLOC = 1
INIT_FREE = 2
INIT_UNACCEPTED = 4  # memory is accepted when it is first needed (kernels/accept.py)

MAGIC = 0x53484D414C4C4F43 >> 1  # "SHMALLOC", bit 63 clear
LAYOUT_VERSION = 1

# --- claims and CPUs: record n has the words of claim n and, for n < H_CPUS, those of CPU n -------
C_STATE = 0  # of the CPU
C_CPU = 1  # of the claim: whose per-CPU lists and sheaves it uses
C_EPOCH = 2  # begins and ends of lives of the claim: odd while it is claimed; a pair with C_DEAD
C_DEAD = 3  # 1 + epoch of the last life that ended in death; that epoch: not recovered yet
C_NODE = 4  # of the CPU: home node, where its fallback order starts
C_BEAT = 5  # progress counter of the worker that runs here
C_HISTORY_NEXT = 6  # of the CPU
C_HOME_ZONE = 8  # fixed: first zone of the fallback order, and the CPU's lists of it
C_HOME_PCP = 9
C_LOCKS = 22  # fixed: how the claim takes per-CPU locks (kernels/cpu_lock.py)
C_HOLDS = 23  # word index of the per-CPU lock that the claim holds by its bias; 0: none
C_FAULTS = 10  # kinds of allocation that are made to fail, and when (kernels/fault_injection.py)
C_FAULT_LEFT = 11
C_FAULT_EVERY = 12
C_FAULT_CHANCE = 13
C_FAULT_RANDOM = 14
C_FAULT_COUNT = 15
C_PID = 16  # for people: the process that claimed it, its start time
C_START = 17
C_TOLD = 18  # the last value of C_DEAD that Arena.recover gave to a supervisor
C_DEAD_PID = 19  # of the process of that life, only to be shown
C_DEAD_START = 20
C_OWNER_RANDOM = 24  # state of the claim's random numbers (kernels/page_owner.py)
C_OWNER_LAST = 25  # entry of the last allocation that was sampled, until it has its stack
C_COMMAND = 26  # name of the process, two words; written where allocations are sampled
C_OWNER_STACK = 28  # stack of all that the claim allocates; 0: each call has its own
C_GIVE_UP = 21  # word index of a lock that this claim shall no longer wait for; 0: none
C_EVENTS = 32
C_INTENT = 96  # what the claim is doing with a chain of objects (kernels/slot_intent.py)
C_INTENT_CACHE = 97
C_INTENT_CHAIN = 98
C_INTENT_FROM = 99
C_INTENT_SIZE = 100
C_LAST = 127  # always 0 (``has_record`` in kernels/reporting.py)
C_STRIDE = 128
CPUS_AT = HEADER_WORDS  # the records follow the header, so that reaching one costs no load

FAULT_PAGE = 1
FAULT_OBJECT = 2

CPU_EMPTY = 0
CPU_ONLINE = 1
CPU_OFFLINE = 2  # unplugged: its lists are drained and locked, it works on the zones directly
CPU_CHANGING = 3  # being plugged or unplugged by the claim in the bits above
CPU_STATE_MASK = 0xFF
CPU_CHANGER_SHIFT = 8  # its number + 1

# --- event counters: index into a claim's C_EVENTS ----------------------------------------------
EV_ALLOC = 0  # page blocks allocated
EV_FREE = 1
EV_FAIL = 2  # allocations that found nothing
EV_SPLIT = 3  # one for each halving
EV_MERGE = 4
EV_REFILL = 5  # per-CPU list refilled from the zone
EV_DRAIN = 6  # per-CPU list gave a batch back
EV_REMOTE_DRAIN = 7  # a CPU drained another CPU's lists
EV_PCP_MISS = 8  # trylock of a per-CPU list failed: went to the zone
EV_LOCK_SLOW = 9  # zone lock was held by another
EV_LOCK_SLEEP = 10
EV_CAS_FAIL = 11  # a compare-exchange lost to another CPU
EV_CLAIM = 12  # whole pageblock claimed by another migratetype
EV_STEAL = 13  # one page taken from another migratetype
EV_ZONE_FALLBACK = 14
EV_ISOLATE = 15
EV_CONTIG = 16
EV_OFFLINE = 17
EV_WAIT = 18  # slept for memory
EV_WAKE = 19
EV_REMOTE_FREE = 20  # freed on another CPU than it was allocated on
EV_POISONED = 21
EV_BULK = 22
EV_MISUSE = 24
EV_OBJ_ALLOC = 25
EV_OBJ_FREE = 26
EV_OBJ_REMOTE = 27  # object freed straight to its slab
EV_SHEAF_SWAP = 28
EV_BARN_GET = 29
EV_BARN_PUT = 30
EV_SLAB_NEW = 31
EV_SLAB_GONE = 32
EV_SLAB_PARTIAL = 33  # full slab returned to the partial list
EV_SHRINK = 34
EV_CACHE_NEW = 35
EV_CACHE_GONE = 36
EV_HOTPLUG = 37
EV_WALK = 38  # descriptors read by a lock-free walker
EV_WALK_RETRY = 39
EV_OBJ_FAIL = 41
EV_PAGE_LARGE = 42  # kmalloc served by pages
EV_FAULT = 43  # allocations that were made to fail
EV_RECOVER = 44  # claims of dead processes that were recovered
EV_TAKEOVER = 45  # locks taken over from the dead
EV_DRAIN_SKIP = 46  # waits for a lock that were called off, as its owner did not run
EV_RECLAIM_WAKE = 47  # a reclaimer was woken
EV_BOOST = 48  # watermarks raised, since migratetypes began to mix in a pageblock
EV_RECLAIM = 49  # passes of a reclaimer
EV_DEFER = 50  # frees by try_ kernels that found a lock held: put on a deferred list
EV_DEFER_DRAIN = 51  # deferred frees that the next holder of the lock finished
EV_ACCEPT = 52  # pageblocks accepted
EV_COUNT = 64

# --- gfp: what an allocation wants and may do, one word (kernels/watermark.py) -------------------
GFP_MT_MASK = 0x3  # MT_*; an ordinary allocation says no more
GFP_ZERO = 1 << 2  # give zeroed memory
GFP_NOFAIL = 1 << 3  # wait until there is memory
GFP_NORETRY = 1 << 4  # fail rather than drain the lists of all CPUs
GFP_NOWAIT = 1 << 5  # neither wait nor drain
GFP_HIGH = 1 << 6  # may use half of what the minimum watermark reserves
GFP_OOM = 1 << 7  # about to end: half of what the others leave
GFP_MEMALLOC = 1 << 8  # frees more than it takes: no watermark
GFP_THISNODE = 1 << 9  # from the home node or not at all
GFP_ZONE_SHIFT = 12  # 1 + the last zone that will do; 0: any
GFP_ZONE_MASK = 0x7F
GFP_ZONES = GFP_ZONE_MASK << GFP_ZONE_SHIFT
GFP_ATOMIC = GFP_HIGH | GFP_NOWAIT
GFP_RESERVES = GFP_HIGH | GFP_OOM | GFP_MEMALLOC
GFP_HASTE = GFP_NORETRY | GFP_NOWAIT
GFP_OF_SLABS = GFP_HASTE | GFP_RESERVES | GFP_THISNODE  # what an object's flags say of pages
GFP_KNOWN = (
    GFP_MT_MASK | GFP_ZERO | GFP_NOFAIL | GFP_HASTE | GFP_RESERVES | GFP_THISNODE | GFP_ZONES
)
ALLOC_WMARK_LOW = 1 << 24  # within the kernels: leave the low watermark, not only the minimum
WATERMARK_SHIFT = 6  # two watermarks are at least 2^-6 of the zone apart

# --- zones --------------------------------------------------------------------------------------
Z_LOCK = 0
Z_FREE = 1  # free pages on the lists, isolated ones not counted
Z_FREE_ISOLATED = 2
Z_DAMAGED = 3  # 1 + pfn of a block whose links are wrong, or AT_LIST: a head; until repair_zone
Z_BOOST = 4  # pages that the low and high watermarks are raised by, until reclaim ends it
Z_DEFERRED = 5  # node of the block deferred last (kernels/deferred.py), 0: none
Z_START = 16  # first pfn
Z_END = 17  # one past the last pfn
Z_NODE = 18
Z_INDEX = 19
Z_MANAGED = 20  # pages that belong to the allocator (not holes, offline, poisoned)
Z_MIN = 21  # watermarks in pages, recomputed with Z_MANAGED (kernels/watermark.py)
Z_LOW = 22
Z_HIGH = 23
Z_PRESENT = 24  # fixed: pages managed at first, and what Z_MIN was then
Z_MIN_PRESENT = 25
Z_STORE = 32  # fixed: levels of the zone's part of the link store (kernels/store_arrays.py)
Z_ROOM = 36
STORE_LEVELS = 3
STORE_BITS = 32  # of a word of a bitmap
Z_COUNTS = 48  # nr_free[order][mt]
Z_LISTS = 112  # list heads [order][mt], two words each; ORDERS * MT_COUNT * 2 words
Z_STRIDE = 224

# --- per-CPU page lists, one structure for each (cpu, zone) -------------------------------------
P_LOCK = 0
P_COUNT = 1  # pages on the lists of orders 0..3
P_HIGH = 2
P_HIGH_MIN = 3
P_HIGH_MAX = 4
P_BATCH = 5
P_FACTOR = 6  # refills double up to this shift while no block is freed
P_FREE_RUN = 7  # pages freed since the last allocation
P_DAMAGED = 8  # 1 + pfn of a block whose link is wrong, until repair_lists; 0: none
P_LENGTH = 16  # [list] blocks on the list
P_HEAD = 32  # [list] first node, list form
P_ARRAYS = 48  # [list][capacity] pfns, array form
PCP_ORDERS = 4  # orders 0..3, then the pageblock order
PCP_LISTS = 15  # (PCP_ORDERS + 1) * MT_PCP_TYPES
PCP_HUGE_KEEP = 1  # blocks of the pageblock order that a list keeps
PCP_FACTOR_MAX = 5

# --- reports: a table of violations, written by the CPU that finds one --------------------------
R_CODE = 0
R_WHERE = 1
R_EXPECTED = 2
R_FOUND = 3
R_CLAIM = 4
R_CLOCK = 5
R_READY = 6  # sequence number + 1 once the record is complete
R_CALLER = 7  # number of the kernel that reported it (compiler/caller.py)
R_STRIDE = 8
REPORTS = 256

# A report names a page by its pfn and any word behind the records of claims by its index. Anything
# that could be mistaken for one of these bears a tag: ``AT_ZONE | z``. Tagged numbers are negative.
TAG_SHIFT = 56
TAGGED = -(1 << 63)
AT_WORD = TAGGED | 1 << TAG_SHIFT  # a word of the header, a record, a zone, a list or a cache
AT_CACHE = TAGGED | 2 << TAG_SHIFT  # id
AT_ZONE = TAGGED | 3 << TAG_SHIFT
AT_CPU = TAGGED | 4 << TAG_SHIFT
AT_LIST = TAGGED | 5 << TAG_SHIFT  # zone << 16 | order << 8 | migratetype
AT_PCP = TAGGED | 6 << TAG_SHIFT  # cpu << 16 | zone << 8 | list + 1; 0: all of them
IS_TYPE = TAGGED | 7 << TAG_SHIFT  # T_*
IS_MT = TAGGED | 8 << TAG_SHIFT  # MT_*
IS_FREE = TAGGED | 9 << TAG_SHIFT  # zone << 8 | order: a free block of that order or a higher one

# --- flight recorder: one ring for each CPU ----------------------------------------------
FLIGHT_FIRST = 16  # words before its items
FLIGHT_ITEM_WORDS = 2

# --- operation history: one ring for each CPU ---------------------------------------------------
HI_CLOCK = 0
HI_OP = 1  # operation << 8 | order
HI_WHERE = 2  # pfn, or word address of an object
HI_DETAIL = 3  # owner, or result
HI_STRIDE = 4
OP_ALLOC = 1
OP_FREE = 2
OP_REFILL = 3
OP_DRAIN = 4
OP_OBJ_ALLOC = 7
OP_OBJ_FREE = 8
OP_ISOLATE = 9
OP_OFFLINE = 10
OP_POISON = 11
OP_MISUSE = 12
OP_SLAB_NEW = 13
OP_SLAB_GONE = 14
OP_FAULT = 15
OP_ADOPT = 16

# --- page_owner: sampled allocations (kernels/page_owner.py draws them) -------------------------
PO_RATE = 0  # one allocation of a page in so many is sampled
PO_ENTRIES = 1  # a power of two
PO_LOST = 2  # samples that found no free entry
PO_CLOCKS = 4  # [ clock of kernels | nanoseconds of CLOCK_MONOTONIC ], when the segment was made
PO_LATER_CLOCKS = 6  # the same, later
PO_CHANCES = 16  # [order] of 2^31
PO_KEYS = 32  # [entry]
PO_WINDOW = 16  # keys in which one is looked for, two cache lines
PO_READY = 1  # bit of a key: the entry is complete
PO_KEY_SHIFT = 2
PO_PAGE = 0  # what a key names, above the ready bit
PO_OBJECT = 2
PE_PROOF = 0  # word that tells whether the allocation lives, and what it then says
PE_SEEN = 1
PE_OWNER = 2  # owner word of a block, number of the cache of an object
PE_LIFE = 3  # that allocated it
PE_PID = 4
PE_START = 5
PE_CLOCK = 6
PE_NEXT = 7  # as C_OWNER_LAST: the one before
PE_COMMAND = 8
PE_STACK = 10  # [ generation | handle of the stack: 32 bits, 0: none yet ], a pair with:
PE_THREAD = 11  # native id of the thread, 0: not told
PE_STRIDE = 16
STACK_HANDLE_MASK = (1 << 32) - 1

# --- stack depot: call stacks, each once (kernels/stack_depot.py) --------------------------------
SD_TOP = 0  # the first free word, from the start of the depot
SD_LOST = 1  # stacks that found no room
SD_BUCKETS = 2  # a power of two
SD_WORDS = 3
SD_TABLE = 16  # [bucket] handle of a record, 0: none
SD_PROBES = 64
SR_HASH = 0  # of a record: of the text
SR_BYTES = 1
SR_TEXT = 2

# --- invariants and misuses (docs/invariants.md); the number is what reports carry --------------
I_CONSERVATION = 1  # every managed page is in exactly one place
I_FREE_HEAD = 2  # a free head is aligned, inside its zone, on the list of its order and type
I_LIST_LINKS = 3  # lists are symmetric, acyclic, as long as their count
I_UNMERGED = 4  # no two free buddies that could be one block
I_PCP_COUNT = 5
I_TAIL = 6  # every page is covered by exactly one legal head
I_SLAB = 7  # freelist, inuse, objects and list membership agree
I_SHEAF = 8  # sheaf and barn counts hold, no object in two places
I_BYTES = 9  # poison and red zones intact
I_STAMP = 10  # the owner's stamp is in its memory
I_TEARDOWN = 11  # with everything freed, all blocks have merged
I_PROGRESS = 12
I_FIXED = 13  # what was written when the segment or a cache was made is still there
I_WATERMARK = 14  # the watermarks follow from the pages that are managed
M_DOUBLE_FREE = 33
M_WRONG_ORDER = 34
M_TAIL_FREE = 35
M_OUT_OF_RANGE = 36
M_SLAB_AS_PAGE = 37
M_WRONG_STATE = 38  # free of a poisoned, offline or reserved page
M_STRANGER = 39  # not the owner of the page
M_OBJECT_POINTER = 40  # does not point at an object of a slab
M_OBJECT_FREE = 41  # object already free
M_OBJECT_CACHE = 42  # object of another cache
M_OBJECT_BYTES = 43  # written behind, before or after its life
M_SHUTDOWN = 44  # used after the segment began to shut down
M_FREECHAIN = 45  # "Freechain corrupt", "Freelist cycle detected"
M_LEAKED_OBJECTS = 46  # cache destroyed with live objects
X_DOUBLE_ALLOC = 65  # the independent owner map saw one page given to two owners
X_LOST_OWNER = 66  # the owner map did not hold the freeing owner
X_WALKER = 67  # a lock-free walker read an illegal descriptor
X_PAYLOAD = 68  # a stamp in a page or object changed while it was owned
X_VERSION = 69  # a descriptor changed its state and kept its version
X_MEMORY_GROWTH = 70  # a process of a run needs more and more private memory
X_DESCRIPTOR_GROWTH = 71
X_RANGE = 72  # a range is isolated or offline as long as its holder keeps it so
X_FILLING = 73

LOCK_HOLDER_MASK = 0xFFFF  # claim + 1
LIFE_EPOCH_SHIFT = 32  # a life of a claim as one word: what it writes into locks and objects
LOCK_CONTENDED = 1 << 30
LOCK_HANDOFF = 1 << 28  # a sleeper has repeatedly failed to get the lock
LOCK_KEPT = LOCK_CONTENDED | LOCK_HANDOFF  # free, for a thread that has slept
LOCK_OPEN = (
    1 << 27
)  # per-CPU locks (kernels/cpu_lock.py): for the claim of the CPU, by plain stores
LOCK_WAITS = 1 << 26  # its owner waits for the claim of the CPU
LOCK_COMMON = 1 << 25  # several claims share the CPU: by compare-exchanges
LOCKS_PLAIN = 0  # C_LOCKS: the segment has no biased locks
LOCKS_GUEST = 1  # the CPU is another claim's; any other value: the word of the claim's open locks
HOLDS_TRIES = 1 << 40  # in C_HOLDS: the claim looks whether it may hold that lock
LOCK_OFFLINE = 1 << 29  # a per-CPU lock that no CPU holds or may take: the CPU is unplugged
POISON_WORD = -0x5555555555555556  # 0xaa in every byte
NODE_WORDS = 2
BLOCK_UNACCEPTED = 1 << 7  # pageblock word: no page of it may be touched yet
BLOCK_SAVED_SHIFT = 8  # pageblock word: type to restore after an isolation
BLOCK_ISOLATOR_SHIFT = 16  # label + 1 of the isolator, 0: isolated until online_range

# --- the auditor's work words, in its CPU's scratch area ----------------------------------------
A_TYPES = 0  # pages by type
A_PCP_PFNS = 12  # sum of the pfns in state PCP, as descriptors say
A_LISTED_PFNS = 13  # the same, as the per-CPU lists say
A_ON_LISTS = 14  # pages on these lists
A_HEADS = 16  # free heads by order and migratetype

# --- arrays: an entry a page, records in pages of OWNER_ARRAYS (kernels/array_table.py) ------
AR_COUNT = 0  # generation << 24 | references
AR_TAG = 1  # the last change of the count: record, low bits of its sequence number, TAG_*
AR_STRIDE = 2
AR_REFS_MASK = 0xFFFFFF
AR_GENERATION_SHIFT = 24
TAG_ADDED = 0
TAG_DROPPED = 1
TAG_SEQUENCE_MASK = 0x7FFFF
TAG_RECORD_SHIFT = 20  # of half its word index
RE_WORD = 0  # pfn << 4 | state; 0: free
RE_SEQUENCE = 1
RE_GENERATION = 2
RE_NAME = 3  # HELD: the owner word of the array's pages; SENDING, TRANSIT: when it was sent
RE_STRIDE = 4
RE_SHIFT = 2
RE_PFN_SHIFT = 4
RE_STATE_MASK = 0xF
RE_FREE = 0
RE_MAKING = 1  # pages are being allocated for the array
RE_ENTERING = 2  # it has pages; its entry is being written
RE_OPENING = 3
RE_HELD = 4
RE_SENDING = 5
RE_TRANSIT = 6  # a ticket: in bytes on their way to another process
RE_ORPHAN = 7  # a ticket whose sender ended
RE_TRIES = 64  # records that are looked at before a table grows
RT_NEXT = 0  # of a claim's table: its first page, a root
RT_HELD = 1
RT_PAGES = 2
RT_SEQUENCE = 3
RT_FIRST = 4
RT_CURSOR_MASK = 0xFFFFFFFF
RT_SEQUENCE_SHIFT = 40
TABLE_GROWS = 1 << 62
OWNER_CLAIM_BITS = 16
OWNER_ARRAYS = 0x4152524159 << OWNER_CLAIM_BITS  # "ARRAY", and the claim whose table it is
OWNER_ARRAY = 1 << 62  # and the sequence number of the reference that made the array
OWNER_SHARED = 0x534841524544  # "SHARED": templates, which no single process owns
# --- structures: entries of a region of their own (structures/kernels/entries.py) -----------
ST_STRIDE = 16  # words of an entry
OWNER_STRUCTURE_SHIFT = 40
OWNER_STRUCTURE = 0x5354 << OWNER_STRUCTURE_SHIFT  # + the word index of the entry

assert MAX_ZONES == ZONE_MASK + 1 and MT_COUNT == MT_MASK + 1
assert VERSION_SHIFT + VERSION_MASK.bit_length() == 63
assert S_VERSION_SHIFT + S_VERSION_MASK.bit_length() == 63
assert ORDER_SHIFT == LINK_SHIFT + LINK_BITS and T_COUNT - 1 <= TYPE_MASK
assert Z_COUNTS + ORDERS * MT_COUNT <= Z_LISTS and Z_LISTS % 2 == 0
assert Z_LISTS + ORDERS * MT_COUNT * 2 <= Z_STRIDE and Z_STRIDE % LINE == 0
assert C_OWNER_STACK < C_EVENTS and C_EVENTS + EV_COUNT <= C_INTENT
assert C_EPOCH % 2 == 0 and C_DEAD == C_EPOCH + 1 and LABEL_MASK < 1 << LINK_BITS
assert MAX_CPUS <= MAX_CLAIMS <= CLAIM_MASK + 1 <= LOCK_HOLDER_MASK and SEATS <= 62
assert C_INTENT_SIZE < C_STRIDE
