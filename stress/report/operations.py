"""Which program, crash case and native run calls each public operation of the allocator.

A public operation is a kernel that plain Python of ``shmalloc`` names: the arena with its pages,
caches, arrays and structures, the claims, recovery. It is found in the source, so a new operation
is in the table when it is written.

To reach an operation is little: half of all programs reach ``free_pages`` in their check. So one
counts as *called* only where a kernel of ``stress`` calls it itself:

    programs    from the kernels of the virtual CPUs, not from a check or an invariant
    crash       from those, and from the supervisors that recover
    native      from the kernels of a workload, or from the plain Python of a run while its
                workers work (for a fault); not by the controller while they are parked

A hole is a cell without a caller. Each has its reason in operation_holes.py, and a test allows no
other one.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import shmalloc
from shmalloc.dialect import Kernel, callees, is_kernel
from stress.crash.adapt import left_out
from stress.crash.kernels import supervise, supervise_and_reap
from stress.crash.operations import OPERATIONS
from stress.crash.structures import SURVIVALS
from stress.programs import PROGRAMS
from stress.run.kernels import kernels_of_faults, worker_kernels
from stress.workloads import WORKLOADS

PROGRAM, CRASH, NATIVE = COLUMNS = ("programs", "crash", "native")
BENEATH = (
    "shmalloc.kernels",
    "shmalloc.structures.kernels",
    "shmalloc.compiler",
    "shmalloc.engine",
    "shmalloc.pytest_plugin",
)
Callers = Mapping[str, tuple[str, ...]]  # column -> names


@dataclass(frozen=True)
class Row:
    """``operation``: the kernel. ``faces``: the modules of plain Python that name it.

    ``callers``: by column, the programs, cases, workloads and faults in which it is called.
    """

    operation: Kernel
    faces: tuple[str, ...]
    callers: Callers

    @property
    def name(self) -> str:
        """``pages.alloc_pages``: the module and the function."""
        return name_of(self.operation)

    @property
    def holes(self) -> tuple[str, ...]:
        """The columns without a caller."""
        return tuple(column for column in COLUMNS if not self.callers[column])


def name_of(operation: Kernel) -> str:
    return f"{operation.__module__.rpartition('.')[2]}.{operation.__qualname__}"


def rows() -> list[Row]:
    """All public operations, by module and name. Builds all programs, which takes half a second."""
    called = {PROGRAM: _programs(), CRASH: _cases(), NATIVE: _runs()}
    found = []
    for operation, faces in sorted(public().items(), key=lambda item: name_of(item[0])):
        callers = {
            column: tuple(name for name, kernels in of.items() if operation in kernels)
            for column, of in called.items()
        }
        found.append(Row(operation, faces, callers))
    return found


# --- what is public ------------------------------------------------------------------------------
@cache
def public() -> dict[Kernel, tuple[str, ...]]:
    """The kernels that plain Python of shmalloc names, and the modules that do."""
    found: dict[Kernel, set[str]] = {}
    for info in pkgutil.walk_packages(shmalloc.__path__, "shmalloc."):
        if not info.name.startswith(BENEATH):
            module = importlib.import_module(info.name)
            for kernel in _named_in(module):
                found.setdefault(kernel, set()).add(info.name.partition(".")[2])
    return {kernel: tuple(sorted(faces)) for kernel, faces in found.items()}


def _named_in(module: ModuleType) -> Iterator[Kernel]:
    """The kernels that a module names: ``alloc_pages``, or ``kernels.alloc_pages``."""
    known = vars(module)
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        value: object = None
        if isinstance(node, ast.Name):
            value = known.get(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            home = known.get(node.value.id)
            value = getattr(home, node.attr, None) if isinstance(home, ModuleType) else None
        if is_kernel(value):
            yield value


# --- who calls it --------------------------------------------------------------------------------
def called_by(kernels: Iterable[Kernel]) -> frozenset[Kernel]:
    """The kernels of the allocator that these kernels of ``stress`` call, without those that are
    only called by other kernels of the allocator."""
    todo, seen, found = list(kernels), set(), set()
    while todo:
        kernel = todo.pop()
        if kernel in seen:
            continue
        seen.add(kernel)
        if kernel.__module__.startswith("stress."):
            todo += callees(kernel)
        else:
            found.add(kernel)
    return frozenset(found)


def _programs() -> dict[str, frozenset[Kernel]]:
    return {name: called_by(build().threads) for name, build in PROGRAMS.items()}


def _cases() -> dict[str, frozenset[Kernel]]:
    """Without building them: a case has the CPUs of its program, and a supervisor."""
    found = {}
    for name, operation in OPERATIONS.items():
        recover = supervise_and_reap if operation.reaping else supervise
        found[name] = called_by([*operation.threads, recover])
    for name, build in PROGRAMS.items():
        if not left_out(name):
            recover = SURVIVALS[name][0] if name in SURVIVALS else supervise
            found[name] = called_by([*build().threads, recover])
    return found


def _runs() -> dict[str, frozenset[Kernel]]:
    """The workloads, and what a run calls from plain Python while its workers work."""
    found = {
        name: called_by([workload.step, workload.finish]) for name, workload in WORKLOADS.items()
    }
    found["workers that start"] = called_by(worker_kernels())
    for fault, kernels in kernels_of_faults().items():
        found[f"--faults {fault}"] = called_by(kernels)
    return found
