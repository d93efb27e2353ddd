"""The rules of the kernel dialect, and the names of a kernel resolved.

``outline(function)`` reads a kernel once. In its tree constants replace their names, every call
says what it calls (``callee``), and the rules that the kernel breaks are a list of findings, each
with its line and a cure. types.py handles types.

    statements    x = .., a, b = two_results(..), mem[i] = .., x += .., mem[i] += .., a call alone,
                  if, while, for over range(..), break, continue, return, pass
    expressions   int and bool constants, names, + - * // % << >> & | ^, - + ~ not, comparisons in
                  chains, and, or, .. if .. else .., mem[i], calls
    calls         words, kernels, primitives of an engine, min, max, abs, int, bool
    names         locals, arguments, UPPER_CASE int constants of this module or of another
                  (``c.NAME``), which are frozen when the kernel is compiled

A local is assigned on every path to its first read, and a kernel returns a value on every path
or on none: compiled code would read garbage otherwise.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from types import FunctionType
from typing import Any

from shmalloc import words as words_module
from shmalloc.compiler import caller, flow, refusals, refused_names, source
from shmalloc.compiler.integers import INT_MAX, INT_MIN
from shmalloc.compiler.outline import Outline
from shmalloc.compiler.refusals import (
    EXPRESSIONS,
    OPERATORS,
    REFUSED,
    STATEMENTS,
    refusal_of,
    refusal_of_constant,
)
from shmalloc.compiler.refused_names import ABSENT
from shmalloc.compiler.scope import scope_of
from shmalloc.dialect import Kernel, is_kernel, is_primitive, is_told
from shmalloc.errors import DialectError

WORDS: frozenset[object] = frozenset(words_module.WORDS)
BUILTINS: dict[str, tuple[int, int]] = {  # name -> least and most arguments
    "min": (2, 99),
    "max": (2, 99),
    "abs": (1, 1),
    "int": (1, 1),
    "bool": (1, 1),
    "range": (1, 3),
    "breakpoint": (0, 0),  # interpreted only
}

_outlines: dict[Kernel, Outline] = {}


def outline(function: Kernel) -> Outline:
    """The outline of ``function``, made once. Raises ``DialectError`` if it has no source."""
    made = _outlines.get(function)
    if made is None:
        made = _outlines[function] = _Reader(function).outline
    return made


def forget() -> None:
    """Forget all outlines."""
    _outlines.clear()


def violations(function: Kernel) -> list[str]:
    """What ``function`` breaks of the kernel dialect, one sentence each with its place."""
    try:
        return outline(function).sentences()
    except DialectError as error:
        return [str(error)]


class _Reader(ast.NodeTransformer):
    """Walks a kernel's tree, checks each node and replaces constants by their values."""

    def __init__(self, function: Kernel) -> None:
        _require_def(function)
        tree = source.tree_of(function)
        tree.args.args[:0], tree.args.posonlyargs = tree.args.posonlyargs, []
        code = function.__code__
        self.outline = Outline(
            function, tree, tuple(a.arg for a in tree.args.args), tuple(code.co_varnames)
        )
        self._names = frozenset(code.co_varnames)
        self._scope = scope_of(function)
        self._check_signature(tree)
        if tree.body and _is_docstring(tree.body[0]):
            del tree.body[0]
        tree.body = [self._statement(node) for node in tree.body] or [ast.Pass(lineno=tree.lineno)]
        if not self.outline.findings:
            self.outline.findings += flow.findings(tree, self.outline.locals)
        if not self.outline.findings:
            source.require_current(function)

    def _refuse(self, node: ast.AST, text: str) -> None:
        line = getattr(node, "lineno", self.outline.tree.lineno)
        self.outline.findings.append((line, text))

    def _check_signature(self, tree: ast.FunctionDef) -> None:
        arguments = tree.args
        defaults = len(arguments.defaults) - is_told(self.outline.function)
        if defaults or arguments.kwonlyargs or arguments.vararg or arguments.kwarg:
            self._refuse(tree, refusals.ARGUMENTS)
        if self.outline.function.__closure__:
            self._refuse(tree, refusals.CLOSURE)

    # --- statements ------------------------------------------------------------------------------
    def _statement(self, node: ast.stmt) -> ast.stmt:
        if not isinstance(node, STATEMENTS):
            self._refuse(node, refusal_of(node))
            return ast.copy_location(ast.Pass(), node)
        visit: Callable[[Any], None] = getattr(self, f"_do_{type(node).__name__}")
        visit(node)
        if isinstance(node, ast.AnnAssign):
            assert node.value is not None
            made = ast.Assign(targets=[node.target], value=node.value, lineno=node.lineno)
            return ast.copy_location(made, node)
        return node

    def _block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        return [self._statement(node) for node in body]

    def _do_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value = ast.copy_location(ast.Constant(0), node)  # a comment in quotes
        else:
            node.value = self._value(node.value)

    def _do_Pass(self, node: ast.Pass) -> None:
        pass

    _do_Break = _do_Continue = _do_Pass

    def _do_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.value, ast.Tuple):
            self._refuse(node, REFUSED[ast.Tuple])
            return
        node.value = self._value(node.value)
        for target in node.targets:
            self._target(target, node)

    def _target(self, target: ast.expr, node: ast.Assign) -> None:
        if isinstance(target, ast.Tuple):
            plain = all(isinstance(part, ast.Name) for part in target.elts)
            if not plain or len(node.targets) > 1 or not isinstance(node.value, ast.Call):
                self._refuse(node, REFUSED[ast.Tuple])
        elif isinstance(target, ast.Subscript):
            self._word(target)
        elif not isinstance(target, ast.Name):
            self._refuse(node, refusal_of(target))

    def _do_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is None:
            self._refuse(node, "a declaration without a value is not allowed; assign one")
            node.value = ast.copy_location(ast.Constant(0), node)
        node.value = self._value(node.value)
        if not isinstance(node.target, ast.Name):
            self._refuse(node, "only a plain name may be annotated; leave the annotation out")

    def _do_AugAssign(self, node: ast.AugAssign) -> None:
        self._operator(node)
        if isinstance(node.target, ast.Subscript):
            self._word(node.target)
        elif not isinstance(node.target, ast.Name):
            self._refuse(node, refusal_of(node.target))
        node.value = self._value(node.value)
        self._check_shift(node, node.value)

    def _do_Return(self, node: ast.Return) -> None:
        if isinstance(node.value, ast.Tuple):
            node.value.elts = [self._value(part) for part in node.value.elts]
            if len(node.value.elts) < 2:
                self._refuse(node, "a tuple of results has at least two; return the value itself")
        elif isinstance(node.value, ast.Constant) and node.value.value is None:
            node.value = None
        elif node.value is not None:
            node.value = self._value(node.value)

    def _do_If(self, node: ast.If) -> None:
        node.test = self._value(node.test)
        node.body, node.orelse = self._block(node.body), self._block(node.orelse)

    def _do_While(self, node: ast.While) -> None:
        if node.orelse:
            self._refuse(node, "else of a loop is not allowed; use a variable")
        node.test = self._value(node.test)
        node.body = self._block(node.body)
        if flow.is_stuck(node):
            self._refuse(node, refusals.STUCK)

    def _do_For(self, node: ast.For) -> None:
        if node.orelse:
            self._refuse(node, "else of a loop is not allowed; use a variable")
        if not isinstance(node.target, ast.Name):
            self._refuse(node, "the variable of a for loop is one name; assign others inside")
        if not (isinstance(node.iter, ast.Call) and self._builtin(node.iter.func) == "range"):
            self._refuse(node, refusals.ITERABLE)
        else:
            node.iter.callee = "range"  # type: ignore[attr-defined]
            self._arguments(node.iter)
            step = node.iter.args[2] if len(node.iter.args) == 3 else None
            if isinstance(step, ast.Constant) and step.value == 0:
                self._refuse(node, "a range with step 0 has no meaning; use another step")
        node.body = self._block(node.body)

    # --- expressions -----------------------------------------------------------------------------
    def _value(self, node: ast.expr) -> ast.expr:
        """``node`` checked, with constants in place of the names that stand for them."""
        if not isinstance(node, EXPRESSIONS):
            self._refuse(node, refusal_of(node))
            return ast.copy_location(ast.Constant(0), node)
        visit: Callable[[Any], ast.expr] = getattr(self, f"_on_{type(node).__name__}")
        return visit(node)

    def _on_Constant(self, node: ast.Constant) -> ast.expr:
        return self._constant(node, node.value)

    def _constant(self, node: ast.expr, value: object) -> ast.expr:
        if isinstance(value, int) and INT_MIN <= value <= INT_MAX:
            plain = value if isinstance(value, bool) else int.__pos__(value)
            return ast.copy_location(ast.Constant(plain), node)
        self._refuse(node, refusal_of_constant(value))
        return ast.copy_location(ast.Constant(0), node)

    def _on_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self._names:
            return node
        value = self._global(node.id)
        if node.id.isupper() and isinstance(value, int):
            return self._constant(node, value)
        if _is_word(value):
            self._refuse(node, f"{node.id} can only be called; write {node.id}(..)")
        else:
            self._refuse(node, refused_names.refusal(node.id, value, self._known()))
        return ast.copy_location(ast.Constant(0), node)

    def _global(self, name: str) -> object:
        return self._scope.names.get(name, ABSENT)

    def _known(self) -> list[str]:
        """The names that a misspelt one may stand for."""
        return [*self._names, *self.outline.function.__globals__]

    def _on_Attribute(self, node: ast.Attribute) -> ast.expr:
        value = self._member(node)
        if node.attr.isupper() and isinstance(value, int):
            return self._constant(node, value)
        self._refuse(node, self._refusal_of_member(node))
        return ast.copy_location(ast.Constant(0), node)

    def _member(self, node: ast.Attribute) -> object:
        """What ``module.name`` is, ``ABSENT`` if it is nothing."""
        if isinstance(node.value, ast.Name) and node.value.id not in self._names:
            return self._scope.members.get((node.value.id, node.attr), ABSENT)
        return ABSENT

    def _refusal_of_member(self, node: ast.Attribute) -> str:
        if isinstance(node.value, ast.Name) and node.value.id not in self._names:
            home = node.value.id
            value = self._global(home)
            if value is ABSENT:
                return refused_names.refusal(home, ABSENT, self._known())
            return refused_names.refusal_of_member(home, node.attr, value, self._member(node))
        return REFUSED[ast.Attribute]

    def _operator(self, node: ast.BinOp | ast.AugAssign) -> None:
        if not isinstance(node.op, OPERATORS):
            self._refuse(node, "/, ** and @ leave the integers; use // and shifts")

    def _on_BinOp(self, node: ast.BinOp) -> ast.expr:
        self._operator(node)
        node.left, node.right = self._value(node.left), self._value(node.right)
        self._check_shift(node, node.right)
        return node

    def _check_shift(self, node: ast.BinOp | ast.AugAssign, count: ast.expr) -> None:
        if isinstance(node.op, ast.LShift | ast.RShift) and isinstance(count, ast.Constant):
            if not 0 <= int(count.value) <= 63:  # type: ignore[arg-type]
                self._refuse(node, f"a shift by {count.value!r} bits; use 0 to 63")

    def _on_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        operand = node.operand
        if isinstance(node.op, ast.USub) and isinstance(operand, ast.Constant):
            if type(operand.value) is int:
                return self._constant(node, -operand.value)
        node.operand = self._value(operand)
        return node

    def _on_Compare(self, node: ast.Compare) -> ast.expr:
        for operator in node.ops:
            if isinstance(operator, ast.In | ast.NotIn | ast.Is | ast.IsNot):
                self._refuse(node, "in and is are not allowed; compare with == and !=")
        node.left = self._value(node.left)
        node.comparators = [self._value(part) for part in node.comparators]
        return node

    def _on_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        node.values = [self._value(part) for part in node.values]
        return node

    def _on_IfExp(self, node: ast.IfExp) -> ast.expr:
        node.test, node.body = self._value(node.test), self._value(node.body)
        node.orelse = self._value(node.orelse)
        return node

    def _on_Subscript(self, node: ast.Subscript) -> ast.expr:
        self._word(node)
        return node

    def _word(self, node: ast.Subscript) -> None:
        if not isinstance(node.value, ast.Name) or node.value.id not in self._names:
            self._refuse(node, refusals.SUBSCRIPT)
        node.slice = self._value(node.slice)

    def _builtin(self, node: ast.expr) -> str | None:
        """The name of the builtin function that ``node`` is, None if it is none."""
        if isinstance(node, ast.Name) and node.id in BUILTINS and node.id not in self._names:
            if node.id not in self._scope.names:
                return node.id
        return None

    def _on_Call(self, node: ast.Call) -> ast.expr:
        name = self._builtin(node.func)
        callee: object = name
        if name == "range":
            self._refuse(node, "range(..) is allowed only in: for i in range(..); write a loop")
        elif name is None:
            callee = self._called(node.func)
            if not (is_kernel(callee) or _is_word(callee)):
                self._refuse(node, self._refusal_of_callee(node.func, callee))
                return ast.copy_location(ast.Constant(0), node)
        node.callee = callee  # type: ignore[attr-defined]
        self._arguments(node)
        return node

    def _called(self, node: ast.expr) -> object:
        if isinstance(node, ast.Name) and node.id not in self._names:
            return self._global(node.id)
        return self._member(node) if isinstance(node, ast.Attribute) else ABSENT

    def _refusal_of_callee(self, node: ast.expr, callee: object) -> str:
        if isinstance(node, ast.Attribute) and not isinstance(callee, int):
            return self._refusal_of_member(node)
        if isinstance(node, ast.Name) and node.id not in self._names:
            if not isinstance(callee, int):
                return refused_names.refusal(node.id, callee, self._known())
        written = ast.unparse(node).splitlines()[0]
        return f"{written} is not a kernel but a number; call a kernel by its name"

    def _arguments(self, node: ast.Call) -> None:
        if node.keywords:
            self._refuse(node, "keyword arguments are not allowed; pass them by position")
        node.args = [self._value(part) for part in node.args]
        callee = node.callee  # type: ignore[attr-defined]
        if isinstance(callee, str):
            least, most = BUILTINS[callee]
            name = callee
        else:
            least = most = callee.__code__.co_argcount - is_told(callee)
            name = callee.__name__
        if not least <= len(node.args) <= most:
            takes = str(least) if least == most else f"{least} to {most}"
            given = len(node.args)
            self._refuse(node, f"{name} takes {takes} arguments, {given} are given; pass {takes}")
        elif not isinstance(callee, str) and is_told(callee):
            number = ast.Constant(caller.number_of(self.outline.function))
            node.args.append(ast.copy_location(number, node))


def _require_def(function: Kernel) -> None:
    """Refuse a plain function that was not made by ``def``."""
    code, refused = function.__code__, ""
    if code.co_name == "<lambda>":
        refused = REFUSED[ast.Lambda]
    elif code.co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR):
        refused = REFUSED[ast.AsyncFunctionDef]
    if refused:
        place = source.place_of(function, code.co_firstlineno)
        raise DialectError(f"{place}: kernel {function.__qualname__}: {refused}")


def _is_word(value: object) -> bool:
    return isinstance(value, FunctionType) and (value in WORDS or is_primitive(value))


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def walk_calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Every call in a resolved tree."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))
