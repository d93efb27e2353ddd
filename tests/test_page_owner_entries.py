"""The table of sampled allocations and the stack depot: deaths in the middle, lack of room, chance.

Small worlds; what an entry has to say follows from what was allocated, not from the kernels.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmalloc import Arena
from shmalloc import constants as c
from shmalloc.engine import get_engine
from shmalloc.kernels import pages, stack_depot
from shmalloc.kernels.page_owner import window_of
from shmalloc.page_owner import PageOwner
from shmalloc.page_owner_text import PageOwnerText
from shmalloc.sampled_layout import chance_of
from support.mortal import Killed, MortalRam
from support.page_segment import MOVABLE, PageSegment

OWNER, PID, SEED = 77, 4711, 0x1234567


@pytest.fixture
def world():
    return sampling(1)


def sampling(rate, **changes):
    """A small segment that samples, whose claim 0 is in its first life."""
    made = PageSegment(get_engine("interpreted"), page_owner=rate, **changes)
    made.mem[made.layout.cpu(0) + c.C_PID] = PID
    made.mem[made.layout.cpu(0) + c.C_EPOCH] = 1
    made.mem[made.layout.cpu(0) + c.C_OWNER_RANDOM] = SEED
    return made


def owner_of(world):
    words = world.mem.array
    return PageOwner(world.layout, lambda first, count: words[first : first + count])


def test_a_claim_killed_at_any_write_of_an_entry_leaves_all_of_it_or_none():
    shown, last = [], 0
    while True:
        world = sampling(1)
        mortal = MortalRam.over(world.mem, last)
        try:
            pfn = pages.alloc_pages(mortal, 0, 1, MOVABLE, OWNER)
        except Killed:
            found = owner_of(world).samples()
            shown.append(len(found))
            for one in found:
                assert (one.order, one.owner, one.pid, one.claim) == (1, OWNER, PID, 0)
        else:
            assert owner_of(world).of_page(pfn).pid == PID
            break
        last += 1
    assert shown.count(0) > 12 and shown == sorted(shown)


def test_what_a_killed_claim_left_half_written_is_overwritten_by_the_next_allocation():
    world = sampling(1)
    pfn = world.alloc(0)
    table = world.layout.at["page_owner"]
    keys = world.mem.array[table + c.PO_KEYS : table + c.PO_KEYS + 4096]
    keys[np.flatnonzero(keys)] &= ~c.PO_READY
    assert owner_of(world).samples() == []
    world.free(pfn)
    assert world.alloc(0) == pfn and owner_of(world).of_page(pfn).owner == 7
    assert np.count_nonzero(keys) == 1


def test_an_entry_that_changes_while_it_is_read_is_not_shown(world):
    pfn = world.alloc(0)
    table, reads = world.layout.at["page_owner"], []

    def read(first, count):
        found = world.mem.array[first : first + count].copy()
        if first == table:
            reads.append(first)
            if len(reads) == 1:  # freed and allocated for another owner between two looks
                world.free(pfn)
                assert world.alloc(0, owner=OWNER) == pfn
        return found

    assert PageOwner(world.layout, read).samples() == []
    assert owner_of(world).of_page(pfn).owner == OWNER


def test_a_full_table_counts_what_it_loses_and_gives_the_places_of_the_dead_away():
    world = sampling(1, page_owner_entries=16)
    pfns = [world.alloc(0) for _ in range(40)]
    assert len(owner_of(world).samples()) == 16 and owner_of(world).lost == 24
    for pfn in pfns:
        world.free(pfn)
    world.drain()
    again = [world.alloc(0, owner=OWNER) for _ in range(16)]
    assert sorted(one.where for one in owner_of(world).samples()) == sorted(again)
    assert owner_of(world).lost == 24


def test_a_full_depot_loses_stacks_and_no_samples():
    with Arena.create(
        size="1MiB", cpus=1, page_owner="1/1", stack_words=1024, engine="interpreted"
    ) as arena:
        take = [eval(f"lambda: {'(' * n}arena.alloc_pages(){')' * n}", {"arena": arena})
                for n in range(1)]  # fmt: skip
        held = [compile_call(n)(take[0]) for n in range(60)]
        words = arena.segment.ram.array
        owner = PageOwner(arena.segment.layout, lambda first, count: words[first : first + count])
        found = [owner.of_page(pfn) for pfn in held]
    assert all(found) and owner.lost_stacks > 0
    assert [bool(one.stack) for one in found] == sorted(bool(one.stack) for one in found)[::-1]


def compile_call(line):
    """A function that calls another one in a line of its own, so that each stack is another."""
    space = {}
    exec(compile("\n" * line + "def call(take): return take()", f"file-{line}.py", "exec"), space)
    return space["call"]


def test_a_record_that_was_reserved_and_not_published_is_not_found(world):
    handle = stack_depot.reserve_stack(world.mem, 0, 4)
    world.mem[world.layout.at["stacks"] + handle + c.SR_HASH] = 5
    assert handle > 0 and stack_depot.find_stack(world.mem, 0, 5) == 0
    assert stack_depot.publish_stack(world.mem, 0, handle, 5) == handle
    assert stack_depot.find_stack(world.mem, 0, 5) == handle


def test_of_two_processes_that_save_one_stack_the_second_uses_the_first_one_s(world):
    depot = world.layout.at["stacks"]
    first, second = (stack_depot.reserve_stack(world.mem, 0, 4) for _ in range(2))
    for handle in (first, second):
        world.mem[depot + handle + c.SR_HASH] = 5
    found = [stack_depot.publish_stack(world.mem, 0, handle, 5) for handle in (first, second)]
    assert found == [first, first] and first != second


@pytest.mark.parametrize("rate", [1, 2, 64, 1 << 20])
def test_the_chance_of_a_block_is_that_one_of_its_pages_is_drawn(rate):
    for order in range(c.ORDERS):
        exact = 1 - (1 - Fraction(1, rate)) ** (1 << order) if rate < 128 else None
        if exact is not None:
            assert abs(Fraction(chance_of(order, rate), 1 << 31) - exact) <= Fraction(1, 1 << 31)
    assert chance_of(0, rate) == -(-(1 << 31) // rate)


@pytest.mark.parametrize(("order", "most_off"), [(0, 0.08), (3, 0.03)])
def test_weights_add_up_to_what_was_allocated(order, most_off):
    """The seed is fixed: this is one draw of the estimate, within four of its deviations."""
    world = sampling(4, zones=PageSegment(get_engine("interpreted")).geometry.zones)
    estimate, rounds = 0.0, 1200 if order == 0 else 400
    for _ in range(rounds):
        pfn = world.alloc(order)
        estimate += sum(one.weight for one in owner_of(world)._look_up(pfn, c.PO_PAGE))
        world.free(pfn, order)
    assert abs(estimate / rounds - 1) < 4 * most_off


def test_a_reader_and_the_kernels_look_for_a_key_in_the_same_place(world):
    pfns = world.alloc_everything()
    found = [owner_of(world).of_page(pfn) for pfn in pfns]
    assert [one.where for one in found] == pfns
    table = world.layout.at["page_owner"]
    starts = {window_of(world.mem, table, (pfn + 1) << c.PO_KEY_SHIFT) for pfn in pfns}
    assert len(starts) > 20  # they are spread


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["table", "depot", "both"]))
def test_of_a_broken_segment_anything_is_shown_and_nothing_raises(seed, where):
    world = sampling(1, page_owner_entries=64, stack_words=1024)
    world.alloc_everything()
    layout, words = world.layout, world.mem.array
    rng = np.random.default_rng(seed)
    for name, first, end in (("table", "page_owner", "stacks"), ("depot", "stacks", "structures")):
        if where in (name, "both"):
            size = layout.at[end] - layout.at[first]
            broken = rng.integers(-(1 << 62), 1 << 62, size) >> rng.integers(0, 62, size)
            hit = rng.random(size) < 0.5
            words[layout.at[first] : layout.at[end]][hit] = broken[hit]
    text = PageOwnerText(owner_of(world), lambda word: int(words[word]))
    assert isinstance(text.page_owner() + text.show_stacks() + text.alloc_traces(), str)
