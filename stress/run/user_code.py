"""Workloads of users in worker processes: how a process that begins anew finds their kernels.

A worker is a fork of the forkserver, and that begins as an empty Python. It imports our own kernels
by the names of their modules. The module of a user's kernel may have a name by which no other
process can import it: pytest's ``--import-mode=importlib`` makes names up, and ``conftest`` is the
name of many files. So the controller writes down which file each of its modules is from, and in the
forkserver the same names give the same files (``_Finder``). The text of a module runs there once
more, as in every process that imports it.

What it does not do: take kernels that are made inside a function. No other process has those.
"""

from __future__ import annotations

import importlib
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from shmalloc.dialect import Kernel
from shmalloc.errors import MisuseError
from stress.workloads import OWN, WORKLOADS, Workload

problem: str | None = None  # why a user's module could not be imported in this process
_KERNELS = ("step", "finish")
_INSTALLED = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}


def place_of(kernel: Kernel) -> list[str]:
    """Module and name of a kernel, for ``kernel_at`` in another process."""
    return [kernel.__module__, kernel.__qualname__]


def kernel_at(place: Iterable[str]) -> Kernel:
    module, name = place
    found: Kernel = attrgetter(name)(importlib.import_module(module))
    return found


def description_of(names: Iterable[str]) -> dict[str, Any] | None:
    """What another process needs for those of the named workloads that are a user's, as JSON takes
    it; None if all are ours.

    Raises ``MisuseError`` for a kernel that no other process can find.
    """
    users = [name for name in names if name not in OWN]
    if not users:
        return None
    return {
        "path": sys.path,
        "modules": {n: where for n, m in list(sys.modules.items()) if (where := _origin(m))},
        "workloads": {name: _described(name, WORKLOADS[name]) for name in users},
    }


def receive(description: Mapping[str, Any]) -> None:
    """Make the described workloads known in this process; what prevents it becomes ``problem``."""
    global problem
    sys.path[:] = description["path"]
    sys.meta_path.insert(0, _Finder(description["modules"]))
    try:
        for name, given in description["workloads"].items():
            WORKLOADS[name] = _workload(given)
    except (Exception, SystemExit):  # of the user's module: the workers report it
        problem = f"the file of a workload cannot be imported here:\n{traceback.format_exc()}"


def _described(name: str, workload: Workload) -> dict[str, Any]:
    for role in _KERNELS:
        _require_found(name, role, getattr(workload, role))
    plain = {f.name: getattr(workload, f.name) for f in fields(Workload) if f.name not in _KERNELS}
    return plain | {role: place_of(getattr(workload, role)) for role in _KERNELS}


def _require_found(workload: str, role: str, kernel: Kernel) -> None:
    module = sys.modules.get(kernel.__module__)
    found: object = module
    for name in kernel.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is not kernel or kernel.__module__ == "__main__":
        raise MisuseError(
            f"workload {workload!r}: {role}: worker processes cannot find kernel"
            f" {kernel.__qualname__} of {kernel.__module__}; define it at the top level of a file"
            " that is imported"
        )


def _workload(given: Mapping[str, Any]) -> Workload:
    """The workload of a description: JSON has lists where a workload has tuples."""
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in given.items()
    }
    values |= {role: kernel_at(given[role]) for role in _KERNELS}
    return Workload(**values)


def _origin(module: object) -> dict[str, Any] | None:
    """Where a module is from, unless it is installed or has no file and holds none."""
    if not isinstance(module, ModuleType):
        return None
    file, inside = getattr(module, "__file__", None), getattr(module, "__path__", None)
    places = [str(Path(place)) for place in inside or ()]
    if isinstance(file, str) and file.endswith(".py"):
        where = file
    elif file is None and places:
        where = places[0]
    else:
        return None
    if any(Path(where).is_relative_to(place) for place in _INSTALLED):
        return None
    return {"file": file, "places": places if inside is not None else None}


class _Finder(MetaPathFinder):
    """Finds modules by name in a table of files, before any search of the path."""

    def __init__(self, modules: Mapping[str, Mapping[str, Any]]) -> None:
        self._modules = modules

    def find_spec(
        self, fullname: str, path: object, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module in the table; None leaves it to the usual search."""
        where = self._modules.get(fullname)
        if where is None:
            return None
        if where["file"] is None:
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = where["places"]
            return spec
        return spec_from_file_location(
            fullname, where["file"], submodule_search_locations=where["places"]
        )
