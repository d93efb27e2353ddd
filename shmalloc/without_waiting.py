"""The face of an arena for code that may not wait: a signal handler, a callback, a debugger.

It may run while this process holds any lock of the segment, or in the middle of one of its own
calls, which waits. What others hold is not waited for: an allocation then gives None, and a free is
finished by the next process that takes the lock (kernels/try_pages.py). Calls of other threads go
on meanwhile.

Nothing is recovered here, and nothing drained: that would wait.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.caches import ObjectOperations
from shmalloc.checked import checked_place
from shmalloc.kernels.try_pages import try_alloc_pages, try_free_pages


class TryOperations(ObjectOperations):
    """Pages without waiting."""

    def _bind(self) -> None:
        super()._bind()
        self._do_try_alloc_pages = self.builtin(try_alloc_pages, alone=False)
        self._do_try_free_pages = self.builtin(try_free_pages, alone=False)

    def try_alloc_pages(
        self, order: int = 0, migratetype: str = "unmovable", owner: int | None = None
    ) -> int | None:
        """Allocate 2^order pages without waiting: the first pfn; None if a lock was held, or there
        is no memory. Linux: ``alloc_pages_nolock``."""
        arguments = self._order(order), self._migratetype(migratetype), self._owner(owner)
        self.check_open()
        pfn: int = self._do_try_alloc_pages(self.claim, *arguments)
        return None if pfn < 0 else pfn

    def try_free_pages(self, pfn: int, order: int = 0, owner: int | None = None) -> None:
        """Free a block without waiting; with ``owner``, only if it is that owner's. Linux:
        ``free_pages_nolock``.

        Where a lock is held, the block is put on its zone's deferred list: the next ordinary use of
        the zone frees it. Raises ``CorruptionError`` for a misuse.
        """
        pfn = checked_place("pfn", pfn)
        tag = 0 if owner is None else self._owner(owner)
        self.check_open()
        result = self._do_try_free_pages(self.claim, pfn, self._order(order), tag)
        if result < 0:
            raise self.refused(c.E_STATE, f"try_free_pages(pfn={pfn}, order={order})")
