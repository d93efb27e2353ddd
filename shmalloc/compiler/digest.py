"""The keys of images and of rewritten kernels: digests of everything that determines the code.

Bytecode, constants and lines of every kernel in the closure of its entries; the values of the
constants that they name; the sources of the compiler and of the kinds of memory, and its version;
the processor. What concerns kernels is computed from what this process imported, not from files, so
an edited file is never taken for the kernel that runs, and an edit of a kernel changes the keys of
the images that hold it and of no others.

Annotations and columns change nothing: bytecode does not hold them, and the code does not need
them. Nor does the folder that a package is installed in: a copy of it finds the images of the
original.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection
from functools import cache
from importlib.util import MAGIC_NUMBER, find_spec
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING

from shmalloc import dialect
from shmalloc.compiler import processor
from shmalloc.compiler.instances import order_of
from shmalloc.compiler.scope import scope_of
from shmalloc.dialect import Kernel

if TYPE_CHECKING:
    from shmalloc.compiler.instances import Instance

FORMAT = 1
_SOURCES = ("compiler", "engine")  # folders of shmalloc in which the meaning of kernels is written
_callees: dict[Kernel, list[Kernel]] = {}
_digests: dict[Kernel, bytes] = {}


def key_of(entries: Collection[Instance], made_for: str | None = None) -> str:
    """The key of the image with these entries, as 40 hex digits.

    ``made_for``: the class of processors of a prebuilt image (prebuilt.py).
    """
    machine = f"{compiler()}|{processor.digest()}" if made_for is None else made_for
    state = hashlib.sha256(f"{FORMAT}|{sources()}|{machine}".encode())
    roots: list[Kernel] = []
    for entry in sorted(entries, key=order_of):
        state.update(f"|{entry.kind.name}:{identity(entry.function)}".encode())
        roots.append(entry.function)
    files = {path for entry in entries for path in entry.kind.files}
    for digest in sorted(_content(path) for path in files):
        state.update(digest)
    for digest in sorted(_digest_of(function) for function in _reached(roots)):
        state.update(digest)
    return state.hexdigest()[:40]


def key_of_rewritten(function: Kernel, takes_memory: bool) -> str:
    """The key of the rewritten code (runnable.py) of a kernel and of all that it reaches."""
    python = f"{sys.implementation.cache_tag}|{MAGIC_NUMBER.hex()}"
    state = hashlib.sha256(f"rewritten|{FORMAT}|{sources()}|{python}|{takes_memory}".encode())
    state.update(identity(function).encode())
    for found in sorted(_digest_of(reached) for reached in _reached([function])):
        state.update(found)
    return state.hexdigest()[:40]


def name_of(function: Kernel) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _reached(roots: list[Kernel]) -> set[Kernel]:
    """``roots`` and every kernel that they can reach."""
    found, todo = set(roots), list(roots)
    while todo:
        function = todo.pop()
        if function not in _callees:
            _callees[function] = scope_of(function).kernels()
        fresh = set(_callees[function]) - found
        found |= fresh
        todo += fresh
    return found


def forget() -> None:
    """Forget what is known of kernels, for tests that change them."""
    _callees.clear()
    _content.cache_clear()
    _digests.clear()


def _digest_of(function: Kernel) -> bytes:
    """Digest of one kernel: its code and what it names."""
    found = _digests.get(function)
    if found is None:
        found = _digests[function] = _computed(function)
    return found


def _computed(function: Kernel) -> bytes:
    code = function.__code__
    constants = [_text(c) for c in code.co_consts if not isinstance(c, CodeType)]
    marks = (dialect.is_hot(function), dialect.is_unit(function))
    parts = (
        name_of(function),
        marks,
        code.co_code,
        constants,
        code.co_names,
        code.co_varnames,
        code.co_argcount,
        code.co_firstlineno,
        tuple(code.co_lines()),
        _named(function),
    )
    return hashlib.sha256(repr(parts).encode()).digest()


def _named(function: Kernel) -> list[tuple[object, str]]:
    """The globals that a kernel names: its module's and those of modules it names."""
    scope = scope_of(function)
    return [(name, _text(value)) for name, value in (*scope.names.items(), *scope.members.items())]


def _text(value: object) -> str:
    """A constant, or what a name stands for, as far as it affects the code."""
    kind = type(value)
    if kind is FunctionType:
        return identity(value)
    if kind is int:
        return hex(value)  # type: ignore[arg-type]  # decimal text has a limit of digits
    if kind is not bool and isinstance(value, int):
        return hex(int.__pos__(value))
    return repr(value) if isinstance(value, bool | float | complex | str | bytes) else str(kind)


@cache
def identity(function: Kernel) -> str:
    """One of several functions of the same name."""
    return f"{name_of(function)}:{function.__code__.co_firstlineno}"


@cache
def sources() -> str:
    """Digest of the compiler's own sources."""
    here = Path(__file__).parent.parent
    state = hashlib.sha256()
    for name in ("constants", "constants_slab", "dialect", "words"):  # hooks stand on these
        state.update((here / f"{name}.py").read_bytes())
    for folder in _SOURCES:
        for path in sorted((here / folder).glob("*.py")):
            state.update(path.name.encode() + path.read_bytes())
    return state.hexdigest()


@cache
def _content(path: str) -> bytes:
    """Digest of a source of a kind of memory."""
    return hashlib.sha256(Path(path).read_bytes()).digest()


@cache
def compiler() -> str:
    """Digest of the version of llvmlite, without importing it."""
    state = hashlib.sha256()
    found = find_spec("llvmlite")  # importlib.metadata takes longer than everything else
    if found is not None and found.origin is not None:
        state.update(Path(found.origin).with_name("_version.py").read_bytes())
    return state.hexdigest()
