"""Programs about the buddy allocator of one zone: splits, merges, and readers without the lock.

They call the zone's half of an allocation and of a free (held.py), so that only the zone lock
separates two operations. What runs outside the lock: the two swaps that change the owner
(``hand_out``, ``claim_for_free``), the wake-up check, and readers of descriptors.

An invariant is checked after every write, so the order of all writes matters and the systematic
strategies can skip little. Therefore only the "-legal" programs, and those in which a single CPU
writes, have one.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.descriptor import head_of
from shmalloc.kernels.pages import give, take_from_zone
from shmalloc.kernels.reporting import report
from shmalloc.kernels.walk import walk
from shmalloc.layout import ZoneSpec
from shmalloc.units import Claim, Memory, Pfn
from stress.machine.program import Program
from stress.oracles.versions import check_version
from stress.programs.checks import page_refused_once, partition_is_legal
from stress.programs.held import receive, zone_free, zone_put, zone_take
from stress.programs.initial_state import InitialState, catalogue


@kernel
def take_page(mem: Memory, claim: Claim) -> Pfn:
    return zone_take(mem, claim, 0, 0)


@kernel
def take_pair(mem: Memory, claim: Claim) -> Pfn:
    return zone_take(mem, claim, 0, 1)


@kernel
def put_block(mem: Memory, claim: Claim) -> int:
    return zone_put(mem, claim, 0)


@kernel
def take_and_put(mem: Memory, claim: Claim) -> int:
    zone_take(mem, claim, 0, 0)
    return zone_put(mem, claim, 0)


@kernel
def free_page_one(mem: Memory, claim: Claim) -> int:
    """Frees page 1 whatever its owner: one of two such frees must be refused."""
    return zone_free(mem, claim, 1, 0, 0)


@kernel
def take_from_upper_zone(mem: Memory, claim: Claim) -> Pfn:
    pfn = take_from_zone(mem, claim, 1, 0, c.MT_MOVABLE)
    if pfn >= 0:
        pfn = give(mem, claim, pfn, 0, c.MT_MOVABLE, claim + 1)
    return receive(mem, claim, 0, pfn, 0)


@kernel
def watch_version(mem: Memory, claim: Claim) -> int:
    """Reads one descriptor twice: the same version implies the same state."""
    check_version(mem, claim, 0)
    return 0


@kernel
def walk_zone(mem: Memory, claim: Claim) -> Pfn:
    """One lock-free walk over the first four pages."""
    return walk(mem, claim, 0, 4)


@kernel
def look_up_last(mem: Memory, claim: Claim) -> Pfn:
    """Looks up the head of page 3: it is page 3 itself, or page 2, or page 0."""
    head = head_of(mem, 3)
    if head != 0 and head != 2 and head != 3 and head != c.E_AGAIN:
        report(mem, claim, c.X_WALKER, 3, c.E_AGAIN, head)
    return head


def alloc_alloc(name: str) -> Program:
    return InitialState.booted(2, max_order=1).program(
        name,
        (take_page, take_page),
        story="take_block of one CPU against find_smallest of the other: both want the one free"
        " block, and the second looks while the split of the first (unlink_free ... put_piece) is"
        " half done",
    )


def alloc_alloc_3(name: str) -> Program:
    return InitialState.booted(2, max_order=1, cpus=3).program(
        name,
        (take_page, take_page, take_page),
        story="three CPUs allocate from two pages: two unlock exchanges against two sleepers in"
        " lock_slow; exactly one allocation fails, and no page is allocated twice",
    )


def alloc_free(name: str) -> Program:
    state = InitialState.booted(2, max_order=1).take(0, slot=1).take(1)
    return state.program(
        name,
        (take_page, put_block),
        story="the last page: may_take and first_free of an allocation against link_free and"
        " account of the free that returns it, and claim_for_free against the hand_out of the"
        " page's next allocation",
    )


def merge_merge(name: str) -> Program:
    state = InitialState.booted(2, max_order=1).take(0).take(1)
    return state.program(
        name,
        (put_block, put_block),
        story="two buddies are freed at once: mergeable of one reads the other's descriptor between"
        " its claim_for_free (PCP) and its make_free; if both saw 'not free' the buddies would"
        " never merge",
    )


def merge_merge_3(name: str) -> Program:
    state = InitialState.booted(4, max_order=2, cpus=3).take(0).take(1).take(2, order=1)
    return state.program(
        name,
        (put_block, put_block, put_block),
        story="merges on two levels: absorb of the last free must find the block that the other"
        " frees have just merged, at the order it has by then",
    )


def merge_take(name: str) -> Program:
    state = InitialState.booted(2, max_order=1).take(1)
    return state.program(
        name,
        (take_page, put_block),
        story="one CPU allocates the buddy of the page that the other frees: unlink_free in absorb"
        " against unlink_free in take_block, of the same block",
    )


def merge_take_3(name: str) -> Program:
    state = InitialState.booted(4, max_order=2, cpus=3).take(1).take(2)
    return state.program(
        name,
        (take_pair, put_block, put_block),
        story="one CPU wants a block of order 1 while two single pages are freed: rmqueue against"
        " two merges, one of which creates the block, while the other may first merge it into a"
        " larger one",
    )


def free_free_same(name: str) -> Program:
    state = InitialState.booted(2, max_order=1).take(0).take(0, slot=1).put(0).forget(0, slot=1)
    return state.program(
        name,
        (free_page_one, free_page_one),
        check=page_refused_once,
        story="two CPUs free one page at once: load and load_relaxed in claim_for_free against the"
        " transition2 of the other, and the next states of the page: FREE, then a tail of page 0;"
        " exactly one M_DOUBLE_FREE, and the page is free once",
    )


def split_walk(name: str) -> Program:
    return InitialState.booted(4, max_order=2).program(
        name,
        (take_page, walk_zone),
        invariant=partition_is_legal,
        story="make_free of the upper halves, then the transition2 that shrinks their old head,"
        " against load2 of a walker that steps by the order it read: it may meet tails,"
        " never a torn pair",
    )


def split_walk_descriptor(name: str) -> Program:
    return InitialState.booted(4, max_order=2, link_store="descriptor").program(
        name,
        (take_page, walk_zone),
        invariant=partition_is_legal,
        story="as buddy-split-walk, with list links inside the descriptors: store_relaxed in"
        " set_link rewrites type, order and version, from a word it read before, as the walker"
        " reads them",
    )


def merge_walk(name: str) -> Program:
    state = InitialState.booted(4, max_order=2).take(1)
    return state.program(
        name,
        (walk_zone, put_block),
        invariant=partition_is_legal,
        story="make_free that grows the leftmost head, then make_tail of those it covers,"
        " against load2 of a walker that is inside of it",
    )


def split_lookup(name: str) -> Program:
    return InitialState.booted(4, max_order=2).program(
        name,
        (take_page, look_up_last),
        invariant=partition_is_legal,
        story="head_of climbs from page 3 over 2 to 0, one read each, while expand gives 2 a head"
        " and transition2 takes 0 back to one page: E_AGAIN, or a block that really covered page 3",
    )


def split_legal(name: str) -> Program:
    state = InitialState.booted(4, max_order=2).blank()
    return state.program(
        name,
        (take_page, take_pair),
        invariant=partition_is_legal,
        story="two splits with a look after every single write: put_piece gives the upper halves"
        " heads while the old head still covers them, the last swap uncovers them all at once",
    )


def merge_legal(name: str) -> Program:
    state = InitialState.booted(2, max_order=1).take(0).take(1)
    return state.program(
        name,
        (put_block, put_block),
        invariant=partition_is_legal,
        story="buddy-merge-merge with a look after every single write: make_free grows the"
        " leftmost head before fold makes tails, so that no page is ever without one",
    )


def zone_border(name: str) -> Program:
    zones = (ZoneSpec(1), ZoneSpec(1))
    state = InitialState.booted(2, max_order=1, zones=zones).take(0)
    return state.program(
        name,
        (put_block, take_from_upper_zone),
        story="the buddy of the page that is freed lies in another zone, under another lock:"
        " mergeable must see the border before it reads, and take_block of its owner goes on",
    )


def version_watch(name: str) -> Program:
    return InitialState.booted(1).program(
        name,
        (take_and_put, watch_version),
        story="two reads of a descriptor while its page goes from free to owned and back: with the"
        " same version they must show the same state, or a stale swap could succeed (ABA)",
    )


def churn_3(name: str) -> Program:
    return InitialState.booted(4, max_order=2, cpus=3).program(
        name,
        (take_and_put, take_and_put, take_and_put),
        invariant=partition_is_legal,
        story="three CPUs take a page and free it: every split beside every merge, from one block"
        " to four pages and back",
    )


PROGRAMS = catalogue(
    "buddy", alloc_alloc, alloc_alloc_3, alloc_free, merge_merge, merge_merge_3, merge_take,
    merge_take_3, free_free_same, split_walk, split_walk_descriptor, merge_walk, split_lookup,
    split_legal, merge_legal, zone_border, version_watch, churn_3,
)  # fmt: skip
