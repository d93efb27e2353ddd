"""Where a new process finds a program or a crash case, and the line that repeats its failure.

A printed line is a promise, so only what a new process can find has an address: a program of the
allocator by its name; a name at the top level of a file, by the file's path from its root; a module
of a package, by the folder of the package. The root of a file is the nearest folder above it with a
``pyproject.toml`` or ``.git``, else the file's own folder.

A program built in a function, a test, a loop, below ``if __name__ == "__main__"``, or in a script
that is not called ``*.py``, has no address: a call in Python repeats its failure.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from shmalloc.dialect import Kernel
from stress import shell
from stress.explorer.bindings import bound_once, imports_relatively
from stress.machine.program import Program
from stress.programs import PROGRAMS

MARKS = ("pyproject.toml", ".git")  # of a folder that is a root
MAIN = "__main__"
INSTALLED = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}


class Address(NamedTuple):
    """``target``: what a token carries. ``root``: what ``--from`` names; None: no ``--from``."""

    target: str
    root: Path | None = None

    @property
    def option(self) -> str:
        """``--from ROOT `` quoted for a shell, with a space after it; empty if it is not needed."""
        return "" if self.root is None else f"--from {_quoted(str(self.root))} "


def _quoted(text: str) -> str:
    """For a shell; control characters are written as escapes, which no terminal obeys."""
    if text.isprintable():
        return shell.quote(text)
    escapes = {"\\": "\\\\", "'": "\\'"}
    signs = (
        escapes.get(sign, sign)
        if sign.isprintable()
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(sign))
        for sign in text
    )
    return f"$'{''.join(signs)}'"


_known: weakref.WeakKeyDictionary[Any, Address] = weakref.WeakKeyDictionary()


def remember(thing: object, address: Address | None) -> None:
    """Record that ``thing`` was loaded from there."""
    if address is not None:
        _known[thing] = address


def address_of(program: Program) -> Address | None:
    """The address of ``program``; None if a new process cannot find it."""
    return found_address(program, program.threads) or _built_in(program)


def found_address(thing: object, kernels: Sequence[Kernel]) -> Address | None:
    """The address that ``thing`` was loaded from, or has in a module: its kernels' come first."""
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
    """The modules that may contain it: those of its kernels, the script, then all others."""
    seen: set[int] = set()
    others = [vars(module) for module in list(sys.modules.values()) if hasattr(module, "__dict__")]
    main = [vars(sys.modules[MAIN])] if MAIN in sys.modules else []
    for scope in (*(kernel.__globals__ for kernel in kernels), *main, *others):
        if id(scope) not in seen:
            seen.add(id(scope))
            yield scope


def address_in(scope: Mapping[str, Any], name: str, checked: bool = False) -> Address | None:
    """The address of ``name`` in a module. ``checked``: only if loading the file again binds it."""
    file = scope.get("__file__")
    if not isinstance(file, str) or not Path(file).is_absolute() or not Path(file).is_file():
        return None
    path = Path(os.path.normpath(file))
    if path.suffix != ".py" or (checked and not bound_once(path, name)):
        return None
    module = _module_name(scope)
    if module and any(path.is_relative_to(place) for place in INSTALLED):
        return Address(f"{module}:{name}")
    if module and _is_in_package(scope, path):
        return Address(f"{module}:{name}", path.parents[module.count(".")])
    root = root_of(path)
    return Address(f"{path.relative_to(root).as_posix()}:{name}", root)


def _module_name(scope: Mapping[str, Any]) -> str:
    """The name by which the module can be imported; empty for a script."""
    spec = scope.get("__spec__")
    name = str(getattr(spec, "name", None) or scope.get("__name__", ""))
    return "" if name in (MAIN, "__mp_main__") else name


def _is_in_package(scope: Mapping[str, Any], path: Path) -> bool:
    """Whether it must be imported as a part of its package, because of ``python -m`` or a file."""
    names = _module_name(scope).split(".")
    if len(names) == 1 or path.with_suffix("").parts[-len(names) :] != tuple(names):
        return False
    in_package = (path.parent / "__init__.py").is_file() or imports_relatively(path)
    return scope.get("__name__") == MAIN or in_package


def root_of(path: Path) -> Path:
    """The root of a file: the folder to which its address is relative."""
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
    """The heading of the line of ``again``."""
    if address_of(program) is None:
        return "to see it again, in Python, where this program is built:"
    return "to see it again:"


def again(program: Program, token: str) -> str:
    """The line that repeats a failure: for a shell, or for Python if the program has no address."""
    address = address_of(program)
    if address is None:
        return f"print(stress.replay(program, {token!r}).report())"
    return f"shmstress replay {address.option}{shell.quote(token)}"
