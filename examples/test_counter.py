"""Kernels as tests: all schedules of two CPUs, then real processes. Run: pytest test_counter.py"""

import pytest

from shmalloc import kernel
from shmalloc.kernels.pages import alloc_pages, free_pages
from shmalloc.words import fetch_add
from stress import Program


@kernel
def increment(mem, cpu):
    fetch_add(mem, 0, 1)  # mem[0] = mem[0] + 1 loses an update: try it


@kernel
def both_counted(mem):
    return 0 if mem[0] == 2 else 1


@pytest.mark.explore(memory="tso")
def test_no_update_is_lost():
    return Program("counter", words=2, threads=[increment, increment], check=both_counted)


@kernel
def step(mem, cpu, steps):
    for _ in range(steps):
        free_pages(mem, cpu, alloc_pages(mem, cpu, 3, 0, cpu + 1), 3)  # order, kind, owner
    return steps


@kernel
def finish(mem, cpu):
    return 0


@pytest.mark.stress(workers=2, seconds=1)
def test_blocks_come_and_go():
    return step, finish
