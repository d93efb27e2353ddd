"""The workloads by name. Each is one file; its docstring is its story (``shmstress list``).

``WORKLOADS`` is the table in which a run looks its workloads up. ``OWN`` names those of this
package; ``add`` puts in one of a user's file, for as long as the process lives.
"""

from __future__ import annotations

from shmalloc import constants as c
from stress.workloads import (
    arrays,
    bulk,
    churn,
    contig,
    frag,
    handoff,
    handover,
    hotplug,
    kmalloc,
    modules,
    nowait,
    oom_edge,
    orders,
    pfn_walker,
    reclaim,
    retire,
    slabmix,
    trace,
)
from stress.workloads.registry import EVENT_NAMES, Workload

_HANDS_OVER = (
    "its workers hand memory to each other, which keeps the label of the one that allocated it: if"
    " that one dies, it is reaped under its new holder"
)
_ALL = (
    Workload(
        "churn", churn.churn, churn.churn_finish, work_words=churn.CHURN_WORDS,
        marks=(c.EV_ALLOC, c.EV_FREE, c.EV_REFILL, c.EV_DRAIN, c.EV_SPLIT, c.EV_MERGE),
        shared_marks=(c.EV_LOCK_SLOW,),
    ),
    Workload(
        "bulk", bulk.bulk, bulk.bulk_finish, work_words=bulk.BULK_WORDS, in_flight=bulk.BULK_PAGES,
        marks=(c.EV_ALLOC, c.EV_FREE, c.EV_BULK, c.EV_SPLIT, c.EV_MERGE),
    ),
    Workload(
        "orders", orders.orders, orders.orders_finish, work_words=orders.ORDERS_WORDS,
        marks=(c.EV_ALLOC, c.EV_FREE, c.EV_SPLIT, c.EV_MERGE),
    ),
    Workload(
        "frag", frag.frag, frag.frag_finish, work_words=frag.FRAG_WORDS,
        marks=(c.EV_SPLIT, c.EV_MERGE, c.EV_DRAIN),
    ),
    Workload(
        "handoff", handoff.handoff, handoff.handoff_finish, work_words=handoff.HANDOFF_WORDS,
        marks=(c.EV_REMOTE_FREE, c.EV_DRAIN, c.EV_REFILL), least_workers=2,
        unfit={"kill": _HANDS_OVER},
    ),
    Workload(
        "nowait", nowait.nowait, nowait.nowait_finish, work_words=nowait.NOWAIT_WORDS,
        marks=(c.EV_ALLOC, c.EV_FREE, c.EV_SPLIT, c.EV_MERGE),
        shared_marks=(c.EV_DEFER, c.EV_DEFER_DRAIN),
    ),
    Workload(
        "oom-edge", oom_edge.oom_edge, oom_edge.oom_edge_finish, work_words=oom_edge.OOM_WORDS,
        marks=(c.EV_FAIL, c.EV_WAIT), shared_marks=(c.EV_WAKE,),
    ),
    Workload(
        "reclaim", reclaim.reclaim, reclaim.reclaim_finish, work_words=reclaim.RECLAIM_WORDS,
        marks=(c.EV_ALLOC, c.EV_FREE, c.EV_RECLAIM, c.EV_RECLAIM_WAKE),
    ),
    Workload(
        "slabmix", slabmix.slabmix, slabmix.slabmix_finish, work_words=slabmix.SLABMIX_WORDS,
        marks=(
            c.EV_OBJ_ALLOC, c.EV_OBJ_FREE, c.EV_SLAB_NEW, c.EV_SLAB_GONE, c.EV_CACHE_NEW,
            c.EV_CACHE_GONE, c.EV_SHEAF_SWAP,
        ),
    ),
    Workload(
        "modules", modules.modules, modules.modules_finish, work_words=modules.MODULES_WORDS,
        marks=(
            c.EV_OBJ_ALLOC, c.EV_OBJ_FREE, c.EV_SLAB_NEW, c.EV_SLAB_GONE, c.EV_CACHE_NEW,
            c.EV_CACHE_GONE,
        ),
    ),
    Workload(
        "hotplug", hotplug.hotplug, hotplug.hotplug_finish, work_words=hotplug.HOTPLUG_WORDS,
        marks=(c.EV_HOTPLUG, c.EV_REMOTE_DRAIN, c.EV_PCP_MISS), least_workers=2,
    ),
    Workload(
        "pfn-walker", pfn_walker.pfn_walker, pfn_walker.pfn_walker_finish,
        work_words=pfn_walker.WALKER_WORDS,
        marks=(c.EV_WALK, c.EV_SPLIT, c.EV_MERGE), shared_marks=(c.EV_WALK_RETRY,),
    ),
    Workload(
        "contig", contig.contig, contig.contig_finish, work_words=contig.CONTIG_WORDS,
        marks=(c.EV_ISOLATE, c.EV_CONTIG, c.EV_OFFLINE), in_flight=0,
        in_flight_pageblocks=contig.CONTIG_BLOCKS,
    ),
    Workload(
        "arrays", arrays.arrays, arrays.arrays_finish, work_words=arrays.ARRAYS_WORDS,
        marks=(c.EV_ALLOC, c.EV_FREE, c.EV_REMOTE_FREE), least_workers=2,
        unfit={"kill": _HANDS_OVER},
    ),
    Workload(
        "kmalloc", kmalloc.kmalloc_step, kmalloc.kmalloc_finish, work_words=kmalloc.KMALLOC_WORDS,
        marks=(c.EV_ALLOC, c.EV_FREE, c.EV_OBJ_ALLOC, c.EV_OBJ_FREE, c.EV_PAGE_LARGE),
        classes=True,
    ),
    Workload(
        "handover", handover.handover, handover.handover_finish,
        work_words=handover.HANDOVER_WORDS,
        marks=(c.EV_ALLOC, c.EV_FREE, c.EV_OBJ_ALLOC, c.EV_OBJ_FREE),
        classes=True,
    ),
    Workload(
        "retire", retire.retire, retire.retire_finish, work_words=retire.RETIRE_WORDS,
        marks=(c.EV_ALLOC, c.EV_FREE, c.EV_SPLIT, c.EV_MERGE, c.EV_POISONED), retires=True,
    ),
    Workload(  # its work area is as long as the recording: stress/trace/compile.py
        "trace", trace.trace_step, trace.trace_finish, work_words=0,
        marks=(c.EV_ALLOC, c.EV_FREE),
        unfit={
            "kill": "its workers wait for each other's events, and a dead one's never come",
            "fail": "what it frees has to be there: an allocation that fails is a difference",
        },
    ),
)  # fmt: skip
WORKLOADS = {workload.name: workload for workload in _ALL}
# A dead worker's arrays cannot be taken over, memory that is retired is missing from the rest of a
# run, and a trace wants a file.
BY_NAME_ONLY = ("arrays", "retire", "trace")
OWN = tuple(WORKLOADS)
DEFAULT_WORKLOADS = tuple(name for name in OWN if name not in BY_NAME_ONLY)

__all__ = ["DEFAULT_WORKLOADS", "EVENT_NAMES", "OWN", "WORKLOADS", "Workload", "add"]


def add(workload: Workload) -> str:
    """Put a user's workload into the table; the name that it has there.

    That is its own name, with a number if another workload has it.
    """
    name, number = workload.name, 1
    while WORKLOADS.setdefault(name, workload) != workload:
        number += 1
        name = f"{workload.name}-{number}"
    return name
