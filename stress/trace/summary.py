"""A trace in words: events by type, CPUs, duration, what a replay needs, what is approximated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shmalloc import constants as c
from stress.quantities import counted, exact_bytes
from stress.trace.format import OBJECT_ALLOC, PAGE_ALLOC, Trace
from stress.trace.importing import ORIGIN
from stress.trace.options import ram_for

_MIGRATETYPES = {
    c.MT_UNMOVABLE: "unmovable",
    c.MT_MOVABLE: "movable",
    c.MT_RECLAIMABLE: "reclaimable",
}
_SHOWN_CACHES = 5
_SHOWN_CPUS = 8


def summary(trace: Trace) -> Iterator[str]:
    """The lines of ``shmstress trace show``."""
    yield from brief(trace)
    yield f"events on each CPU: {_listed(_per_cpu(trace))}"
    blocks, objects = trace.kind == PAGE_ALLOC, trace.kind == OBJECT_ALLOC
    if blocks.any():
        orders = np.bincount(trace.arg[blocks])
        sizes = {f"order {order}": int(count) for order, count in enumerate(orders) if count}
        yield f"blocks by order: {_listed(sizes)}"
        types = np.bincount(trace.flag[blocks], minlength=len(_MIGRATETYPES))
        yield f"blocks by type: {_listed({_MIGRATETYPES[t]: int(types[t]) for t in _MIGRATETYPES})}"
    if objects.any():
        yield f"objects by cache: {_listed(_per_cache(trace, objects))}"
    left = trace.is_alloc.sum() - (~trace.is_alloc).sum()
    yield f"never freed: {int(left):,}; a replay gives them back at its end"
    ram = exact_bytes(ram_for(trace))
    yield f"replay: {counted(len(trace.cpus), 'worker')}, --ram {ram}"


def brief(trace: Trace) -> Iterator[str]:
    """Two lines, and one for each thing that is approximated."""
    seconds = int(trace.time_ns[-1]) / 1e9
    counts = ", ".join(counted(n, name.removesuffix("s")) for name, n in trace.counts().items())
    cpus, tasks = counted(len(trace.cpus), "CPU"), counted(len(np.unique(trace.task)), "task")
    yield f"{trace.source}: {counted(len(trace), 'event')} in {seconds:.6f} s on {cpus}, {tasks}"
    peak, caches = counted(trace.peak_pages(), "page"), counted(len(trace.caches), "cache")
    yield f"{counts}; peak {peak}, {caches}"
    for note in trace.notes:
        yield note if note.startswith(ORIGIN) else f"approximated: {note}"


def _per_cpu(trace: Trace) -> dict[str, int]:
    events = np.bincount(trace.cpu)
    return {f"CPU {cpu}": int(events[cpu]) for cpu in trace.cpus}


def _per_cache(trace: Trace, objects: np.ndarray) -> dict[str, int]:
    used = np.bincount(trace.flag[objects], minlength=len(trace.caches))
    order = np.argsort(-used, kind="stable")[:_SHOWN_CACHES]
    return {str(trace.caches[at]): int(used[at]) for at in order if used[at]}


def _listed(counts: dict[str, int]) -> str:
    shown = [f"{name}: {count:,}" for name, count in list(counts.items())[:_SHOWN_CPUS]]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
