"""Where a program or a crash case is found again, and the line that shows its failure again.

A printed line is a promise, so an address is given only to what a new process can find: a program
of the allocator by its name; a name at the top level of a file, by the file's path from its root;
a module of a package, by the folder that the package is in. The root of a file is the nearest
folder above it with a ``pyproject.toml`` or ``.git``, else the file's own folder.

What a function or a test builds, or a loop, or what stands below ``if __name__ == "__main__"``, has
no address: its failure is shown again by a call in Python.
"""

from __future__ import annotations

import os
import shlex
import sys
import sysconfig
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from shmalloc.dialect import Kernel
from stress.explorer.bindings import bound_once
from stress.machine.program import Program
from stress.programs import PROGRAMS

MARKS = ("pyproject.toml", ".git")  # of a folder that is a root
MAIN = "__main__"
INSTALLED = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}


class Address(NamedTuple):
    """``target``: what a token carries. ``root``: what ``--from`` names; None: nothing."""

    target: str
    root: Path | None = None

    @property
    def option(self) -> str:
        """``--from ROOT``, quoted for a shell, and a blank; empty if it is not needed."""
        return "" if self.root is None else f"--from {shlex.quote(str(self.root))} "


_known: weakref.WeakKeyDictionary[Any, Address] = weakref.WeakKeyDictionary()


def remember(thing: object, address: Address | None) -> None:
    """``thing`` was loaded from there."""
    if address is not None:
        _known[thing] = address


def address_of(program: Program) -> Address | None:
    """The address of ``program``; None if a new process could not find it."""
    return found_address(program, program.threads) or _built_in(program)


def found_address(thing: object, kernels: Sequence[Kernel]) -> Address | None:
    """The address at which ``thing`` was loaded, or stands in a module; its kernels' come first."""
    if thing in _known:
        return _known[thing]
    for scope in _scopes(kernels):
        for name, value in list(scope.items()):
            if value is thing:
                found = address_in(scope, name, checked=True)
                if found is not None:
                    return found
    return None


def _built_in(program: Program) -> Address | None:
    build: Callable[[], Program] | None = PROGRAMS.get(program.name)
    return Address(program.name) if build is not None and build() is program else None


def _scopes(kernels: Sequence[Kernel]) -> Iterator[dict[str, Any]]:
    """The modules in which it may stand: of its kernels, the script, then all others."""
    seen: set[int] = set()
    others = [vars(module) for module in list(sys.modules.values()) if hasattr(module, "__dict__")]
    main = [vars(sys.modules[MAIN])] if MAIN in sys.modules else []
    for scope in (*(kernel.__globals__ for kernel in kernels), *main, *others):
        if id(scope) not in seen:
            seen.add(id(scope))
            yield scope


def address_in(scope: Mapping[str, Any], name: str, checked: bool = False) -> Address | None:
    """The address of ``name`` in a module. ``checked``: only where loading it again binds it."""
    file = scope.get("__file__")
    if not isinstance(file, str) or not Path(file).is_absolute() or not Path(file).is_file():
        return None
    path = Path(os.path.normpath(file))
    if checked and not bound_once(path, name):
        return None
    module = _module_name(scope)
    if module and any(path.is_relative_to(place) for place in INSTALLED):
        return Address(f"{module}:{name}")
    if module and _is_in_package(scope, path):
        return Address(f"{module}:{name}", path.parents[module.count(".")])
    root = root_of(path)
    return Address(f"{path.relative_to(root).as_posix()}:{name}", root)


def _module_name(scope: Mapping[str, Any]) -> str:
    """By which name the module can be imported; empty if it is a script."""
    spec = scope.get("__spec__")
    name = str(getattr(spec, "name", None) or scope.get("__name__", ""))
    return "" if name in (MAIN, "__mp_main__") else name


def _is_in_package(scope: Mapping[str, Any], path: Path) -> bool:
    """Whether it has to be imported as a part of its package: ``python -m`` said so, or a file."""
    names = _module_name(scope).split(".")
    if len(names) == 1 or path.with_suffix("").parts[-len(names) :] != tuple(names):
        return False
    return scope.get("__name__") == MAIN or (path.parent / "__init__.py").is_file()


def root_of(path: Path) -> Path:
    """The root from which the address of a file counts."""
    for folder in path.parents:
        if any(os.path.exists(folder / mark) for mark in MARKS):  # noqa: PTH110 (never raises)
            return folder
    return path.parent


# --- what is printed -----------------------------------------------------------------------------
def target_of(program: Program) -> str:
    """What a token of ``program`` carries: its address, else its name."""
    address = address_of(program)
    return program.name if address is None else address.target


def again_title(program: Program) -> str:
    """What stands above the line of ``again``."""
    if address_of(program) is None:
        return "to see it again, in Python, where this program is built:"
    return "to see it again:"


def again(program: Program, token: str) -> str:
    """The line that shows a failure again: for a shell, or for Python if nothing else finds it."""
    address = address_of(program)
    if address is None:
        return f"print(stress.replay(program, {token!r}).report())"
    return f"shmstress replay {address.option}{shlex.quote(token)}"
