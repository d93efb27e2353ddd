"""The line of a kernel that reports a violated invariant: where a reader of a run's finding begins.

A native run has no steps to show. It knows the kernel that reported (``Violation.kernel``), and the
source says on which of its lines the invariant is named.
"""

from __future__ import annotations

import ast
from functools import cache
from types import FunctionType

from shmalloc.compiler import source
from shmalloc.compiler.caller import short_name
from shmalloc.dialect import KERNELS, is_kernel
from shmalloc.errors import DialectError, Violation
from stress.machine.site import Site


def place_of(violation: Violation) -> Site | None:
    """Where a violation was reported; None if no kernel reported it."""
    return place_in_kernel(violation.kernel, violation.invariant)


def place_in_kernel(name: str, invariant: str) -> Site | None:
    """The line of the kernel of this short name that names the invariant, else its first line.

    None if there is no such kernel, or its source cannot be read.
    """
    kernel = _kernels(len(KERNELS)).get(name)
    if kernel is None:
        return None
    try:
        tree = source.tree_of(kernel)
    except DialectError:  # no source, or one that has changed
        return None
    lines = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == invariant
    ]
    first = min(lines, default=tree.lineno)
    return Site(kernel.__code__.co_filename, first, kernel.__qualname__)


@cache
def _kernels(known: int) -> dict[str, FunctionType]:
    """Kernels by their short names. ``known``: their number, so that new ones are noticed."""
    return {short_name(kernel): kernel for kernel in KERNELS.values() if is_kernel(kernel)}
