"""The memory models, by name: what a program may see.

A model is a row here and the code behind its number in visibility.py, which is all that the
scheduler knows of it. A further model (C11 is the one that we want) is a row, a module like
buffers.py, and its branches in visibility.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from shmalloc.errors import MisuseError
from stress.machine import block as cb


@dataclass(frozen=True)
class MemoryModel:
    """One memory model.

    ``behind``: how many actors stand behind each CPU to make its stores visible. ``depth``: how
    many stores a CPU can make before the first is visible. ``dpor``: whether DPOR knows which steps
    are dependent under it. ``told``: the model in a line of text, with the machines that it is the
    model of.
    """

    number: int
    behind: int
    depth: int
    dpor: bool
    told: str

    @property
    def delays_stores(self) -> bool:
        """Whether others may see a store later than its CPU makes it."""
        return self.behind > 0

    def actors(self, cpus: int) -> int:
        """CPUs, and what makes their stores visible."""
        return cpus * (1 + self.behind)


MODELS = {
    "sc": MemoryModel(cb.SC, 0, 0, True, "sc"),
    "tso": MemoryModel(cb.TSO, 1, cb.TSO_DEPTH, True, "tso (x86)"),
    "pso": MemoryModel(cb.PSO, cb.PSO_DEPTH, cb.PSO_DEPTH, False, "pso (SPARC)"),
}


def model_named(name: str) -> MemoryModel:
    """Raises ``MisuseError`` for a name that is none."""
    if name not in MODELS:
        raise MisuseError(f"memory: {name!r}; use {', '.join(MODELS)}")
    return MODELS[name]
