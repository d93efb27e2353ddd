"""The CPU slots of a segment: who claimed each, what is on its lists, and what it is doing.

``pages`` are on its page lists, ``objects`` in its sheaves; both are free memory that only this
slot hands out. What a slot is doing is told by three things: the locks that it holds, the intent
that announces what becomes of a chain of objects (kernels/slot_intent.py), and the last entry of
its operation history, if the segment keeps one.
"""

from __future__ import annotations

from dataclasses import dataclass

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.cpus import Slot, slot_of
from shmalloc.layout import Layout, cache_stride
from shmalloc.report_text import ReportText, number_text
from shmalloc.statistics import listed_pages
from stress.top.processes import Process
from stress.top.stretch import Stretch

_INTENTS = {
    cs.INTENT_TAKE: "about to take",
    cs.INTENT_TAKEN: "has taken",
    cs.INTENT_PUT: "gives back",
}
OPERATIONS = (c.EV_ALLOC, c.EV_FREE, c.EV_OBJ_ALLOC, c.EV_OBJ_FREE)


@dataclass(frozen=True)
class CpuUse:
    """One CPU slot.

    ``process``: None while no process has claimed it. ``high``: the pages at which its lists give
    some back. ``by_order``: blocks on its lists, of orders 0 to 3 and of whole pageblocks.
    ``room``: objects that its sheaves can hold. ``operations``: blocks and objects that it has
    allocated and freed; ``beat``: what a worker of a run counts. ``holds``: names of locks.
    """

    slot: Slot
    process: Process | None
    pages: int
    high: int
    by_order: tuple[int, ...]
    objects: int
    room: int
    operations: int
    events: int
    beat: int
    intent: str
    last: str = ""
    holds: tuple[str, ...] = ()
    waits_for: str = ""


def cpu_use(
    stretch: Stretch, cpu: int, process: Process | None, sheaves: tuple[int, int]
) -> CpuUse:
    """The slot ``cpu``. ``sheaves``: objects in its sheaves, and how many these can hold."""
    layout = stretch.layout
    at, zones = layout.cpu(cpu), range(len(layout.geometry.zones))
    counts = stretch.array[at + c.C_EVENTS : at + c.C_EVENTS + c.EV_COUNT]
    return CpuUse(
        slot=slot_of(stretch, layout, cpu, stretch.claim_is_held),
        process=process,
        pages=sum(listed_pages(stretch, layout, cpu, z) for z in zones),
        high=sum(stretch[layout.pcp(cpu, z) + c.P_HIGH] for z in zones),
        by_order=tuple(
            sum(_blocks(stretch, layout.pcp(cpu, z), kind) for z in zones)
            for kind in range(c.PCP_ORDERS + 1)
        ),
        objects=sheaves[0],
        room=sheaves[1],
        operations=int(counts[list(OPERATIONS)].sum()),
        events=int(counts.sum()),
        beat=stretch[at + c.C_BEAT],
        intent=intent_text(stretch, layout, cpu),
    )


def _blocks(stretch: Stretch, pcp: int, kind: int) -> int:
    first = pcp + c.P_LENGTH + kind * c.MT_PCP_TYPES
    return sum(stretch[first + mt] for mt in range(c.MT_PCP_TYPES))


def intent_text(stretch: Stretch, layout: Layout, cpu: int) -> str:
    """``gives back 3 objects of cache 1 'inode' to pfn 17``; "" if the slot announces nothing."""
    at = layout.cpu(cpu)
    kind = stretch[at + c.C_INTENT]
    if kind == cs.INTENT_NONE:
        return ""
    if kind not in _INTENTS:
        return f"intent {number_text(kind)}"
    chain = stretch[at + c.C_INTENT_CHAIN]
    count = chain >> cs.CH_COUNT_SHIFT & cs.CH_COUNT_MASK
    objects = "1 object" if count == 1 else f"{count} objects"
    slab = f"pfn {chain >> cs.CH_PFN_SHIFT}"
    way = "to" if kind == cs.INTENT_PUT else "from"
    number = (stretch[at + c.C_INTENT_CACHE] - layout.at["caches"]) // cache_stride(layout.geometry)
    cache = ReportText(stretch, layout).cache(number)
    return f"{_INTENTS[kind]} {objects} of {cache} {way} {slab}"
