"""The oracles find what is planted, and nothing in a healthy segment: no check that cannot fail."""

import pytest

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.kernels.contig import isolate_range, offline_range, online_range
from shmalloc.kernels.objects import cache_at, node_part
from shmalloc.layout import ZoneSpec
from stress.oracles.bounds import check_bounds
from stress.oracles.filling import check_ends, check_filled
from stress.programs import checks, filled, held
from stress.programs.initial_state import InitialState
from stress.programs.ranges import check_ranges, keep_offline, keep_range
from stress.programs.slab import ONE_IN_A_SLAB
from stress.run.held_ranges import changed_ranges
from stress.workloads.area import W_DATA
from stress.workloads.contig import (
    CONTIG_END,
    CONTIG_KIND,
    CONTIG_START,
    CONTIG_WORDS,
    KIND_ISOLATED,
    KIND_OFFLINE,
)

FORMS = pytest.mark.parametrize("form", ["array", "list"])


def listed(form="array"):
    """Two zones of four pages; CPU 0 has two pages of the first one on its list."""
    zones = (ZoneSpec(4), ZoneSpec(4, 1))
    return InitialState.booted(0, zones=zones, pcp_batch=2, pcp_high=2, pcp_form=form).keep(0, 2)


def lists_of(state, cpu=0, zone=0):
    return state.layout.pcp(cpu, zone)


def found(state, check=check_bounds, deaths=0):
    """Number of the first violation that the oracle reports, or 0."""
    check(state.ram, 0, deaths)
    return checks.first_violation(state.ram)


# --- bounds --------------------------------------------------------------------------------------
@FORMS
def test_lists_that_are_as_they_should_be_pass(form):
    assert found(listed(form)) == 0


def test_pages_that_are_not_counted_are_found():
    state = listed()
    state.ram[lists_of(state) + c.P_COUNT] = 1
    assert found(state) == c.I_PCP_COUNT


def test_blocks_of_the_largest_order_count_with_all_their_pages():
    state = InitialState.booted(16, 3, pcp_high=8, pcp_batch=8).take(0, order=3)
    assert held.page_put(state.ram, 0, 0) == 0 and found(state) == 0
    state.ram[lists_of(state) + c.P_COUNT] = 0
    assert found(state) == c.I_PCP_COUNT


def test_single_pages_beyond_the_high_mark_are_found():
    state = listed()
    state.ram[lists_of(state) + c.P_HIGH] = 1
    assert found(state) == c.I_PCP_COUNT


def test_a_list_longer_than_its_array_is_found():
    state = listed()
    too_many = state.ram[c.H_PCP_CAPACITY] + 1
    state.ram[lists_of(state) + c.P_LENGTH] = too_many
    state.ram[lists_of(state) + c.P_COUNT] = too_many
    assert found(state) == c.I_PCP_COUNT


def test_a_second_whole_pageblock_on_a_list_is_found():
    state = InitialState.booted(64, 4)
    index = c.PCP_ORDERS * c.MT_PCP_TYPES
    state.ram[lists_of(state) + c.P_LENGTH + index] = c.PCP_HUGE_KEEP + 1
    assert found(state) == c.I_PCP_COUNT


@FORMS
def test_a_page_of_another_node_on_a_list_is_found(form):
    state = listed(form)
    ram, other = state.ram, lists_of(state, zone=1)
    for word in range(c.P_LENGTH, state.layout.pcp(0, 1) - state.layout.pcp(0, 0)):
        ram[other + word] = ram[lists_of(state) + word]
    ram[other + c.P_COUNT] = ram[lists_of(state) + c.P_COUNT]
    assert found(state) == c.I_PCP_COUNT


def with_slabs(nodes=1):
    """One object in one slab, on the partial list of node 0."""
    zones = tuple(ZoneSpec(4, node) for node in range(nodes))
    state = InitialState.booted(0, zones=zones, caches=1).with_cache(ONE_IN_A_SLAB // 2)
    return state.take_object(0)


def part(state, node):
    return node_part(state.ram, cache_at(state.ram, held.ONLY_CACHE), node)


def test_a_slab_on_the_list_of_another_node_is_found():
    state = with_slabs(nodes=2)
    assert found(state) == 0
    ram, near, far = state.ram, part(state, 0) + cs.KN_PARTIAL, part(state, 1) + cs.KN_PARTIAL
    ram[far], ram[far + 1] = ram[near], ram[near + 1]
    assert found(state) == c.I_SLAB


def test_one_empty_slab_too_many_is_found_unless_a_process_died():
    state = with_slabs().put_object(0)
    cache = cache_at(state.ram, held.ONLY_CACHE)
    assert state.ram[cache + cs.K_MIN_PARTIAL] >= 1 and found(state) == 0
    state.ram[cache + cs.K_MIN_PARTIAL] = 0
    assert found(state, deaths=1) == 0
    assert found(state) == c.I_SLAB


# --- filling -------------------------------------------------------------------------------------
@pytest.mark.parametrize("fill", ["poison", "zero"])
@pytest.mark.parametrize("check, word", [(check_filled, 3), (check_ends, 15)])
def test_a_block_that_is_not_filled_is_found(fill, check, word):
    state = InitialState.booted(2, 1, link_store="table", **{fill: True})
    assert check(state.ram, 0, 0, 1) == 0
    state.ram[state.layout.frame(0) + word] ^= 1
    assert check(state.ram, 0, 0, 1) == 1
    assert checks.first_violation(state.ram) == c.X_FILLING


def test_where_nothing_is_filled_there_is_nothing_to_find():
    state = InitialState.booted(1).take(0)
    state.ram[state.layout.frame(0)] = 7
    assert check_filled(state.ram, 0, 0, 0) == check_ends(state.ram, 0, 0, 0) == 0


def test_a_stray_write_that_was_given_out_is_found():
    state = filled.strayed(filled.poisoned(1), 0).take(0)
    assert filled.stray_is_caught(state.ram) == c.X_FILLING


def test_a_page_that_left_service_without_a_report_is_found():
    state = filled.strayed(filled.poisoned(2), 0)
    state.ram[state.layout.descriptor(0)] = c.T_POISONED
    assert filled.stray_is_caught(state.ram) == c.I_BYTES


# --- ranges --------------------------------------------------------------------------------------
def blocks():
    return InitialState.booted(8, 1, pageblock_order=1, work_words=CONTIG_WORDS)


def test_a_range_that_its_holder_keeps_is_right():
    state = blocks()
    assert isolate_range(state.ram, 0, 0, 2) == offline_range(state.ram, 1, 4, 6) == 0
    keep_range(state.ram, 0, 0, 2)
    keep_offline(state.ram, 1, 4, 6)
    assert found(state, check_ranges) == 0


def test_an_isolation_that_was_left_over_is_found():
    state = blocks()
    assert isolate_range(state.ram, 0, 2, 4) == 0
    assert found(state, check_ranges, deaths=1) == c.X_RANGE


def test_an_offline_range_that_came_back_is_found():
    state = blocks()
    assert offline_range(state.ram, 0, 2, 4) == 0
    keep_offline(state.ram, 0, 2, 4)
    assert online_range(state.ram, 1, 2, 4) > 0
    assert found(state, check_ranges, deaths=1) == c.X_RANGE


def test_who_died_may_have_left_a_range_offline():
    state = blocks()
    assert offline_range(state.ram, 0, 2, 4) == 0
    assert found(state, check_ranges, deaths=1) == 0
    assert found(state, check_ranges) == c.X_RANGE


def noted(state, kind, books=None, deaths=False):
    """What a run's audit says if worker 0 notes the range [2, 4) as ``kind``."""
    slot = state.layout.work(0) + W_DATA
    for word, value in ((CONTIG_KIND, kind), (CONTIG_START, 2), (CONTIG_END, 4)):
        state.ram[slot + word] = value
    return changed_ranges(state.ram, state.layout, books or {0: "contig"}, deaths)


@pytest.mark.parametrize(
    "take, kind", [(isolate_range, KIND_ISOLATED), (offline_range, KIND_OFFLINE)]
)
def test_a_run_compares_ranges_with_the_notes_of_its_workers(take, kind):
    state = blocks()
    (before,) = noted(state, kind)
    assert take(state.ram, 0, 2, 4) == 0
    assert noted(state, kind) == []
    (after,) = noted(state, kind, {0: "churn"})
    assert {before.invariant, after.invariant} == {"X_RANGE"}
    assert (before.found, after.expected) == ("in service", "in service")


def test_a_run_asks_for_whom_a_range_is_isolated():
    state = blocks()
    assert isolate_range(state.ram, 1, 2, 4) == 0
    (wrong,) = noted(state, KIND_ISOLATED)
    assert (wrong.expected, wrong.found) == ("isolated by claim 0", "isolated by claim 1")


def test_a_worker_that_died_may_have_left_a_range_offline():
    state = blocks()
    assert offline_range(state.ram, 0, 2, 4) == 0
    assert noted(state, 0, deaths=True) == [] != noted(state, 0)
