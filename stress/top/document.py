"""A picture of a segment as data for JSON: the same numbers as in the panels, none left out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from shmalloc import __version__
from shmalloc.page_states import STATE_NAMES
from stress.top.activity_panels import doing, slot_state
from stress.top.locks import HeldLock
from stress.top.memory_panels import LOOKS
from stress.top.view import View, is_bad

SCHEMA = 1
HEAD = {
    "schema": SCHEMA,
    "tool": {"name": "shmstress", "version": __version__, "command": "top"},
}


def document_of(view: View) -> dict[str, object]:
    """Sizes in bytes or pages, times in seconds, as the names say."""
    now = view.now
    return {
        "segment": {
            "name": now.name,
            "geometry": asdict(now.geometry),
            "bytes": now.bytes,
            "touched_bytes": now.touched_bytes,
            "made_s": now.made_s,
            "time_s": now.time_s,
            "owner": asdict(now.owner),
            "same_build": now.same_build,
            "removed": now.removed,
            "stopping": now.stopping,
        },
        "reported": now.reported,
        "violations": [violation.as_dict() for violation in now.violations],
        "cpus": [_cpu(view, number) for number in range(len(now.cpus))],
        "locks": [_lock(lock) for lock in now.locks],
        "waiters": list(now.waiters),
        "zones": [asdict(zone) for zone in now.statistics.zones],
        "used_pages": now.statistics.used_pages,
        "free_pages": now.statistics.free_pages,
        "managed_pages": now.statistics.managed_pages,
        "pcp_pages": now.statistics.pcp_pages,
        "map": _map(view),
        "caches": [{**asdict(cache), "partial": cache.partial} for cache in now.caches],
        "events": dict(now.statistics.events),
        "events_per_s": None if view.rates is None else dict(view.rates.events),
    }


def _cpu(view: View, number: int) -> dict[str, Any]:
    cpu = view.now.cpus[number]
    told = {"state_text": slot_state(cpu), "doing": doing(cpu)}
    return {**asdict(cpu), **told, "operations_per_s": view.rate_of(cpu)}


def _lock(lock: HeldLock) -> dict[str, Any]:
    return {**asdict(lock), "suspicious": is_bad(lock)}


def _map(view: View) -> dict[str, object]:
    """``cells``: a letter for each stretch of pfns."""
    found = view.now.map
    return {
        "time_s": found.time_s,
        "pages": {STATE_NAMES[state]: pages for state, pages in enumerate(found.pages)},
        "cells": "".join(LOOKS[state][0] for state in found.cells()),
        "letters": {LOOKS[state][0]: name for state, name in STATE_NAMES.items()},
    }
