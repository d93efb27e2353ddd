"""A hash table of a fixed number of entries, for many readers and writers, none of which waits.

Words from ``d`` on, in a block of the structure::

    [ entries | mask | entries of a block | words of an entry | room | spare ] [ HINT ]
    bucket x (mask + 1)    pair: [ version, head | leaving << 20 | coming << 40 ]
    block ...              the word where each block of entries begins

    entry    pair: [ version << 2 | use, life ]    pair: [ changes, next ]
             [ hash ][ lengths ][ array ][ - ][ 4 words: reference to an array ][ key, value ]

Entries are numbered from 1. Those of a bucket form a chain. An entry in a chain never changes but
for its link; a change puts another entry in its place. **Every change of a bucket is one swap of
its pair, and counts its version.** So who has read the version, then anything of the chain and its
entries, and finds the version unchanged, has read what was there: nothing torn, and nothing freed,
since an entry is freed only when it has left its chain.

The first of a chain changes by that swap alone. For one further behind, the swap says which entry
is leaving and which is coming (0: none); this is where the change takes effect. Then its
predecessor's link is swapped, and the pair a second time. Who comes in between does that
first (``settle_bucket``), also a reader: no CPU waits for one that is stopped or dead. ``changes``
counts the swaps of a link and never goes back, so a late one fails.

    FREE -> WRITING      dict_begin: its owner fills it; its death gives it back
    WRITING -> USED      behind the swap that put it into its chain; a help, no step of the protocol
    WRITING, USED -> FREE        it has left its chain, or never came into one
    WRITING, USED -> ENDING      the same of one with an array: its reference is dropped first
    ENDING -> FREE               end_array_value (array_values.py)

A version of an entry ends with FREE, so each is freed once. An entry that is in use and in no chain
was left by a writer that died between its swap and that step, or is about to be freed by a living
one: ``dict_reclaim`` frees it either way. The same of one that is WRITING in the name of a life
that is over.

Rules for callers. The caller compares keys: a kernel knows their hashes alone, and
``dict_exchange`` takes place only if the bucket is as it was when the caller compared. What was
read of an entry counts if ``dict_is_at`` says so afterwards. A new key leaves ``spare`` entries
free, with which those that are there can be replaced when the table is full.
"""

from __future__ import annotations

from shmalloc.dialect import hot, kernel, unit
from shmalloc.units import Memory, WordIndex
from shmalloc.words import cas2, fence, fixed, load, load2, load_relaxed, store, store_relaxed

D_ENTRIES = 0
D_MASK = 1
D_EACH = 2
D_STRIDE = 3
D_ROOM = 4  # bytes of a key and its value together
D_SPARE = 5
D_HINT = 8  # where to look for a free entry first
D_BUCKETS = 16
BUCKET_WORDS = 2
E_CHANGES = 2
E_NEXT = 3
E_HASH = 4
E_LENGTHS = 5
E_ARRAY = 6  # 1 + the first pfn of the array that the entry has a reference to; 0: none
E_RECORD = 8  # that reference, as array_table.py has it
E_DATA = 12
FREE = 0
WRITING = 1
USED = 2
ENDING = 3
USE_MASK = 3
USE_BITS = 2
NUMBER_BITS = 20
NUMBER_MASK = (1 << NUMBER_BITS) - 1


@hot
def entry_of(mem: Memory, d: WordIndex, number: int) -> WordIndex:
    """First word of entry ``number``."""
    each: int = fixed(mem, d + D_EACH)
    stride: int = fixed(mem, d + D_STRIDE)
    blocks = d + D_BUCKETS + (fixed(mem, d + D_MASK) + 1) * BUCKET_WORDS
    first: WordIndex = fixed(mem, blocks + (number - 1) // each)
    return first + (number - 1) % each * stride


@hot
def bucket_of(mem: Memory, d: WordIndex, hashed: int) -> WordIndex:
    """The pair of the bucket for keys with that hash, or of the bucket with that number."""
    mask: int = fixed(mem, d + D_MASK)
    return d + D_BUCKETS + (hashed & mask) * BUCKET_WORDS


@hot
def place_of(mem: Memory, d: WordIndex, hashed: int, number: int) -> int:
    """What names a bucket, and an entry in it, or 0."""
    mask: int = fixed(mem, d + D_MASK)
    return (hashed & mask) << NUMBER_BITS | number


@hot
def is_settled(chain: int) -> bool:
    """Whether the second word of a bucket's pair announces no change."""
    return chain >> NUMBER_BITS == 0


# --- chains --------------------------------------------------------------------------------------
@hot
def nth_of_hash(mem: Memory, d: WordIndex, head: int, hashed: int, skip: int) -> int:
    """The entry of a chain that has this hash, behind ``skip`` others of it; 0: there is none.

    Anything, if the bucket changes meanwhile.
    """
    number = head
    left = skip
    for _ in range(fixed(mem, d + D_ENTRIES)):
        if number == 0:
            return 0
        at = entry_of(mem, d, number)
        if load(mem, at + E_HASH) == hashed:
            if left == 0:
                return number
            left -= 1
        number = load(mem, at + E_NEXT)
    return 0


@kernel
def nth_of_chain(mem: Memory, d: WordIndex, head: int, nth: int) -> int:
    """The entry at a place of a chain, from 0 on; 0: it is shorter. The same."""
    number = head
    for _ in range(min(nth, fixed(mem, d + D_ENTRIES))):
        if number != 0:
            number = load(mem, entry_of(mem, d, number) + E_NEXT)
    return number


@kernel
def link_to(mem: Memory, d: WordIndex, head: int, wanted: int) -> tuple[WordIndex, int]:
    """The pair of the link that leads to entry ``wanted``, not of the first, and its changes.

    (0, 0): no link does. The same.
    """
    number = head
    for _ in range(fixed(mem, d + D_ENTRIES)):
        if number != 0:
            link = entry_of(mem, d, number) + E_CHANGES
            changes, number = load2(mem, link)
            if number == wanted:
                return link, changes
    return 0, 0


@unit
def settle_bucket(mem: Memory, d: WordIndex, bucket: WordIndex) -> None:
    """Finish the change that a bucket announces, if it still does."""
    version, chain = load2(mem, bucket)
    if is_settled(chain):
        return
    head = chain & NUMBER_MASK
    leaving = chain >> NUMBER_BITS & NUMBER_MASK
    following = chain >> 2 * NUMBER_BITS
    if following == 0:
        following = load(mem, entry_of(mem, d, leaving) + E_NEXT)
    link, changes = link_to(mem, d, head, leaving)
    if load(mem, bucket) == version:
        if link != 0:
            cas2(mem, link, changes, leaving, changes + 1, following)
        cas2(mem, bucket, version, chain, version + 1, head)


@hot
def settled_bucket(mem: Memory, d: WordIndex, bucket: WordIndex) -> tuple[int, int]:
    """(version, head) of a bucket in which no change is half done."""
    version, chain = load2(mem, bucket)
    while not is_settled(chain):
        settle_bucket(mem, d, bucket)
        version, chain = load2(mem, bucket)
    return version, chain


@kernel
def is_linked(mem: Memory, d: WordIndex, number: int) -> bool:
    """Whether an entry stands in the chain of its hash."""
    bucket = bucket_of(mem, d, load(mem, entry_of(mem, d, number) + E_HASH))
    while True:
        version, head = settled_bucket(mem, d, bucket)
        found = head == number
        if not found:
            link, _ = link_to(mem, d, head, number)
            found = link != 0
        if load(mem, bucket) == version:
            return found


# --- reading -------------------------------------------------------------------------------------
@hot
def dict_find(mem: Memory, d: WordIndex, hashed: int, skip: int) -> tuple[int, int, int]:
    """An entry with this hash, behind ``skip`` others of it: (place, version, lengths).

    The place names the bucket and the entry: none, if there was none at that version of the bucket.
    What is read of the entry counts if ``dict_is_at`` says so afterwards.
    """
    bucket = bucket_of(mem, d, hashed)
    while True:
        version, head = settled_bucket(mem, d, bucket)
        number = nth_of_hash(mem, d, head, hashed, skip)
        place = place_of(mem, d, hashed, number)
        if number != 0:
            return place, version, load(mem, entry_of(mem, d, number) + E_LENGTHS)
        if load(mem, bucket) == version:
            return place, version, 0


@hot
def dict_is_at(mem: Memory, d: WordIndex, place: int, version: int) -> bool:
    """Whether the bucket is still at that version: what was read since then was there."""
    bucket = bucket_of(mem, d, place >> NUMBER_BITS)
    fence(mem)  # what was read outside of kernels was read before
    unchanged: bool = load(mem, bucket) == version
    return unchanged


@kernel
def dict_nth(mem: Memory, d: WordIndex, index: int, nth: int) -> tuple[int, int, int]:
    """The entry at a place of the chain of bucket ``index``, from 0 on: as ``dict_find``.

    A bucket whose entries all have one version, and its end too, was like that at one moment.
    """
    bucket = bucket_of(mem, d, index)
    while True:
        version, head = settled_bucket(mem, d, bucket)
        number = nth_of_chain(mem, d, head, nth)
        place = place_of(mem, d, index, number)
        if number != 0:
            return place, version, load(mem, entry_of(mem, d, number) + E_LENGTHS)
        if load(mem, bucket) == version:
            return place, version, 0


@kernel
def dict_next_bucket(mem: Memory, d: WordIndex, index: int) -> int:
    """The first bucket from ``index`` on that has an entry; -1: none has."""
    for at in range(index, fixed(mem, d + D_MASK) + 1):
        _, chain = load2(mem, bucket_of(mem, d, at))
        if chain != 0:
            return at
    return -1


@kernel
def dict_length(mem: Memory, d: WordIndex) -> int:
    """Entries in chains, each bucket at its own moment."""
    found = 0
    for at in range(fixed(mem, d + D_MASK) + 1):
        bucket = bucket_of(mem, d, at)
        while True:
            version, number = settled_bucket(mem, d, bucket)
            length = 0
            for _ in range(fixed(mem, d + D_ENTRIES)):
                if number == 0:
                    break
                length += 1
                number = load(mem, entry_of(mem, d, number) + E_NEXT)
            if load(mem, bucket) == version:
                break
        found += length
    return found


# --- making --------------------------------------------------------------------------------------
@kernel
def dict_prepare(mem: Memory, d: WordIndex, entries: int, mask: int) -> int:
    """Write empty buckets; ``dict_shape`` and the blocks follow, before any process uses them."""
    for i in range(D_BUCKETS + (mask + 1) * BUCKET_WORDS):
        store_relaxed(mem, d + i, 0)
    store_relaxed(mem, d + D_ENTRIES, entries)
    store_relaxed(mem, d + D_MASK, mask)
    return 0


@kernel
def dict_shape(mem: Memory, d: WordIndex, each: int, stride: int, room: int, spare: int) -> int:
    """Write how many entries a block has, and how many words and bytes an entry has."""
    store_relaxed(mem, d + D_EACH, each)
    store_relaxed(mem, d + D_STRIDE, stride)
    store_relaxed(mem, d + D_ROOM, room)
    store_relaxed(mem, d + D_SPARE, spare)
    return 0


@kernel
def dict_place(mem: Memory, d: WordIndex, block: int, first: WordIndex, count: int) -> int:
    """Tell where a block of ``count`` free entries lies."""
    blocks: WordIndex = d + D_BUCKETS + (load_relaxed(mem, d + D_MASK) + 1) * BUCKET_WORDS
    stride: int = load_relaxed(mem, d + D_STRIDE)
    store(mem, blocks + block, first)
    for entry in range(count):
        for i in range(E_DATA):
            store_relaxed(mem, first + entry * stride + i, 0)
    return 0
