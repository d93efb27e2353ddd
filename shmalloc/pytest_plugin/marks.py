"""``@pytest.mark.explore(...)`` and ``@pytest.mark.stress(...)``: whether a mark is ours, and what
it asks for.

Both words are common: other projects mark slow tests with them. A mark is ours if it says
something that only we understand: an argument by one of our names (or one much like it, which is
then refused), a value that the test returns, or a test file that uses ``shmalloc`` or ``stress``.
Any other mark is left alone, and so is a name that the setting ``shm_marks`` leaves out.

This file is imported for a test that has one of the marks, and imports nothing in turn before such
a mark is ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

import pytest

from shmalloc.pytest_plugin.loading import what_hides_stress

# The parameters of ``explore`` that a test may set.
OF_EXPLORE = (
    "strategy",
    "memory",
    "schedules",
    "seconds",
    "seed",
    "preemptions",
    "depth",
    "step_limit",
    "engine",
    "races",
    "stop_on_failure",
    "delays",
    "workers",
    "free_spins",
    "vain_spins",
    "known",
    "symmetry",
)
# The options of a run that a test may set: a table, so that another project's mark costs nothing.
OF_STRESS = (
    "workload",
    "workers",
    "ram",
    "zones",
    "link_store",
    "duration",
    "seconds",
    "seed",
    "engine",
    "audit_every",
    "hang_timeout",
    "trace",
    "prealloc",
    "faults",
    "jitter",
    "flight",
    "geometry",
)
KNOWN = {"explore": OF_EXPLORE, "stress": OF_STRESS}
ALIKE = 0.6  # of names, by difflib


@dataclass(frozen=True)
class Asked:
    """What the marks of a test ask for; those of the function win over those of its class.

    ``surely``: it is ours; otherwise the value that the test returns decides.
    """

    kind: str
    arguments: dict[str, Any] = field(default_factory=dict)
    surely: bool = True


def asked_of(item: pytest.Item, marks: tuple[str, ...]) -> Asked | None:
    """What the marks of ``item`` ask for; None if it has none of ours.

    Raises ``MisuseError`` for an argument that we do not know.
    """
    for kind in marks:
        found = list(item.iter_markers(kind))
        if found:
            arguments: dict[str, Any] = {}
            for mark in reversed(found):
                arguments |= mark.kwargs
            positional = [value for mark in found for value in mark.args]
            ours = uses_us(getattr(item, "module", None))
            if not arguments and not positional:
                return Asked(kind, surely=ours)
            if ours or _is_like_ours(kind, arguments):
                return Asked(kind, _checked(kind, arguments, positional))
    return None


def speaks_by_its_value(kind: str, value: object) -> bool:
    """Whether a test that returns ``value`` under a mark without arguments means us."""
    if isinstance(value, Mapping):
        names = {str(name).replace("-", "_") for name in value}
        options = kind == "stress" and bool(names) and names <= set(OF_STRESS)
        return options or any(_is_ours(one) for one in value.values())
    if isinstance(value, list | tuple):
        return any(_is_ours(one) for one in value)
    return _is_ours(value)


def _is_like_ours(kind: str, arguments: Mapping[str, object]) -> bool:
    """Whether some argument has one of our names, or was meant to."""
    return any(difflib.get_close_matches(name, KNOWN[kind], 1, ALIKE) for name in arguments)


def uses_us(module: ModuleType | None) -> bool:
    """Whether a test file names something of ``shmalloc`` or ``stress`` at its top level."""
    return module is not None and any(_is_ours(value) for value in list(vars(module).values()))


def _is_ours(value: object) -> bool:
    """Looks at types alone: an object of another library may do anything when it is asked."""
    kind = type(value)
    if issubclass(kind, ModuleType):
        home = str(vars(value).get("__name__"))
    elif issubclass(kind, FunctionType):
        home = "shmalloc" if "__kernel__" in vars(value) else str(value.__module__)
    else:
        home = str((value if issubclass(kind, type) else kind).__module__)
    package = home.partition(".")[0]
    return package == "shmalloc" or (package == "stress" and what_hides_stress() is None)


def _checked(kind: str, arguments: dict[str, Any], positional: list[object]) -> dict[str, Any]:
    from shmalloc.errors import MisuseError
    from shmalloc.pytest_plugin.loading import of_stress

    where = f"@pytest.mark.{kind}"
    if positional:
        raise MisuseError(f"{where}: {positional[0]!r} has no name; write NAME={positional[0]!r}")
    for name in arguments:
        if name not in KNOWN[kind]:
            raise of_stress("quantities").nearest(name, KNOWN[kind], where)
    return arguments
