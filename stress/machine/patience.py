"""Which kernels can give up a spin: in a loop that counts, or holds what it has kept before.

A loop that waits may count its rounds for a report, which nothing in it asks for, or for a limit,
behind which the CPU does something else. From the source alone this file says which kernels may
have a limit; of those the machine looks at what they hold from round to round (private.py).

A name is *carried* if its value in one round comes from that in the round before. A loop can give
up if it is a ``for``, or if a test in it, or a call that it makes, has a carried name. Loops that
do not wait are not told from those that do: the machine has seen the CPU spin.
"""

from __future__ import annotations

import ast
from functools import cache

from shmalloc.compiler.source import tree_of
from shmalloc.dialect import Kernel, closure_of
from shmalloc.words import give_way, relax
from stress.machine.vocabulary import says


@cache
def can_give_up(kernel: Kernel) -> bool:
    """Whether ``kernel``, or what it calls, has a loop that can end without a change of memory."""
    waiting = (one for one in closure_of(kernel) if says([one], relax, give_way))
    return any(_gives_up(node) for one in waiting for node in ast.walk(tree_of(one)))


def _gives_up(node: ast.AST) -> bool:
    if isinstance(node, ast.For):
        return True
    if not isinstance(node, ast.While):
        return False
    carried = _carried(node)
    return any(_names(part) & carried for part in _deciding(node))


def _deciding(loop: ast.While) -> list[ast.expr]:
    """The expressions that decide what a round of the loop does."""
    found: list[ast.expr] = []
    for node in ast.walk(loop):
        if isinstance(node, ast.While | ast.If | ast.IfExp):
            found.append(node.test)
        elif isinstance(node, ast.Call):
            found += node.args
    return found


def _carried(loop: ast.While) -> set[str]:
    """The names whose value comes from a round before, by way of whatever other names."""
    sources: dict[str, set[str]] = {}
    for node in ast.walk(loop):
        assigned: list[ast.expr] = []
        value: list[ast.expr] = []
        if isinstance(node, ast.AugAssign):
            assigned, value = [node.target], [node.target, node.value]
        elif isinstance(node, ast.Assign):
            assigned, value = node.targets, [node.value]
        for name in {name for part in assigned for name in _names(part)}:
            sources.setdefault(name, set()).update(*map(_names, value))
    grown = True
    while grown:
        grown = False
        for reached in sources.values():
            further = reached.union(*(sources.get(name, set()) for name in reached))
            grown |= further != reached
            reached |= further
    rounds = {name for name, reached in sources.items() if name in reached}
    return {name for name, reached in sources.items() if name in rounds or reached & rounds}


def _names(part: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(part) if isinstance(node, ast.Name)}
