"""The stack depot: texts of call stacks, each kept once (Linux: lib/stackdepot.c).

::

    [ top lost buckets words | ... 16 words | bucket x buckets | records ... ]
    bucket  handle of a record, 0: none; a record is in one of SD_PROBES buckets from its hash on
    record  [ hash: 62 bits | bytes | text, UTF-8, padded to words ]
    handle  where the record begins, from the start of the depot

A record is reserved, written by Python, and published by the swap of its bucket. Nothing is ever
taken away or changed, so a handle stays good while the segment lives, and a reader needs no lock.
Two processes that save one stack at once may both write it; one is published, the other's room is
lost. So is the room of a process that dies before it publishes: no bucket leads there.

Equal hashes count as equal texts: the hash is 62 bits of a digest.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.units import Claim, Memory, WordIndex
from shmalloc.words import cas, fetch_add, fixed, load, load_relaxed


@kernel
def bucket_at(mem: Memory, hash_bits: int, probe: int) -> WordIndex:
    """The ``probe``-th bucket in which a record of that hash may be."""
    depot = fixed(mem, c.H_AT_STACKS)
    return depot + c.SD_TABLE + ((hash_bits + probe) & (fixed(mem, depot + c.SD_BUCKETS) - 1))


@kernel
def has_hash(mem: Memory, handle: int, hash_bits: int) -> bool:
    """Whether the record ``handle`` is that of the text with this hash."""
    depot = fixed(mem, c.H_AT_STACKS)
    return load_relaxed(mem, depot + handle + c.SR_HASH) == hash_bits


@unit
def find_stack(mem: Memory, claim: Claim, hash_bits: int) -> int:
    """Handle of the text with this hash, 0: it was not saved yet."""
    for probe in range(c.SD_PROBES):
        handle = load(mem, bucket_at(mem, hash_bits, probe))
        if handle == 0:
            return 0
        if has_hash(mem, handle, hash_bits):
            return handle
    return 0


@unit
def reserve_stack(mem: Memory, claim: Claim, words: int) -> int:
    """Room for a record of so many words; its handle, 0: the depot is full, which is counted."""
    depot = fixed(mem, c.H_AT_STACKS)
    size = fixed(mem, depot + c.SD_WORDS)
    top = load(mem, depot + c.SD_TOP)
    while top + words <= size:
        if cas(mem, depot + c.SD_TOP, top, top + words):
            return top
        top = load(mem, depot + c.SD_TOP)
    fetch_add(mem, depot + c.SD_LOST, 1)
    return 0


@unit
def publish_stack(mem: Memory, claim: Claim, handle: int, hash_bits: int) -> int:
    """Let others find the record ``handle``, which is written; the handle to use, 0: no bucket.

    It is another one if another process published the same text meanwhile.
    """
    for probe in range(c.SD_PROBES):
        at = bucket_at(mem, hash_bits, probe)
        if cas(mem, at, 0, handle):
            return handle
        found = load(mem, at)
        if has_hash(mem, found, hash_bits):
            return found
    fetch_add(mem, fixed(mem, c.H_AT_STACKS) + c.SD_LOST, 1)
    return 0
