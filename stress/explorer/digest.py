"""The digest of a program in its tokens: whether a schedule is replayed with the same kernels.

It covers the syntax of the kernels, the values of the constants they name, and the initial memory.
Comments, docstrings, annotations, layout and other functions of the file do not change it, nor does
a ``breakpoint()``, which users add before a replay, nor the version of Python: a token is sent from
one machine to another. Only kernels typed at a prompt, whose source Python does not keep, are known
by their bytecode, and no token finds those in another process.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Iterable
from itertools import groupby

from shmalloc.compiler.scope import scope_of
from shmalloc.dialect import Kernel, closure_of
from shmalloc.memory import Ram
from stress.machine.program import Program

DIGEST_DIGITS = 12


def digest_of(program: Program) -> str:
    """The digest of what determines behaviour: the syntax of kernels and the initial memory."""
    state = hashlib.sha256()
    kernels = [*program.threads, *(kernel for _, kernel in program.watchers())]
    for text in _sources(kernels):
        state.update(text.encode() + b"\0")
    ram = Ram.of_words(program.words)
    program.initialize(ram)
    state.update(ram.array.tobytes())
    state.update(repr((program.undefined, program.locks)).encode())
    if program.spurious:
        state.update(f"spurious {program.spurious}".encode())
    if any(program.arguments):
        state.update(repr(program.arguments).encode())
    return state.hexdigest()[:DIGEST_DIGITS]


def _sources(kernels: Iterable[Kernel]) -> Iterable[str]:
    """The names of ``kernels``, each with the text of what it reaches and none before it did.

    Sorted by text: a module has another name when it is run than when it is imported.
    """
    seen: set[Kernel] = set()
    for kernel in kernels:
        yield kernel.__qualname__
        fresh = set(closure_of(kernel)) - seen
        seen |= fresh
        yield from sorted(map(_syntax, fresh))


def _syntax(function: Kernel) -> str:
    """The function without comments, docstring and line numbers, with the values of constants."""
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except OSError:  # typed at a prompt
        scope = scope_of(function)
        values = [*scope.names.items(), *scope.members.items()]
        constants = [(name, int(value)) for name, value in values if isinstance(value, int)]
        return f"{function.__code__.co_code.hex()} {constants}"
    tree = ast.parse(source).body[0]
    assert isinstance(tree, ast.FunctionDef)
    tree.decorator_list = []
    if ast.get_docstring(tree) is not None:
        tree.body = tree.body[1:]
    return written(_Meaning(function).visit(tree))


def written(part: object) -> str:
    """A syntax tree as text that is the same in each version of Python.

    ``ast.dump`` is not: a newer version knows more fields (``type_params``) and shows other ones.
    Fields that are empty are left out, as those that a version does not know must be. A constant
    is written in ASCII: which letters ``repr`` escapes follows the version of Unicode.
    """
    if isinstance(part, ast.Constant):
        return f"Constant({part.value!a})"  # without u'..', which means the same
    if isinstance(part, ast.JoinedStr):
        return f"JoinedStr({written(_joined(part.values))})"
    if isinstance(part, ast.AST):
        shown = [
            f"{name}={written(value)}"
            for name, value in ast.iter_fields(part)
            if value not in (None, [])
        ]
        return f"{type(part).__name__}({', '.join(shown)})"
    if isinstance(part, list):
        return f"[{', '.join(map(written, part))}]"
    return ascii(part)


def _joined(parts: Iterable[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string with its texts whole: Python 3.12 cuts them, and adds empty ones."""
    joined: list[ast.expr] = []
    for is_text, group in groupby(parts, lambda part: isinstance(part, ast.Constant)):
        if is_text:
            text = "".join(str(part.value) for part in group if isinstance(part, ast.Constant))
            joined += [ast.Constant(text)] if text else []
        else:
            joined += group
    return joined


class _Meaning(ast.NodeTransformer):
    """Puts values in place of constants, ``NAME`` and ``module.NAME`` alike.

    Leaves out annotations and ``breakpoint()``, which do not change the behaviour.
    """

    def __init__(self, function: Kernel) -> None:
        self._scope = scope_of(function)
        self._locals = frozenset(function.__code__.co_varnames)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.copy_location(ast.arg(node.arg), node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        assert node.value is not None  # the dialect refuses a declaration without a value
        assign = ast.Assign([node.target], node.value)
        return self.generic_visit(ast.copy_location(assign, node))

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._valued(node, node.id, self._scope.names.get(node.id))

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if not isinstance(node.value, ast.Name):
            return node
        value = self._scope.members.get((node.value.id, node.attr))
        return self._valued(node, node.value.id, value)

    def _valued(self, node: ast.expr, name: str, value: object) -> ast.expr:
        plain = isinstance(value, int) and name not in self._locals
        return ast.Constant(int(value)) if plain else node  # type: ignore[call-overload]

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if ast.unparse(node) == "breakpoint()" else self.generic_visit(node)
