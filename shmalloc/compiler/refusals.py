"""The syntax of the kernel dialect, and the refusal of everything else: reason and cure by node."""

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
_WORDS = "keep values in words of memory"
_KERNEL = "make it a kernel of the module"
_LOOP = "write a for loop over range(..)"
REFUSED: dict[type[ast.AST], str] = {
    # statements
    ast.Assert: "an assert is not allowed; return an error code and check it",
    ast.Raise: "raise is not allowed; return an error code",
    ast.Try: "try is not allowed, because kernels raise nothing; test a condition before",
    ast.TryStar: "try is not allowed, because kernels raise nothing; test a condition before",
    ast.With: "with is not allowed; call what acquires and what releases",
    ast.Match: "match is not allowed; write if and elif",
    ast.Delete: f"del is not allowed; {_WORDS} and store 0",
    ast.Global: f"global is not allowed; {_WORDS}",
    ast.Nonlocal: f"nonlocal is not allowed; {_WORDS}",
    ast.Import: "import is not allowed in a kernel; import in the module",
    ast.ImportFrom: "import is not allowed in a kernel; import in the module",
    ast.FunctionDef: f"nested functions are not allowed; {_KERNEL}",
    ast.AsyncFunctionDef: "an async function is not allowed; write a plain def",
    ast.ClassDef: f"a class is not allowed in a kernel; {_WORDS}",
    # expressions
    ast.Dict: f"a dict is not allowed; {_WORDS}",
    ast.List: f"a list is not allowed; {_WORDS}",
    ast.Set: f"a set is not allowed; {_WORDS}",
    ast.Tuple: "a tuple is allowed only in: a, b = f(..) and return a, b; use one name a value",
    ast.ListComp: f"a comprehension is not allowed; {_LOOP}",
    ast.SetComp: f"a comprehension is not allowed; {_LOOP}",
    ast.DictComp: f"a comprehension is not allowed; {_LOOP}",
    ast.GeneratorExp: f"a generator is not allowed; {_LOOP}",
    ast.JoinedStr: "a string is not allowed, because kernels have only integers; use a number",
    ast.Slice: "a slice is not allowed; access one word at a time",
    ast.Lambda: f"a lambda is not allowed; {_KERNEL}",
    ast.NamedExpr: "an assignment inside an expression (:=) is not allowed; assign in a line above",
    ast.Starred: "a starred argument is not allowed; name each one",
    ast.Yield: f"yield is not allowed; return a value, or {_WORDS}",
    ast.YieldFrom: f"yield is not allowed; return a value, or {_WORDS}",
    ast.Attribute: f"an attribute is allowed only as the UPPER_CASE constant of a module; {_WORDS}",
}
# What is refused for more than its node.
ARGUMENTS = (
    "default, keyword and starred arguments are not allowed; name each argument, and pass all of"
    " them by position"
)
CLOSURE = "a kernel may not be a closure; define it in the module and pass values as arguments"
SUBSCRIPT = "only memory has words, mem[i]; keep a table in words of memory, or use if and elif"
STUCK = "this loop never ends and accesses no memory; leave it with break, or read a word in it"
ITERABLE = "a for loop goes over range(..) only; count, and read words of memory"
_NO_STRING = REFUSED[ast.JoinedStr]


def refusal_of(node: ast.AST) -> str:
    """Why a node is not in the dialect, and what to do instead."""
    known = REFUSED.get(type(node))
    if known is not None:
        return known
    written = ast.unparse(node).splitlines()[0]  # syntax of a Python that is newer than this
    return f"`{written}` is not allowed in a kernel; use plain statements of integers"


def refusal_of_constant(value: object) -> str:
    """Why a constant that is no integer of 64 bits is refused."""
    if isinstance(value, str | bytes):
        return _NO_STRING
    if isinstance(value, int):
        shown = value if abs(value) < 1 << 128 else f"of {value.bit_length()} bits"
        return f"constant {shown} does not fit into 64 bits with a sign; use two words"
    if isinstance(value, float):
        return f"constant {value!r} is not an integer; count in a smaller unit"
    if value is None:
        return "constant None is not an integer; use 0 or -1"
    return f"constant {value!r} is not an integer; kernels have only integers"
