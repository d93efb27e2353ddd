"""Tokens: a failing schedule in one line that a shell takes unquoted.

::

    shm1/examples/lost_update.py:program/sc/y/10000/check/1/5f0c2a91d3e4/s.0-1,0.1-1
    |    |                               |  | |     |     | |            directives (steer.py)
    |    where the program is found      |  | |     |     | digest of kernels and initial memory
    |    (address.py; quoted as in URLs) |  | |     |     code
    version                              |  | |     kind of the failure
                                         |  | step limit
                                         |  fairness: y (yield), or p and the free spins
                                         memory model

The digest covers the syntax of the kernels: comments, docstrings, line numbers and other functions
of the file do not change it, nor does the version of Python's bytecode, nor a ``breakpoint()``,
which users add before a replay.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from shmalloc.compiler.scope import scope_of
from shmalloc.dialect import Kernel, closure_of
from shmalloc.errors import MisuseError
from shmalloc.memory import Ram
from stress.explorer.report.trace import KINDS
from stress.machine.block_layout import MODELS
from stress.machine.program import Program

VERSION = "shm1"
START = "s"
NO_DIRECTIVES = "-"
DIGEST_DIGITS = 12
CURE = f"use the line that a failure prints, it starts with {VERSION}/"
_NUMBER = "[0-9]{1,40}"
_ONE = f"({START}|{_NUMBER})[.]({_NUMBER})-({_NUMBER})"
_ANY = f"(?:{START}|{_NUMBER})[.]{_NUMBER}-{_NUMBER}"
_DIRECTIVE = re.compile(_ONE)
_TOKEN = re.compile(
    f"{VERSION}/(.*)/([^/]+)/(?:y|p({_NUMBER}))/(0*[1-9][0-9]{{,15}})/([^/]+)/(-?{_NUMBER})"
    f"/([0-9a-f]{{{DIGEST_DIGITS}}})/({NO_DIRECTIVES}|{_ANY}(?:,{_ANY})*)"
)


@dataclass(frozen=True)
class Directive:
    """When ``actor`` (None: the start) has made ``count`` steps, ``following`` makes the next."""

    actor: int | None
    count: int
    following: int

    def __str__(self) -> str:
        actor = START if self.actor is None else self.actor
        return f"{actor}.{self.count}-{self.following}"


@dataclass(frozen=True)
class Token:
    """A schedule and everything needed to repeat it, except the program itself."""

    target: str
    memory: str
    parking: bool
    free_spins: int
    step_limit: int
    kind: str
    code: int
    digest: str
    directives: tuple[Directive, ...]

    def __str__(self) -> str:
        fairness = f"p{self.free_spins}" if self.parking else "y"
        schedule = ",".join(map(str, self.directives)) or NO_DIRECTIVES
        target = quote(self.target, safe=":./", errors="surrogateescape")
        fields = (
            VERSION,
            target,
            self.memory,
            fairness,
            self.step_limit,
            self.kind,
            self.code,
            self.digest,
            schedule,
        )
        return "/".join(map(str, fields))

    @classmethod
    def parse(cls, text: str) -> Token:
        """Raises ``MisuseError`` for an invalid token."""
        match = _TOKEN.fullmatch(text.strip())
        if match is None:
            raise MisuseError(f"token: {text!r}; {CURE}")
        target, memory, spins, limit, kind, code, digest, schedule = match.groups()
        if memory not in MODELS:
            raise MisuseError(f"token: memory {memory!r}; use {', '.join(MODELS)}")
        if kind not in KINDS:
            raise MisuseError(f"token: kind {kind!r}; use one of {', '.join(KINDS)}")
        directives = _directives(schedule)
        if len(directives) > int(limit):
            raise MisuseError(f"token: {len(directives)} directives for {limit} steps; {CURE}")
        return cls(
            unquote(target, errors="surrogateescape"),
            memory,
            spins is not None,
            int(spins or 0),
            int(limit),
            kind,
            int(code),
            digest,
            directives,
        )


def _directives(text: str) -> tuple[Directive, ...]:
    return tuple(
        Directive(None if actor == START else int(actor), int(count), int(following))
        for actor, count, following in _DIRECTIVE.findall(text)
    )


def digest_of(program: Program) -> str:
    """The digest of what determines behaviour: the syntax of kernels and the initial memory."""
    state = hashlib.sha256()
    model = program
    kernels = [*model.threads, *(kernel for _, kernel in model.watchers())]
    for text in _sources(kernels):
        state.update(text.encode() + b"\0")
    ram = Ram.of_words(model.words)
    model.initialize(ram)
    state.update(ram.array.tobytes())
    state.update(repr((model.undefined, model.locks)).encode())
    return state.hexdigest()[:DIGEST_DIGITS]


def _sources(kernels: Iterable[Kernel]) -> Iterable[str]:
    seen: set[Kernel] = set()
    for kernel in kernels:
        yield kernel.__qualname__
        for reachable in closure_of(kernel):
            if reachable not in seen:
                seen.add(reachable)
                yield _syntax(reachable)


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
    return ast.dump(_Meaning(function).visit(tree))


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
