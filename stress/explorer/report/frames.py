"""Which line of a call stack a reader wants to see, and which line a value decides.

A kernel reaches memory through small helpers: ``return load(mem, descriptor_at(mem, pfn))``. Their
lines do not explain a step, so a step shows the innermost frame *outside* them.

Rule: a kernel is an *accessor* if it has no loop, does not branch on what it reads, and makes at
most one access to memory on every path, counting the kernels that it calls. ``fixed``, ``mark``,
``notice`` and ``now`` are no steps and do not count. A relaxed write with a relaxed read of memory
in its own arguments is one access: it updates a word under a lock that its caller holds. The
outermost frame belongs to the program and is never an accessor.

A read decides the first ``if`` or ``while``, or ``return`` of a comparison, that follows in the
same block and depends on it, also through other names. A wrong decision is on that line and makes
no access itself, so reports show it beside the read.

Sources are read when needed. A source that cannot be read has no accessors and decides nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from types import FunctionType

from shmalloc.compiler import source
from shmalloc.dialect import KERNELS, is_kernel
from shmalloc.errors import DialectError
from stress.machine.site import Site

ACCESSES = frozenset(
    {"load", "load_relaxed", "load2", "store", "store_relaxed", "cas", "cas2", "exchange",
     "fetch_add", "fetch_or", "fetch_and", "fence", "heavy_fence", "relax", "give_way",
     "wait", "wake"}
)  # fmt: skip
MANY = 2
RELAXED = {"store_relaxed": "load_relaxed"}
_LOOPS = (ast.For, ast.While, ast.Try, ast.With, ast.Match)
_COMPARES = (ast.Compare, ast.BoolOp, ast.UnaryOp, ast.IfExp)


def shown_site(stack: Sequence[Site]) -> Site | None:
    """The innermost frame outside accessors."""
    for site in stack[:-1]:
        if not is_accessor(site):
            return site
    return stack[-1] if stack else None


def caller_of(stack: Sequence[Site]) -> Site | None:
    """The frame that called the shown one; None if that is the outermost."""
    shown = shown_site(stack)
    following = stack.index(shown) + 1 if shown else len(stack)
    return stack[following] if following < len(stack) else None


def is_accessor(site: Site) -> bool:
    """Whether the frame at ``site`` belongs to an accessor."""
    function = _function_at(site)
    return function is not None and accesses_of(function) < MANY


def decided_by(site: Site | None) -> Site | None:
    """The line that the value read at ``site`` decides, if it is another line."""
    function = None if site is None else _function_at(site)
    if site is None or function is None:
        return None
    tree = _tree_of(function)
    found = None if tree is None else _block_of(tree.body, site.line)
    if found is None:
        return None
    block, at = found
    tainted = set(_targets(block[at]))
    for statement in block[at + 1 :] if tainted else ():
        depends = tainted & _names_in(_head_of(statement))
        if depends and _decides(statement):
            return Site(site.file, statement.lineno, site.function)
        if depends:
            tainted.update(_targets(statement))
    return None


def _decides(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Return):
        return isinstance(statement.value, _COMPARES)
    return isinstance(statement, ast.If | ast.While)


# --- accessors -----------------------------------------------------------------------------------
@cache
def accesses_of(function: FunctionType) -> int:
    """The most accesses that a call of ``function`` makes; ``MANY`` for more, or if it branches on
    what it reads.
    """
    tree = _tree_of(function)
    if tree is None or any(isinstance(node, _LOOPS) for node in ast.walk(tree)):
        return MANY
    return min(MANY, _in_block(tree.body, function, frozenset()))


def _in_block(body: Sequence[ast.stmt], function: FunctionType, read: frozenset[str]) -> int:
    """Accesses of the longest path through ``body``. ``read``: names that depend on a read."""
    if not body:
        return 0
    statement, rest = body[0], body[1:]
    if not isinstance(statement, ast.If):
        here = _accesses_in(statement, function)
        if here or read & _names_in(statement):
            read |= set(_targets(statement))
        return here + (0 if _leaves(body[:1]) else _in_block(rest, function, read))
    if _accesses_in(statement.test, function) or read & _names_in(statement.test):
        return MANY
    return max(
        _in_block([*branch, *(() if _leaves(branch) else rest)], function, read)
        for branch in (statement.body, statement.orelse)
    )


def _leaves(body: Sequence[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[-1], ast.Return)


def _accesses_in(node: ast.AST, function: FunctionType) -> int:
    """Accesses of an expression or a simple statement."""
    inner = sum(_accesses_in(child, function) for child in ast.iter_child_nodes(node))
    return _accesses_at(node, function, inner) + inner


def _accesses_at(node: ast.AST, function: FunctionType, inner: int) -> int:
    """Accesses of ``node`` itself; ``inner``: those of its parts."""
    memory = function.__code__.co_varnames[:1]
    if isinstance(node, ast.Subscript):
        return int(isinstance(node.value, ast.Name) and (node.value.id,) == memory)
    if isinstance(node, ast.AugAssign):  # its target is read as well
        return int(isinstance(node.target, ast.Subscript))
    name = _called(node)
    if name in RELAXED and inner == 1:
        return int(RELAXED[name] not in map(_called, ast.walk(node)))
    if name in ACCESSES:
        return 1
    callee = _callee(node, function)
    return accesses_of(callee) if is_kernel(callee) and callee is not function else 0


def _callee(node: ast.AST, function: FunctionType) -> object:
    """What ``node`` calls: a global of the kernel's module, or a member of a module."""
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
        return getattr(function.__globals__.get(node.func.value.id), node.func.attr, None)
    return function.__globals__.get(_called(node))


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


# --- syntax --------------------------------------------------------------------------------------
def _function_at(site: Site) -> FunctionType | None:
    return _functions_of(site.file, len(KERNELS)).get(site.function.rpartition(".")[2])


@lru_cache(maxsize=256)
def _functions_of(file: str, known: int) -> dict[str, FunctionType]:
    """The kernels of one file by name. ``known``: their number, so that new ones are noticed."""
    return {
        kernel.__name__: kernel
        for kernel in KERNELS.values()
        if is_kernel(kernel) and kernel.__code__.co_filename == file
    }


@cache
def _tree_of(function: FunctionType) -> ast.FunctionDef | None:
    """The syntax of ``function``, with the lines of its file."""
    try:
        return source.tree_of(function)
    except DialectError:  # no source, or one that has changed
        return None


def _block_of(body: Sequence[ast.stmt], line: int) -> tuple[Sequence[ast.stmt], int] | None:
    """The innermost block with a statement on ``line``, and the index of that statement."""
    for at, statement in enumerate(body):
        if not statement.lineno <= line <= (statement.end_lineno or statement.lineno):
            continue
        for inner in _bodies_of(statement):
            found = _block_of(inner, line)
            if found is not None:
                return found
        return body, at
    return None


def _bodies_of(statement: ast.stmt) -> Iterator[Sequence[ast.stmt]]:
    for field in ("body", "orelse", "finalbody"):
        inner = getattr(statement, field, None)
        if isinstance(inner, list):
            yield inner


def _targets(statement: ast.stmt) -> Iterator[str]:
    """The local names that ``statement`` assigns."""
    if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            for node in ast.walk(target):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id


def _head_of(statement: ast.stmt) -> ast.AST | None:
    """The part of a statement that is evaluated first: its condition, or all of it."""
    if isinstance(statement, ast.If | ast.While):
        return statement.test
    return statement


def _names_in(node: ast.AST | None) -> set[str]:
    if node is None:
        return set()
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
