"""Expressions of a kernel as expressions of Python that give the int64 of compiled code.

Python's integers are unbounded, so each result that may exceed 64 bits is wrapped, by an expression
in place: ``(t if INT_MIN <= (t := a + b) <= INT_MAX else wrap(t))``. Ranges (integers.py) show
where that is unnecessary, and inner results may stay *congruent*, that is right up to a multiple of
2**64, as long as only ``+ - * << & | ^ ~`` are applied to them: ``(a + b) & MASK`` wraps nothing.

Rules: temporaries have names that start with a dot, so that no source can name them. Each is read
directly after it is set, before anything else is evaluated: nested expressions share them.
Helpers are found under the names of ``HELPERS`` in the function's globals.

What it does not do: statements (rewrite.py), types and checks (types.py, check.py).
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from shmalloc import words
from shmalloc.compiler import integers
from shmalloc.compiler.digest import identity
from shmalloc.compiler.integers import BOOL, BOUNDS, INT64, INT_MAX, INT_MIN, SHIFTS, Range
from shmalloc.compiler.kinds import Kind
from shmalloc.compiler.types import Form, Type
from shmalloc.dialect import Kernel

Placed = tuple[ast.expr, Range]  # an expression of Python and the range of what it gives
Operand = Callable[[bool], Placed]  # the argument says whether it must be exact

METHODS = {word: word.__name__ for word in words.WORDS} | {words.give_way: "relax"}
HELPERS: dict[str, object] = {
    ".wrap": integers.wrap,
    ".no_shift": integers.no_shift,
    ".no_step": integers.no_step,
}
_WIDEST = Range(-(1 << 192), 1 << 192)  # beyond it, operands are wrapped before they are combined


def type_of(node: ast.expr) -> Type:
    """What types.py found; the names and words that are assigned to are ints if it says nothing."""
    found: Type = getattr(node, "type", "int")
    return found


def name(text: str) -> ast.Name:
    return ast.Name(id=text, ctx=ast.Load())


def call(function: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(func=name(function), args=list(arguments), keywords=[])


def kept(text: str, value: ast.expr) -> ast.expr:
    """``(text := value)``."""
    return ast.NamedExpr(target=ast.Name(id=text, ctx=ast.Store()), value=value)


def is_simple(node: ast.expr) -> bool:
    """Whether it can be evaluated at another moment, or twice: a local or a constant."""
    return isinstance(node, ast.Constant | ast.Name)


def compared(first: ast.expr, *rest: tuple[ast.cmpop, ast.expr]) -> ast.expr:
    return ast.Compare(
        left=first, ops=[operator for operator, _ in rest], comparators=[node for _, node in rest]
    )


def wrapped(node: ast.expr, bounds: Range) -> ast.expr:
    """The int64 that is congruent to ``node``; asks only for the sides where it can leave."""
    temporary = kept(".t", node)
    low, high = ast.Constant(INT_MIN), ast.Constant(INT_MAX)
    if bounds.low >= INT_MIN:
        fits = compared(temporary, (ast.LtE(), high))
    elif bounds.high <= INT_MAX:
        fits = compared(temporary, (ast.GtE(), low))
    else:
        fits = compared(low, (ast.LtE(), temporary), (ast.LtE(), high))
    return ast.IfExp(test=fits, body=name(".t"), orelse=call(".wrap", name(".t")))


def _range_of(node: ast.expr) -> Range:
    return BOOL if type_of(node) == "bool" else INT64


def _folded(node: ast.expr, bounds: Range) -> Placed:
    """``node``, or the constant that it must be."""
    operands = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    if bounds.low == bounds.high and all(isinstance(o, ast.Constant) for o in operands):
        return ast.Constant(bounds.low), bounds
    return node, bounds


class Expressions:
    """``congruent`` gives an expression right up to a multiple of 2**64, ``exact`` the int64.

    ``callees``: by the name that the made code uses, what it calls and whether it passes a memory.
    """

    def __init__(self, form: Form) -> None:
        self.form = form
        self.callees: dict[str, tuple[Kernel, bool]] = {}

    # --- what a statement asks for ---
    def exact(self, node: ast.expr) -> ast.expr:
        return self.bounded(node)[0]

    def bounded(self, node: ast.expr) -> Placed:
        """The int64 (or bool, or memory) of ``node``, and its range."""
        made, bounds = self.congruent(node)
        if bounds.fits():
            return made, bounds
        if isinstance(made, ast.Constant):
            value = integers.wrap(bounds.low)
            return ast.copy_location(ast.Constant(value), node), Range(value, value)
        return ast.copy_location(wrapped(made, bounds), node), INT64

    def integer(self, node: ast.expr) -> ast.expr:
        """``exact``, and an int even where the expression gives a bool."""
        made = self.exact(node)
        if type_of(node) != "bool":
            return made
        if isinstance(made, ast.Constant):
            return ast.copy_location(ast.Constant(int(bool(made.value))), node)
        return ast.copy_location(ast.UnaryOp(op=ast.UAdd(), operand=made), node)

    def as_type(self, node: ast.expr, wanted: Type) -> ast.expr:
        return self.integer(node) if wanted == "int" else self.exact(node)

    def truth(self, node: ast.expr) -> ast.expr:
        """Something that is true when ``node`` is: all that a test needs."""
        made: ast.expr
        if isinstance(node, ast.BoolOp):
            made = ast.BoolOp(op=node.op, values=[self.truth(value) for value in node.values])
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            made = ast.UnaryOp(op=ast.Not(), operand=self.truth(node.operand))
        else:
            return self.exact(node)
        return ast.copy_location(made, node)

    def congruent(self, node: ast.expr) -> Placed:
        visit: Callable[[Any], Placed] = getattr(self, f"_on_{type(node).__name__}")
        made, bounds = visit(node)
        if isinstance(made, ast.Constant) and type_of(node) == "bool":  # folded: False & True
            made = ast.Constant(bool(made.value))
        return ast.copy_location(made, node), bounds

    # --- values ---
    def _on_Constant(self, node: ast.Constant) -> Placed:
        value = int(bool(node.value)) if isinstance(node.value, bool) else node.value
        assert isinstance(value, int), "the front end refuses other constants"
        return ast.Constant(node.value), Range(value, value)

    def _on_Name(self, node: ast.Name) -> Placed:
        return name(node.id), _range_of(node)

    def _on_Subscript(self, node: ast.Subscript) -> Placed:
        index = self.integer(node.slice)
        return ast.Subscript(value=self.exact(node.value), slice=index, ctx=ast.Load()), INT64

    def _on_Tuple(self, node: ast.Tuple) -> Placed:
        return ast.Tuple(elts=[self.integer(part) for part in node.elts], ctx=ast.Load()), INT64

    def _on_Compare(self, node: ast.Compare) -> Placed:
        left, *rest = [self.exact(operand) for operand in (node.left, *node.comparators)]
        return compared(left, *zip(node.ops, rest, strict=True)), BOOL

    def _on_BoolOp(self, node: ast.BoolOp) -> Placed:
        values = [self.as_type(value, type_of(node)) for value in node.values]
        return ast.BoolOp(op=node.op, values=values), _range_of(node)

    def _on_IfExp(self, node: ast.IfExp) -> Placed:
        body, orelse = (self.as_type(part, type_of(node)) for part in (node.body, node.orelse))
        return ast.IfExp(test=self.truth(node.test), body=body, orelse=orelse), _range_of(node)

    # --- operators ---
    def _on_UnaryOp(self, node: ast.UnaryOp) -> Placed:
        if isinstance(node.op, ast.Not):
            return self.truth(node), BOOL
        if isinstance(node.op, ast.UAdd):
            return self.integer(node.operand), _range_of(node.operand)
        made, bounds = self.congruent(node.operand)
        if isinstance(node.op, ast.USub):
            return _folded(
                ast.UnaryOp(op=ast.USub(), operand=made), Range(-bounds.high, -bounds.low)
            )
        if type_of(node.operand) == "bool":  # Python warns of ~True
            made = self.integer(node.operand)
        return _folded(ast.UnaryOp(op=ast.Invert(), operand=made), Range(~bounds.high, ~bounds.low))

    def _on_BinOp(self, node: ast.BinOp) -> Placed:
        left = self.operand(node.left, type_of(node))
        return self.operation(node.op, left, self.operand(node.right, "bool"))

    def operand(self, node: ast.expr, wanted: Type) -> Operand:
        """``node`` as an operand; the operator will say whether it must be exact.

        ``True & True`` is a bool in Python: one int among its operands makes it an int.
        """

        def made(must_fit: bool) -> Placed:
            if wanted == "int" and type_of(node) == "bool":
                return self.integer(node), BOOL
            return self.bounded(node) if must_fit else self.congruent(node)

        return made

    def operation(self, op: ast.operator, left: Operand, right: Operand) -> Placed:
        if isinstance(op, ast.LShift | ast.RShift):
            return self._shift(op, left(isinstance(op, ast.RShift)), right(True))
        if isinstance(op, ast.FloorDiv | ast.Mod):
            return self._division(op, left, right(True))
        (first, bounds), (second, others) = left(False), right(False)
        result = BOUNDS[type(op)](bounds, others)
        if not result.within(*_WIDEST):
            (first, bounds), (second, others) = left(True), right(True)
            result = BOUNDS[type(op)](bounds, others)
        return _folded(ast.BinOp(left=first, op=op, right=second), result)

    def _division(self, op: ast.operator, left: Operand, right: Placed) -> Placed:
        divisor, others = right
        low, high = others
        # A divisor of 2**64 leaves the same remainder of all congruent integers.
        must_fit = isinstance(op, ast.FloorDiv) or not (low == high > 0 and high & high - 1 == 0)
        dividend, bounds = left(must_fit)
        made = ast.BinOp(left=dividend, op=op, right=divisor)
        result = BOUNDS[type(op)](bounds, others)
        if low <= 0 <= high:  # it may fault: no constant may take its place
            return made, result
        return _folded(made, result)

    def _shift(self, op: ast.operator, left: Placed, right: Placed) -> Placed:
        """The count is checked where it is evaluated, after the left operand."""
        (value, bounds), (count, counts) = left, right
        if not counts.within(*SHIFTS):
            tested, read = self.twice(count, ".s")
            inside = compared(
                ast.Constant(0), (ast.LtE(), tested), (ast.LtE(), ast.Constant(SHIFTS.high))
            )
            count, counts = ast.IfExp(test=inside, body=read, orelse=call(".no_shift")), SHIFTS
        made = ast.BinOp(left=value, op=op, right=count)
        return _folded(made, BOUNDS[type(op)](bounds, counts))

    def twice(self, node: ast.expr, temporary: str) -> tuple[ast.expr, ast.expr]:
        """What evaluates ``node`` first, and what reads its value again right after that."""
        if is_simple(node):
            return node, node
        return kept(temporary, node), name(temporary)

    # --- calls ---
    def _on_Call(self, node: ast.Call) -> Placed:
        callee = node.callee  # type: ignore[attr-defined]
        if isinstance(callee, str):
            return self._builtin(callee, node)
        arguments = [self.integer(argument) for argument in node.args]
        if callee in METHODS:
            method = ast.Attribute(value=arguments[0], attr=METHODS[callee], ctx=ast.Load())
            ast.copy_location(method, node.func)
            return ast.Call(func=method, args=arguments[1:], keywords=[]), _range_of(node)
        known = f".{identity(callee)}"
        if isinstance(node.func, ast.Name):
            known = node.func.id
        while self.callees.get(known, (callee,))[0] is not callee:
            known += "'"  # of a module of the same name
        self.callees[known] = callee, bool(node.args) and isinstance(type_of(node.args[0]), Kind)
        return call(known, *arguments), _range_of(node)

    def _builtin(self, callee: str, node: ast.Call) -> Placed:
        if callee == "breakpoint":
            return call("breakpoint"), INT64
        first = node.args[0]
        if callee == "int":
            return self.integer(first), _range_of(first)
        if callee == "bool":
            made = self.exact(first)
            if type_of(first) != "bool":
                made = compared(made, (ast.NotEq(), ast.Constant(0)))
            return made, BOOL
        if callee == "abs":
            made, (low, high) = self.bounded(first)
            return call("abs", made), Range(0, max(abs(low), abs(high)))
        operands = [self.as_type(argument, type_of(node)) for argument in node.args]
        relation = ast.LtE() if callee == "min" else ast.GtE()
        return self._chosen(callee, operands, relation), _range_of(node)

    def _chosen(self, callee: str, operands: list[ast.expr], relation: ast.cmpop) -> ast.expr:
        """min or max: in place where one of two operands can be read twice."""
        if len(operands) != 2 or not any(is_simple(operand) for operand in operands):
            return call(callee, *operands)
        tested, read = zip(*(self.twice(operand, ".m") for operand in operands), strict=True)
        test = compared(tested[0], (relation, tested[1]))
        return ast.IfExp(test=test, body=read[0], orelse=read[1])
