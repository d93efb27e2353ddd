"""One kernel that reaches every page operation, so that tests compile the allocator once."""

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.audit import audit, audit_teardown
from shmalloc.kernels.boot import boot
from shmalloc.kernels.contig import (
    alloc_contig_range,
    free_contig_range,
    isolate_range,
    offline_range,
    online_range,
    unisolate_range,
)
from shmalloc.kernels.descriptor import head_of
from shmalloc.kernels.hotplug import plug_cpu, unplug_cpu
from shmalloc.kernels.pages import alloc_pages, free_pages_of
from shmalloc.kernels.pages_bulk import alloc_bulk, free_bulk
from shmalloc.kernels.pages_wait import alloc_pages_wait
from shmalloc.kernels.pcp import drain_all, drain_cpu, pcp_decay
from shmalloc.kernels.poison import poison_page
from shmalloc.kernels.walk import walk

BOOT = 0
ALLOC = 1
FREE = 2
ALLOC_BULK = 3
FREE_BULK = 4
DRAIN_ALL = 5
DRAIN_CPU = 6
AUDIT = 7
TEARDOWN = 8
ISOLATE = 9
UNISOLATE = 10
OFFLINE = 11
ONLINE = 12
ALLOC_CONTIG = 13
FREE_CONTIG = 14
POISON = 15
UNPLUG = 16
PLUG = 17
WALK = 18
HEAD_OF = 19
ALLOC_WAIT = 20
DECAY = 21


@kernel
def drive(mem, cpu, op, first, second, third):
    """Operation ``op`` with its arguments; a result for every one."""
    if op < ISOLATE:
        return drive_pages(mem, cpu, op, first, second, third)
    if op < UNPLUG:
        return drive_ranges(mem, cpu, op, first, second, third)
    return drive_rest(mem, cpu, op, first, second, third)


@kernel
def drive_pages(mem, cpu, op, first, second, third):
    if op == BOOT:
        return boot(mem)
    if op == ALLOC:
        return alloc_pages(mem, cpu, first, second, third)
    if op == FREE:
        return free_pages_of(mem, cpu, first, second, third)
    if op == ALLOC_BULK:
        return alloc_bulk(mem, cpu, first, 1, 7, second, third)
    if op == FREE_BULK:
        return free_bulk(mem, cpu, first, second, third)
    if op == DRAIN_ALL:
        return drain_all(mem, cpu)
    if op == DRAIN_CPU:
        return drain_cpu(mem, cpu, first)
    if op == AUDIT:
        return audit(mem, cpu)
    return audit_teardown(mem, cpu)


@kernel
def drive_ranges(mem, cpu, op, first, second, third):
    if op == ISOLATE:
        return isolate_range(mem, cpu, first, second)
    if op == UNISOLATE:
        return unisolate_range(mem, cpu, first, second)
    if op == OFFLINE:
        return offline_range(mem, cpu, first, second)
    if op == ONLINE:
        return online_range(mem, cpu, first, second)
    if op == ALLOC_CONTIG:
        return alloc_contig_range(mem, cpu, first, second, third)
    if op == FREE_CONTIG:
        return free_contig_range(mem, cpu, first, second)
    return poison_page(mem, cpu, first)


@kernel
def drive_rest(mem, cpu, op, first, second, third):
    if op == UNPLUG:
        return unplug_cpu(mem, cpu, first)
    if op == PLUG:
        return plug_cpu(mem, cpu, first)
    if op == WALK:
        return walk(mem, cpu, first, second)
    if op == HEAD_OF:
        return head_of(mem, first)
    if op == ALLOC_WAIT:
        return alloc_pages_wait(mem, cpu, first, second, 7, third)
    if op == DECAY:
        return pcp_decay(mem, cpu)
    return c.E_INVAL
