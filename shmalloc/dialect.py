"""``@kernel``: marks a function as a kernel, and the rules that a kernel's source keeps.

The decorator returns the function itself, undecorated: it stays a plain Python function that any
memory can run, and an engine may compile. The rules exist because interpreter and compiler differ
silently outside of them (docs/decisions/0003-kernel-dialect.md):

- integers only: no ``/``, ``**``, floats, strings, containers; one tuple, ``a, b = load2(...)``
- no exceptions, closures, comprehensions, default or keyword arguments; a kernel that touches
  memory takes ``mem`` first
- globals are other kernels, words, or UPPER_CASE int constants (the compiler freezes them)
- a local is assigned on every path before it is read (compiled code reads garbage there)
- a kernel returns a value on every path or on none

``violations(function)`` returns what a kernel breaks; a test runs it over every kernel.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Collection, Iterator
from types import FunctionType
from typing import Any, TypeGuard

from shmalloc import words as _words

KERNELS: dict[str, FunctionType] = {}
_BUILTINS = frozenset({"range", "min", "max", "abs", "bool", "int"})
_FORBIDDEN = (
    ast.Try, ast.Raise, ast.Lambda, ast.With, ast.Yield, ast.YieldFrom, ast.Await, ast.Global,
    ast.Nonlocal, ast.ClassDef, ast.AsyncFunctionDef, ast.ListComp, ast.SetComp, ast.DictComp,
    ast.GeneratorExp, ast.List, ast.Dict, ast.Set, ast.JoinedStr, ast.Starred, ast.NamedExpr,
    ast.Delete, ast.Import, ast.ImportFrom, ast.Assert, ast.Match, ast.Attribute, ast.Slice,
)  # fmt: skip


def kernel(function: Callable[..., Any]) -> FunctionType:
    """Register ``function`` as a kernel and return it unchanged."""
    assert isinstance(function, FunctionType), "a kernel is a plain Python function"
    KERNELS[f"{function.__module__}.{function.__qualname__}"] = function
    function.__kernel__ = True  # type: ignore[attr-defined]
    return function


def hot(function: Callable[..., Any]) -> FunctionType:
    """``@kernel`` for a path that is counted in nanoseconds: compiled code always inlines it."""
    made = kernel(function)
    made.__hot__ = True  # type: ignore[attr-defined]
    return made


def unit(function: Callable[..., Any]) -> FunctionType:
    """``@kernel`` that is compiled once, alone, and called through its address.

    For the slow half of an operation: whoever calls it is compiled without it. Costs some
    nanoseconds a call. Takes ``mem`` first; may not reach itself.
    """
    made = kernel(function)
    made.__unit__ = True  # type: ignore[attr-defined]
    return made


def is_kernel(value: object) -> TypeGuard[FunctionType]:
    return isinstance(value, FunctionType) and getattr(value, "__kernel__", False)


def is_unit(function: FunctionType) -> bool:
    return getattr(function, "__unit__", False)


def callees(function: FunctionType) -> list[FunctionType]:
    """The kernels that ``function`` names, in order."""
    values = (function.__globals__.get(name) for name in function.__code__.co_names)
    return [value for value in values if is_kernel(value)]


def closure_of(function: FunctionType, through_units: bool = True) -> list[FunctionType]:
    """``function`` and every kernel it can reach, in a stable order.

    Without ``through_units`` the walk ends at units (which are in the answer): what is compiled
    together with ``function``, and the units it calls.
    """
    found: dict[FunctionType, None] = {}
    todo = [function]
    while todo:
        current = todo.pop()
        if current not in found:
            found[current] = None
            if through_units or current is function or not is_unit(current):
                todo.extend(callees(current))
    return sorted(found, key=lambda f: (f.__module__, f.__qualname__))


def violations(
    function: FunctionType, words: Collection[object] = frozenset(_words.WORDS)
) -> list[str]:
    """What ``function`` breaks of the kernel dialect, one sentence each with its line.

    ``words``: what it may call besides kernels. A function typed at a prompt has no source to look
    at and passes.
    """
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except OSError:
        return []
    tree = ast.parse(source).body[0]
    assert isinstance(tree, ast.FunctionDef)
    tree.decorator_list = []
    first_line = function.__code__.co_firstlineno
    checks = (_signature, _syntax, _returns, _assignments)
    found = [finding for check in checks for finding in check(tree, function)]
    found += _names(tree, function, words)
    return [f"{function.__qualname__} line {first_line + line - 1}: {text}" for line, text in found]


Finding = tuple[int, str]
Assigned = set[str] | None  # None: control does not get there


def _signature(tree: ast.FunctionDef, function: FunctionType) -> Iterator[Finding]:
    arguments = tree.args
    if arguments.defaults or arguments.kwonlyargs or arguments.vararg or arguments.kwarg:
        yield tree.lineno, "default, keyword and starred arguments are not allowed"
    if function.__closure__:
        yield tree.lineno, "a kernel may not be a closure"


def _syntax(tree: ast.FunctionDef, function: FunctionType) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, _FORBIDDEN):
            yield node.lineno, f"{type(node).__name__} is not allowed in a kernel"
        elif isinstance(node, ast.FunctionDef) and node is not tree:
            yield node.lineno, "nested functions are not allowed"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.Pow | ast.MatMult):
            yield node.lineno, "use // and shifts: / and ** leave the integers"
        elif isinstance(node, ast.Constant) and not isinstance(node.value, int | type(None)):
            if not _is_docstring(tree, node):
                yield node.lineno, f"constant {node.value!r} is not an integer"
        elif isinstance(node, ast.Tuple) and not _unpacks_load2(tree, node):
            yield node.lineno, "tuples are allowed only in: a, b = load2(mem, i)"
        elif isinstance(node, ast.Call) and node.keywords:
            yield node.lineno, "keyword arguments are not allowed"


def _is_docstring(tree: ast.FunctionDef, node: ast.Constant) -> bool:
    first = tree.body[0]
    return isinstance(first, ast.Expr) and first.value is node


def _unpacks_load2(tree: ast.FunctionDef, node: ast.Tuple) -> bool:
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Assign) and node in statement.targets:
            call = statement.value
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                return call.func.id == "load2" and len(node.elts) == 2
    return False


def _names(
    tree: ast.FunctionDef, function: FunctionType, words: Collection[object]
) -> Iterator[Finding]:
    local = set(function.__code__.co_varnames)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name) or node.id in local or node.id in _BUILTINS:
            continue
        value = function.__globals__.get(node.id)
        if is_kernel(value) or (isinstance(value, FunctionType) and value in words):
            continue
        if not (node.id.isupper() and isinstance(value, int)):
            yield node.lineno, f"{node.id} is not a kernel, a word or an UPPER_CASE int constant"


def _returns(tree: ast.FunctionDef, function: FunctionType) -> Iterator[Finding]:
    valued = {r.value is not None for r in ast.walk(tree) if isinstance(r, ast.Return)}
    if valued == {True, False}:
        yield tree.lineno, "returns a value on some paths and nothing on others"
    elif valued == {True} and not _always_leaves(tree.body):
        yield tree.lineno, "can fall off its end although it returns a value elsewhere"


def _always_leaves(body: list[ast.stmt]) -> bool:
    """Whether control cannot fall out of ``body``'s end."""
    last = body[-1]
    if isinstance(last, ast.Return):
        return True
    if isinstance(last, ast.If):
        return bool(last.orelse) and _always_leaves(last.body) and _always_leaves(last.orelse)
    if isinstance(last, ast.While) and isinstance(last.test, ast.Constant) and last.test.value:
        return not any(isinstance(node, ast.Break) for node in ast.walk(last))
    return False


def _assignments(tree: ast.FunctionDef, function: FunctionType) -> Iterator[Finding]:
    assigned = {argument.arg for argument in tree.args.args}
    local = set(function.__code__.co_varnames)
    yield from _Flow(local).block(tree.body, assigned)[1]


class _Flow:
    """Definite assignment: which locals are assigned on every path that reaches a statement."""

    def __init__(self, local: set[str]) -> None:
        self.local = local

    def block(self, body: list[ast.stmt], assigned: set[str]) -> tuple[Assigned, list[Finding]]:
        """The names assigned after ``body`` (None if it never ends) and what it read too early."""
        found: list[Finding] = []
        current: set[str] | None = set(assigned)
        for statement in body:
            if current is None:
                break
            current = self._statement(statement, current, found)
        return current, found

    def _statement(self, node: ast.stmt, assigned: set[str], found: list[Finding]) -> Assigned:
        if isinstance(node, ast.If):
            self._reads(node.test, assigned, found)
            return self._join(node.body, node.orelse, assigned, found)
        if isinstance(node, ast.While | ast.For):
            return self._loop(node, assigned, found)
        self._reads(node, assigned, found)
        if isinstance(node, ast.Return | ast.Break | ast.Continue):
            return None
        names = (n for n in ast.walk(node) if isinstance(n, ast.Name))
        return assigned | {name.id for name in names if isinstance(name.ctx, ast.Store)}

    def _join(
        self, left: list[ast.stmt], right: list[ast.stmt], assigned: set[str], found: list[Finding]
    ) -> Assigned:
        first, early = self.block(left, assigned)
        found.extend(early)
        second, early = self.block(right, assigned)
        found.extend(early)
        if first is None:
            return second
        return first if second is None else first & second

    def _loop(
        self, node: ast.While | ast.For, assigned: set[str], found: list[Finding]
    ) -> set[str]:
        inside = set(assigned)
        if isinstance(node, ast.For):
            self._reads(node.iter, assigned, found)
            inside |= {n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)}
        else:
            self._reads(node.test, assigned, found)
        found.extend(self.block(node.body, inside)[1])
        return assigned

    def _reads(self, node: ast.AST, assigned: set[str], found: list[Finding]) -> None:
        for name in ast.walk(node):
            if not isinstance(name, ast.Name) or not isinstance(name.ctx, ast.Load):
                continue
            if name.id in self.local and name.id not in assigned:
                found.append((name.lineno, f"{name.id} may be read before it is assigned"))
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            if node.target.id not in assigned:
                found.append((node.lineno, f"{node.target.id} may be read before it is assigned"))
