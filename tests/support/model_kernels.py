"""Kernels of virtual CPUs that several tests explore."""

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.pages import alloc_pages, free_pages
from shmalloc.kernels.pcp import drain_cpu


@kernel
def churn(mem, cpu):
    """Through the per-CPU list and past it, then everything back to the zone."""
    small = alloc_pages(mem, cpu, 0, c.MT_MOVABLE, cpu + 1)
    large = alloc_pages(mem, cpu, 2, c.MT_MOVABLE, cpu + 1)
    if small >= 0:
        free_pages(mem, cpu, small, 0)
    if large >= 0:
        free_pages(mem, cpu, large, 2)
    return drain_cpu(mem, cpu, cpu)
