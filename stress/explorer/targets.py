"""Programs by the target that a user types or a token carries; globs name several.

    NAME or GLOB                   of the allocator's programs: buddy-merge-take, 'buddy-*'
    NAME+WORLD, GLOB+WORLD         the same in another world (programs/worlds.py)
    MODULE:NAME, MODULE:GLOB       of an importable module
    FILE.py:NAME, FILE.py:GLOB     of a file
    FILE.py                        the only one that the file makes

``Kind`` says what to search, so that crash cases (crash/targets.py) are found in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from shmalloc.errors import MisuseError
from stress.explorer.address import Address, address_in, remember
from stress.explorer.bindings import names_imported
from stress.explorer.loading import here, module_of
from stress.machine.program import Program
from stress.programs import PROGRAMS
from stress.programs.worlds import SIGN, UNFIT, WORLDS, worlds_of
from stress.quantities import nearest

T = TypeVar("T")
GLOB_SIGNS = frozenset("*?[")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What to search: its type, its title, and those of the allocator by name."""

    type: type[T]
    title: str
    names: Callable[[], Sequence[str]]
    build: Callable[[str], T]
    has: Callable[[str], bool]  # also a name in another world, which ``names`` does not list
    worlds: Callable[[str], Iterable[str]]  # what may stand behind that name, each after a sign


PROGRAM = Kind(
    Program,
    "program",
    lambda: list(PROGRAMS),
    lambda name: PROGRAMS[name](),
    lambda name: name in PROGRAMS,
    lambda name: WORLDS,
)


def load_programs(targets: Iterable[str]) -> dict[str, Program]:
    """The programs that ``targets`` name, by the target of each single one.

    Raises ``MisuseError``, which names the nearest one.
    """
    return load(PROGRAM, targets, here())


def load_program(target: str, folders: Sequence[Path] | None = None) -> Program:
    """The one program that ``target`` names, searched in ``folders``: the working directory."""
    found = load(PROGRAM, [target], here() if folders is None else folders)
    if len(found) > 1:
        raise MisuseError(f"program: {target!r} means {', '.join(found)}; name one")
    return next(iter(found.values()))


def load(kind: Kind[T], targets: Iterable[str], folders: Sequence[Path]) -> dict[str, T]:
    """What ``targets`` name, each once, in their order."""
    found: dict[str, T] = {}
    for target in targets:
        for name, thing in _meant(kind, target, folders).items():
            if not any(thing is known for known in found.values()):
                found[name] = thing
    return found


def _meant(kind: Kind[T], target: str, folders: Sequence[Path]) -> dict[str, T]:
    names = list(kind.names())
    if target in names or kind.has(target):
        return _built(kind, [target])
    if ":" in target or target.endswith(".py"):
        place, _, name = target.rpartition(":") if ":" in target else (target, "", "")
        if place.endswith(".py") or not target.endswith(".py"):
            return _in_module(kind, place, name, folders)
        return _in_module(kind, target, "", folders)  # a colon in the name of a folder
    if GLOB_SIGNS & set(target):
        matching = [name for name in names if fnmatchcase(name, target)]
        matching = matching or _matching_in_worlds(kind, target, names)
        if matching:
            return _built(kind, matching)
    if any((folder / f"{target}.py").is_file() for folder in folders):
        raise MisuseError(f"{kind.title}: {target!r} is unknown; did you mean {target}.py?")
    raise _unknown(kind, target, names)


def _unknown(kind: Kind[T], target: str, names: Sequence[str]) -> MisuseError:
    """The error for a target that means nothing: of a known name, its world is what is wrong."""
    base, worlds = worlds_of(target)
    is_glob = bool(GLOB_SIGNS & set(base))
    if worlds and (base in names or (is_glob and any(fnmatchcase(name, base) for name in names))):
        known = list(kind.worlds(base))
        wrong = [world for world in worlds if world not in known]
        if wrong:
            return nearest(wrong[0], known, f"{base}{SIGN}WORLD")
        return MisuseError(f"{kind.title}: {target!r}: no {kind.title} of these may be built so")
    place = f"{kind.title} (or FILE.py, MODULE:NAME, FILE.py:NAME)"
    return nearest(base if worlds else target, names, place)


def _matching_in_worlds(kind: Kind[T], target: str, names: Iterable[str]) -> list[str]:
    """What a glob with worlds behind it means: plain names that match, in these worlds.

    Those that rely on what a world changes are left out.
    """
    glob, worlds = worlds_of(target)
    plain = [name for name in names if SIGN not in name and fnmatchcase(name, glob)]
    fit = [name for name in plain if not any(name in UNFIT.get(world, ()) for world in worlds)]
    return [one for one in (SIGN.join((name, *worlds)) for name in fit) if worlds and kind.has(one)]


def _built(kind: Kind[T], names: Iterable[str]) -> dict[str, T]:
    found = {name: kind.build(name) for name in names}
    for name, thing in found.items():
        remember(thing, Address(name))
    return found


def _in_module(kind: Kind[T], place: str, name: str, folders: Sequence[Path]) -> dict[str, T]:
    module = module_of(place, folders, "" if GLOB_SIGNS & set(name) else name)
    names = _names(kind, module)
    if name in names:
        chosen = [name]
    elif not names:
        raise MisuseError(f"{kind.title}: {place} has no {kind.type.__name__} at its top level")
    elif GLOB_SIGNS & set(name):
        chosen = [one for one in names if fnmatchcase(one, name)]
    else:
        chosen = _only(kind, module, names, place) if not name else []
    if not chosen:
        raise nearest(name, names, f"{kind.title} of {place}")
    found: dict[str, T] = {}
    for one in chosen:
        thing = getattr(module, one)
        remember(thing, address_in(vars(module), one))
        found[f"{place}:{one}"] = thing
    return found


def _names(kind: Kind[T], module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, kind.type)]


def _only(kind: Kind[T], module: ModuleType, names: list[str], place: str) -> list[str]:
    """The only one that the module makes itself, or else the only one in it."""
    made = [name for name in names if name not in _imported(module)] or names
    distinct: dict[int, str] = {}
    for name in made:
        distinct.setdefault(id(getattr(module, name)), name)
    if len(distinct) == 1:
        return list(distinct.values())
    listed = ", ".join(f"{place}:{name}" for name in distinct.values())
    raise MisuseError(
        f"{kind.title}: {place} has {len(distinct)}; name one of {listed}, or all: '{place}:*'"
    )


def _imported(module: ModuleType) -> set[str]:
    try:
        return names_imported(Path(str(module.__file__)))
    except (OSError, SyntaxError, ValueError):
        return set()
