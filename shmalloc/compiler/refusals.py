"""What syntax the kernel dialect has, and how it says no to the rest: reason and cure by node."""

from __future__ import annotations

import ast

STATEMENTS = (
    ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.If, ast.While, ast.For, ast.Break,
    ast.Continue, ast.Return, ast.Pass,
)  # fmt: skip
EXPRESSIONS = (
    ast.Constant,
    ast.Name,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.BoolOp,
    ast.IfExp,
    ast.Subscript,
    ast.Call,
    ast.Attribute,
)
OPERATORS = (
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.FloorDiv,
    ast.Mod,
    ast.LShift,
    ast.RShift,
    ast.BitAnd,
    ast.BitOr,
    ast.BitXor,
)
REFUSED: dict[type[ast.AST], str] = {
    ast.Assert: "an assert is not allowed; return an error code and check it",
    ast.Raise: "raise is not allowed; return an error code",
    ast.Try: "try is not allowed; kernels raise no exceptions",
    ast.With: "with is not allowed; call what takes and what releases",
    ast.Dict: "a dict is not allowed; keep values in words of memory",
    ast.List: "a list is not allowed; keep values in words of memory",
    ast.Set: "a set is not allowed; keep values in words of memory",
    ast.Tuple: "a tuple is allowed only in: a, b = f(..) and return a, b",
    ast.JoinedStr: "a string is not allowed; kernels have only integers",
    ast.Slice: "a slice is not allowed; access one word at a time",
    ast.Lambda: "a lambda is not allowed; make it a kernel",
    ast.FunctionDef: "nested functions are not allowed; make it a kernel of the module",
    ast.AsyncFunctionDef: "an async function is not allowed; kernels are called, never awaited",
    ast.ClassDef: "a class is not allowed in a kernel",
    ast.Import: "import is not allowed in a kernel; import in the module",
    ast.ImportFrom: "import is not allowed in a kernel; import in the module",
    ast.Global: "global is not allowed; keep values in words of memory",
    ast.Nonlocal: "nonlocal is not allowed; keep values in words of memory",
    ast.Starred: "a starred argument is not allowed; name each one",
    ast.Attribute: "an attribute is allowed only as the UPPER_CASE constant of a module",
}


def refusal_of(node: ast.AST) -> str:
    """Why a node is not in the dialect, and what to do instead."""
    return REFUSED.get(type(node), f"{type(node).__name__} is not allowed in a kernel")
