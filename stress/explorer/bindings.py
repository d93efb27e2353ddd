"""Which names a file binds at its top level, read from its source without running it.

The next process binds a name again only if the file binds it once, outside loops and outside
``if __name__ == "__main__"``.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

_INNER = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)


def bound_once(path: Path, name: str) -> bool:
    """Whether importing the file binds ``name``, exactly once. An unreadable file: yes."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True
    bound = Counter(_bound(tree, looping=False))
    return bound[name] == 1 or (bound[name] == 0 and bound["*"] > 0)


def names_made(path: Path, makers: frozenset[str]) -> set[str]:
    """The names at the top level to which a call of one of ``makers`` is assigned."""
    tree = ast.parse(path.read_bytes())
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            function = node.value.func
            called = getattr(function, "id", None) or getattr(function, "attr", None)
            if called in makers:
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def names_imported(path: Path) -> set[str]:
    """The names at the top level that the file imports."""
    tree = ast.parse(path.read_bytes())
    aliases = [
        alias
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    return {(alias.asname or alias.name).partition(".")[0] for alias in aliases}


def imports_relatively(path: Path) -> bool:
    """Whether the file says ``from . import``, so that it is of use in its package alone."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    return any(isinstance(node, ast.ImportFrom) and node.level > 0 for node in ast.walk(tree))


def _bound(node: ast.AST, looping: bool) -> Iterator[str]:
    """The names that ``node`` binds in the module's scope; in a loop each counts twice."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            yield (alias.asname or alias.name).partition(".")[0]
        return
    if isinstance(node, ast.If) and _is_main_guard(node.test):
        for statement in node.orelse:
            yield from _bound(statement, looping)
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield from [node.id] * (2 if looping else 1)
    if not isinstance(node, _INNER):
        for child in ast.iter_child_nodes(node):
            yield from _bound(child, looping or isinstance(node, _LOOPS))


def _is_main_guard(test: ast.expr) -> bool:
    names = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
    texts = {node.value for node in ast.walk(test) if isinstance(node, ast.Constant)}
    return "__name__" in names and "__main__" in texts
