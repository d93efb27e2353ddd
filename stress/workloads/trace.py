"""trace: page and slab traffic that was recorded from a Linux kernel, replayed.

Each CPU of the recording is one worker. The replay keeps the order of events on a CPU, and a free
of a block or object that another CPU allocates waits for its handle. At sync points all workers
meet, so that they never drift far apart, and slot 0 takes a sample of the free memory; the
allocations that are live at such a point are exactly those of the recording.
Hunts: everything, with the sizes, lifetimes and remote frees of real programs.
Must reach: alloc, free; the counts of the recording, or the run fails.

::

    work area     TP_* what the controller prepared | T_ARRIVED | T_RELEASED ... | T_COUNTS
                  | caches: [object bytes][cache id] each | samples | stream       (slot 0 only:
                  caches and samples)
    stream        [event word][handle] each, sync points and at its end the frees that the
                  recording does not have                                          (compile.py)
    event word    kind:3 | order or cache:16 | migratetype:3 | slot:7 | position:33
                  (slot and position: where the stream of that slot allocates what is freed here)
    handle        0 not there (any more) | where << 8 | cpu + 1 | HANDLE_FAILED

The allocating CPU writes the handle of an allocation, then the freeing CPU does, then none until
all have met at the end of the round. Everything else in an area is private to its worker, except
the sync words and what slot 0 wrote before it released a sync point.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.cache import cache_alloc, cache_free
from shmalloc.kernels.cache_set import cache_create, cache_destroy
from shmalloc.kernels.pages import alloc_pages, free_pages
from shmalloc.kernels.reporting import report
from shmalloc.units import CacheId, Claim, Memory, ObjectAddress, Owner, WordIndex
from shmalloc.words import fetch_add, give_way, load, load_relaxed, store
from stress.oracles.owners import check_stamp, disown, make_id, own, stamp
from stress.workloads.area import W_CURSOR, W_WORKERS, stopping, work_at
from stress.workloads.latency import (
    L_ALLOC_PAGES,
    L_CACHE_ALLOC,
    L_CACHE_FREE,
    L_FREE_PAGES,
    SAMPLE_EVERY_SLOWER,
    clock_of_some,
    note,
)
from stress.workloads.trace_sample import SAMPLE_WORDS, take_sample

TP_EVENTS = 8  # of this slot's stream, sync points included
TP_STREAM = 9  # offsets from the area
TP_SAMPLES = 10
TP_CACHES = 11
TP_CACHE_COUNT = 12
TP_LOOP = 13  # 1: start again at the end
T_ROUND = 14  # rounds that are over
T_SYNC = 15  # sync points passed
T_ARRIVED = 16  # the sync point that the worker stands at; read by slot 0, alone on its line
T_RELEASED = 32  # slot 0: the last sync point that is over
T_DONE = 33  # 1: the stream is at its end
T_FINISHED = 34  # slot 0: workers that have freed everything
T_GIVEN_BACK = 35
T_COUNTS = 48
T_DATA = 64

N_PAGE_ALLOC = 0  # the first four are indexed by kind
N_PAGE_FREE = 1
N_OBJECT_ALLOC = 2
N_OBJECT_FREE = 3
N_MISSED = 4  # + kind: failed allocations, and the frees skipped because of them
N_REMOTE = 8  # frees, skipped ones too, on another CPU than the allocation's
N_WAITS = 9  # polls of a handle that was not there yet
N_LEFT_PAGES = 10  # blocks and objects that the recording never freed
N_LEFT_OBJECTS = 11
N_LIVE_PAGES = 12  # allocated less freed on this CPU: may be negative
N_COUNTS = 13

TRACE_PAGE_ALLOC = 0
TRACE_PAGE_FREE = 1
TRACE_OBJECT_ALLOC = 2
TRACE_OBJECT_FREE = 3
TRACE_SYNC = 4
TRACE_LEFT = 4  # + kind of a free that the recording does not have
TRACE_KIND_MASK = 7
TRACE_FREE_MASK = 3
TRACE_WHAT_SHIFT = 3
TRACE_WHAT_MASK = 0xFFFF
TRACE_MT_SHIFT = 19
TRACE_MT_MASK = 7
TRACE_SLOT_SHIFT = 22
TRACE_SLOT_MASK = 0x7F
TRACE_POSITION_SHIFT = 29
EVENT_WORDS = 2
CACHE_WORDS = 2

HANDLE_FAILED = 0xFF
HANDLE_CPU_MASK = 0xFF
HANDLE_SHIFT = 8

PATIENCE = 500  # polls of another worker's word in one batch
TRACE_BATCH = 4096  # most events of one batch: a wait that ends early says nothing about the next


@kernel
def trace_step(mem: Memory, claim: Claim, steps: int) -> int:
    """Replay up to ``steps`` events; returns their number, or E_STOPPED at the end."""
    at = work_at(mem, claim)
    done = 0
    for _ in range(min(steps, TRACE_BATCH)):
        if stopping(mem):
            break
        result = trace_next(mem, claim, at)
        if result == c.E_STOPPED and done == 0:
            return c.E_STOPPED
        if result < 0:
            break
        done += result
    return done


@kernel
def trace_next(mem: Memory, claim: Claim, at: WordIndex) -> int:
    """Replay one event: 1 done, 0 sync point passed, E_AGAIN not possible yet, E_STOPPED none."""
    position = mem[at + W_CURSOR]
    if position >= mem[at + TP_EVENTS]:
        return trace_end(mem, claim, at)
    event = event_at(mem, at, position)
    word = mem[event]
    kind = word & TRACE_KIND_MASK
    result = 1
    if kind == TRACE_PAGE_ALLOC:
        trace_take_pages(mem, claim, at, event, position)
    elif kind == TRACE_OBJECT_ALLOC:
        trace_take_object(mem, claim, at, event, position)
    elif kind == TRACE_SYNC:
        result = trace_sync(mem, claim, at, what_of(word))
    else:
        result = trace_free(mem, claim, at, word)
    if result >= 0:
        mem[at + W_CURSOR] = position + 1
    return result


@kernel
def event_at(mem: Memory, at: WordIndex, position: int) -> WordIndex:
    """Word index of an event of the stream in the area at ``at``; its handle is behind it."""
    return at + mem[at + TP_STREAM] + position * EVENT_WORDS


@kernel
def what_of(word: int) -> int:
    """Order, cache, or number of the sync point."""
    return (word >> TRACE_WHAT_SHIFT) & TRACE_WHAT_MASK


@kernel
def trace_owner(mem: Memory, claim: Claim, at: WordIndex, position: int) -> Owner:
    """The owner id of an allocation: never used twice, and known to the freeing CPU."""
    return make_id(mem, claim, mem[at + T_ROUND] * mem[at + TP_EVENTS] + position + 1)


@kernel
def tally(mem: Memory, at: WordIndex, which: int) -> None:
    mem[at + T_COUNTS + which] = mem[at + T_COUNTS + which] + 1


@kernel
def trace_take_pages(
    mem: Memory, claim: Claim, at: WordIndex, event: WordIndex, position: int
) -> None:
    """Allocate pages and publish their handle; a failure is published too."""
    word = mem[event]
    order = what_of(word)
    owner = trace_owner(mem, claim, at, position)
    began = clock_of_some(mem, position, SAMPLE_EVERY_SLOWER)
    pfn = alloc_pages(mem, claim, order, (word >> TRACE_MT_SHIFT) & TRACE_MT_MASK, owner)
    note(mem, claim, L_ALLOC_PAGES, began, pfn)
    if pfn < 0 or own(mem, claim, pfn, order, owner) != 0:
        tally(mem, at, N_MISSED + TRACE_PAGE_ALLOC)
        store(mem, event + 1, HANDLE_FAILED)
        return
    stamp(mem, pfn, order, owner)
    live = at + T_COUNTS + N_LIVE_PAGES
    mem[live] = mem[live] + (1 << order)
    tally(mem, at, N_PAGE_ALLOC)
    store(mem, event + 1, pfn << HANDLE_SHIFT | (claim + 1))  # publishes the block and its stamps


@kernel
def trace_take_object(
    mem: Memory, claim: Claim, at: WordIndex, event: WordIndex, position: int
) -> None:
    """Allocate an object, sign it at both ends and publish its handle, or the failure."""
    entry = cache_entry(mem, what_of(mem[event]))
    began = clock_of_some(mem, position, SAMPLE_EVERY_SLOWER)
    address = cache_alloc(mem, claim, mem[entry + 1])
    note(mem, claim, L_CACHE_ALLOC, began, address)
    if address < 0:
        tally(mem, at, N_MISSED + TRACE_OBJECT_ALLOC)
        store(mem, event + 1, HANDLE_FAILED)
        return
    owner = trace_owner(mem, claim, at, position)
    mem[address] = owner
    mem[address + (mem[entry] - 1) // 8] = owner
    tally(mem, at, N_OBJECT_ALLOC)
    store(mem, event + 1, address << HANDLE_SHIFT | (claim + 1))  # publishes the object


@kernel
def cache_entry(mem: Memory, cache_id: CacheId) -> WordIndex:
    """Word index of a cache in the table of slot 0: object bytes, and the allocator's id for it."""
    table = work_at(mem, 0)
    return table + mem[table + TP_CACHES] + cache_id * CACHE_WORDS


@kernel
def trace_free(mem: Memory, claim: Claim, at: WordIndex, word: int) -> int:
    """Free what the event names, once it is there: 1, 0 if it must stay, or E_AGAIN."""
    slot = (word >> TRACE_SLOT_SHIFT) & TRACE_SLOT_MASK
    from_area = work_at(mem, slot)
    position = word >> TRACE_POSITION_SHIFT
    target = event_at(mem, from_area, position) + 1
    handle = await_handle(mem, at, target)
    if handle == 0:
        return c.E_AGAIN
    kind = word & TRACE_KIND_MASK
    left = kind & TRACE_LEFT != 0
    if handle & HANDLE_CPU_MASK != claim + 1 and slot != claim:
        tally(mem, at, N_REMOTE)
    # All CPUs are in the same round between two sync points, so this round gives the owner id.
    owner = make_id(mem, slot, mem[at + T_ROUND] * mem[from_area + TP_EVENTS] + position + 1)
    if handle == HANDLE_FAILED or give_handle(mem, claim, at, word, handle, owner) != 0:
        if not left:
            tally(mem, at, N_MISSED + kind)
    elif left:
        tally(mem, at, N_LEFT_PAGES + ((kind & TRACE_FREE_MASK) >> 1))
    else:
        tally(mem, at, kind)
    store(mem, target, 0)
    return 0 if left else 1


@kernel
def await_handle(mem: Memory, at: WordIndex, target: WordIndex) -> int:
    """The handle in word ``target``, or 0 if it does not appear within PATIENCE polls."""
    for _ in range(PATIENCE):
        handle = load(mem, target)
        if handle != 0 or stopping(mem):
            return handle
        tally(mem, at, N_WAITS)
        give_way(mem)
    return 0


@kernel
def give_handle(
    mem: Memory, claim: Claim, at: WordIndex, word: int, handle: int, owner: Owner
) -> int:
    """Check and free a block or an object: 0, or E_STATE (reported)."""
    where = handle >> HANDLE_SHIFT
    if word & TRACE_OBJECT_ALLOC != 0:
        return give_object(mem, claim, what_of(word), where, owner)
    order = what_of(word)
    if check_stamp(mem, claim, where, order, owner) != 0:
        return c.E_STATE
    if disown(mem, claim, where, order, owner) != 0:
        return c.E_STATE
    live = at + T_COUNTS + N_LIVE_PAGES
    mem[live] = mem[live] - (1 << order)
    began = clock_of_some(mem, where, SAMPLE_EVERY_SLOWER)
    code = free_pages(mem, claim, where, order)
    note(mem, claim, L_FREE_PAGES, began, code)
    return code


@kernel
def give_object(
    mem: Memory, claim: Claim, cache_id: CacheId, address: ObjectAddress, owner: Owner
) -> int:
    entry = cache_entry(mem, cache_id)
    last = address + (mem[entry] - 1) // 8
    found = mem[address]
    if found == owner:
        found = mem[last]
    if found != owner:
        report(mem, claim, c.X_PAYLOAD, address, owner, found)
        return c.E_STATE
    began = clock_of_some(mem, address, SAMPLE_EVERY_SLOWER)
    code = cache_free(mem, claim, mem[entry + 1], address)
    note(mem, claim, L_CACHE_FREE, began, code)
    return code


# --- sync points --------------------------------------------------------------------------------


@kernel
def trace_sync(mem: Memory, claim: Claim, at: WordIndex, index: int) -> int:
    """Meet all others: 0 when all workers have arrived, else E_AGAIN. Retry at any time.

    The arrival publishes everything that this worker did; the release of slot 0 follows its
    acquire of every arrival, so after a sync point every worker sees all that was done before it.
    """
    number = mem[at + T_SYNC] + 1
    leader = work_at(mem, 0)
    store(mem, at + T_ARRIVED, number)
    if claim == 0:
        for other in range(mem[at + W_WORKERS]):
            if not await_number(mem, work_at(mem, other) + T_ARRIVED, number):
                return c.E_AGAIN
        lead(mem, claim, at, index)
        store(mem, leader + T_RELEASED, number)
    elif not await_number(mem, leader + T_RELEASED, number):
        return c.E_AGAIN
    mem[at + T_SYNC] = number
    return 0


@kernel
def await_number(mem: Memory, word: WordIndex, number: int) -> bool:
    """Whether ``word`` reaches ``number`` within PATIENCE polls."""
    for _ in range(PATIENCE):
        if load(mem, word) >= number:
            return True
        if stopping(mem):
            return False
        give_way(mem)
    return False


@kernel
def live_pages(mem: Memory) -> int:
    """Pages that the replay holds; exact while all other workers wait."""
    live = 0
    for slot in range(mem[work_at(mem, 0) + W_WORKERS]):
        live += mem[work_at(mem, slot) + T_COUNTS + N_LIVE_PAGES]
    return live


@kernel
def lead(mem: Memory, claim: Claim, at: WordIndex, index: int) -> None:
    """What slot 0 does while all others wait: create the caches, or take a sample."""
    if index > 0:
        sample = at + mem[at + TP_SAMPLES] + (index - 1) * SAMPLE_WORDS
        take_sample(mem, sample, live_pages(mem))
    elif mem[at + T_SYNC] == 0:
        for cache_id in range(mem[at + TP_CACHE_COUNT]):
            entry = cache_entry(mem, cache_id)
            mem[entry + 1] = cache_create(mem, claim, mem[entry], 0, 0, 0)


# --- the end ------------------------------------------------------------------------------------


@kernel
def trace_end(mem: Memory, claim: Claim, at: WordIndex) -> int:
    """After the last event: E_STOPPED, or with TP_LOOP start again.

    The last event is a sync point: no worker starts again before all handles are cleared,
    otherwise a free could find the handle of an earlier round.
    """
    if mem[at + TP_LOOP] == 0:
        store(mem, at + T_DONE, 1)
        return c.E_STOPPED
    mem[at + T_ROUND] = mem[at + T_ROUND] + 1
    mem[at + W_CURSOR] = 0
    return 0


@kernel
def give_leftover(mem: Memory, claim: Claim, at: WordIndex, position: int) -> int:
    """Free what the event allocated, if it is still there; clear its handle; 1 if it was."""
    event = event_at(mem, at, position)
    handle = load_relaxed(mem, event + 1)
    store(mem, event + 1, 0)
    if handle == 0 or handle == HANDLE_FAILED:
        return 0
    word = mem[event]
    give_handle(mem, claim, at, word, handle, trace_owner(mem, claim, at, position))
    tally(mem, at, N_LEFT_PAGES + ((word & TRACE_KIND_MASK) >> 1))
    return 1


@kernel
def trace_finish(mem: Memory, claim: Claim) -> int:
    """Free what this CPU allocated and no CPU freed; the last worker destroys the caches.

    Something is left only if the replay was stopped. All workers are parked, so no free of the
    stream is in progress, but several CPUs may make this call at once.
    """
    at = work_at(mem, claim)
    if mem[at + T_GIVEN_BACK] != 0:
        return 0
    mem[at + T_GIVEN_BACK] = 1
    given = 0
    for position in range(mem[at + W_CURSOR]):
        given += give_leftover(mem, claim, at, position)
    finished = fetch_add(mem, work_at(mem, 0) + T_FINISHED, 1) + 1
    if finished == mem[at + W_WORKERS]:  # all others have finished: every object is free
        for cache_id in range(mem[work_at(mem, 0) + TP_CACHE_COUNT]):
            made = mem[cache_entry(mem, cache_id) + 1]
            if made >= 0:
                cache_destroy(mem, claim, made)
    return given
