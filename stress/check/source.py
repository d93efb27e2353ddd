"""The top level of modules as nodes: what each binds, as text, and which other names it uses.

Read from source, so that a revision need not be imported. The text of a node leaves out what
changes nothing: comments, layout, docstrings, annotations. A name that an ``import`` binds is a
node of its own, which uses the name it stands for.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

BARE = "<module>"  # the statements that bind nothing
KERNEL_MARKS = frozenset({"kernel", "hot", "unit"})


class Name(NamedTuple):
    """A name at the top level of a module."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class Node:
    """``uses``: names, or pairs of a name and an attribute. ``line``: the first, from 1."""

    line: int
    text: str = ""
    uses: set[str | tuple[str, str]] = field(default_factory=set)
    stands_for: Name | None = None  # of an import; its name is empty for a whole module
    kernel: bool = False


Nodes = dict[str, Node]


def nodes_of(text: bytes | str, module: str, package: bool = False) -> Nodes:
    """The nodes of a module. Raises ``SyntaxError``."""
    tree = ast.parse(text)
    found: Nodes = {}
    for statement in tree.body:
        for name in _names(statement) or [BARE]:
            node = found.setdefault(name, Node(statement.lineno))
            _add(node, statement, name, module, package)
    return found


def _names(statement: ast.stmt) -> list[str]:
    """What a statement of the top level binds."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in statement.names]
    names: list[str] = []
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
            names += _names(node)
    return list(dict.fromkeys(names))


def _add(node: Node, statement: ast.stmt, name: str, module: str, package: bool) -> None:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        node.stands_for = _origin(statement, name, module, package)
        node.text += f"{node.stands_for}"
        return
    if isinstance(statement, ast.FunctionDef):
        marks = {
            ast.unparse(one).partition(".")[2] or ast.unparse(one)
            for one in statement.decorator_list
        }
        node.kernel = bool(marks & KERNEL_MARKS)
    plain = _Plain().visit(statement)
    node.text += ast.dump(plain)
    node.uses |= set(_uses(plain))


def _origin(statement: ast.Import | ast.ImportFrom, name: str, module: str, package: bool) -> Name:
    for alias in statement.names:
        if name == (alias.asname or alias.name.partition(".")[0]):
            if isinstance(statement, ast.Import):
                return Name(alias.name if alias.asname else name, "")
            home = statement.module or ""
            if statement.level:
                parts = module.split(".")
                parts = parts[: len(parts) - statement.level + package]
                home = ".".join([*parts, home] if home else parts)
            return Name(home, alias.name)
    raise AssertionError(f"{name} is not bound here")


def _uses(tree: ast.AST) -> Iterator[str | tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield (node.value.id, node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id


class _Plain(ast.NodeTransformer):
    """Leaves out docstrings and annotations."""

    _in_class = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        self._without_docstring(node)
        return self._inside(node, in_class=False)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self._without_docstring(node)
        return self._inside(node, in_class=True)

    def _inside(self, node: ast.AST, in_class: bool) -> ast.AST:
        before, self._in_class = self._in_class, in_class
        visited = self.generic_visit(node)
        self._in_class = before
        return visited

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None or self._in_class:  # a field of a dataclass needs its annotation
            return self.generic_visit(node)
        assign = ast.Assign([node.target], node.value)
        return self.generic_visit(ast.copy_location(assign, node))

    @staticmethod
    def _without_docstring(node: ast.FunctionDef | ast.ClassDef) -> None:
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]


class Sources:
    """The modules of some packages, read when they are asked for."""

    def __init__(self, roots: Mapping[str, Path]) -> None:
        self._roots = dict(roots)  # the first part of a module's name -> where it is
        self._known: dict[str, Nodes] = {}
        self._used: dict[Name, tuple[Name, ...]] = {}  # programs share most of what they reach

    def path_of(self, module: str) -> Path | None:
        """The file of a module of ours."""
        if module in self._roots and self._roots[module].suffix == ".py":
            return self._roots[module]
        top, _, rest = module.partition(".")
        if top not in self._roots:
            return None
        place = self._roots[top]
        if place.suffix == ".py":
            return None
        place = place.joinpath(*rest.split(".")) if rest else place
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
        return None

    def nodes(self, module: str) -> Nodes:
        """The nodes of a module; none of one that is not ours."""
        if module not in self._known:
            path = self.path_of(module)
            nodes = (
                {}
                if path is None
                else nodes_of(path.read_bytes(), module, path.name == "__init__.py")
            )
            self._known[module] = nodes
        return self._known[module]

    def node(self, name: Name) -> Node | None:
        return self.nodes(name.module).get(name.name)

    def used_by(self, name: Name) -> tuple[Name, ...]:
        """The names of ours that a node uses."""
        if name not in self._used:
            self._used[name] = tuple(dict.fromkeys(self._uses_of(name)))
        return self._used[name]

    def _uses_of(self, name: Name) -> Iterator[Name]:
        node = self.node(name)
        if node is None:
            return
        if node.stands_for is not None and node.stands_for.name:
            yield node.stands_for
        for use in node.uses:
            if isinstance(use, str):
                yield Name(name.module, use)
                continue
            yield Name(name.module, use[0])
            home = self._module_named(name.module, use[0])
            if home:
                yield Name(home, use[1])

    def _module_named(self, module: str, name: str) -> str:
        """The module that ``name`` stands for in another; empty if it is none of ours."""
        node = self.nodes(module).get(name)
        if node is None or node.stands_for is None:
            return ""
        home, attribute = node.stands_for
        whole = f"{home}.{attribute}" if attribute else home
        return whole if self.path_of(whole) is not None else ""
