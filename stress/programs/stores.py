"""Programs about link stores that keep free blocks on no list: what another block's removal moves.

As in buddy.py only the zone's halves of an allocation and of a free run here. In an index the block
that fills a gap gets another place, although no CPU asked about it: its descriptor changes while a
reader without a lock may look at it.
"""

from __future__ import annotations

from shmalloc.dialect import kernel
from shmalloc.layout import ZoneSpec
from shmalloc.units import Claim, Memory
from stress.machine.program import Program
from stress.programs.buddy import (
    put_block,
    take_and_put,
    take_from_upper_zone,
    take_page,
    walk_zone,
    watch_version,
)
from stress.programs.checks import partition_is_legal
from stress.programs.held import zone_put
from stress.programs.initial_state import InitialState, catalogue


@kernel
def put_both(mem: Memory, claim: Claim) -> int:
    return zone_put(mem, claim, 0) + zone_put(mem, claim, 1)


def singles(link_store: str) -> InitialState:
    """Of six pages two single ones are free; CPU 1 has their buddies."""
    state = InitialState.booted(6, max_order=1, link_store=link_store)
    for slot in range(2):
        state.take(0, slot).take(1, slot)
    return state.put(0).put(0, 1)


def index_swap(name: str) -> Program:
    return singles("index").program(
        name,
        (take_and_put, put_both),
        story="pages are freed beside free ones that lie in the middle of the array: index_remove"
        " in absorb moves its last entry into the gap, which another CPU takes by index_first or"
        " merges by the place that it had before",
    )


def index_swap_3(name: str) -> Program:
    state = InitialState.booted(4, max_order=1, cpus=3, link_store="index").take(0).take(1)
    return state.program(
        name,
        (put_block, put_block, take_page),
        story="two CPUs free buddies while a third one allocates: the entry of each, and of what is"
        " moved into its gap, passes through the hands of all three under one lock",
    )


def index_walk(name: str) -> Program:
    return InitialState.booted(4, max_order=2, link_store="index").program(
        name,
        (take_page, walk_zone),
        invariant=partition_is_legal,
        story="as buddy-split-walk, with the places of free blocks in the second words of their"
        " descriptors: store_relaxed in set_place rewrites that word while the walker reads the"
        " pair",
    )


def index_versions(name: str) -> Program:
    return InitialState.booted(1, link_store="index").program(
        name,
        (take_and_put, watch_version),
        story="buddy-version-watch, where set_place changes the second word of a descriptor without"
        " a transition: two readings with one version still show one state",
    )


def bitmap_swap(name: str) -> Program:
    return singles("bitmap").program(
        name,
        (take_and_put, put_both),
        story="bits of two free pages lie in one word: bitmap_remove of one CPU may clear the"
        " summaries only if the other CPU's bitmap_add has not set another bit of that word",
    )


def bitmap_swap_3(name: str) -> Program:
    state = InitialState.booted(4, max_order=1, cpus=3, link_store="bitmap").take(0).take(1)
    return state.program(
        name,
        (put_block, put_block, take_page),
        story="two CPUs free buddies while a third one searches the levels of the bitmap from"
        " above, whose words become zero and not zero again by each merge and split",
    )


def bitmap_walk(name: str) -> Program:
    return InitialState.booted(4, max_order=2, link_store="bitmap").program(
        name,
        (take_page, walk_zone),
        invariant=partition_is_legal,
        story="as buddy-split-walk, with no list node anywhere: the pairs that the walker reads"
        " change by transitions alone",
    )


def bitmap_border(name: str) -> Program:
    zones = (ZoneSpec(1), ZoneSpec(3))
    state = InitialState.booted(4, max_order=1, zones=zones, link_store="bitmap").take(0)
    return state.program(
        name,
        (put_block, take_from_upper_zone),
        story="the second zone begins in the middle of a largest block: its bits are numbered from"
        " the border before it, so that the first bit of its bitmap is a page of the first zone",
    )


PROGRAMS = catalogue(
    "store",
    index_swap,
    index_swap_3,
    index_walk,
    index_versions,
    bitmap_swap,
    bitmap_swap_3,
    bitmap_walk,
    bitmap_border,
)
