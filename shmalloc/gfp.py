"""``Gfp``: what an allocation may do, as flags that all allocating calls of an arena take.

The names are Linux's GFP flags; kernels/gfp.py has the word that they become, together with a
migratetype. Which of them contradict each other is said here, in words, before a kernel sees them.
"""

from __future__ import annotations

from enum import IntFlag

from shmalloc import constants as c
from shmalloc.errors import MisuseError


class Gfp(IntFlag):
    """Flags of an allocation; combine them with ``|``.

    ZERO      zeroed memory
    NOFAIL    wait for memory without limit; may take half of the reserve while it waits
    NORETRY   fail rather than drain the lists of all CPUs
    NOWAIT    neither wait nor drain other CPUs' lists
    HIGH      may take half of what the minimum watermark reserves
    ATOMIC    HIGH and NOWAIT: five eighths of the reserve
    OOM       about to end: half of what the others leave of the reserve
    MEMALLOC  frees more than it takes: the whole reserve
    THISNODE  from the home node or not at all
    """

    ZERO = c.GFP_ZERO
    NOFAIL = c.GFP_NOFAIL
    NORETRY = c.GFP_NORETRY
    NOWAIT = c.GFP_NOWAIT
    HIGH = c.GFP_HIGH
    OOM = c.GFP_OOM
    MEMALLOC = c.GFP_MEMALLOC
    THISNODE = c.GFP_THISNODE
    ATOMIC = c.GFP_ATOMIC

    @classmethod
    def up_to_zone(cls, zone: int) -> Gfp:
        """Only from the zones 0 to ``zone``, as Linux's GFP_DMA: their pages lie lowest.

        Raises ``MisuseError`` for a number that no zone can have.
        """
        if type(zone) is not int or not 0 <= zone < c.MAX_ZONES:
            raise MisuseError(f"zone: {zone!r}; use an int from 0 to {c.MAX_ZONES - 1}")
        return cls(zone + 1 << c.GFP_ZONE_SHIFT)

    @property
    def last_zone(self) -> int | None:
        """The limit that ``up_to_zone`` set."""
        return ((self & c.GFP_ZONES) >> c.GFP_ZONE_SHIFT) - 1 if self & c.GFP_ZONES else None

    def __or__(self, other: int) -> Gfp:
        if not isinstance(other, int):
            raise MisuseError(f"flags: {other!r} beside {self!r}; use shmalloc.Gfp")
        mine, theirs = self & c.GFP_ZONES, int(other) & c.GFP_ZONES
        if mine and theirs and mine != theirs:
            raise MisuseError("flags: two limits of the zone; use up_to_zone once")
        return Gfp(int(self) | int(other))

    __ror__ = __or__


def checked(flags: Gfp, zones: int, waits: bool = False) -> int:
    """``flags`` as a word for kernels. ``waits``: the caller also gave ``wait_s``.

    Raises ``MisuseError`` for flags that no allocation can obey, or that contradict each other.
    """
    known = c.GFP_KNOWN & ~c.GFP_MT_MASK
    if not isinstance(flags, Gfp) or int(flags) & ~known:
        raise MisuseError(f"flags: {flags!r}; use shmalloc.Gfp, such as Gfp.ZERO | Gfp.NOWAIT")
    if flags & Gfp.NOFAIL and flags & (Gfp.NORETRY | Gfp.NOWAIT):
        raise MisuseError("flags: NOFAIL waits until there is memory; not with NORETRY or NOWAIT")
    if waits and flags & (Gfp.NOFAIL | Gfp.NORETRY | Gfp.NOWAIT):
        raise MisuseError("wait_s: not with NOFAIL, NORETRY or NOWAIT, which say how long to wait")
    last = flags.last_zone
    if last is not None and last >= zones:
        raise MisuseError(f"flags: up_to_zone({last}); this arena has the zones 0 to {zones - 1}")
    return int(flags)
