"""A ``Moment`` of a run as rows of the tables ``samples`` and ``processes``.

A moment carries its last map of the RAM until there is a new one; a row has the map only where
``new_map`` says that it is new.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stress.workloads import EVENT_NAMES

if TYPE_CHECKING:
    from stress.run.progress import Moment


def row_of(round_id: int, moment: Moment, new_map: bool) -> dict[str, object]:
    """The columns of one sample."""
    snapshot = moment.snapshot
    events = {EVENT_NAMES[i]: count for i, count in enumerate(snapshot.events) if i in EVENT_NAMES}
    return {
        "round_id": round_id,
        "at_s": moment.elapsed_s,
        "time_s": moment.time_s,
        "operations": moment.operations,
        "refused": moment.refused,
        "used_pages": moment.used_pages,
        "free_pages": snapshot.free_pages,
        "isolated_pages": snapshot.isolated_pages,
        "managed_pages": snapshot.managed_pages,
        "fragmentation": moment.fragmentation,
        "audits": moment.audits,
        "reports": snapshot.reports,
        "free_by_order": _json(snapshot.free_by_order),
        "pcp_pages": _json(snapshot.pcp_pages),
        "events": _json(events),
        "accounts": _json([asdict(account) for account in moment.accounts]),
        "ram_map": moment.ram_map or None if new_map else None,
    }


def process_rows(round_id: int, moment: Moment) -> Iterator[dict[str, object]]:
    """One row for each process."""
    for use in moment.processes:
        yield {"round_id": round_id, "time_s": moment.time_s, **asdict(use)}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
