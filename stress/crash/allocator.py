"""The allocator's cases by name: single operations, and every program of stress/programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from shmalloc import constants as c
from shmalloc.errors import MisuseError
from stress.crash.adapt import build, case_of, left_out
from stress.crash.case import CrashCase
from stress.crash.operation import VARIANTS, Operation
from stress.crash.operations import OPERATIONS
from stress.crash.structures import SURVIVALS, structure_case
from stress.explorer.address import Address, remember
from stress.machine.program import Program
from stress.programs import PROGRAMS, filled
from stress.programs.worlds import WORLDS, worlds_of
from stress.quantities import nearest

WAITING = "wait-"  # programs in which a CPU waits for a page that a dead CPU may own
HOPEFUL = ("wait-", "pcp-")  # programs with a page for every CPU, unless one dies


# Programs, and the number of pages they retire
MARKING = ("pcp-free-poison", "pcp-bulk-poison", "bulk-put-poison", "pass-adopt-marked")
RETIRING = (*MARKING, "sampled-marked-page", *filled.PROGRAMS)
POISONING = dict.fromkeys(RETIRING, 1)


@cache
def _case(name: str, kept: Callable[[], Program] | None) -> CrashCase:
    """``kept``: what builds the program of that name, which is kept as well."""
    if kept is None:
        return _operation(name).case()
    if name in SURVIVALS:
        return structure_case(name, kept)
    make: Callable[[], Program] = kept.__wrapped__  # type: ignore[attr-defined]
    hopeful = c.I_PROGRESS if name.startswith(HOPEFUL) else 0
    leave = POISONING.get(worlds_of(name)[0], 0)
    return case_of(build(make), leave, name.startswith(WAITING), hopeful)


def _operation(name: str) -> Operation:
    """The operation of a name with any variants behind it."""
    base, variants = worlds_of(name)
    operation = OPERATIONS[base]
    for variant in variants:
        operation = operation.varied(variant)
    return operation


def has_case(name: str) -> bool:
    """Whether there is a case of that name: one of ``case_names``, or one in other worlds."""
    base, variants = worlds_of(name)
    if base in OPERATIONS:
        return set(variants) <= VARIANTS.keys()
    return name in PROGRAMS and not left_out(name)


def variants_of(base: str) -> Iterable[str]:
    """What may stand behind the name of an operation or of a program."""
    return VARIANTS if base in OPERATIONS else WORLDS


def case_names() -> list[str]:
    """All cases, those of single operations first."""
    return [*OPERATIONS, *(name for name in PROGRAMS if not left_out(name))]


def allocator_case(name: str) -> CrashCase:
    """The case of that name. Raises ``MisuseError``, which names the nearest one."""
    if left_out(name) and name in PROGRAMS:
        raise MisuseError(f"program: {name} has no crashes: {left_out(name)}")
    if not has_case(name):
        raise nearest(name, case_names(), "program")
    case = _case(name, PROGRAMS.get(name))
    remember(case, Address(name))
    return case
