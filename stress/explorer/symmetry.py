"""Symmetry: CPUs that are alike are explored up to permutation.

Two CPUs are alike if they run the same kernel with the same arguments, and nothing can tell them
apart by their numbers: the kernel does not use its ``cpu``, and neither check nor outcome asks what
one of them returned. (A wake may take any of the sleepers, so it tells none of them apart.)
Exchanging the two in a schedule gives a schedule that ends alike, so it is enough to try those in
which alike CPUs make their first steps in the order of their numbers: every schedule can be
renumbered into one of them. The scheduler keeps that order (``Settings.follows``), and for DPOR the
first step of a CPU lets the next one go, as a wake does.

Of each set of classes that are equal up to renumbering at least one is run, and not always one
alone: where first steps do not depend on each other, several members are in order.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from itertools import pairwise
from math import factorial, prod

from shmalloc.compiler.source import tree_of
from shmalloc.dialect import Kernel
from stress.machine.program import Program
from stress.machine.vocabulary import returned, says


def alike(program: Program) -> list[tuple[int, ...]]:
    """The groups of two or more CPUs that are alike."""
    if _asks_for_results(program):
        return []
    groups: dict[object, list[int]] = {}
    for cpu, kernel in enumerate(program.threads):
        if not _tells_its_number(kernel):
            groups.setdefault((kernel, tuple(program.arguments[cpu])), []).append(cpu)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def follows_of(groups: Sequence[Sequence[int]], cpus: int) -> tuple[int, ...]:
    """For each CPU 1 + the CPU of its group before it; 0 for the first, and for all others."""
    found = [0] * cpus
    for group in groups:
        for before, cpu in pairwise(group):
            found[cpu] = before + 1
    return tuple(found)


def told(program: Program, systematic: bool, classes: int | None) -> str:
    """What the result says of it; ``systematic``: of a search that tries everything."""
    groups = alike(program)
    if not groups:
        return "symmetry: no two CPUs are alike"
    if not systematic:
        return "symmetry: only dfs and dpor use it; random schedules were drawn of all CPUs"
    which = "; ".join(", ".join(map(str, group)) for group in groups)
    orders = prod(factorial(len(group)) for group in groups)
    most = "" if classes is None else f": at most {classes * orders:,} classes without symmetry"
    return f"CPUs {which} are alike and were explored up to permutation{most}"


def _asks_for_results(program: Program) -> bool:
    asked = says((program.check, program.invariant), returned)
    return asked or any(isinstance(what, tuple) for what in program.observe)


def _tells_its_number(kernel: Kernel) -> bool:
    """Whether the kernel uses its parameter ``cpu``."""
    tree = tree_of(kernel)
    own = tree.args.args[1].arg
    return any(isinstance(node, ast.Name) and node.id == own for node in ast.walk(tree))
