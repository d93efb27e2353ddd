"""Cases by name: of the allocator, or ``MODULE:NAME`` and ``FILE.py:NAME`` of any ``CrashCase``."""

from __future__ import annotations

from shmalloc.errors import MisuseError
from stress.crash.allocator import allocator_case
from stress.crash.case import CrashCase, name_target
from stress.explorer.targets import module_of
from stress.quantities import nearest


def load_case(target: str) -> CrashCase:
    """The case of that name. Raises ``MisuseError`` naming the nearest one there is."""
    if ":" not in target:
        return allocator_case(target)
    place, _, name = target.rpartition(":")
    module = module_of(place)
    known = {key: value for key, value in vars(module).items() if isinstance(value, CrashCase)}
    if not known:
        raise MisuseError(f"program: {place} has no CrashCase at its top level")
    if name not in known:
        raise nearest(name, list(known), f"case of {place}")
    name_target(known[name], target)
    return known[name]
