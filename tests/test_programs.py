"""The catalogue of explorer programs: each builds, keeps the dialect, has a check that can fail.

What the programs find is explored elsewhere; here the CPUs run one after the other, interpreted, so
that a broken world or a check that sees nothing is told apart from a race.
"""

from __future__ import annotations

import functools

import pytest

from shmalloc import constants as c
from shmalloc.compiler.check import violations
from shmalloc.dialect import closure_of
from shmalloc.errors import CorruptionError
from shmalloc.kernels.zone import frame_at, pcp_at
from shmalloc.memory import Ram
from stress.programs import PROGRAMS, checks, held, pcp, waiters, written
from stress.programs.initial_state import InitialState
from stress.programs.locks import COUNTER, LOCK

WAITING = {  # the first CPU waits for another one
    "slab-destroy-stopped",
    "contig-isolate-stopped",
    "lock-asks-2",
    "lock-heir-2",
    "lock-withdrawn-3",
    "lock-called-off-2",
}
LOCKS = sorted(name for name in PROGRAMS if name.startswith("lock-") and name not in WAITING)
BLOCKING = sorted(
    name for name in PROGRAMS if name.startswith(("sync-", "structure-")) or name in WAITING
)
ALLOCATOR = [name for name in PROGRAMS if name not in BLOCKING]
SEGMENTS = sorted(set(ALLOCATOR) - set(LOCKS))
WATCHED = [
    "buddy-split-legal",
    "buddy-merge-legal",
    "buddy-split-walk",
    "buddy-split-walk-descriptor",
    "buddy-merge-walk",
    "buddy-split-lookup",
    "buddy-churn-3",
    "contig-isolate-legal",
    "contig-range-legal",
    "store-index-walk",
    "store-bitmap-walk",
]
REQUIRED = {
    "buddy-alloc-alloc", "buddy-alloc-free", "buddy-merge-merge", "buddy-merge-take",
    "buddy-split-walk", "contig-isolate-merge", "pcp-refill-drain", "pcp-drain-alloc",
    "pcp-unplug-alloc", "pcp-unplug-free", "slab-alloc-free", "slab-full-partial",
    "slab-barn-swap", "slab-shrink-alloc", "slab-destroy-free", "lock-sleep-2", "lock-sleep-3",
    "lock-try-spin-2", "wait-zone-wake",
}  # fmt: skip


@functools.cache
def serial(name: str) -> tuple[Ram, tuple[int, ...]]:
    """Final memory and results of the CPUs in order; look, and change only a ``copy``."""
    program = PROGRAMS[name]()
    ram = Ram.of_words(program.words)
    program.initialize(ram)
    returns = tuple(int(thread(ram, cpu) or 0) for cpu, thread in enumerate(program.threads))
    return ram, returns


def copy(ram: Ram) -> Ram:
    other = Ram.of_words(ram.words)
    other.array[:] = ram.array
    return other


def kernels(name):
    program = PROGRAMS[name]()
    watchers = (kernel for kernel in (program.check, program.invariant) if kernel is not None)
    return (*program.threads, *watchers)


def test_every_race_that_was_asked_for_has_a_program():
    assert set(PROGRAMS) >= REQUIRED


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_builds_under_its_own_name(name):
    assert PROGRAMS[name]().name == name


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_built_once(name):
    assert PROGRAMS[name]() is PROGRAMS[name]()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_says_what_it_hunts(name):
    assert len(PROGRAMS[name]().story) > 60


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_number_of_cpus_is_in_the_name(name):
    cpus = len(PROGRAMS[name]().threads)
    assert cpus in (2, 3)
    assert cpus == 3 or not name.endswith("-3")


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_kernel_of_a_program_keeps_the_dialect(name):
    ours = {f for kernel in kernels(name) for f in closure_of(kernel)}
    assert [v for f in ours if f.__module__.startswith("stress") for v in violations(f)] == []


@pytest.mark.parametrize("name", ALLOCATOR)
def test_the_check_passes_when_the_cpus_run_one_after_the_other(name):
    assert PROGRAMS[name]().check(copy(serial(name)[0])) == 0


@pytest.mark.parametrize("name", WATCHED)
def test_the_invariant_holds_before_and_after(name):
    program = PROGRAMS[name]()
    before = Ram.of_words(program.words)
    program.initialize(before)
    assert (program.invariant(before), program.invariant(serial(name)[0])) == (0, 0)


@pytest.mark.parametrize("name", WATCHED)
def test_the_invariant_sees_a_page_without_a_head(name):
    ram = copy(serial(name)[0])
    ram[ram[c.H_AT_MEMMAP]] = 0
    assert PROGRAMS[name]().invariant(ram) == c.I_TAIL


@pytest.mark.parametrize("name", SEGMENTS)
def test_the_check_sees_a_wrong_count_of_free_pages(name):
    ram = copy(serial(name)[0])
    ram[ram[c.H_AT_ZONES] + c.Z_FREE] += 1
    assert PROGRAMS[name]().check(ram) == c.I_CONSERVATION


@pytest.mark.parametrize("name", SEGMENTS)
def test_the_check_sees_a_lock_that_was_never_released(name):
    ram = copy(serial(name)[0])
    ram[ram[c.H_AT_ZONES] + c.Z_LOCK] = 1
    assert PROGRAMS[name]().check(ram) == c.I_PROGRESS


@pytest.mark.parametrize("name", SEGMENTS)
def test_the_check_sees_what_a_thread_reported(name):
    ram = copy(serial(name)[0])
    count = ram[c.H_REPORT_COUNT]
    ram[ram[c.H_AT_REPORTS] + count * c.R_STRIDE + c.R_CODE] = c.X_WALKER
    ram[c.H_REPORT_COUNT] = count + 1
    assert PROGRAMS[name]().check(ram) != 0


@pytest.mark.parametrize("name", LOCKS)
def test_the_check_of_a_lock_sees_a_lost_update(name):
    ram = copy(serial(name)[0])
    ram[COUNTER] -= 1
    assert PROGRAMS[name]().check(ram) == c.X_PAYLOAD


@pytest.mark.parametrize("name", LOCKS)
def test_the_check_of_a_lock_sees_that_it_is_held(name):
    ram = copy(serial(name)[0])
    ram[LOCK] = 1
    assert PROGRAMS[name]().check(ram) == c.I_PROGRESS


def test_the_check_sees_a_page_that_two_cpus_hold():
    ram = copy(serial("buddy-alloc-alloc")[0])
    ram[held.slot_at(ram, 1, 0)] = ram[held.slot_at(ram, 0, 0)]
    assert checks.pages_are_sound(ram) == c.X_DOUBLE_ALLOC


def test_the_check_sees_a_page_that_is_held_and_free():
    ram = copy(serial("buddy-merge-merge")[0])
    held.hold(ram, 1, 0, 1, 0)
    assert checks.pages_are_sound(ram) == c.X_LOST_OWNER


def test_the_check_sees_a_page_without_a_holder():
    ram = copy(serial("buddy-alloc-alloc")[0])
    held.let_go(ram, 0, 0)
    assert checks.pages_are_sound(ram) == c.I_TEARDOWN


def test_the_check_sees_an_object_that_two_cpus_hold():
    ram = copy(serial("slab-new-new")[0])
    one, other = (held.slot_at(ram, cpu, held.FIRST_OBJECT + 1) for cpu in (0, 1))
    ram[other] = ram[one]
    assert checks.objects_are_sound(ram) == c.X_DOUBLE_ALLOC


def test_the_check_sees_an_object_that_is_lost():
    ram = copy(serial("slab-new-new")[0])
    held.let_go(ram, 0, held.FIRST_OBJECT + 1)
    assert checks.objects_are_sound(ram) == c.M_LEAKED_OBJECTS


@pytest.mark.parametrize("end", ["first", "last"])
def test_the_check_sees_that_the_owner_of_a_page_finds_something_else_in_it(end):
    ram = copy(serial("buddy-alloc-alloc")[0])
    pfn = held.block_pfn(ram[held.slot_at(ram, 0, 0)])
    ram[frame_at(ram, pfn) if end == "first" else written.last_word(ram, pfn, 0)] = 1
    assert checks.pages_are_sound(ram) == c.X_PAYLOAD


def test_the_check_sees_that_the_owner_of_an_object_finds_something_else_in_it():
    ram = copy(serial("slab-new-new")[0])
    ram[ram[held.slot_at(ram, 0, held.FIRST_OBJECT + 1)]] = 1
    assert checks.objects_are_sound(ram) == c.X_PAYLOAD


def test_a_page_that_is_freed_is_as_its_owner_left_it():
    ram = InitialState.booted(2).take(0).ram
    ram[written.last_word(ram, 1, 0)] = 1
    held.page_put(ram, 0, 0)
    assert checks.first_violation(ram) == c.X_PAYLOAD


def test_a_double_free_that_was_not_refused_is_seen():
    ram = copy(serial("buddy-free-free-same")[0])
    ram[c.H_REPORT_COUNT] = 0
    assert checks.page_refused_once(ram) == c.M_DOUBLE_FREE


def test_a_double_free_of_an_object_that_was_not_refused_is_seen():
    ram = copy(serial("slab-free-free-same")[0])
    ram[c.H_REPORT_COUNT] = 0
    assert checks.object_refused_once(ram) == c.M_OBJECT_FREE


def test_a_destroy_that_says_it_is_done_may_not_have_reported_leaks():
    ram = copy(serial("slab-destroy-free")[0])
    ram[ram[c.H_AT_REPORTS] + c.R_CODE] = c.M_LEAKED_OBJECTS
    ram[c.H_REPORT_COUNT] = 1
    assert checks.destroyed_or_busy(ram) == c.M_LEAKED_OBJECTS


def test_a_page_that_hides_from_an_isolation_is_seen():
    program = PROGRAMS["contig-isolate-free"]()
    ram = copy(serial("contig-isolate-free")[0])
    ram[pcp_at(ram, 1, held.ONLY_ZONE) + c.P_COUNT] = 1
    assert program.check(ram) == c.I_PCP_COUNT


def test_a_waiter_that_was_never_counted_out_is_seen():
    ram = copy(serial("wait-zone-wake")[0])
    ram[c.H_WAITERS] = 1
    assert waiters.no_waiters(ram) == c.I_PROGRESS


def test_an_allocation_that_must_succeed_reports_when_it_does_not():
    ram = InitialState.booted(1).take(1).ram
    pcp.must_take(ram, 0)
    assert checks.first_violation(ram) == c.I_PROGRESS


def test_a_world_that_cannot_be_prepared_says_so():
    with pytest.raises(CorruptionError, match="no block of that order"):
        InitialState.booted(1).take(0).take(1)


def test_a_lock_that_opens_an_unplugged_cpu_is_seen():
    ram = copy(serial("pcp-unplug-free")[0])
    ram[pcp_at(ram, 0, held.ONLY_ZONE) + c.P_LOCK] = 0
    assert checks.pages_are_sound(ram) == c.I_PROGRESS


@pytest.mark.parametrize("name", ["contig-isolate-merge", "contig-isolate-restore"])
def test_an_isolation_that_was_lost_is_seen(name):
    ram = copy(serial(name)[0])
    ram[ram[c.H_AT_BLOCKS] + 1] = c.MT_MOVABLE
    assert PROGRAMS[name]().check(ram) == c.I_FREE_HEAD
