"""Why an operation on a range of pages was refused as busy, in words.

Said of the moment after the refusal, from descriptors that other processes change meanwhile.
"""

from __future__ import annotations

import numpy as np

from shmalloc import constants as c
from shmalloc.page_states import states_of
from shmalloc.reports import describe_page
from shmalloc.segment import Segment


def why_busy(segment: Segment, start: int, end: int) -> str:
    """What of the pages [start, end) is isolated or in use, and the cure."""
    block = 1 << segment.geometry.pageblock_order
    at = segment.layout.at["blocks"]
    for first in range(start // block, -(-end // block)):
        if segment.ram[at + first] & c.MT_MASK == c.MT_ISOLATE:
            pfn = first * block
            return f"the pageblock at pfn {pfn} is isolated; the process that did that must end it"
    seen_from = start >> segment.geometry.max_order << segment.geometry.max_order
    # The head of a block may lie in front of the range, though not of the largest block around.
    used = np.flatnonzero(states_of(segment.ram, segment.layout, seen_from, end) != c.T_FREE)
    inside = used[used >= start - seen_from]
    if len(inside) == 0:
        return "a page of it was in use a moment ago; try again"
    return f"{describe_page(segment, seen_from + int(inside[0]))}; free it first"
