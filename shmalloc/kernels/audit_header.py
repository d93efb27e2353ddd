"""Check the header: what it counts is possible, and every region lies where the counts put it.

Every other kernel follows these words without a look, so the audits stop where one is wrong. The
place of the reports is among them: if that is wrong, nothing is reported here, and only the result
tells (``fixed_words.py`` compares the same words from Python, which needs no kernel to do so).

The flight recorder and the latencies have no word here: the structures behind them may start at any
place, and the frames follow, which end with the segment.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.audit_report import complain, outside, wrong_word
from shmalloc.kernels.object_layout import round_up
from shmalloc.kernels.objects import first_node_part
from shmalloc.kernels.zone import zone_at
from shmalloc.units import Claim, Memory, WordIndex
from shmalloc.words import fixed

MAX_TEXT_BYTES = 1 << 16
MAX_WORDS = 1 << (c.LINK_BITS + 1)  # as far as a link reaches


@kernel
def lined(words: int) -> int:
    """``words`` rounded up to a line, where regions start."""
    return round_up(words, c.LINE)


@unit
def audit_header(mem: Memory, claim: Claim) -> int:
    """Check the header; the number of words that are wrong."""
    bad = audit_counts(mem, claim)
    if bad != 0:
        return bad
    return audit_regions(mem, claim) + audit_strides(mem, claim)


@kernel
def audit_counts(mem: Memory, claim: Claim) -> int:
    """Check the words that loops and shifts rely on."""
    reports = fixed(mem, c.H_AT_REPORTS)
    if not 0 <= reports <= MAX_WORDS:
        return 1  # a report would be written where it points
    if fixed(mem, c.H_AT_HISTORY) - reports != c.REPORTS * c.R_STRIDE:
        return 1
    bad = outside(mem, claim, c.H_CPUS, 1, c.MAX_CPUS)
    bad += outside(mem, claim, c.H_CLAIMS, fixed(mem, c.H_CPUS), c.MAX_CLAIMS)
    bad += outside(mem, claim, c.H_CLAIMS_USED, fixed(mem, c.H_CPUS), fixed(mem, c.H_CLAIMS))
    bad += outside(mem, claim, c.H_ZONES, 1, c.MAX_ZONES)
    bad += outside(mem, claim, c.H_NODES, 1, c.MAX_NODES)
    bad += outside(mem, claim, c.H_MAX_ORDER, 0, c.ORDERS - 1)
    bad += outside(mem, claim, c.H_PAGEBLOCK_ORDER, 0, fixed(mem, c.H_MAX_ORDER))
    bad += outside(mem, claim, c.H_PAGE_SHIFT, 3, 32)
    bad += outside(mem, claim, c.H_LINKS, c.LINKS_PAGE, c.LINKS_BITMAP)
    bad += outside(mem, claim, c.H_PCP_FORM, c.PCP_ARRAY, c.PCP_LIST)
    bad += outside(mem, claim, c.H_FILL, c.FILL_NONE, c.FILL_CLEAR)
    bad += outside(mem, claim, c.H_INIT, 0, c.INIT_ALLOC | c.INIT_FREE | c.INIT_UNACCEPTED)
    bad += outside(mem, claim, c.H_OWNER_MAP, 0, 1)
    for at in range(c.H_PCP_CAPACITY, c.H_WORK_WORDS + 1):
        if at == c.H_PCP_CAPACITY or at == c.H_HISTORY or at == c.H_CACHES:
            bad += outside(mem, claim, at, 0, MAX_WORDS)
        if at == c.H_SCRATCH_WORDS or at == c.H_WORK_WORDS:
            bad += outside(mem, claim, at, 0, MAX_WORDS)
    bad += outside(mem, claim, c.H_STRUCTURES, 0, MAX_WORDS)
    return bad + outside(mem, claim, c.H_PAGES, 1, MAX_WORDS)


@kernel
def region(mem: Memory, claim: Claim, word: WordIndex, before: int, bad: int) -> int:
    """``bad``, and one more if a region does not start at the line after ``before``."""
    return bad + wrong_word(mem, claim, c.I_FIXED, word, lined(before))


@unit
def audit_regions(mem: Memory, claim: Claim) -> int:
    """Check where the regions lie, in the order of layout.py."""
    cpus = fixed(mem, c.H_CPUS)
    zones = fixed(mem, c.H_ZONES)
    pages = fixed(mem, c.H_PAGES)
    bad = wrong_word(mem, claim, c.I_FIXED, c.H_AT_CPUS, c.CPUS_AT)
    end = c.CPUS_AT + fixed(mem, c.H_CLAIMS) * c.C_STRIDE
    bad = region(mem, claim, c.H_GEOMETRY, end, bad)
    bad += outside(mem, claim, lined(end), 1, MAX_TEXT_BYTES)
    if bad != 0:
        return bad
    end = lined(end) + 1 + (fixed(mem, lined(end)) + 7) // 8
    bad = region(mem, claim, c.H_AT_ZONES, end, bad)
    end = lined(end) + zones * c.Z_STRIDE
    bad = region(mem, claim, c.H_AT_ZONELISTS, end, bad)
    end = lined(end) + fixed(mem, c.H_NODES) * (fixed(mem, c.H_ZONES) + 1)
    bad = region(mem, claim, c.H_AT_BLOCKS, end, bad)
    end = lined(end) + (pages >> fixed(mem, c.H_PAGEBLOCK_ORDER)) + 1
    bad = region(mem, claim, c.H_AT_PCP, end, bad)
    end = lined(end) + cpus * zones * fixed(mem, c.H_PCP_STRIDE)
    bad = region(mem, claim, c.H_AT_CACHES, end, bad)
    end = lined(end) + fixed(mem, c.H_CACHES) * fixed(mem, c.H_CACHE_STRIDE)
    bad = region(mem, claim, c.H_AT_SEATS, end, bad)
    end = lined(end) + c.SEATS
    bad = region(mem, claim, c.H_AT_REPORTS, end, bad)
    end = lined(end) + c.REPORTS * c.R_STRIDE
    bad = region(mem, claim, c.H_AT_HISTORY, end, bad)
    end = lined(end) + cpus * fixed(mem, c.H_HISTORY) * c.HI_STRIDE
    bad = region(mem, claim, c.H_AT_SCRATCH, end, bad)
    end = lined(end) + cpus * fixed(mem, c.H_SCRATCH_WORDS)
    bad = region(mem, claim, c.H_AT_WORK, end, bad)
    end = lined(end) + fixed(mem, c.H_CLAIMS) * fixed(mem, c.H_WORK_WORDS)
    bad = region(mem, claim, c.H_AT_MEMMAP, end, bad)
    return bad + audit_pages_regions(mem, claim, lined(end) + pages * c.D_WORDS)


@kernel
def audit_pages_regions(mem: Memory, claim: Claim, memmap_end: int) -> int:
    """Check the regions with words for each page."""
    pages = fixed(mem, c.H_PAGES)
    end = memmap_end
    bad = region(mem, claim, c.H_AT_TABLE, end, 0)
    end = lined(end) + store_words(mem)
    bad = region(mem, claim, c.H_AT_OWNERS, end, bad)
    if fixed(mem, c.H_OWNER_MAP) != 0:
        end = lined(end) + pages
    bad += outside(mem, claim, c.H_AT_STRUCTURES, lined(end), MAX_WORDS)
    end = fixed(mem, c.H_AT_STRUCTURES) + fixed(mem, c.H_STRUCTURES) * c.ST_STRIDE
    bad = region(mem, claim, c.H_AT_ARRAYS, end, bad)
    end = lined(end) + pages * c.AR_STRIDE
    bad = region(mem, claim, c.H_AT_REFERENCES, end, bad)
    end = lined(end) + fixed(mem, c.H_CLAIMS)
    frames = round_up(end, max(1 << fixed(mem, c.H_PAGE_SHIFT), c.LINE))
    bad += wrong_word(mem, claim, c.I_FIXED, c.H_AT_FRAMES, frames)
    size = pages << fixed(mem, c.H_PAGE_SHIFT)
    return bad + wrong_word(mem, claim, c.I_FIXED, c.H_WORDS, lined(frames + size))


@kernel
def store_words(mem: Memory) -> int:
    """Words of the link store, where it is not in pages or descriptors."""
    if fixed(mem, c.H_LINKS) == c.LINKS_TABLE:
        return fixed(mem, c.H_PAGES) * c.D_WORDS
    words = 0
    if fixed(mem, c.H_LINKS) >= c.LINKS_INDEX:
        for zone_id in range(fixed(mem, c.H_ZONES)):
            for level in range(c.STORE_LEVELS):
                room = fixed(mem, zone_at(mem, zone_id) + c.Z_ROOM + level)
                words += (2 * room - (room >> fixed(mem, c.H_MAX_ORDER))) * c.MT_COUNT
    return words


@kernel
def audit_strides(mem: Memory, claim: Claim) -> int:
    """Check the sizes of structures, and where the list node of a page lies."""
    base = fixed(mem, c.H_AT_FRAMES)
    stride = fixed(mem, c.H_PAGE_SHIFT)
    if fixed(mem, c.H_LINKS) != c.LINKS_PAGE:
        stride = 1
        base = fixed(mem, c.H_AT_MEMMAP)
        if fixed(mem, c.H_LINKS) == c.LINKS_TABLE:
            base = fixed(mem, c.H_AT_TABLE)
    bad = wrong_word(mem, claim, c.I_FIXED, c.H_LINK_BASE, base)
    bad += wrong_word(mem, claim, c.I_FIXED, c.H_LINK_STRIDE, stride)
    capacity = fixed(mem, c.H_PCP_CAPACITY)
    lists = lined(c.P_ARRAYS + c.PCP_LISTS * capacity)
    bad += wrong_word(mem, claim, c.I_FIXED, c.H_PCP_STRIDE, lists)
    bad += complain(
        mem,
        claim,
        c.I_FIXED,
        c.AT_WORD | c.H_PCP_FORM,
        fixed(mem, c.H_PCP_FORM),
        int(capacity == 0),
    )
    parts = first_node_part(mem) + fixed(mem, c.H_NODES) * cs.KN_STRIDE
    return bad + wrong_word(mem, claim, c.I_FIXED, c.H_CACHE_STRIDE, parts)
