"""From a kernel to its syntax tree: the text that the function was made from, parsed.

The trees of a file are parsed once and kept by (name, first line). Callers get a copy, which they
may change. The text can be newer than the function: a file that was edited after its import would
be compiled to something that this process never ran, so the text is compiled again and compared
with the function's own bytecode.

This file knows nothing of the dialect.
"""

from __future__ import annotations

import ast
import linecache
import marshal
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import TypeVar

from shmalloc.dialect import Kernel
from shmalloc.errors import DialectError

_Key = tuple[str, int]  # name, first line
DEEPEST = 100  # levels of a syntax tree: the compiler's own recursion follows it


@dataclass
class _File:
    """The functions of a file: their trees, and what they compile to."""

    lines: list[str]
    trees: dict[_Key, ast.FunctionDef]
    codes: dict[_Key, CodeType]


_files: dict[str, _File] = {}


def place_of(function: Kernel, line: int) -> str:
    """``FILE:LINE``, the file relative to the working directory if it lies below it."""
    file = readable(function.__code__.co_filename)
    if not file.isprintable():  # a message is one line
        file = file.encode("unicode_escape", "surrogatepass").decode()
    return f"{file}:{line}"


def readable(filename: str) -> str:
    """``filename`` relative to the working directory if it lies below it."""
    try:
        below = os.path.relpath(filename)
    except (OSError, ValueError):  # the working directory is gone
        return filename
    return filename if below.startswith("..") or filename.startswith("<") else below


def tree_of(function: Kernel) -> ast.FunctionDef:
    """A fresh copy of the syntax tree of ``function``, with the line numbers of its file.

    Raises ``DialectError`` if there is no source. ``require_current`` says whether it is that
    of the function.
    """
    found = _file_of(function).trees.get(_key_of(function))
    if found is None:
        raise _changed(function)
    try:
        return copied(found, DEEPEST)
    except _TooDeepError:
        raise DialectError(
            f"{place_of(function, function.__code__.co_firstlineno)}: kernel"
            f" {function.__qualname__}: nested more than {DEEPEST} levels deep, where each operator"
            " and each elif is a level; make parts of it kernels"
        ) from None


class _TooDeepError(Exception):
    """Some node lies too far below the root of a tree."""


Tree = TypeVar("Tree", bound=ast.AST)
_SHARED = frozenset((int, str, bool, type(None), ast.Load, ast.Store))


def copied(tree: Tree, levels: int = 2 * DEEPEST) -> Tree:
    """A copy of a tree of at most so many levels below its root.

    What its nodes hold besides nodes is shared, and so are nodes that hold nothing: ``Load()``.
    """
    if levels < 0:
        raise _TooDeepError
    made = tree.__new__(type(tree))  # not called: its arguments are for the first copy
    parts = made.__dict__
    for name, part in tree.__dict__.items():
        if type(part) is list:
            parts[name] = [
                copied(one, levels - 1) if isinstance(one, ast.AST) and one._attributes else one
                for one in part
            ]
        elif type(part) not in _SHARED and isinstance(part, ast.AST):
            parts[name] = copied(part, levels - 1)
        else:
            parts[name] = part
    return made


def require_current(function: Kernel) -> None:
    """Raise ``DialectError`` if the source is not what ``function`` was compiled from."""
    now = _file_of(function).codes.get(_key_of(function))
    if now is None or _meaning(now) != _meaning(function.__code__):
        raise _changed(function)


def _key_of(function: Kernel) -> _Key:
    return function.__code__.co_name, function.__code__.co_firstlineno


def _changed(function: Kernel) -> DialectError:
    return DialectError(
        f"{place_of(function, function.__code__.co_firstlineno)}: the source of"
        f" {function.__qualname__} changed since it was imported; start a new process"
    )


def _file_of(function: Kernel) -> _File:
    """The file of ``function`` as it is now, read again if it changed."""
    filename = function.__code__.co_filename
    linecache.checkcache(filename)  # a module may be written and imported again
    lines = linecache.getlines(filename, function.__globals__)
    kept = _files.get(filename)
    if kept is not None and (kept.lines is lines or kept.lines == lines):
        return kept
    if not lines:
        raise DialectError(
            f"{place_of(function, function.__code__.co_firstlineno)}: no source of"
            f" {function.__qualname__} was found; put the kernel into a file"
        )
    made = _files[filename] = _read(lines, filename)
    return made


def _read(lines: list[str], filename: str) -> _File:
    text = "".join(lines)
    made = _File(lines, {}, {})
    try:
        whole = ast.parse(text, filename)
        code = compile(text, filename, "exec", dont_inherit=True)
    except SyntaxError:  # it is being edited: no function of it is found
        return made
    for node in statements(whole.body):
        if isinstance(node, ast.FunctionDef):
            first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
            made.trees[node.name, first] = node
    todo = [code]
    while todo:
        inner = [c for c in todo.pop().co_consts if isinstance(c, CodeType)]
        made.codes.update(((c.co_name, c.co_firstlineno), c) for c in inner)
        todo += inner
    return made


def statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Every statement in ``body`` and in the bodies of its statements, in no certain order."""
    todo = list(body)
    while todo:
        node = todo.pop()
        yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            todo += getattr(node, field, ())


def _meaning(code: CodeType) -> tuple[object, ...]:
    """What the code does. Constants as bytes: 1, True and 1.0 are equal."""
    constants = tuple(c for c in code.co_consts if not isinstance(c, CodeType))
    return code.co_code, marshal.dumps(constants, 2), code.co_names, code.co_varnames
