"""What the names of a kernel stand for, looked up once: the front end and the key must agree.

A later change of a constant has no effect: the first lookup, by either of them, freezes it.
Otherwise an image could be kept under the key of the new value with the code of the old one.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from shmalloc.dialect import Kernel, is_kernel


@dataclass(frozen=True)
class Scope:
    """The globals that a kernel names, and the members of modules among them: (module, name)."""

    names: dict[str, object]
    members: dict[tuple[str, str], object]

    def kernels(self) -> list[Kernel]:
        """The kernels that it names."""
        return [
            value for value in (*self.names.values(), *self.members.values()) if is_kernel(value)
        ]


_scopes: dict[Kernel, Scope] = {}
_ABSENT = object()


def scope_of(function: Kernel) -> Scope:
    """The scope of ``function`` as it was at the first lookup."""
    found = _scopes.get(function)
    return found if found is not None else _scopes.setdefault(function, _look(function))


def forget() -> None:
    """Look again."""
    _scopes.clear()


def _look(function: Kernel) -> Scope:
    names, scope = function.__code__.co_names, function.__globals__
    found = {name: scope[name] for name in names if name in scope}
    members: dict[tuple[str, str], object] = {}
    for home, module in found.items():
        if isinstance(module, ModuleType):
            for name in names:
                value = getattr(module, name, _ABSENT)
                if value is not _ABSENT:
                    members[home, name] = value
    return Scope(found, members)
