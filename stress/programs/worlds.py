"""The worlds of a program: its name with suffixes, as in ``buddy-merge-take+poison+table``.

A program is written for the plainest segment that has its race. The same threads and the same check
run in others: with poison or zeroes in free pages, hardened free pointers, links elsewhere, linked
per-CPU lists, a page that the platform reserves, or a minimum watermark above zero. So what one
option forgets is looked for wherever two CPUs meet, and no program has to be written for it.

``ProgramTable`` iterates over the programs as they are written, with the few of ``CHOSEN``, which
tests, mutants and CI try each time; every other combination is built when it is asked for by its
name. A soak draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np

from shmalloc.errors import MisuseError
from shmalloc.layout import ZoneSpec
from stress.machine.program import Program
from stress.programs.initial_state import reshaped
from stress.quantities import nearest

Builder = Callable[[], Program]
Zones = tuple[ZoneSpec, ...]
SIGN = "+"
SECRET = 12345  # of hardened free pointers; any number but 0 would do


def with_hole(zones: Zones) -> Zones:
    """The last zone with a reserved page behind its others, which merges must stop at."""
    *before, last = zones
    hole = (last.pages, 1)
    return (*before, replace(last, pages=last.pages + 1, holes=(*last.holes, hole)))


def with_page_more(zones: Zones) -> Zones:
    """Each zone with one page more, which its watermark keeps free."""
    return tuple(replace(zone, pages=zone.pages + 1) for zone in zones)


@dataclass(frozen=True)
class World:
    """Fields of the geometry that differ; a function makes a field's new value of its old one."""

    story: str
    changes: Mapping[str, Any]


WORLDS = {
    "poison": World("free pages are poisoned", {"poison": True}),
    "zero": World("free pages are zeroed", {"zero": True}),
    "harden": World("free pointers are hardened", {"harden": SECRET}),
    "linked": World("per-CPU lists are linked through the free pages", {"pcp_form": "list"}),
    "list": World(
        "per-CPU lists and free lists linked through the descriptors",
        {"link_store": "descriptor", "pcp_form": "list"},
    ),
    "table": World("links lie in a table beside the pages", {"link_store": "table"}),
    "index": World("free blocks in arrays, on no list", {"link_store": "index"}),
    "bitmap": World("free blocks in bitmaps, on no list", {"link_store": "bitmap"}),
    "biased": World(
        "each CPU takes its per-CPU locks by plain stores (kernels/cpu_lock.py)",
        {"biased_locks": True},
    ),
    "hole": World("a page behind the others is reserved", {"zones": with_hole}),
    "reserve": World(
        "a page of each zone stays free: its minimum watermark",
        {"zones": with_page_more, "min_free_pages": 1},
    ),
}
_FILLED = ("bulk", "bulk-pair", "listed", "drained", "largest", "contig", "run", "sleeper")
POISONED = ("slab-destroy-sheaf", *(f"filled-{name}" for name in _FILLED))  # as they are written
WITHOUT_LISTS = (
    "store-index-swap",
    "store-index-swap-3",
    "store-index-walk",
    "store-index-versions",
    "store-bitmap-swap",
    "store-bitmap-swap-3",
    "store-bitmap-walk",
    "store-bitmap-border",
)
UNFIT = {  # programs and crash cases by world
    "reserve": (  # which page an allocation gets, or that none is left
        "buddy-free-free-same",
        "bulk-put-same",
        "contig-isolate-free",
        "wait-free-range",
        "wait-offline-busy",
        "wait-range-busy",
        "wait-reap",
        "pass-adopt-adopt",
        "pass-adopt-reap",
        "pass-reap-reap",
    ),
    "harden": ("stray-flush",),
    "zero": ("pages-order-0-poison", *POISONED),
    "poison": ("pages-order-0-zero", *POISONED),
    "linked": ("pcp-linked",),
    "index": WITHOUT_LISTS,
    "bitmap": WITHOUT_LISTS,
}
NO_PAGES = ("lock-", "sync-", "structure-")
# Where an option meets a path of its own, one program each; a soak draws all others.
CHOSEN = (
    "buddy-merge-take+hole",
    "buddy-merge-merge+list",
    "buddy-merge-take-3+bitmap",
    "pcp-drain-free+linked",
    "pcp-drain-free+biased",
    "slab-barn-swap+biased",
    "wait-page-wake+biased",
    "pcp-refill-drain+reserve",
    "pcp-overflow-refill+poison",
    "slab-free-free+harden",
    "slab-barn-swap+zero",
    "contig-isolate-merge+table",
    "contig-range-alloc+zero",
    "wait-page-wake+reserve",
)


def worlds_for(name: str) -> list[str]:
    """Worlds in which a program or a crash case, in none so far, may be built."""
    if SIGN in name or name.startswith(NO_PAGES):
        return []
    return [one for one in WORLDS if name not in UNFIT.get(one, ())]


def worlds_of(name: str) -> tuple[str, tuple[str, ...]]:
    """The name of a program or case without its worlds, and these."""
    base, *worlds = name.split(SIGN)
    return base, tuple(worlds)


def build_in(plain: Builder, name: str) -> Program:
    """The program that ``plain`` builds, in the worlds of ``name``, under that name.

    Raises ``MisuseError`` for a world that there is not, for a program without a segment, and where
    a check or its preparation relies on the pages, or the pointers, that it is written for.
    """
    base, names = worlds_of(name)
    for one in names:
        if one not in WORLDS:
            raise nearest(one, list(WORLDS), "world")
        if base in UNFIT.get(one, ()):
            raise MisuseError(f"program: {base} relies on what world {one} changes; use another")
    build: Builder = getattr(plain, "__wrapped__", plain)  # anew, past its cache
    with in_worlds(names):
        program = build()
    if _is_same(program, plain()):
        raise MisuseError(f"program: {name} is {base} in no other world; use {base}")
    told = "; ".join([program.story, *(WORLDS[one].story for one in names)])
    return replace(program, name=name, story=told)


def _is_same(program: Program, plain: Program) -> bool:
    """Whether both begin with the same memory: a segment says how it was made."""
    if program.words != plain.words:
        return False
    if isinstance(program.init, np.ndarray) and isinstance(plain.init, np.ndarray):
        return bool((program.init == plain.init).all())
    return True  # no segment


@contextmanager
def in_worlds(names: Iterable[str]) -> Iterator[None]:
    """States that are booted meanwhile are in these worlds, applied in this order."""
    with ExitStack() as stack:
        for one in reversed(tuple(names)):  # the innermost is applied first
            stack.enter_context(reshaped(**WORLDS[one].changes))
        yield


class ProgramTable(dict[str, Builder]):
    """What builds each program, by its name, with or without worlds behind it."""

    def __init__(self, plain: Mapping[str, Builder]) -> None:
        super().__init__(plain)
        self._asked_for: dict[str, Builder] = {}
        for name in CHOSEN:
            self[name] = self._varied(name)

    def __missing__(self, name: str) -> Builder:
        builder = self._asked_for.get(name)
        if builder is None:
            builder = self._asked_for[name] = self._varied(name)
        return builder

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and self._is_varied(name))

    def get(self, name: str, default: Any = None) -> Any:
        if name not in self:
            return default
        return self[name]

    def _is_varied(self, name: str) -> bool:
        base, worlds = worlds_of(name)
        return super().__contains__(base) and bool(worlds) and set(worlds) <= WORLDS.keys()

    def _varied(self, name: str) -> Builder:
        """What builds the program of a name with worlds, once. Raises ``KeyError`` for no such."""
        base, worlds = worlds_of(name)
        if not worlds or not super().__contains__(base):
            raise KeyError(name)
        return cache(partial(build_in, super().__getitem__(base), name))
