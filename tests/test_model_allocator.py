"""The allocator under the explorer's scheduler: few pages, many interleavings, clean audits.

One program for each part that tests of one thread cannot reach: waiters, isolation beside
isolation, hotplug, ranges, a walker, objects beside shrink and destroy. Each schedule ends with
the full audit; a lost wake-up would be a deadlock.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.compiler import obtain
from shmalloc.dialect import kernel
from shmalloc.image import write_image
from shmalloc.kernels.audit import audit, audit_teardown
from shmalloc.kernels.boot import boot
from shmalloc.kernels.cache import cache_alloc, cache_free
from shmalloc.kernels.cache_set import cache_create, cache_destroy, cache_shrink
from shmalloc.kernels.contig import (
    alloc_contig_range,
    free_contig_range,
    isolate_range,
    offline_range,
    online_range,
    unisolate_range,
)
from shmalloc.kernels.hotplug import plug_cpu, unplug_cpu
from shmalloc.kernels.pages import free_pages
from shmalloc.kernels.pages_wait import alloc_pages_wait
from shmalloc.kernels.pcp import drain_all
from shmalloc.kernels.slab_audit import audit_slabs
from shmalloc.kernels.walk import walk
from shmalloc.layout import LINK_STORES, Geometry, Layout, ZoneSpec
from shmalloc.memory import Ram
from shmalloc.words import exchange
from stress.machine.native import kernels_of
from stress.machine.program import Program
from stress.oracles.versions import check_version
from support.model_kernels import churn
from support.schedules import RandomSchedules

SCHEDULES = 1000
CPUS = 3
PATIENCE = 1_000_000  # rounds of waiting: a lost wake-up is a deadlock, not a timeout
HANDED = 70  # word of CPU 0's scratch area through which objects are handed over


@functools.cache
def booted(pages: int, page_bytes: int, link_store: str) -> tuple[Layout, np.ndarray]:
    geometry = Geometry(
        zones=(ZoneSpec(pages),), page_bytes=page_bytes, cpus=CPUS, max_order=3, pcp_batch=2,
        pageblock_order=2, pcp_high=4, spins=1, caches=2, scratch_words=128, link_store=link_store,
    )  # fmt: skip
    layout = Layout.of(geometry)
    ram = Ram.of_words(layout.words)
    write_image(ram, layout)
    boot(ram)
    for cpu in range(CPUS):
        ram[layout.cpu(cpu) + c.C_STATE] = c.CPU_ONLINE
    if page_bytes > 64:
        flags = 2 << cs.CF_CAPACITY_SHIFT | 1 << cs.CF_BARN_SHIFT
        assert cache_create(ram, 0, 32, 8, flags, 0) == 0
    return layout, ram.array.copy()


def explore(threads, check, pages=16, page_bytes=64, link_store="page"):
    layout, image = booted(pages, page_bytes, link_store)
    program = Program("test", layout.words, threads, init=image, check=check, check_writes=True)
    return RandomSchedules("native", program, step_limit=60_000).run(1, SCHEDULES)


@kernel
def pages_are_clean(mem):
    """Nothing was reported, and with everything drained all blocks merge again."""
    if mem[c.H_REPORT_COUNT] != 0:
        return mem[c.H_REPORT_COUNT]
    drain_all(mem, 0)
    return audit_teardown(mem, 0)


@kernel
def wait_for_all(mem, cpu):
    """Wait for the only block there is, then free it."""
    pfn = alloc_pages_wait(mem, cpu, 3, c.MT_MOVABLE, cpu + 1, PATIENCE)
    return free_pages(mem, cpu, pfn, 3)


@kernel
def wait_for_little(mem, cpu):
    pfn = alloc_pages_wait(mem, cpu, 1, c.MT_MOVABLE, cpu + 1, PATIENCE)
    return free_pages(mem, cpu, pfn, 1)


@kernel
def isolate_low(mem, cpu):
    if isolate_range(mem, cpu, 0, 4) == 0:
        unisolate_range(mem, cpu, 0, 4)
    return 0


@kernel
def isolate_next(mem, cpu):
    if isolate_range(mem, cpu, 4, 8) == 0:
        unisolate_range(mem, cpu, 4, 8)
    return 0


@kernel
def offline(mem, cpu):
    if offline_range(mem, cpu, 8, 12) == 0:
        online_range(mem, cpu, 8, 12)
    return 0


@kernel
def contig(mem, cpu):
    if alloc_contig_range(mem, cpu, 5, 11, 9) == 0:
        free_contig_range(mem, cpu, 5, 11)
    return 0


@kernel
def hotplug(mem, cpu):
    if unplug_cpu(mem, cpu, 0) >= 0:
        plug_cpu(mem, cpu, 0)
    return 0


@kernel
def watch(mem, cpu):
    for _ in range(3):
        walk(mem, cpu, 0, 16)
        check_version(mem, cpu, 0)
    return 0


PAGE_PROGRAMS = {
    "three allocators": (churn, churn, churn),
    "isolation beside isolation": (churn, isolate_low, isolate_next),
    "offline beside isolation": (churn, offline, isolate_next),
    "contiguous range": (churn, contig),
    "hotplug": (churn, hotplug, churn),
    "walker": (churn, watch, churn),
}


# --- objects -------------------------------------------------------------------------------------


@kernel
def objects_are_clean(mem):
    """Nothing was reported; slabs, sheaves and pages recount."""
    handed = mem[mem[c.H_AT_SCRATCH] + HANDED]
    if handed != 0:
        cache_free(mem, 0, 0, handed)
    if mem[c.H_REPORT_COUNT] != 0:
        return mem[c.H_REPORT_COUNT]
    return audit_slabs(mem, 0) + audit(mem, 0)


@kernel
def only_recounted(mem):
    """A destroy that met live objects may have reported them; the recount must still be clean."""
    return audit_slabs(mem, 0) + audit(mem, 0)


@kernel
def use_objects(mem, cpu):
    one = cache_alloc(mem, cpu, 0)
    two = cache_alloc(mem, cpu, 0)
    if one >= 0:
        cache_free(mem, cpu, 0, one)
    if two >= 0:
        cache_free(mem, cpu, 0, two)
    return 0


@kernel
def hand_over(mem, cpu):
    """Leave an object for the next CPU, free the one that was left for us."""
    mine = cache_alloc(mem, cpu, 0)
    if mine < 0:
        return 0
    other = exchange(mem, mem[c.H_AT_SCRATCH] + HANDED, mine)
    if other != 0:
        cache_free(mem, cpu, 0, other)
    return 0


@kernel
def shrink(mem, cpu):
    return cache_shrink(mem, cpu, 0)


@kernel
def destroy(mem, cpu):
    return cache_destroy(mem, cpu, 0)


OBJECT_PROGRAMS = {
    "remote frees": ((hand_over, hand_over, hand_over), objects_are_clean),
    "shrink": ((use_objects, shrink, hand_over), objects_are_clean),
    "destroy": ((use_objects, destroy, use_objects), only_recounted),
}


# --- every program -------------------------------------------------------------------------------
WAITERS = (wait_for_all, wait_for_little)


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """One image for all programs: most of what they call is the same."""
    pages = [*PAGE_PROGRAMS.values(), WAITERS]
    checked = [*((threads, pages_are_clean) for threads in pages), *OBJECT_PROGRAMS.values()]
    programs = (Program("test", 2, threads, check=check) for threads, check in checked)
    obtain.obtain(kernels_of(programs))


@pytest.mark.parametrize("link_store", LINK_STORES)
@pytest.mark.parametrize("name", PAGE_PROGRAMS)
def test_every_explored_interleaving_of_pages_audits_clean(name, link_store):
    result = explore(PAGE_PROGRAMS[name], pages_are_clean, link_store=link_store)
    assert (result.verdict, result.schedules, result.abandoned) == ("passed", SCHEDULES, 0)


@pytest.mark.parametrize("second", WAITERS)
def test_no_wake_up_is_lost(second):
    result = explore((wait_for_all, second, wait_for_all), pages_are_clean, pages=8)
    assert (result.verdict, result.schedules) == ("passed", SCHEDULES)


@pytest.mark.parametrize("name", OBJECT_PROGRAMS)
def test_every_explored_interleaving_of_objects_audits_clean(name):
    threads, check = OBJECT_PROGRAMS[name]
    result = explore(threads, check, pages=32, page_bytes=256)
    assert (result.verdict, result.schedules, result.abandoned) == ("passed", SCHEDULES, 0)
