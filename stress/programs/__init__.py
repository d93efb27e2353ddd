"""Explorer programs over the kernels of the allocator, of the structures and of stress.sync: a few
pages or words, two or three virtual CPUs.

``PROGRAMS[name]()`` builds one. Building boots a segment in plain Python, which takes some
milliseconds, so a program is built on first use and cached. A name is the part and the operations
that meet: in ``buddy-merge-take`` one CPU merges a page while another allocates its buddy. Each
program's ``story`` names the lines that race and what would go wrong.

Every program is as small as its race allows (two operations, two pages if they suffice), so that
the systematic strategies can exhaust it; ``PROGRAMS["buddy-merge-take+poison"]`` is the same one
in another world (worlds.py). Names ending in ``-3`` have a third CPU. checks.py has
what all checks share: the code of a failure is the number of the first violation
(docs/invariants.md).
"""

from __future__ import annotations

from stress.machine.program import Program
from stress.programs import (
    array_moves,
    arrays,
    biased_locks,
    buddy,
    bulk,
    caches,
    claims,
    contig,
    filled,
    kmalloc,
    lock_sleepers,
    locks,
    lookup,
    nodes,
    offline,
    passing,
    pcp,
    reclaim,
    sampled,
    slab,
    stores,
    stray,
    structure_dict_arrays,
    structure_dicts,
    structure_entries,
    structure_lock_sleepers,
    structure_locks,
    structure_pools,
    structure_queues,
    sync,
    takers,
    try_pages,
    unaccepted,
    waiters,
    wakers,
    watermarks,
    zeroed,
)
from stress.programs.worlds import ProgramTable

PARTS = (
    buddy,
    stores,
    unaccepted,
    lookup,
    pcp,
    slab,
    kmalloc,
    caches,
    nodes,
    stray,
    locks,
    lock_sleepers,
    biased_locks,
    waiters,
    wakers,
    try_pages,
    takers,
    watermarks,
    reclaim,
    contig,
    offline,
    filled,
    zeroed,
    bulk,
    arrays,
    array_moves,
    claims,
    passing,
    sampled,
    sync,
    structure_entries,
    structure_locks,
    structure_lock_sleepers,
    structure_pools,
    structure_queues,
    structure_dicts,
    structure_dict_arrays,
)
PROGRAMS = ProgramTable({name: build for part in PARTS for name, build in part.PROGRAMS.items()})

__all__ = ["PROGRAMS", "Program"]
