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
    """The line of its kernel that names the invariant, else the first line of the kernel.

    None if no kernel reported it, or its source cannot be read.
    """
    kernel = _kernels(len(KERNELS)).get(violation.kernel)
    if kernel is None:
        return None
    try:
        tree = source.tree_of(kernel)
    except DialectError:  # no source, or one that has changed
        return None
    file, name = kernel.__code__.co_filename, kernel.__qualname__
    lines = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == violation.invariant
    ]
    return Site(file, min(lines, default=tree.lineno), name)


@cache
def _kernels(known: int) -> dict[str, FunctionType]:
    """Kernels by their short names. ``known``: their number, so that new ones are noticed."""
    return {short_name(kernel): kernel for kernel in KERNELS.values() if is_kernel(kernel)}
