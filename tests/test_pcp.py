"""Per-CPU page lists: batches, high marks, drains, locks, hotplug."""

import pytest

from shmalloc import constants as c
from shmalloc.engine import get_engine
from shmalloc.kernels import pcp_lists
from shmalloc.kernels.cpu_lock import spin_or_skip
from support import driver
from support.page_segment import SMALL, PageSegment
from support.pauses import WORD, Action, Scripted, becomes, called_off, nothing, owner


@pytest.fixture(params=["array", "list"])
def world(engine, request):
    return PageSegment(engine, pcp_form=request.param)


def structure(world, cpu=0):
    return world.layout.pcp(cpu, 0)


def test_a_freed_page_is_given_out_next(world):
    pfn = world.alloc()
    world.free(pfn)
    assert world.alloc() == pfn


def test_pages_on_a_list_are_not_free_and_never_merge(world):
    pfn = world.alloc()
    world.free(pfn)
    assert world.state(pfn) == (c.T_PCP, 0) and world.nr_free(4) == 3


def test_a_refill_fetches_a_batch_under_one_lock(world):
    world.alloc()
    assert (world.events(c.EV_REFILL), world.mem[structure(world) + c.P_COUNT]) == (1, 1)


def test_refills_double_while_nothing_is_freed(world):
    held = [world.alloc() for _ in range(12)]
    assert world.events(c.EV_REFILL) < 6 and len(set(held)) == 12


def test_frees_above_the_high_mark_drain_a_batch(world):
    pages = [world.alloc() for _ in range(30)]
    for pfn in pages:
        world.free(pfn)
    high = world.mem[structure(world) + c.P_HIGH]
    assert world.mem[structure(world) + c.P_COUNT] <= high <= 8 and world.events(c.EV_DRAIN) > 0


def test_a_remote_drain_leaves_nothing_behind(world):
    world.free(world.alloc(cpu=1), cpu=1)
    assert world.do(driver.DRAIN_CPU, 1, cpu=0) > 0
    assert (world.mem[structure(world, 1) + c.P_COUNT], world.free_pages()) == (0, 64)


def test_an_owner_whose_lock_is_held_goes_to_the_zone(world):
    world.mem[structure(world) + c.P_LOCK] = 99
    pfn = world.alloc()
    assert pfn >= 0 and world.free(pfn) == 0
    assert world.events(c.EV_PCP_MISS) == 2 and world.free_pages() == 64


def test_a_free_on_another_cpu_is_counted_as_remote(world):
    world.free(world.alloc(cpu=0), cpu=1)
    assert world.events(c.EV_REMOTE_FREE) == 1


def test_one_pageblock_is_kept_per_cpu(engine):
    world = PageSegment(engine, SMALL, max_order=5, pageblock_order=4)
    pfn = world.alloc(order=4)
    world.free(pfn, 4)
    assert world.state(pfn) == (c.T_PCP, 4) and world.alloc(order=4) == pfn


def test_an_unplugged_cpu_has_empty_lists_and_still_works(world):
    held = world.alloc(cpu=1)
    world.free(world.alloc(cpu=1), cpu=1)
    assert world.do(driver.UNPLUG, 1) >= 0
    assert world.free(held, cpu=1) == 0 and world.free_pages() == 64
    assert world.do(driver.UNPLUG, 1) == c.E_BUSY


def test_a_plugged_cpu_uses_its_lists_again(world):
    world.do(driver.UNPLUG, 1)
    assert world.do(driver.PLUG, 1) == 0
    world.free(world.alloc(cpu=1), cpu=1)
    assert world.mem[structure(world, 1) + c.P_COUNT] > 0


@pytest.mark.parametrize(("word", "value"), [(c.P_COUNT, 1), (c.P_LOCK, 0)])
def test_lists_that_were_used_while_their_cpu_was_unplugged_are_reported(world, word, value):
    world.do(driver.UNPLUG, 1)
    world.mem[structure(world, 1) + word] = value
    assert world.do(driver.PLUG, 1) == 0 and world.reports() == [c.I_PCP_COUNT]


def test_draining_all_cpus_skips_an_unplugged_one(world):
    world.do(driver.UNPLUG, 1)
    assert world.drain() == 0


def test_the_high_mark_decays_to_its_minimum(world):
    p = structure(world)
    world.mem[p + c.P_HIGH] = 8
    for _ in range(40):
        world.do(driver.DECAY)
    assert world.mem[p + c.P_HIGH] == world.mem[p + c.P_HIGH_MIN]


def test_an_allocation_finds_pages_that_hide_on_other_cpus(world):
    pages = world.alloc_everything()
    for pfn in pages[:4]:
        world.free(pfn, cpu=1)
    assert world.alloc(cpu=0) in pages[:4]


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("mt", range(c.MT_PCP_TYPES))
def test_list_index_and_order_are_inverse(order, mt):
    world = PageSegment(get_engine("interpreted"))
    assert pcp_lists.pcp_order(world.mem, pcp_lists.pcp_index(world.mem, order, mt)) == order


# --- a wait for the lists of another CPU ---------------------------------------------------------
def waiting_for_lists(*script: Action, held: int) -> tuple[Scripted, int]:
    mem = Scripted(*script, held=held)
    called_off(2)(mem)  # an earlier wait for the same lock, which went on
    return mem, mem.call(spin_or_skip, WORD, 2, 0)


def test_lists_that_become_free_are_taken_whatever_called_off_an_earlier_wait():
    mem, got = waiting_for_lists(nothing, becomes(0), held=owner(6))
    assert (got, mem[WORD]) == (1, owner(2))


def test_lists_of_a_cpu_that_is_unplugged_meanwhile_are_not_waited_for():
    mem, got = waiting_for_lists(nothing, becomes(c.LOCK_OFFLINE), held=owner(6))
    assert (got, mem[WORD]) == (0, c.LOCK_OFFLINE)


def test_a_wait_for_lists_that_is_called_off_ends_counted():
    mem, got = waiting_for_lists(nothing, called_off(2), held=owner(6))
    assert (got, mem[WORD], mem.count(2, c.EV_DRAIN_SKIP)) == (c.E_AGAIN, owner(6), 1)
