"""stress: finds races and list corruption in shmalloc and in any shared-memory algorithm.

``python -m stress run`` starts worker processes on one segment and checks them with oracles that
do not trust the allocator. ``explore`` tries the schedules of a small program one by one. Importing
this package imports nothing else: what it offers is loaded at first use. The pytest plugin relies
on that, because pytest imports it in projects that have nothing to do with us.

PYTEST_DONT_REWRITE: as in shmalloc.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shmalloc import __version__
    from stress.explorer.explore import explore
    from stress.explorer.replay import Replay, replay
    from stress.explorer.report.failure import Failure
    from stress.explorer.result import Exploration
    from stress.machine.program import Program
    from stress.machine.vocabulary import choose, returned

_HOMES = {
    "Exploration": "stress.explorer.result",
    "Failure": "stress.explorer.report.failure",
    "Program": "stress.machine.program",
    "Replay": "stress.explorer.replay",
    "__version__": "shmalloc",
    "choose": "stress.machine.vocabulary",
    "explore": "stress.explorer.explore",
    "replay": "stress.explorer.replay",
    "returned": "stress.machine.vocabulary",
}
__all__ = [
    "Exploration",
    "Failure",
    "Program",
    "Replay",
    "__version__",
    "choose",
    "explore",
    "replay",
    "returned",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
