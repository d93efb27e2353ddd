"""What the controller's own checks find, beyond what kernels report."""

import pytest

from shmalloc import constants as c
from shmalloc.call_sites import CallSites
from shmalloc.engine import get_engine
from shmalloc.kernels.contig import isolate_range, offline_range
from shmalloc.kernels.pages import alloc_pages
from stress.geometry import parse_geometry
from stress.run.memory import RunMemory
from stress.run.reported import Reported
from stress.run.result import RunResult
from stress.spec import RunSpec, Zone
from stress.workloads import WORKLOADS

BLOCK = 512


@pytest.fixture
def world():
    with RunMemory(RunSpec(("churn",), 1, (Zone(8 << 20),), engine="interpreted")) as world:
        yield world


def names(violations):
    return [found.invariant for found in violations]


def test_a_fresh_world_is_sound_and_can_be_torn_down(world):
    assert world.audit() == [] and world.tear_down(world.snapshot().managed_pages) == []


def test_a_waiter_without_a_process_is_found_when_all_are_parked(world):
    world.ram.store(c.H_WAITERS, 0b100)
    assert world.audit() == [] and names(world.reports.violations()) == ["I_PROGRESS"]


def test_what_was_not_given_back_names_the_call_that_allocated_it():
    """A worker stands for one stack: the step of its workload."""
    geometry = parse_geometry("page-owner=1/1")
    spec = RunSpec(("churn",), 1, (Zone(8 << 20),), engine="interpreted", geometry=geometry)
    with RunMemory(spec) as world:
        sites = CallSites(world.segment, get_engine("interpreted"))
        sites.stand_for(0, WORKLOADS["churn"].step)
        assert world.call(alloc_pages, 0, c.MT_MOVABLE, 7) >= 0
        result = RunResult(spec)
        result.violations += world.tear_down(world.snapshot().managed_pages)
        Reported(world, result, None).collect()
    step = WORKLOADS["churn"].step.__name__
    (found,) = (one for one in result.violations if one.invariant == "I_TEARDOWN")
    assert any(f"allocated by {step} (" in line for line in found.history)


def test_pages_that_stay_isolated_are_found_at_the_end(world):
    assert world.call(isolate_range, BLOCK, 2 * BLOCK) == 0
    assert names(world.audit()) == ["X_RANGE"]
    assert names(world.tear_down(world.snapshot().managed_pages)) == ["I_TEARDOWN"]


def test_a_pageblock_that_changed_its_type_without_a_claim_is_found(world):
    world.ram.array[world.layout.at["blocks"] + 1] = c.MT_UNMOVABLE
    assert world._types_are_kept(claims=1) == []
    (found,) = world._types_are_kept(claims=0)
    assert found.found == "1 have another one, the first at pageblock 1"


def test_pages_that_stay_offline_are_found_at_the_end(world):
    managed_pages = world.snapshot().managed_pages
    assert world.call(offline_range, BLOCK, 2 * BLOCK) == 0
    assert names(world.tear_down(managed_pages)) == ["I_TEARDOWN"]
