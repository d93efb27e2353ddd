"""Objects with flags: what ``Cache.alloc`` and ``kmalloc`` do when they are given a ``Gfp``.

Owns nothing. The kernels are those of cache_gfp.py and kmalloc.py; NOFAIL waits here and not in
them, a sleep at a time, so that Ctrl-C works.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from shmalloc import constants as c
from shmalloc.errors import MisuseError
from shmalloc.gfp import Gfp
from shmalloc.kernels.waiters import pause_for_memory
from shmalloc.pages import PageOperations


class FlaggedObjects(PageOperations):
    """Allocations of objects by a kernel that takes flags."""

    def _object_gfp(self, flags: Gfp) -> int:
        gfp = self._gfp(flags)
        if gfp & c.GFP_ZONES:
            raise MisuseError("flags: up_to_zone is for pages; the slabs of a cache lie anywhere")
        return gfp

    def _alloc_with(self, flags: Gfp, kernel: Callable[..., Any], what: int, asked: str) -> int:
        """An object by a kernel that takes flags. NOFAIL waits here, so that Ctrl-C works."""
        gfp = self._object_gfp(flags)
        waits = gfp & c.GFP_NOFAIL
        gfp &= ~c.GFP_NOFAIL
        address = self.run(kernel, what, gfp)
        if address == c.E_NOMEM and self.recovers_dead():
            address = self.run(kernel, what, gfp)
        while address == c.E_NOMEM and waits:
            self.run(pause_for_memory, alone=not self.engine.compiles)
            os.sched_yield()  # interpreted kernels do not sleep
            address = self.run(kernel, what, gfp | c.GFP_HIGH)
        return self.settle(address, asked)
