"""Programs about objects on two nodes: each has a zone, its slabs, and a barn of its own.

CPU n is on node n. An object whose slab is of another node goes straight back to it, past the
sheaves; a slab is of the node of its pages, whichever CPU made it.
"""

from __future__ import annotations

from typing import Any

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel
from shmalloc.kernels.objects import cache_at, cpu_node, cpu_part, entry_address
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import pfn_of_word, zone_at, zone_of
from shmalloc.layout import ZoneSpec
from shmalloc.units import Claim, Memory, NodeId, ObjectAddress, SheafWords
from shmalloc.words import fixed
from stress.machine.program import Program
from stress.programs.checks import destroyed_or_busy, objects_are_sound
from stress.programs.held import ONLY_CACHE, free_shared, object_put, object_take
from stress.programs.initial_state import SHEAF_PAGE_BYTES, InitialState, catalogue
from stress.programs.slab import (
    FOUR_IN_A_SLAB,
    ONE_EACH,
    ONE_IN_A_SLAB,
    TWO_IN_A_SLAB,
    destroy,
    put_object,
    shrink,
    take_object,
)


@kernel
def take_third(mem: Memory, claim: Claim) -> ObjectAddress:
    return object_take(mem, claim, 2)


@kernel
def swap_objects(mem: Memory, claim: Claim) -> ObjectAddress:
    """Frees an object and takes another one."""
    object_put(mem, claim, 0)
    return object_take(mem, claim, 0)


@kernel
def strangers_in(mem: Memory, sheaf: SheafWords, node_id: NodeId) -> int:
    """Objects of other nodes in a sheaf of node ``node_id`` (0: no sheaf); each is reported."""
    strangers = 0
    if sheaf != 0:
        for i in range(mem[sheaf + cs.SF_SIZE]):
            address = entry_address(mem[sheaf + cs.SF_OBJECTS + i])
            zone = zone_at(mem, zone_of(mem, pfn_of_word(mem, address)))
            if fixed(mem, zone + c.Z_NODE) != node_id:
                report(mem, 0, c.I_SHEAF, address, node_id, fixed(mem, zone + c.Z_NODE))
                strangers += 1
    return strangers


@kernel
def objects_are_at_home(mem: Memory) -> int:
    """``objects_are_sound``, and the sheaves of each CPU have objects of its own node alone."""
    for cpu in range(fixed(mem, c.H_CPUS)):
        part = cpu_part(mem, cache_at(mem, ONLY_CACHE), cpu)
        strangers_in(mem, mem[part + cs.KC_MAIN], cpu_node(mem, cpu))
        strangers_in(mem, mem[part + cs.KC_SPARE], cpu_node(mem, cpu))
    return objects_are_sound(mem)


def two_nodes(near: int, far: int, **changes: Any) -> InitialState:
    """A zone of ``near`` pages on node 0, and one of ``far`` on node 1."""
    zones = (ZoneSpec(near), ZoneSpec(far, node=1))
    return InitialState.booted(near + far, zones=zones, caches=1, **changes)


def with_sheaves(near: int = 2, far: int = 2) -> InitialState:
    """Sheaves of one object, of which the first two pages hold those of both CPUs."""
    state = two_nodes(near, far, page_bytes=SHEAF_PAGE_BYTES)
    return state.with_cache(FOUR_IN_A_SLAB, ONE_EACH)


def free_remote(name: str) -> Program:
    state = two_nodes(1, 1).with_cache(TWO_IN_A_SLAB)
    state = state.take_object(0).take_object(0, 1).share_object(0, 1)
    return state.program(
        name,
        (put_object, free_shared),
        check=objects_are_sound,
        story="an object goes back to the slab of another node as the last one there comes home:"
        " put_freed takes the lock of the slab's node, not of its CPU's",
    )


def free_remote_sheaf(name: str) -> Program:
    state = with_sheaves().take_object(0).take_object(0, 1).share_object(0, 1)
    return state.program(
        name,
        (swap_objects, free_shared),
        check=objects_are_at_home,
        story="an object of node 0 is freed on node 1 past its sheaves while CPU 0 frees into its"
        " own and takes again: no sheaf of node 1 may ever hold it",
    )


def take_far(name: str) -> Program:
    state = two_nodes(1, 1).with_cache(TWO_IN_A_SLAB).take_object(0).take_object(0, 1)
    return state.program(
        name,
        (take_third, take_object),
        check=objects_are_sound,
        story="node 0 has no page left: its CPU makes a slab of node 1's page, which belongs to"
        " the lists of node 1, where that node's CPU looks for one at the same time",
    )


def take_take(name: str) -> Program:
    return (
        two_nodes(1, 1)
        .with_cache(ONE_IN_A_SLAB)
        .program(
            name,
            (take_object, take_object),
            check=objects_are_sound,
            story="each CPU makes a slab of its own node's page: adopt of both at once, under the"
            " locks of two nodes",
        )
    )


def shrink_remote(name: str) -> Program:
    state = two_nodes(1, 1).with_cache(TWO_IN_A_SLAB).take_object(0).share_object(0)
    return state.program(
        name,
        (shrink, free_shared),
        check=objects_are_sound,
        story="cache_shrink goes from node to node while the only object of node 0 comes back from"
        " node 1: release_empty of each node under its own lock",
    )


def destroy_remote(name: str) -> Program:
    state = two_nodes(1, 1).with_cache(TWO_IN_A_SLAB).take_object(0).share_object(0)
    return state.program(
        name,
        (destroy, free_shared),
        check=destroyed_or_busy,
        story="a cache is destroyed while the last object comes back to another node's slab: the"
        " slabs are counted on all nodes, and 0 means that all of them are gone",
    )


def flush_remote(name: str) -> Program:
    state = with_sheaves(3, 2).take_object(0).share_object(0)
    for slot in range(4):
        state.take_object(0, slot)
    for slot in (3, 2, 1):
        state.put_object(0, slot)
    return state.program(
        name,
        (put_object, free_shared),
        check=objects_are_at_home,
        story="CPU 0 overflows into the barn of its node and flushes a sheaf to the slab to which"
        " an object comes back from node 1: two ways into one free list, one without a sheaf",
    )


PROGRAMS = catalogue(
    "node",
    free_remote,
    free_remote_sheaf,
    take_far,
    take_take,
    shrink_remote,
    destroy_remote,
    flush_remote,
)
