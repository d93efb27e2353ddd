"""Why a name in a kernel is refused, and the cure, by what the name stands for.

A kernel may name constants, ``NAME`` and ``module.NAME``, and call kernels, words and a few
built-in functions. Any other name is a mistake that its author did not notice: a plain function, a
variable of the module, a list. Each gets its own sentence.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from types import BuiltinFunctionType, FunctionType, ModuleType

from shmalloc.dialect import is_kernel

ABSENT = object()
_WORDS = "keep values in words of memory"


def refusal(written: str, value: object, known: Iterable[str] = ()) -> str:
    """The sentence about ``written``, which stands for ``value`` (``ABSENT``: for nothing).

    ``known``: names that could have been meant.
    """
    if value is ABSENT and hasattr(builtins, written):
        value = getattr(builtins, written)
    if value is ABSENT:
        return f"{written} is not defined; {_meant(written, known) or 'define or import it'}"
    for kind, text in _TEXTS:
        if kind(value):
            return text.format(name=written, upper=written.rpartition(".")[2].upper())
    kind_of = type(value).__name__
    return f"{written} is not an integer but of type {kind_of}; {_WORDS}"


def refusal_of_member(home: str, name: str, module: object, value: object) -> str:
    """The sentence about ``home.name``: what ``home`` stands for, and what its member is."""
    if not isinstance(module, ModuleType):
        return (
            f"{home} is no module; an attribute is allowed only as the UPPER_CASE constant of a"
            f" module, so {_WORDS}"
        )
    if value is not ABSENT:
        return refusal(f"{home}.{name}", value)
    meant = _meant(name, [known for known in vars(module) if not known.startswith("_")])
    return f"{home}.{name} is not defined; {meant or f'define {name} in {module.__name__}'}"


def _meant(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]}?" if close else ""


def _is_builtin(value: object) -> bool:
    return isinstance(value, BuiltinFunctionType) or value in (range, print, input)


_TEXTS: tuple[tuple[Callable[[object], bool], str], ...] = (
    (is_kernel, "{name} can only be called; write {name}(..)"),
    (
        lambda value: isinstance(value, FunctionType),
        "{name} is not a kernel but a plain Python function; decorate it with @kernel",
    ),
    (
        _is_builtin,
        "{name} is not a kernel but a Python function; kernels call kernels, words, min, max, abs,"
        " int and bool",
    ),
    (
        lambda value: isinstance(value, type),
        "{name} is a class, and kernels have only integers; " + _WORDS,
    ),
    (
        lambda value: isinstance(value, ModuleType),
        "{name} is a module; name one of its constants, {name}.NAME",
    ),
    (
        lambda value: isinstance(value, int),
        "{name} is not a constant, because its name is not in capitals; if it never changes call"
        " it {upper}, else " + _WORDS,
    ),
)
