"""The allocator's kernels on both engines: equal events, clean audits, planted bugs.

Thirty schedules are compared step by step; tests of the explorer compare thousands of programs.
"""

from __future__ import annotations

import functools
from types import FunctionType

import numpy as np
import pytest

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.image import write_image
from shmalloc.kernels.audit import audit_teardown
from shmalloc.kernels.boot import boot
from shmalloc.kernels.buddy import free_block
from shmalloc.kernels.descriptor import claim_for_free
from shmalloc.kernels.pages import alloc_pages
from shmalloc.kernels.zone import account, zone_at
from shmalloc.layout import Geometry, Layout, ZoneSpec
from shmalloc.memory import Ram
from stress.machine.program import Program
from support.model_kernels import churn
from support.schedules import RandomSchedules

PAGES = 16


@functools.cache
def image(cpus: int) -> np.ndarray:
    """A booted memory of one zone of 16 pages of 64 bytes."""
    layout = Layout.of(
        Geometry(
            zones=(ZoneSpec(PAGES),),
            page_bytes=64,
            cpus=cpus,
            max_order=3,
            pageblock_order=2,
            pcp_batch=2,
            pcp_high=4,
            spins=1,
            caches=1,
            scratch_words=128,
        )
    )
    ram = Ram.of_words(layout.words)
    write_image(ram, layout)
    assert boot(ram) == PAGES
    return ram.array.copy()


def buddy_program(*threads: FunctionType, check: FunctionType) -> Program:
    first = image(len(threads))
    return Program("test", len(first), threads, init=first, check=check, check_writes=True)


@kernel
def all_merged(mem):
    return audit_teardown(mem, 0)


@kernel
def free_without_the_zone_lock(mem, cpu):
    """Planted: the block goes back to the zone without its lock."""
    pfn = alloc_pages(mem, cpu, 2, c.MT_MOVABLE, cpu + 1)
    w0 = claim_for_free(mem, pfn, 2, cpu, cpu + 1)
    return free_block(mem, zone_at(mem, (w0 >> c.ZONE_SHIFT) & c.ZONE_MASK), cpu, pfn, 2)


@kernel
def count_without_the_zone_lock(mem, cpu):
    """Planted: the lost update, in the one helper that changes a zone's counters."""
    account(mem, zone_at(mem, 0), c.MT_MOVABLE, 1)


@kernel
def two_more_pages(mem):
    return mem[zone_at(mem, 0) + c.Z_FREE] - PAGES - 2


@pytest.mark.parametrize("cpus", [2, 3])
def test_the_buddy_makes_equal_events_and_clean_audits_on_both_engines(cpus):
    program = buddy_program(*[churn] * cpus, check=all_merged)
    native, python = (
        RandomSchedules("native", program, log=True),
        RandomSchedules("interpreted", program, log=True),
    )
    for seed in range(30):
        result, expected = native.run(seed), python.run(seed)
        assert result.verdict == expected.verdict == "passed"
        assert result.events == expected.events
        assert np.array_equal(result.memory, expected.memory)


def test_the_buddy_passes_thousands_of_schedules():
    result = RandomSchedules("native", buddy_program(churn, churn, check=all_merged)).run(
        schedules=20_000
    )
    assert (result.verdict, result.abandoned) == ("passed", 0)
    assert result.steps > 100 * result.schedules


@pytest.mark.parametrize(
    ("planted", "check"),
    [(free_without_the_zone_lock, all_merged), (count_without_the_zone_lock, two_more_pages)],
)
def test_a_dropped_zone_lock_is_found_with_equal_events_on_both_engines(planted, check):
    program = buddy_program(planted, planted, check=check)
    native = RandomSchedules("native", program, log=True).run(seed=1, schedules=2_000)
    assert native.verdict != "passed"
    python = RandomSchedules("interpreted", program, log=True).run(seed=native.failing_seed)
    assert (native.verdict, native.code) == (python.verdict, python.code)
    assert native.events == python.events
