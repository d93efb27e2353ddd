"""``Instance``: a kernel over a kind of memory, which is one function of an image.

In a file of its own because a process that only loads an image also names instances, and needs no
front end for that: ``form`` imports it to compile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from shmalloc.compiler.kinds import Kind
from shmalloc.dialect import Kernel

if TYPE_CHECKING:
    from shmalloc.compiler.types import Form


class Instance(NamedTuple):
    """A kernel over a kind of memory, which it takes as its first argument or only passes on."""

    function: Any  # Kernel: a checker would take it for a method
    kind: Kind
    takes_memory: bool

    @property
    def form(self) -> Form:
        from shmalloc.compiler.types import analyse

        return analyse(self.function, self.kind if self.takes_memory else None)


def order_of(instance: Instance) -> tuple[object, ...]:
    """Instances sorted by it are in the same order in every process."""
    function = instance.function
    place = function.__module__, function.__qualname__, function.__code__.co_firstlineno
    return (instance.kind.name, *place, instance.takes_memory)


def symbol_of(function: Kernel, kind: Kind, takes_memory: bool = True) -> str:
    """The name of an instance in an image: "module:kernel", with its kind if that is not Ram.

    gdb would read a dot before the kernel's name as one of its own.
    """
    prefix = "" if kind.name == "ram" else f"{kind.name}/"
    suffix = "" if takes_memory else "/pure"
    return f"{prefix}{function.__module__}:{function.__qualname__}{suffix}"
