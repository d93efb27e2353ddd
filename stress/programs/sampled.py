"""Programs about sampled allocations: entries of page_owner, written while others write theirs.

Every allocation is sampled, and all keys lie in one window, so that claims meet in it. At the end
each page that is held has one entry, which is ready, whose proof holds, and which names its owner.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.page_owner import entry_of_key, key_of
from shmalloc.kernels.pages import alloc_pages
from shmalloc.kernels.poison import mark_for_poison
from shmalloc.kernels.zone import descriptor_at
from shmalloc.units import Claim, Memory, Pfn
from shmalloc.words import fixed
from stress.machine.program import Program
from stress.programs.checks import pages_are_sound
from stress.programs.held import (
    BLOCKS,
    block_pfn,
    page_take,
    slot_at,
    zone_free,
    zone_put,
    zone_take,
)
from stress.programs.initial_state import InitialState, catalogue

SAMPLED = {"page_owner": 1, "page_owner_entries": c.PO_WINDOW, "stack_words": 1 << 10}
NO_ENTRY = c.X_LOST_OWNER  # a held page that has no entry, or a wrong one


@kernel
def take_one(mem: Memory, claim: Claim) -> Pfn:
    return page_take(mem, claim, 0, 0)


@kernel
def put_and_take(mem: Memory, claim: Claim) -> Pfn:
    """Give the page that we began with to the zone, for either claim, and take one again."""
    zone_put(mem, claim, 0)
    return zone_take(mem, claim, 0, 0)


@kernel
def mark_first(mem: Memory, claim: Claim) -> int:
    """Has the page of CPU 0 leave service when it is freed."""
    return mark_for_poison(mem, block_pfn(mem[slot_at(mem, 0, 0)]))


@kernel
def entries_of(mem: Memory, pfn: Pfn, owner: int) -> int:
    """How many complete entries say that ``pfn`` is of ``owner`` now."""
    table = fixed(mem, c.H_AT_PAGE_OWNER)
    found = 0
    for i in range(fixed(mem, table + c.PO_ENTRIES)):
        at = table + c.PO_KEYS + i
        if mem[at] == key_of(pfn, c.PO_PAGE) | c.PO_READY:
            entry = entry_of_key(mem, table, at)
            if (
                mem[entry + c.PE_PROOF] == descriptor_at(mem, pfn)
                and mem[entry + c.PE_SEEN] == mem[descriptor_at(mem, pfn)] & ~c.POISON_BIT
                and mem[entry + c.PE_OWNER] == owner
            ):
                found += 1
    return found


@kernel
def each_page_has_its_entry(mem: Memory) -> int:
    """Of every page that is held; then what must hold of the pages themselves."""
    for cpu in range(fixed(mem, c.H_CPUS)):
        for slot in range(BLOCKS):
            block = mem[slot_at(mem, cpu, slot)]
            if block != 0 and entries_of(mem, block_pfn(block), cpu + 1) != 1:
                return NO_ENTRY
    return pages_are_sound(mem)


def two_entries(name: str) -> Program:
    state = InitialState.booted(2, **SAMPLED)
    return state.program(
        name,
        (take_one, take_one),
        check=each_page_has_its_entry,
        story="take_key of two claims in one window: each wants the first free key",
    )


def page_again(name: str) -> Program:
    state = InitialState.booted(2, **SAMPLED).take(0).take(1)
    return state.program(
        name,
        (put_and_take, put_and_take),
        check=each_page_has_its_entry,
        story="pages change hands: claim_key of a page's new owner against the proof that the"
        " old entry has, and the writes of both entries side by side",
    )


def marked_page(name: str) -> Program:
    state = InitialState.booted(c.PO_WINDOW + 1, **SAMPLED).take(0)
    others = [int(alloc_pages(state.ram, 1, 0, c.MT_MOVABLE, 2)) for _ in range(c.PO_WINDOW)]
    for pfn in others:  # the last one found no key; it is the first that is allocated again
        assert zone_free(state.ram, 1, pfn, 0, 2) == 0, "the page was refused"
    state.ram[state.layout.at["page_owner"] + c.PO_LOST] = 0
    return state.program(
        name,
        (mark_first, take_one),
        check=each_page_has_its_entry,
        story="every key is taken, and all but the first are of pages that were freed; the page of"
        " the first one is marked for poison while another claim looks for a key of the dead",
    )


PROGRAMS = catalogue("sampled", two_entries, page_again, marked_page)
