"""The audit finds each kind of damage, by its number, and nothing in a healthy world."""

import pytest

from shmalloc import constants as c
from support import driver
from support.page_segment import PageSegment


@pytest.fixture
def world(engine):
    world = PageSegment(engine, owner_map=True)
    world.busy = [world.alloc(order=k % 3) for k in range(6)]
    world.free(world.busy.pop(), 2)
    assert world.audit() == 0
    return world


def first_free(world, order=4):
    pfns = range(0, 64, 1 << order)
    return next(p for p in pfns if world.state(p) == (c.T_FREE, order))


def descriptor(world, pfn):
    return world.layout.descriptor(pfn)


def lose_a_page(world):
    world.mem[world.layout.zone(0) + c.Z_FREE] -= 1


def break_a_next_link(world):
    world.mem[world.layout.frame(first_free(world))] = world.layout.frame(first_free(world)) << 3


def break_a_count(world):
    world.mem[world.layout.zone(0) + c.Z_COUNTS + 4 * c.MT_COUNT + c.MT_MOVABLE] += 1


def forget_to_clear_a_head(world):
    free = first_free(world)
    world.mem[descriptor(world, free + 3)] = c.T_ALLOCATED


def turn_a_head_into_a_tail(world):
    world.mem[descriptor(world, first_free(world))] = c.T_TAIL


def wrong_order(world):
    world.mem[descriptor(world, first_free(world))] -= 1 << c.ORDER_SHIFT


def wrong_zone(world):
    world.mem[descriptor(world, first_free(world))] |= 1 << c.ZONE_SHIFT


def owner_of_a_free_page(world):
    world.mem[world.layout.at["owners"] + first_free(world)] = 7


def pcp_count(world):
    world.mem[world.layout.pcp(0, 0) + c.P_COUNT] += 1


def page_twice_on_pcp(world):
    p = world.layout.pcp(0, 0)
    world.free(world.alloc())
    arrays = p + c.P_ARRAYS + c.MT_MOVABLE * world.mem[c.H_PCP_CAPACITY]
    world.mem[arrays + world.mem[p + c.P_LENGTH + c.MT_MOVABLE]] = world.mem[arrays]
    world.mem[p + c.P_LENGTH + c.MT_MOVABLE] += 1
    world.mem[p + c.P_COUNT] += 1


def type_of_a_pageblock(world):
    world.mem[world.layout.at["blocks"] + first_free(world) // 8] = c.MT_RECLAIMABLE


def type_of_a_later_pageblock(world):
    world.mem[world.layout.at["blocks"] + first_free(world) // 8 + 1] = c.MT_RECLAIMABLE


DAMAGE = {
    lose_a_page: c.I_CONSERVATION,
    break_a_next_link: c.I_LIST_LINKS,
    break_a_count: c.I_LIST_LINKS,
    forget_to_clear_a_head: c.I_TAIL,
    turn_a_head_into_a_tail: c.I_TAIL,
    wrong_order: c.I_FREE_HEAD,
    wrong_zone: c.I_FREE_HEAD,
    owner_of_a_free_page: c.X_LOST_OWNER,
    pcp_count: c.I_PCP_COUNT,
    page_twice_on_pcp: c.I_PCP_COUNT,
    type_of_a_pageblock: c.I_FREE_HEAD,
    type_of_a_later_pageblock: c.I_FREE_HEAD,
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda d: d.__name__)
def test_damage_is_reported_by_its_invariant(world, damage):
    damage(world)
    assert world.audit() > 0
    assert DAMAGE[damage] in world.reports()


def test_two_unmerged_buddies_are_reported(world):
    pages = world.alloc_everything()
    for pfn in pages:
        world.free(pfn)
    world.drain()
    pfn = first_free(world)
    w0 = world.mem[descriptor(world, pfn)]
    half = w0 - (1 << c.ORDER_SHIFT)
    world.mem[descriptor(world, pfn)] = half
    world.mem[descriptor(world, pfn + 8)] = half
    world.audit()
    assert c.I_UNMERGED in world.reports()


@pytest.mark.parametrize("fill", ["poison", "zero"])
def test_a_write_to_a_free_page_is_found_by_audit_and_by_allocation(engine, fill):
    world = PageSegment(engine, **{fill: True})
    pfn = world.alloc()
    world.free(pfn)
    world.drain()
    world.mem[world.layout.frame(pfn) + 5] = 42
    assert world.audit() > 0 and set(world.reports()) == {c.I_BYTES}
    assert pfn not in world.alloc_everything() and set(world.reports()) == {c.I_BYTES}
    assert world.audit() == 0, "the block that was written to is out of service, nothing else"


def test_teardown_reports_a_page_that_was_never_freed(world):
    world.drain()
    assert world.do(driver.TEARDOWN) > 0 and c.I_TEARDOWN in world.reports()


def test_the_report_table_keeps_the_first_ones_and_counts_all(world):
    for _ in range(c.REPORTS + 10):
        world.free(63 if world.state(63)[0] != c.T_ALLOCATED else -1)
    assert world.mem[c.H_REPORT_COUNT] == c.REPORTS + 10
    assert len(world.reports()) == c.REPORTS


def test_a_walk_of_a_healthy_world_reports_nothing(world):
    at = 0
    for _ in range(64):
        at = world.do(driver.WALK, at, 7)
    assert world.reports() == []


@pytest.mark.parametrize("word", [c.T_COUNT, c.T_FREE | 5 << c.ORDER_SHIFT, 3 << c.ORDER_SHIFT])
def test_a_walk_reports_an_illegal_descriptor(world, word):
    world.mem[descriptor(world, 33)] = word
    world.do(driver.WALK, 33, 1)
    assert world.reports() == [c.X_WALKER]
