"""Check a zone's watermarks against the pages that it manages, by arithmetic of its own.

What ``set_watermarks`` computes is judged here, so nothing of watermark.py is used.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.audit_report import outside, wrong_word
from shmalloc.units import Claim, Memory, ZoneWords
from shmalloc.words import fixed, load_relaxed


@unit
def audit_watermarks(mem: Memory, claim: Claim, zone: ZoneWords) -> None:
    """Check the three marks and the boost of a zone whose Z_MANAGED was recounted."""
    managed = load_relaxed(mem, zone + c.Z_MANAGED)
    present = fixed(mem, zone + c.Z_PRESENT)
    least = 0
    if present > 0:
        least = managed * fixed(mem, zone + c.Z_MIN_PRESENT) // present
    apart = least // 4
    if managed // 64 > apart:
        apart = managed // 64
    wrong_word(mem, claim, c.I_WATERMARK, zone + c.Z_MIN, least)
    wrong_word(mem, claim, c.I_WATERMARK, zone + c.Z_LOW, least + apart)
    wrong_word(mem, claim, c.I_WATERMARK, zone + c.Z_HIGH, least + apart + apart)
    outside(mem, claim, zone + c.Z_BOOST, 0, boost_limit(mem, managed, least + apart + apart))


@kernel
def boost_limit(mem: Memory, managed: int, high: int) -> int:
    """The most that the marks may be raised by."""
    pageblock = 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)
    if managed < 4 * pageblock or high == 0:
        return 0
    if high * 3 // 2 > pageblock:
        return high * 3 // 2
    return pageblock
