"""All single-token mutants of the kernels, generated from their source.

They are not chosen, so they say what the programs and oracles see of a kernel, and not what their
author thought of. Kinds:

    comparison  each comparison by its neighbour (< and <=) and by its opposite (< and >=)
    step        each ``+ 1`` and ``- 1`` the other way round and left out, ``+= 1`` as well
    order       each acquire or release access made relaxed, each fence left out
    statement   each statement left out, its whole body with an ``if`` or a loop
    arguments   two neighbouring arguments of a call swapped, the memory apart
    logic       ``and`` by ``or`` and back, ``not`` left out

A mutant has a name that survives changes elsewhere in its file: module, function, kind, and its
number among those of this kind in the function. ``digest`` tells whether the function is still the
one that it was drawn from.

This file writes and runs nothing (systematic.py).
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import shmalloc
from shmalloc import words as words_module

COMPARISON, STEP, ORDER, STATEMENT, ARGUMENTS, LOGIC = KINDS = (
    "comparison",
    "step",
    "order",
    "statement",
    "arguments",
    "logic",
)
FOLDERS = ("kernels", "structures/kernels")
LOCKS = ("lock", "cpu_lock", "robust")  # modules
DECORATORS = frozenset({"kernel", "hot", "unit", "told_its_caller"})
_OTHERS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
}
_RELAXED = {"load": "load_relaxed", "store": "store_relaxed"}


@dataclass(frozen=True)
class TokenMutant:
    """``file``: from the root of the packages. ``start``, ``end``: characters of its text that
    ``new`` takes the place of. ``line``: the first of them, from 1; ``shown``: its text."""

    module: str
    function: str
    kind: str
    number: int
    file: str
    line: int
    start: int
    end: int
    old: str
    new: str
    digest: str
    shown: str

    @property
    def name(self) -> str:
        return f"{self.module}.{self.function}:{self.kind}:{self.number}"

    def __str__(self) -> str:
        """``FILE:LINE: `<` becomes `<=` in `if a < b:```, on one line."""
        became = f"becomes `{self.new}`" if self.new not in ("", "pass") else "is left out"
        whole = self.old.strip().partition("\n")[0]
        where = "" if whole == self.shown else f" in `{self.shown}`"
        return f"{self.file}:{self.line}: `{whole}` {became}{where}"

    def patched(self, source: str) -> str:
        """A word that the file does not import yet is imported below, where it moves no line."""
        text = source[: self.start] + self.new + source[self.end :]
        if self.new not in _RELAXED.values() or self.new in _imported(source):
            return text
        return f"{text}\nfrom {words_module.__name__} import {self.new}\n"


def all_mutants() -> list[TokenMutant]:
    """Those of all kernels, in the order of files and lines."""
    assert shmalloc.__file__ is not None
    package = Path(shmalloc.__file__).parent
    paths = [path for folder in FOLDERS for path in sorted((package / folder).glob("*.py"))]
    return [one for path in paths for one in mutants_of(path, package.parent)]


def mutants_of(path: Path, root: Path) -> Iterator[TokenMutant]:
    """Those of one file below ``root``."""
    source = path.read_text("utf-8")
    file = path.relative_to(root)
    place = _Place(source, file.as_posix(), ".".join(file.with_suffix("").parts))
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and _is_kernel(node):
            yield from place.of(node)


def _is_kernel(node: ast.FunctionDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id in DECORATORS for mark in node.decorator_list)


def _imported(source: str) -> set[str]:
    statements = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)]
    return {name.asname or name.name for node in statements for name in node.names}


Change = tuple[int, int, str]  # characters from, to, what stands there instead


class _Place:
    """A file whose mutants are made."""

    def __init__(self, source: str, file: str, module: str) -> None:
        self.source, self.file, self.module = source, file, module
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def of(self, function: ast.FunctionDef) -> Iterator[TokenMutant]:
        text = ast.unparse(ast.Module([_bare(function)], []))
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        for kind, changes in _CHANGES.items():
            found = sorted({change for change in changes(self, function) if self._differs(change)})
            for number, (start, end, new) in enumerate(found, 1):
                line = self.source.count("\n", 0, start) + 1
                old = self.source[start:end]
                yield TokenMutant(
                    module=self.module,
                    function=function.name,
                    kind=kind,
                    number=number,
                    file=self.file,
                    line=line,
                    start=start,
                    end=end,
                    old=old,
                    new=new,
                    digest=digest,
                    shown=self.shown(line),
                )

    def shown(self, line: int) -> str:
        return self.source[self._lines[line - 1] : self._lines[line]].strip()

    def _differs(self, change: Change) -> bool:
        return self.source[change[0] : change[1]] != change[2]

    def at(self, line: int, column: int) -> int:
        """The character at a line and a column in bytes, as ``ast`` counts."""
        first = self._lines[line - 1]
        text = self.source[first : self._lines[line]]
        return first + len(text.encode()[:column].decode())

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        start = self.at(node.lineno, node.col_offset)
        return start, self.at(node.end_lineno, node.end_col_offset)

    def text(self, node: ast.expr) -> str:
        start, end = self.span(node)
        return self.source[start:end]

    def between(self, left: ast.expr, right: ast.expr) -> tuple[int, int]:
        """The characters of the operator between two expressions, brackets and spaces apart."""
        start, end = self.span(left)[1], self.span(right)[0]
        text = self.source[start:end]
        while text and text[0] in ") \n":
            text, start = text[1:], start + 1
        while text and text[-1] in "( \n":
            text, end = text[:-1], end - 1
        return start, end


def _bare(function: ast.FunctionDef) -> ast.FunctionDef:
    """Without its docstring: what that says is no part of the function."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return ast.FunctionDef(
        function.name,
        function.args,
        body or [ast.Pass()],
        function.decorator_list,
        lineno=function.lineno,
    )


def _inside(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """What the function does: neither its signature nor annotations nor the docstring."""
    todo: list[ast.AST] = list(_bare(function).body)
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.AnnAssign):
            todo += [node.value] if node.value is not None else []
        else:
            todo += list(ast.iter_child_nodes(node))


# --- the kinds -----------------------------------------------------------------------------------
def _comparisons(place: _Place, function: ast.FunctionDef) -> Iterator[Change]:
    for node in _inside(function):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
                for other in _OTHERS.get(type(op), ()):
                    yield (*place.between(left, right), other)


def _steps(place: _Place, function: ast.FunctionDef) -> Iterator[Change]:
    for node in _inside(function):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            if _is_one(node.right):
                sign = "-" if isinstance(node.op, ast.Add) else "+"
                start, end = place.between(node.left, node.right)
                yield start, end, sign
                yield start, place.span(node.right)[1], ""
            elif _is_one(node.left) and isinstance(node.op, ast.Add):
                yield place.span(node.left)[0], place.between(node.left, node.right)[1], ""
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.Sub):
            if _is_one(node.value):
                sign = "-=" if isinstance(node.op, ast.Add) else "+="
                yield (*place.between(node.target, node.value), sign)


def _is_one(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 1 and node.value is not True


_FENCES = ("fence", "light_fence", "heavy_fence")


def _orders(place: _Place, function: ast.FunctionDef) -> Iterator[Change]:
    for node in _inside(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            start, end = place.span(node.func)
            if node.func.id in _RELAXED:
                yield start, end, _RELAXED[node.func.id]
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            if isinstance(called, ast.Name) and called.id in _FENCES:
                yield (*place.span(node), "pass")


def _statements(place: _Place, function: ast.FunctionDef) -> Iterator[Change]:
    for node in _inside(function):
        if isinstance(node, ast.stmt) and not isinstance(node, ast.Pass | ast.FunctionDef):
            yield (*place.span(node), "pass")


def _arguments(place: _Place, function: ast.FunctionDef) -> Iterator[Change]:
    for node in _inside(function):
        if not isinstance(node, ast.Call) or any(isinstance(a, ast.Starred) for a in node.args):
            continue
        given = [arg for arg in node.args if not (isinstance(arg, ast.Name) and arg.id == "mem")]
        for left, right in pairwise(given):
            (start, middle), (other, end) = place.span(left), place.span(right)
            swapped = place.text(right) + place.source[middle:other] + place.text(left)
            yield start, end, swapped


def _logic(place: _Place, function: ast.FunctionDef) -> Iterator[Change]:
    for node in _inside(function):
        if isinstance(node, ast.BoolOp):
            other = "or" if isinstance(node.op, ast.And) else "and"
            for left, right in pairwise(node.values):
                yield (*place.between(left, right), other)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            start = place.span(node)[0]
            yield start, start + len("not"), ""


_CHANGES: dict[str, Callable[[_Place, ast.FunctionDef], Iterable[Change]]] = {
    COMPARISON: _comparisons,
    STEP: _steps,
    ORDER: _orders,
    STATEMENT: _statements,
    ARGUMENTS: _arguments,
    LOGIC: _logic,
}
