"""The oracle of versions: a page that changed its state has another version.

Without the new version, a compare-exchange prepared against an earlier state of a page could
succeed in a later one (ABA). A healthy run never hits this, so the oracle looks for it directly: it
reads one descriptor twice, and two different states must not carry the same version. It masks out
the links of lists that are kept in descriptors, which change without a transition, and the mark for
poison, which is set in place.

A version repeats after 4096 transitions. That cannot happen between two reads a microsecond apart,
but a reader may be preempted for that long: the oracle discards such a pair of reads.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.bits import type_of, version_of
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import descriptor_at
from shmalloc.units import Claim, Memory, Pfn
from shmalloc.words import fixed, load2, now
from stress.oracles.clock import took_longer

VERSION_READ_NS = 2_000


@kernel
def check_version(mem: Memory, claim: Claim, pfn: Pfn) -> bool:
    """Read the descriptor of ``pfn`` twice; False, with a report, if only its state changed."""
    at = descriptor_at(mem, pfn)
    start = now(mem)
    first0, first1 = load2(mem, at)
    second0, second1 = load2(mem, at)
    if took_longer(mem, start, VERSION_READ_NS) or version_of(first0) != version_of(second0):
        return True
    if same_state(mem, first0, first1, second0, second1):
        return True
    report(mem, claim, c.X_VERSION, pfn, first0, second0)
    return False


@kernel
def same_state(mem: Memory, first0: int, first1: int, second0: int, second1: int) -> bool:
    """Whether two readings show the same state of a page."""
    changed = (first0 ^ second0) & ~c.POISON_BIT
    kind = type_of(first0)
    if fixed(mem, c.H_LINKS) == c.LINKS_DESCRIPTOR and kind != c.T_ALLOCATED and kind != c.T_PCP:
        changed = changed & c.CARRIED_MASK
    if changed != 0:
        return False
    return kind != c.T_ALLOCATED or first1 == second1
