"""How a kernel's arguments and results look in IR.

A kernel takes the fields of a memory in registers, then its numbers as 64-bit integers; it
returns one such integer, 0 if it has no result, or a struct of several.
"""

from __future__ import annotations

from shmalloc.compiler.kinds import Kind, Registers
from shmalloc.compiler.types import Form


def parameters(form: Form, kind: Kind) -> list[str]:
    """The IR parameters of a kernel, typed: the fields of a memory, then its numbers.

    A kernel that takes no memory gets its caller's: it may fault.
    """
    return [*fields_of(kind), *(f"i64 {argument(name)}" for name in form.numbers)]


def argument(name: str) -> str:
    """The IR value of an argument: in quotes, since Python's names may have any letters."""
    return f'%"a.{name}"'


def fields_of(kind: Kind) -> list[str]:
    return [f"{width(name)} %m.{name}" for name in kind.fields]


def width(field: str) -> str:
    """The IR type of a field: all are addresses but the number of words."""
    return "i64" if field == "words" else "ptr"


def passed(kind: Kind, memory: Registers) -> list[str]:
    """A memory as typed IR arguments."""
    return [f"{width(field)} {memory[field]}" for field in kind.fields]


def result_type(form: Form) -> str:
    """The IR type of a kernel's result; 0 if it has none."""
    if isinstance(form.result, int):
        return "{" + ", ".join(["i64"] * form.result) + "}"
    return "i64"
