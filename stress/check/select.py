"""Which programs and crash cases are checked, in which order, and what nothing here checks.

A program is *reached* by a change if one of its kernels (threads, check, invariant and all that
they call) is among what changed, or names a changed constant. It is *prepared* by one if only the
plain Python that builds it is, or a kernel that this Python runs before the first step. What is
reached comes first; programs of the part that is named after the changed module come before others.

Among equals the smallest and the largest take turns: a small world is soon explored to its end, and
a large one shows what a small one has no room for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from shmalloc.dialect import Kernel, closure_of
from stress.check.changes import PACKAGES, Changes
from stress.check.source import BARE, Name, Sources
from stress.check.unprepared import prepared
from stress.crash.case import CrashCase
from stress.explorer.loading import here
from stress.explorer.targets import GLOB_SIGNS, PROGRAM, load
from stress.machine.program import Program
from stress.programs import PROGRAMS
from stress.programs.worlds import SIGN
from stress.quantities import nearest

Thing = Program | CrashCase
KERNELS = "shmalloc.kernels"
REACHED, PREPARED = 0, 1
# Where it is worth a name if no program reaches what has changed; elsewhere, a file.
SUBJECTS = ("shmalloc.", "stress.programs.", "stress.oracles.", "stress.crash.")
# What every program stands on, and no program is about: the tests judge it.
MACHINERY = ("shmalloc.compiler", "shmalloc.engine", "stress.machine", "stress.explorer")


@dataclass
class Selection:
    """``chosen``: what is checked, first things first. ``known``: how many there are to choose of.

    ``reached``: the changed names because of which. ``left``: what is not checked, in sentences.
    """

    chosen: dict[str, Thing] = field(default_factory=dict)
    known: int = 0
    reached: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def candidates(parts: Sequence[str], crash: bool) -> dict[str, Thing]:
    """What ``parts`` mean: all of the allocator's without one.

    A part is a program, a glob, the beginning of programs' names before a dash, a module of
    kernels, MODULE:NAME, or a file of kernels or programs. Raises ``MisuseError`` for none of them.
    """
    builders = _builders(crash)
    if not parts:
        return _built(builders)
    found: dict[str, Thing] = {}
    for part in parts:
        found |= _meant(part, builders)
    return found


def _builders(crash: bool) -> dict[str, Callable[[], Thing]]:
    """What builds each of the allocator's programs and, if asked for, of its crash cases."""
    builders: dict[str, Callable[[], Thing]] = dict(PROGRAMS)
    if crash:
        from stress.crash.allocator import allocator_case, case_names

        for name in case_names():
            builders[f"crash:{name}"] = functools.partial(allocator_case, name)
    return builders


def _built(builders: Mapping[str, Callable[[], Thing]]) -> dict[str, Thing]:
    return {name: prepared(name, build) for name, build in builders.items()}


def _meant(part: str, builders: Mapping[str, Callable[[], Thing]]) -> dict[str, Thing]:
    """What one part names. Only that is built: to build all takes seconds."""
    plain = {name: name.removeprefix("crash:") for name in builders}
    alike = {n: builders[n] for n, p in plain.items() if p == part or p.startswith(f"{part}-")}
    if not alike and GLOB_SIGNS & set(part) and ":" not in part:
        alike = {n: builders[n] for n, p in plain.items() if fnmatchcase(p, part)}
    if alike:
        return _built(alike)
    if SIGN in part and ":" not in part:
        base, _, worlds = part.partition(SIGN)
        parts = {name.partition("-")[0] for name in PROGRAMS}
        asked = f"{base}-*{SIGN}{worlds}" if base in parts else part
        in_worlds = load(PROGRAM, [asked], here())
        return dict(in_worlds)
    module = _module_named(part)
    if module is not None:
        known = _built(builders)
        return {n: t for n, t in known.items() if module in _modules(t) or _is_built_in(n, module)}
    if ":" in part or part.endswith(".py"):
        programs = load(PROGRAM, [part if ":" in part else f"{part}:*"], here())
        return dict(programs)
    prefixes = sorted({name.partition("-")[0] for name in plain.values()})
    raise nearest(part, [*prefixes, *_kernel_modules(), *plain.values()], "part")


def _module_named(part: str) -> str | None:
    """The module of the packages that a part is: its file, or the name of one of kernels."""
    if part.endswith(".py"):
        for folder in here():
            path = (folder / part).resolve()
            for name, place in PACKAGES.items():
                if path.is_file() and path.is_relative_to(place.resolve()):
                    inside = path.relative_to(place.resolve()).with_suffix("")
                    return ".".join([name, *inside.parts])
        return None
    return f"{KERNELS}.{part}" if part in _kernel_modules() else None


def _kernel_modules() -> list[str]:
    folder = PACKAGES["shmalloc"] / "kernels"
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def kernels_of(thing: Thing) -> list[Kernel]:
    """The kernels that its virtual CPUs and its watchers run, without those they call."""
    model = thing.model() if isinstance(thing, CrashCase) else thing
    return [*model.threads, *(kernel for _, kernel in model.watchers())]


def _modules(thing: Thing) -> set[str]:
    kernels = kernels_of(thing)
    return {reached.__module__ for kernel in kernels for reached in closure_of(kernel)}


def _is_built_in(name: str, module: str) -> bool:
    return name in PROGRAMS and _builder(name).module == module


def _builder(name: str) -> Name:
    """The function that builds one of the allocator's programs."""
    made = getattr(PROGRAMS[name], "__wrapped__", PROGRAMS[name])
    function = made.func if isinstance(made, functools.partial) else made
    return Name(function.__module__, function.__qualname__)


# --- the order -----------------------------------------------------------------------------------
def select(
    found: Mapping[str, Thing], changes: Changes | None, ways: Ways | None = None
) -> Selection:
    """Of ``found``, what the changes reach; all of it if no changes are given. ``ways``: of an
    earlier selection of the same things, for changes of the packages alone."""
    chosen = Selection(known=len(found))
    if changes is None:
        chosen.chosen = _in_turns(found)
        return chosen
    ways = ways or Ways(Sources({**PACKAGES, **changes.users}))
    for name, thing in found.items():
        ways.learn(name, thing)
    reach = Reach(changes, ways)
    ranks: dict[str, tuple[int, bool]] = {}
    for name in found:
        rank = reach.rank(name)
        if rank is not None:
            stems = {changed.module.rpartition(".")[2] for changed in changes.names}
            ranks[name] = rank, name.removeprefix("crash:").partition("-")[0] not in stems
    for key in sorted(set(ranks.values())):
        group = {name: found[name] for name, rank in ranks.items() if rank == key}
        chosen.chosen |= _in_turns(group)
    chosen.reached = sorted(str(name) for name in reach.met if name in reach.worth_a_word())
    chosen.left = list(_unreached(changes, reach))
    return chosen


def _in_turns(group: Mapping[str, Thing]) -> dict[str, Thing]:
    """The smallest, the largest, the second smallest, ...; crash cases last."""
    ordered: dict[str, Thing] = {}
    for crash in (False, True):
        names = [n for n, thing in group.items() if isinstance(thing, CrashCase) == crash]
        names.sort(key=lambda name: _words(group[name]))
        while names:
            for at in (0, -1)[: len(names)]:
                name = names.pop(at)
                ordered[name] = group[name]
    return ordered


def _words(thing: Thing) -> int:
    return (thing.program if isinstance(thing, CrashCase) else thing).words


class Ways:
    """Which names lead to which in the sources, from those that programs begin with.

    A name leads to all that it uses. Programs share most of what they reach, so that the ways are
    kept by name and followed backwards, from what has changed.
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._starts: dict[str, tuple[frozenset[Name], frozenset[Name]]] = {}
        # By whether kernels are followed: the names that were met, and those that use them.
        self._users: tuple[dict[Name, list[Name]], ...] = ({}, {})

    def learn(self, name: str, thing: Thing) -> None:
        """Follow what the program or crash case begins with."""
        if name not in self._starts:
            starts = frozenset(self._builders(name, thing)), frozenset(self._seeds(thing))
            self._starts[name] = starts
            for kernels in (False, True):
                self._follow(starts[kernels], kernels)

    def starts(self, name: str, kernels: bool) -> frozenset[Name]:
        """Where ways of a learnt program begin: its kernels, or the Python that builds it."""
        return self._starts[name][kernels]

    def leading_to(self, name: Name, kernels: bool) -> frozenset[Name]:
        """The names from which a way leads to ``name``, itself among them.

        ``name.name`` BARE: to anything of that module. ``kernels``: by way of kernels, too.
        """
        users = self._users[kernels]
        todo = [name] if name in users else []
        if name.name == BARE:
            todo = [one for one in users if one.module == name.module]
        seen = set(todo)
        while todo:
            fresh = [one for one in users[todo.pop()] if one not in seen]
            seen.update(fresh)
            todo += fresh
        return frozenset(seen)

    def _follow(self, starts: Iterable[Name], kernels: bool) -> None:
        users = self._users[kernels]
        todo = [name for name in starts if name not in users]
        users.update((name, []) for name in todo)
        while todo:
            name = todo.pop()
            node = self.sources.node(name)
            if node is None or (node.kernel and not kernels):
                continue
            for use in self.sources.used_by(name):
                if use not in users:
                    users[use] = []
                    todo.append(use)
                users[use].append(name)

    def _seeds(self, thing: Thing) -> Iterator[Name]:
        return map(_name_of, closure_of(*kernels_of(thing)))

    def _builders(self, name: str, thing: Thing) -> Iterator[Name]:
        if name in PROGRAMS:
            yield _builder(name)
        elif ":" in name and not name.startswith("crash:"):
            place, _, attribute = name.rpartition(":")
            yield Name(Path(place).stem if place.endswith(".py") else place, attribute)
        elif isinstance(thing, CrashCase) and thing.name in PROGRAMS:
            yield _builder(thing.name)


class Reach:
    """Which changed names a program reaches."""

    def __init__(self, changes: Changes, ways: Ways) -> None:
        self.changes = changes
        self.sources = ways.sources
        self.met: set[Name] = set()  # changed names that some program reaches
        self._ways = ways
        self._leading = tuple(
            {name: ways.leading_to(name, kernels) for name in changes.names}
            for kernels in (False, True)
        )

    def rank(self, name: str) -> int | None:
        """REACHED, PREPARED, or None: the changes are nothing to it."""
        reached, built = (self._changed(name, kernels) for kernels in (True, False))
        self.met |= reached | built
        return REACHED if reached else PREPARED if built else None

    def worth_a_word(self) -> list[Name]:
        """The changed names without imports and statements that bind nothing, in order."""
        nodes = {name: self.sources.node(name) for name in self.changes.names}
        return sorted(
            name
            for name, node in nodes.items()
            if name.name != BARE and (node is None or node.stands_for is None)
        )

    def _changed(self, name: str, kernels: bool) -> set[Name]:
        """The changed names that a program reaches."""
        starts = self._ways.starts(name, kernels)
        leading = self._leading[kernels].items()
        return {changed for changed, names in leading if not names.isdisjoint(starts)}


def _name_of(kernel: Kernel) -> Name:
    module = kernel.__module__.removeprefix("explored_")
    return Name(module, kernel.__qualname__.partition(".")[0])


# --- what is left --------------------------------------------------------------------------------
def _unreached(changes: Changes, reach: Reach) -> Iterator[str]:
    """What changed and is not checked here, in sentences."""
    missed: dict[str, list[str]] = {}
    for name in reach.worth_a_word():
        if name not in reach.met:
            missed.setdefault(name.module, []).append(name.name)
    beneath = [module for module in missed if module.startswith(MACHINERY)]
    if beneath:
        yield f"{', '.join(beneath)}: all programs stand on this, and none is about it; run pytest"
    files = list(changes.others)
    for module, names in sorted(missed.items()):
        if module in beneath:
            continue
        if module.startswith(SUBJECTS):
            yield f"{module}: no program reaches {', '.join(sorted(names))}; run pytest"
        else:
            files.append(f"{module.replace('.', '/')}.py")
    if files:
        yield f"changed files that no program runs: {', '.join(sorted(files))}; run pytest"
