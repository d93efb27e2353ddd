"""The types of a kernel's expressions, over one kind of memory: the input of its code.

Values are 64-bit integers; a type says what they are in Python:

    "int"     any value          "bool"   0 or 1 that Python sees as False or True
    "none"    no value           n >= 2   a tuple of n ints
    a kind    a memory of that kind (kinds.py): the first argument of most kernels

A variable that holds ints and bools is an int. ``analyse(function, kind)`` gives the ``Form`` of a
kernel: a resolved tree of its own in which every expression has its ``type``. It refuses
expressions that no type fits, and recursion: the stacks of virtual CPUs are small, and a bound on
the depth of calls is worth more to a kernel than recursion.
"""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from shmalloc.compiler import source
from shmalloc.compiler.check import outline
from shmalloc.compiler.kinds import ANY, Kind
from shmalloc.dialect import Kernel, is_kernel, is_primitive
from shmalloc.errors import DialectError

Type = str | int | Kind
WORD_TYPES: dict[str, Type] = {
    "load": "int", "load_relaxed": "int", "store": "none", "store_relaxed": "none", "cas": "bool",
    "exchange": "int", "fetch_add": "int", "fetch_or": "int", "fetch_and": "int", "cas2": "bool",
    "load2": 2, "fence": "none", "light_fence": "none", "heavy_fence": "none", "relax": "none",
    "give_way": "none", "wait": "none", "wake": "none", "notice": "none", "fixed": "int",
    "mark": "none", "now": "int", "expect": "none",
}  # fmt: skip
NUMBERS = ("int", "bool")


@dataclass(eq=False)
class Form:
    """A kernel over one kind of memory, checked and typed."""

    function: Kernel
    kind: Kind | None  # of its first argument; None: it takes no memory
    tree: ast.FunctionDef
    params: tuple[str, ...]
    variables: dict[str, Type]
    result: Type
    stops: bool = False  # at a breakpoint(), here or in what it calls: interpreted only

    @property
    def takes_memory(self) -> bool:
        return self.kind is not None

    @property
    def numbers(self) -> tuple[str, ...]:
        """The arguments after the memory."""
        return self.params[1:] if self.takes_memory else self.params

    @cached_property
    def weight(self) -> int:
        """How much there is to compile, in nodes of the syntax tree."""
        return sum(1 for _ in ast.walk(self.tree))


_forms: dict[tuple[Kernel, Kind | None], Form] = {}


class _UnderWay(threading.local):
    """What this thread is analysing, callers first."""

    def __init__(self) -> None:
        self.functions: list[Kernel] = []


_here = _UnderWay()


def analyse(function: Kernel, kind: Kind | None) -> Form:
    """The form of ``function`` whose first argument is a memory of ``kind`` (None: it has none).

    Raises ``DialectError`` for anything that is not in the dialect, here or in its callees.
    """
    form = _forms.get((function, kind))
    if form is None:
        under_way = _here.functions
        under_way.append(function)
        try:
            form = _forms[function, kind] = _Typer(function, kind).form()
        except RecursionError:
            place = source.place_of(function, function.__code__.co_firstlineno)
            raise DialectError(
                f"{place}: kernel {function.__qualname__}: calls nest too deeply; flatten them"
            ) from None
        finally:
            under_way.pop()
    return form


def forget() -> None:
    """Forget all forms."""
    _forms.clear()


class _Typer:
    def __init__(self, function: Kernel, kind: Kind | None) -> None:
        read = outline(function)
        read.require()
        self.function, self.kind = function, kind
        self.tree = source.copied(read.tree)
        self.params = read.params
        self.variables: dict[str, Type] = dict.fromkeys(read.params, "int")
        if kind is not None:
            if not read.params:
                raise self._refused(self.tree, "takes no memory; its first argument is one")
            self.variables[read.params[0]] = kind
        self.results: list[tuple[ast.Return, Type]] = []
        self.stops = False
        self._again = False  # whether a type has changed that was used already
        self._guessed: set[str] = set()  # names that were read before a statement gave them a type

    def _refused(self, node: ast.AST, text: str) -> DialectError:
        place = source.place_of(self.function, getattr(node, "lineno", self.tree.lineno))
        return DialectError(f"{place}: kernel {self.function.__qualname__}: {text}")

    def form(self) -> Form:
        """Types flow forward, and a variable only ever widens from bool to int.

        So one walk is enough, unless a use came before a type: a loop jumps back, or the variable
        widened behind it.
        """
        self._again = True
        while self._again:
            self._again = False
            self.results.clear()
            self._block(self.tree.body)
        result = self._result()
        return Form(
            self.function, self.kind, self.tree, self.params, self.variables, result, self.stops
        )

    def _result(self) -> Type:
        types = [found for node, found in self.results]
        if not types:
            return "none"
        if all(found == "bool" for found in types):
            return "bool"
        tuples = {found for found in types if isinstance(found, int)}
        if tuples and (len(tuples) > 1 or len(types) != sum(isinstance(t, int) for t in types)):
            raise self._refused(self.results[0][0], "returns different numbers of results")
        return tuples.pop() if tuples else "int"

    # --- statements ------------------------------------------------------------------------------
    def _block(self, body: list[ast.stmt]) -> None:
        for node in body:
            visit: Callable[[Any], None] | None = getattr(self, f"_do_{type(node).__name__}", None)
            if visit is not None:
                visit(node)

    def _do_Expr(self, node: ast.Expr) -> None:
        self._of(node.value)

    def _do_Assign(self, node: ast.Assign) -> None:
        given = self._of(node.value)
        for target in node.targets:
            if isinstance(target, ast.Tuple):
                self._unpack(target, given, node)
            elif isinstance(target, ast.Subscript):
                self._memory(target)
                self._require_number(given, node.value)
            else:
                assert isinstance(target, ast.Name)
                self._bind(target, given, node.value)

    def _unpack(self, target: ast.Tuple, given: Type, node: ast.Assign) -> None:
        if given != len(target.elts):
            raise self._refused(node, f"{ast.unparse(target)} = .. unpacks {_said(given)}")
        for part in target.elts:
            assert isinstance(part, ast.Name)
            self._bind(part, "int", node.value)

    def _bind(self, target: ast.Name, given: Type, value: ast.expr) -> None:
        if given == "none" or isinstance(given, int):
            raise self._refused(value, f"{ast.unparse(value)} gives {_said(given)}, not a number")
        known = self.variables.get(target.id)
        if self.kind is not None and target.id == self.params[0]:
            text = f"{target.id} is the memory that the kernel was given; use another name"
            raise self._refused(value, text)
        if known is None or known == given:
            self.variables[target.id] = given
            self._again |= known is None and target.id in self._guessed
        elif isinstance(known, Kind) or isinstance(given, Kind):
            raise self._refused(value, f"{target.id} is a memory here and something else elsewhere")
        else:
            self.variables[target.id] = "int"
            self._again |= known != "int"
        target.type = self.variables[target.id]  # type: ignore[attr-defined]

    def _do_AugAssign(self, node: ast.AugAssign) -> None:
        self._number(node.value)
        if isinstance(node.target, ast.Subscript):
            self._memory(node.target)
        else:
            assert isinstance(node.target, ast.Name)
            self._bind(node.target, "int", node.value)

    def _do_Return(self, node: ast.Return) -> None:
        if isinstance(node.value, ast.Tuple):
            for part in node.value.elts:
                self._number(part)
            node.value.type = len(node.value.elts)  # type: ignore[attr-defined]
            self.results.append((node, len(node.value.elts)))
        elif node.value is not None:
            found = self._of(node.value)
            if found == "none" or isinstance(found, Kind):
                text = f"{ast.unparse(node.value)} gives {_said(found)}; return a number"
                raise self._refused(node, text)
            self.results.append((node, found))

    def _do_If(self, node: ast.If) -> None:
        self._number(node.test)
        self._block(node.body)
        self._block(node.orelse)

    def _do_While(self, node: ast.While) -> None:
        self._number(node.test)
        self._block(node.body)

    def _do_For(self, node: ast.For) -> None:
        assert isinstance(node.target, ast.Name) and isinstance(node.iter, ast.Call)
        for part in node.iter.args:
            self._number(part)
        self._bind(node.target, "int", node.iter)
        self._block(node.body)

    # --- expressions -----------------------------------------------------------------------------
    def _number(self, node: ast.expr) -> Type:
        found = self._of(node)
        self._require_number(found, node)
        return found

    def _require_number(self, found: Type, node: ast.expr) -> None:
        if found not in NUMBERS:
            raise self._refused(node, f"{ast.unparse(node)} is {_said(found)}, not a number")

    def _of(self, node: ast.expr) -> Type:
        visit: Callable[[Any], Type] = getattr(self, f"_on_{type(node).__name__}")
        found = visit(node)
        node.type = found  # type: ignore[attr-defined]
        return found

    def _on_Constant(self, node: ast.Constant) -> Type:
        return "bool" if isinstance(node.value, bool) else "int"

    def _on_Name(self, node: ast.Name) -> Type:
        known = self.variables.get(node.id)
        if known is None:
            self._guessed.add(node.id)
        return known or "bool"  # an unknown one can only widen

    def _on_BinOp(self, node: ast.BinOp) -> Type:
        left, right = self._number(node.left), self._number(node.right)
        bits = isinstance(node.op, ast.BitAnd | ast.BitOr | ast.BitXor)
        return "bool" if bits and left == right == "bool" else "int"

    def _on_UnaryOp(self, node: ast.UnaryOp) -> Type:
        self._number(node.operand)
        return "bool" if isinstance(node.op, ast.Not) else "int"

    def _on_Compare(self, node: ast.Compare) -> Type:
        for part in (node.left, *node.comparators):
            self._number(part)
        return "bool"

    def _on_BoolOp(self, node: ast.BoolOp) -> Type:
        types = {self._number(part) for part in node.values}
        return "bool" if types == {"bool"} else "int"

    def _on_IfExp(self, node: ast.IfExp) -> Type:
        self._number(node.test)
        types = {self._number(node.body), self._number(node.orelse)}
        return "bool" if types == {"bool"} else "int"

    def _on_Subscript(self, node: ast.Subscript) -> Type:
        self._memory(node)
        return "int"

    def _memory(self, node: ast.Subscript) -> None:
        """``node`` is a word of a memory."""
        found = self._of(node.value)
        if not isinstance(found, Kind):
            raise self._refused(node, f"{ast.unparse(node.value)} is no memory; words are mem[i]")
        self._number(node.slice)

    def _require_no_ring(self, callee: Kernel, node: ast.Call) -> None:
        under_way = _here.functions
        if callee in under_way:
            ring = [f.__name__ for f in under_way[under_way.index(callee) :]]
            told = " -> ".join([*ring, callee.__name__])
            raise self._refused(node, f"recursion is not allowed ({told}); use a loop")

    def _on_Call(self, node: ast.Call) -> Type:
        callee = node.callee  # type: ignore[attr-defined]
        if isinstance(callee, str):
            return self._builtin(callee, node)
        first = self._of(node.args[0]) if node.args else None
        home = first if isinstance(first, Kind) else None
        for part in node.args[1:] if home else node.args:
            self._number(part)
        if is_kernel(callee):
            self._require_no_ring(callee, node)
            form = analyse(callee, home)
            if form.stops:
                self._stop(node)
            return form.result
        if home is None:
            raise self._refused(node, f"{callee.__name__} takes a memory first")
        if not is_primitive(callee):
            return WORD_TYPES[callee.__name__]
        gives: str = callee.__primitive__
        if gives != "memory":
            return gives
        return home.memories[callee.__name__]

    def _builtin(self, name: str, node: ast.Call) -> Type:
        types = {self._number(part) for part in node.args}
        if name == "breakpoint":
            self._stop(node)
            return "none"
        if name == "bool":
            return "bool"
        return "bool" if name in ("min", "max") and types == {"bool"} else "int"

    def _stop(self, node: ast.Call) -> None:
        """``node`` is a breakpoint(), or reaches one. Without a memory, the caller decides."""
        if self.kind not in (ANY, None):
            raise self._refused(node, "breakpoint() cannot be compiled; use engine='interpreted'")
        self.stops = True


def _said(found: Type) -> str:
    if isinstance(found, Kind):
        return "a memory"
    if isinstance(found, int):
        return f"{found} results"
    return {"none": "no value"}.get(found, "a number")
