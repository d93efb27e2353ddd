"""Explorer programs over the allocator's own kernels: a few pages, two or three virtual CPUs.

``PROGRAMS[name]()`` builds one. Building boots a segment in plain Python, some milliseconds, so it
is done when it is asked for and kept. Names read part, then the operations that meet:
``buddy-merge-take`` is a merge beside somebody who takes the buddy. Each program's ``story`` says
which line it sets against which, and what would happen if they met badly.

Every program is as small as its race allows (two operations, two pages where they do), so that
the systematic strategies can get to the end of it; names ending in ``-3`` have a third CPU.
What all checks have in common is in checks.py: the code of a failure is the number of the first
violation (docs/invariants.md).
"""

from __future__ import annotations

from collections.abc import Callable

from stress.machine.program import Program
from stress.programs import arrays, buddy, contig, locks, pcp, slab, waiters

PROGRAMS: dict[str, Callable[[], Program]] = {
    name: build
    for part in (buddy, pcp, slab, locks, waiters, contig, arrays)
    for name, build in part.PROGRAMS.items()
}

__all__ = ["PROGRAMS", "Program"]
