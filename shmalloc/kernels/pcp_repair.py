"""The page lists of a CPU in one zone, made anew from the labels of the descriptors.

The holder of P_LOCK calls this: after it took the lock over from a dead process, or where a list in
list form was overwritten from outside (pcp_lists.py). The zone lock is not held.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import detail_of, mt_of, order_of, type_of, wants_poison
from shmalloc.kernels.buddy import block_span
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.fill import fill_on_free
from shmalloc.kernels.pcp_lists import pcp_index, pcp_push
from shmalloc.kernels.reporting import report
from shmalloc.kernels.retire import retire_block
from shmalloc.kernels.slots import list_label
from shmalloc.kernels.zone import descriptor_at, pcp_at, zone_at
from shmalloc.units import Claim, Cpu, Memory, PcpWords, Pfn, Word0, ZoneId
from shmalloc.words import fixed, store_relaxed


@kernel
def is_damaged(mem: Memory, pcp: PcpWords) -> bool:
    """Whether a list at ``pcp`` was cut off; never in array form. P_LOCK held."""
    return fixed(mem, c.H_PCP_FORM) == c.PCP_LIST and mem[pcp + c.P_DAMAGED] != 0


@unit
def repair_lists(mem: Memory, claim: Claim, zone_id: ZoneId, pcp: PcpWords) -> None:
    """Report and retire the blocks whose links are wrong, and list the others again."""
    structure = (pcp - fixed(mem, c.H_AT_PCP)) // fixed(mem, c.H_PCP_STRIDE)
    owner: Cpu = structure // fixed(mem, c.H_ZONES)
    zone = zone_at(mem, zone_id)
    place = c.AT_PCP | owner << 16 | zone_id << 8
    reported = 0
    pfn = fixed(mem, zone + c.Z_START)
    while pfn < fixed(mem, zone + c.Z_END):
        w0 = page_state(mem, pfn)
        if is_listed(w0, owner) and wants_poison(w0):
            index = pcp_index(mem, order_of(w0), mt_of(w0))
            report(mem, claim, c.I_LIST_LINKS, pfn, place | (index + 1), w0)
            reported += 1
        pfn += block_span(w0)
    if reported == 0:
        pfn = mem[pcp + c.P_DAMAGED] - 1
        report(mem, claim, c.I_LIST_LINKS, pfn, place, page_state(mem, pfn))
    mem[pcp + c.P_DAMAGED] = 0
    rebuild_lists(mem, claim, owner, zone_id)


@kernel
def is_listed(w0: Word0, owner: Cpu) -> bool:
    """Whether word 0 is that of a block on the lists of CPU ``owner``."""
    return type_of(w0) == c.T_PCP and detail_of(w0) == list_label(owner)


@unit
def rebuild_lists(mem: Memory, claim: Claim, owner: Cpu, zone_id: ZoneId) -> None:
    """Rebuild the lists of CPU ``owner`` in one zone from the labels; P_LOCK taken over.

    The zone's lock is not needed: a block with that label keeps it while we hold P_LOCK, so at no
    moment does another head cover it.
    """
    pcp = pcp_at(mem, owner, zone_id)
    clear_lists(mem, pcp)
    zone = zone_at(mem, zone_id)
    pfn = fixed(mem, zone + c.Z_START)
    while pfn < fixed(mem, zone + c.Z_END):
        w0 = page_state(mem, pfn)
        if is_listed(w0, owner):
            relist_block(mem, claim, pcp, pfn, w0)
        pfn += block_span(w0)


@kernel
def relist_block(mem: Memory, claim: Claim, pcp: PcpWords, pfn: Pfn, w0: Word0) -> None:
    """Put a block back on its list, filled anew; or retire it, if its page is marked for poison.

    Who died while it handed the block out may have left the owner in word 1.
    """
    order = order_of(w0)
    store_relaxed(mem, descriptor_at(mem, pfn) + 1, 0)
    if wants_poison(w0):
        retire_block(mem, claim, pfn, order)
        return
    fill_on_free(mem, pfn, order)
    pcp_push(mem, pcp, pcp_index(mem, order, mt_of(w0)), order, pfn)


@kernel
def clear_lists(mem: Memory, pcp: PcpWords) -> None:
    """Empty the lists of a CPU; its P_LOCK held."""
    for index in range(c.PCP_LISTS):
        mem[pcp + c.P_LENGTH + index] = 0
        mem[pcp + c.P_HEAD + index] = 0
    mem[pcp + c.P_COUNT] = 0
