"""``@kernel``: marks a function as a kernel; what a kernel calls.

The decorator returns the function itself, undecorated: it stays a plain Python function, which an
engine runs over a memory. compiler/check.py defines what a kernel's source may say,
docs/decisions/0016-a-compiler-of-our-own.md what it means.

    @kernel      a kernel: takes the memory first if it touches memory
    @hot         a kernel on a path that is counted in nanoseconds: always inlined
    @unit        a kernel that is never inlined: the slow half of an operation
    @told_its_caller   its last argument is filled in: the number of the kernel that calls it
    @primitive   not a kernel: a function to which each engine gives its own meaning
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import is_
from types import FunctionType, ModuleType
from typing import Any, TypeGuard, TypeVar

from shmalloc.errors import DialectError

F = TypeVar("F", bound=Callable[..., Any])
Kernel = Callable[..., Any]  # what these decorators return; a plain function

KERNELS: dict[str, Kernel] = {}


def kernel(function: F) -> F:
    """Register ``function`` as a kernel and return it unchanged, its type included."""
    if not isinstance(function, FunctionType):
        raise DialectError(
            f"{function!r} is no plain function; put @kernel directly above a def, below its other"
            " decorators"
        )
    KERNELS[f"{function.__module__}.{function.__qualname__}"] = function
    function.__kernel__ = True  # type: ignore[attr-defined]
    return function


def hot(function: F) -> F:
    """``@kernel`` for a path that is counted in nanoseconds: compiled code always inlines it."""
    kernel(function).__hot__ = True  # type: ignore[attr-defined]
    return function


def unit(function: F) -> F:
    """``@kernel`` that is never inlined: its callers stay small. Costs a call, about 1 ns."""
    kernel(function).__unit__ = True  # type: ignore[attr-defined]
    return function


def told_its_caller(function: F) -> F:
    """Mark a kernel whose last parameter, 0 by default, is the number of the kernel that calls it.

    No call in a kernel gives it: compiler/caller.py has the numbers. In plain Python it stays 0.
    """
    kernel(function).__told__ = True  # type: ignore[attr-defined]
    return function


def primitive(gives: str) -> Callable[[F], F]:
    """Mark a function that compiled code replaces as its kind of memory defines (kinds.py).

    ``gives``: the type of its result, "int", "bool", "none" or "memory".
    """

    def mark(function: F) -> F:
        assert isinstance(function, FunctionType)
        function.__primitive__ = gives  # type: ignore[attr-defined]
        return function

    return mark


def is_kernel(value: object) -> TypeGuard[FunctionType]:
    return isinstance(value, FunctionType) and getattr(value, "__kernel__", False)


def is_unit(function: Kernel) -> bool:
    return getattr(function, "__unit__", False)


def is_hot(function: Kernel) -> bool:
    return getattr(function, "__hot__", False)


def is_told(function: Kernel) -> bool:
    return getattr(function, "__told__", False)


def is_primitive(value: object) -> bool:
    return isinstance(value, FunctionType) and hasattr(value, "__primitive__")


class _Named:
    """What a kernel named when it was last looked at, and how to tell that it still does.

    A program looks at hundreds of kernels when it is made, and looking up all members of modules
    is dear. A notebook or a test may bind a name anew meanwhile, so each use compares the values.
    """

    __slots__ = ("_code", "_homes", "_members", "_names", "_seen", "callees", "values")

    def __init__(self, function: Kernel) -> None:
        self._code = function.__code__
        self._names, scope = self._code.co_names, function.__globals__
        self._seen = list(map(scope.get, self._names))  # of an unbound one None
        values = [scope[name] for name in self._names if name in scope]
        modules = [value for value in values if isinstance(value, ModuleType)]
        found = [(home, name) for home in modules for name in self._names if hasattr(home, name)]
        self._homes, self._members = [home for home, _ in found], [name for _, name in found]
        members = list(map(getattr, self._homes, self._members))
        self._seen += members
        self.values = values + members
        self.callees = [value for value in self.values if is_kernel(value)]

    def holds(self, function: Kernel) -> bool:
        # Without a step of Python for each name: it is most of what a closure costs.
        seen = list(map(function.__globals__.get, self._names))
        try:
            seen += map(getattr, self._homes, self._members)
        except AttributeError:
            return False
        return self._code is function.__code__ and all(map(is_, seen, self._seen))


def _named(function: Kernel) -> _Named:
    kept: _Named | None = function.__dict__.get("__named__")
    if kept is None or not kept.holds(function):
        kept = _Named(function)
        function.__named__ = kept  # type: ignore[attr-defined]
    return kept


def caller_index(names: Sequence[str]) -> int | None:
    """Which of a kernel's parameters says who calls it: the first ``claim`` or ``cpu``; or None."""
    return next((i for i, name in enumerate(names) if name in ("claim", "cpu")), None)


def callees(function: Kernel) -> Sequence[Kernel]:
    """The kernels that ``function`` names, in order."""
    return _named(function).callees


def _reached(functions: Iterable[Kernel]) -> dict[Kernel, _Named]:
    """``functions`` and every kernel that they can reach, with what each of them names."""
    found: dict[Kernel, _Named] = {}
    todo = [*functions]
    while todo:
        current = todo.pop()
        if current not in found:
            found[current] = kept = _named(current)
            todo += kept.callees
    return found


def closure_of(*functions: Kernel) -> list[Kernel]:
    """``functions`` and every kernel that they can reach, in a stable order."""
    return sorted(_reached(functions), key=lambda f: (f.__module__, f.__qualname__))


def reaches(functions: Iterable[Kernel], words: Iterable[object]) -> bool:
    """Whether ``functions``, or kernels that they can reach, name one of ``words``."""
    wanted = frozenset(map(id, words))
    named = _reached(functions).values()
    return any(not wanted.isdisjoint(map(id, kept.values)) for kept in named)
