"""Which locals are assigned on every path, and what control never leaves or falls off.

The state after a statement is the set of names that are assigned on every path to it, or None if
control does not get there. A loop adds nothing to what held before it, since it may not run at all;
but ``while True`` ends only through its breaks, so what holds at each of them holds after it. That
is how ``while True: x = ..; if ..: break`` may be followed by a use of ``x``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from shmalloc.compiler.source import statements

Finding = tuple[int, str]
State = frozenset[str] | None


def findings(tree: ast.FunctionDef, locals_: Iterable[str]) -> list[Finding]:
    """Reads before assignment and missing results of a kernel whose names are resolved."""
    walk = _Flow(frozenset(locals_))
    end = walk.block(tree.body, frozenset(argument.arg for argument in tree.args.args))
    return [*walk.found, *_results(tree, end)]


def _results(tree: ast.FunctionDef, end: State) -> Iterator[Finding]:
    returns = [node for node in statements(tree.body) if isinstance(node, ast.Return)]
    returns.sort(key=lambda node: node.lineno)
    valued = [node for node in returns if node.value is not None]
    bare = [node for node in returns if node.value is None]
    if not valued:
        return
    if bare:
        text = "returns a value on some paths and nothing on others; return a value here, too"
        yield bare[0].lineno, text
    if end is not None:
        last = tree.body[-1]
        text = "can fall off its end although it returns a value elsewhere; return one there"
        yield last.end_lineno or last.lineno, text
    sizes = {len(node.value.elts) for node in valued if isinstance(node.value, ast.Tuple)}
    if len(sizes) > 1:
        yield tree.lineno, "returns tuples of different lengths; return as many values everywhere"


def _both(first: State, second: State) -> State:
    if first is None or second is None:
        return second if first is None else first
    return first & second


class _Flow:
    """One walk over a kernel; ``found``: what was read too early."""

    def __init__(self, locals_: frozenset[str]) -> None:
        self.locals = locals_
        self.found: list[Finding] = []
        self._breaks: list[list[frozenset[str]]] = []  # of each loop around: states at its breaks

    def block(self, body: list[ast.stmt], state: State) -> State:
        for statement in body:
            if state is None:
                return None
            state = self._statement(statement, state)
        return state

    def _statement(self, node: ast.stmt, state: frozenset[str]) -> State:
        match node:
            case ast.If():
                self._reads(node.test, state)
                return _both(self.block(node.body, state), self.block(node.orelse, state))
            case ast.While():
                return self._while(node, state)
            case ast.For():
                self._reads(node.iter, state)
                inside = state | _assigned([node.target])
                self._breaks.append([])
                self.block(node.body, inside)
                self._breaks.pop()
                return state
            case ast.Assign():
                self._reads(node.value, state)
                self._reads_of_targets(node.targets, state)
                return state | _assigned(node.targets)
            case ast.AugAssign():
                if isinstance(node.target, ast.Name):
                    self._require(node.target, state)
                self._reads(node.target, state)
                self._reads(node.value, state)
                return state | _assigned([node.target])
            case ast.Break():
                self._breaks[-1].append(state)
                return None
        self._reads(node, state)
        return None if isinstance(node, ast.Return | ast.Continue) else state

    def _while(self, node: ast.While, state: frozenset[str]) -> State:
        self._reads(node.test, state)
        self._breaks.append([])
        self.block(node.body, state)
        breaks = self._breaks.pop()
        if not (isinstance(node.test, ast.Constant) and node.test.value):
            return state
        after: State = None
        for at_break in breaks:
            after = _both(after, at_break)
        return after

    def _reads_of_targets(self, targets: list[ast.expr], state: frozenset[str]) -> None:
        known = state
        for target in targets:
            self._reads(target, known)
            known = known | _assigned([target])

    def _reads(self, node: ast.AST, state: frozenset[str]) -> None:
        for name in ast.walk(node):
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load):
                self._require(name, state)

    def _require(self, name: ast.Name, state: frozenset[str]) -> None:
        if name.id in self.locals and name.id not in state:
            text = f"{name.id} may be read before it is assigned; assign it on every path"
            self.found.append((name.lineno, text))


def _assigned(targets: Iterable[ast.AST]) -> frozenset[str]:
    names = (name for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
    return frozenset(name.id for name in names if isinstance(name.ctx, ast.Store))


# --- loops without an end ------------------------------------------------------------------------
def is_stuck(loop: ast.While) -> bool:
    """Whether ``loop``, once entered, has no way out and no access at which another CPU could run.

    Its calls are resolved: those of builtin functions access nothing.
    """
    if isinstance(loop.test, ast.Constant) and not loop.test.value:
        return False
    nodes = list(ast.walk(loop))
    tested = {node.id for node in ast.walk(loop.test) if isinstance(node, ast.Name)}
    accesses = any(isinstance(node, ast.Subscript) or _may_access(node) for node in nodes)
    returns = any(isinstance(node, ast.Return) for node in nodes)
    ends = bool(tested & _assigned(nodes)) or returns or breaks(loop.body)
    return not (accesses or ends)


def _may_access(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and not isinstance(getattr(node, "callee", None), str)


def breaks(body: list[ast.stmt]) -> bool:
    """Whether one of the statements breaks the loop that they are the body of."""
    for node in body:
        if isinstance(node, ast.Break):
            return True
        if isinstance(node, ast.If) and (breaks(node.body) or breaks(node.orelse)):
            return True
    return False
