"""The oracle of isolation: no page of a range that this CPU holds isolated is on a per-CPU list.

An isolation first sets the migratetype of the range and then drains every per-CPU list; a free
reads the migratetype under the lock of its list. From the drain until the range is given back, no
list may therefore hold a page of it while the lock of the list is free. The oracle takes these
locks one after the other: it needs no stop, and it ignores other ranges, which may be in the middle
of an isolation.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.cpu_lock import spin_or_skip, unspin
from shmalloc.kernels.lists import get_link, pfn_of
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import pcp_at, zone_of
from shmalloc.units import Claim, Memory, PcpWords, Pfn
from shmalloc.words import fixed


@kernel
def check_unlisted(mem: Memory, claim: Claim, start: Pfn, end: Pfn) -> int:
    """Report every page of the isolated ``[start, end)`` that is on a list; returns the number."""
    found = 0
    for owner in range(fixed(mem, c.H_CPUS)):
        pcp = pcp_at(mem, owner, zone_of(mem, start))
        if spin_or_skip(mem, pcp + c.P_LOCK, claim, owner) > 0:
            for index in range(c.PCP_LISTS):
                found += check_list(mem, claim, pcp, index, start, end)
            unspin(mem, pcp + c.P_LOCK, claim)
    return found


@kernel
def check_list(mem: Memory, claim: Claim, pcp: PcpWords, index: int, start: Pfn, end: Pfn) -> int:
    """The same for one list; P_LOCK held."""
    found = 0
    node = mem[pcp + c.P_HEAD + index]
    for i in range(mem[pcp + c.P_LENGTH + index]):
        if fixed(mem, c.H_PCP_FORM) == c.PCP_ARRAY:
            pfn = mem[pcp + c.P_ARRAYS + index * fixed(mem, c.H_PCP_CAPACITY) + i]
        else:
            pfn = pfn_of(mem, node)
            node = get_link(mem, node + 1)
        if start <= pfn < end:
            report(mem, claim, c.I_PCP_COUNT, pfn, 0, c.IS_MT | c.MT_ISOLATE)
            found += 1
    return found
