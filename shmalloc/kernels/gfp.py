"""The word that says what an allocation wants and may do: a migratetype, and flags.

::

    [ 1 + last zone: 7 | 2 | THISNODE MEMALLOC OOM HIGH NOWAIT NORETRY NOFAIL ZERO | type: 2 ]

A migratetype alone is an ordinary allocation; the hot paths handle that, and everything else goes
through ``alloc_flagged`` (pages.py) or ``cache_alloc_gfp`` (cache_gfp.py). The names are Linux's
(include/linux/gfp_types.h). Here is what can be said of a word alone; what GFP_HIGH, GFP_OOM and
GFP_MEMALLOC may take is in watermark.py.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.reporting import cpu_at, cpu_of
from shmalloc.kernels.zone import zone_at
from shmalloc.units import Claim, Gfp, Memory, Migratetype, ZoneId
from shmalloc.words import fixed


@kernel
def gfp_mt(gfp: Gfp) -> Migratetype:
    """The migratetype of an allocation."""
    return gfp & c.GFP_MT_MASK


@kernel
def is_known_gfp(mem: Memory, gfp: Gfp) -> bool:
    """Whether the flags exist and agree: who waits for ever neither fails nor hurries."""
    if gfp & ~c.GFP_KNOWN != 0 or gfp_mt(gfp) >= c.MT_PCP_TYPES:
        return False
    if gfp & c.GFP_NOFAIL != 0 and gfp & c.GFP_HASTE != 0:
        return False
    return (gfp & c.GFP_ZONES) >> c.GFP_ZONE_SHIFT <= fixed(mem, c.H_ZONES)


@kernel
def allows_zone(mem: Memory, claim: Claim, zone_id: ZoneId, gfp: Gfp) -> bool:
    """Whether an allocation with ``gfp`` may take from a zone of the fallback order."""
    last = ((gfp & c.GFP_ZONES) >> c.GFP_ZONE_SHIFT) - 1
    if last >= 0 and zone_id > last:
        return False
    if gfp & c.GFP_THISNODE == 0:
        return True
    home = fixed(mem, cpu_at(mem, cpu_of(mem, claim)) + c.C_NODE)
    return fixed(mem, zone_at(mem, zone_id) + c.Z_NODE) == home
