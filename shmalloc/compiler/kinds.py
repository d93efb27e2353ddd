"""Kinds of memory: what the words of a kernel mean to compiled code.

A kernel says ``load(mem, i)``; the kind of ``mem`` says which instructions that is. A compiled
memory is a few 64-bit values, its *fields*, which every function over it takes in registers before
its ints. A meaning is one of two things:

    an emitter    Python that writes LLVM IR: ``emit(code, memory, arguments) -> value``
    a kernel      called with the memory and the arguments, as if the kernel had been written

``getitem`` and ``setitem`` are the meanings of ``mem[i]`` and ``mem[i] = v``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shmalloc.dialect import Kernel

if TYPE_CHECKING:
    from shmalloc.compiler.code import Code

Registers = Mapping[str, str]  # field -> name of the IR value that holds it
Emitter = Callable[["Code", Registers, list[str]], Any]  # int value, pair of them, or None
Meaning = Emitter | Kernel


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of memory. ``fault(code, memory, what, index)`` writes the end of a faulty access.

    ``files``: sources outside of the compiler that its code depends on; the key of an image covers
    them (digest.py).
    """

    name: str
    fields: tuple[str, ...]
    meanings: dict[str, Meaning]
    fault: Callable[[Code, Registers, int, str], None]
    memories: dict[str, Kind] = field(default_factory=dict)  # primitives that give a memory
    files: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Kind({self.name})"


def _no_code(code: Code, memory: Registers, what: int, index: str) -> None:
    raise AssertionError("nothing is compiled over the kind ANY")


ANY = Kind("any", (), {}, _no_code)  # for what holds over every kind: the types of a kernel
