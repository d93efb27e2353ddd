"""Hypothesis over small programs, and over an arena of real processes (extra ``hypothesis``).

::

    programs, threads, operations   strategies that draw what the explorer runs
    small_program                   the program that they draw, from data: paste what failed
    ACCESSES, BLOCKING              the operations that they draw, by name
    ArenaMachine                    a state machine: processes, pages, objects, arrays, kills

``docs/hypothesis.md`` has an example of each. What is named here is loaded at first use. Nothing
else of ours imports Hypothesis; the child processes of a machine do without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stress.hypothesis.arena_machine import ArenaMachine
    from stress.hypothesis.drawing import operations, programs, threads
    from stress.hypothesis.small import ACCESSES, BLOCKING, SmallProgram, small_program

_HOMES = {
    "ACCESSES": "stress.hypothesis.small",
    "ArenaMachine": "stress.hypothesis.arena_machine",
    "BLOCKING": "stress.hypothesis.small",
    "SmallProgram": "stress.hypothesis.small",
    "operations": "stress.hypothesis.drawing",
    "programs": "stress.hypothesis.drawing",
    "small_program": "stress.hypothesis.small",
    "threads": "stress.hypothesis.drawing",
}
__all__ = [
    "ACCESSES",
    "BLOCKING",
    "ArenaMachine",
    "SmallProgram",
    "operations",
    "programs",
    "small_program",
    "threads",
]


def __getattr__(name: str) -> Any:
    """Raises ``ModuleNotFoundError`` with the cure if Hypothesis is not installed."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        cure = "needs Hypothesis; pip install 'shmalloc[hypothesis]'"
        raise ModuleNotFoundError(f"{__name__}.{name} {cure}", name=error.name) from error
    globals()[name] = value
    return value
