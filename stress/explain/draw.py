"""Small programs drawn from what a failed run left: operations that were seen, in worlds like it.

What is drawn depends on the seed and on the evidence alone. Operations that stand in the history or
that the workloads make come more often than others of the same kind; orders are cut to the size of
the world, and a world is as large as a few operations need. So the first programs are the smallest.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from shmalloc import constants_slab as cs
from stress.explain.evidence import Evidence
from stress.explain.operations import MOST_IN_BULK, OBJECTS, PAGES, PERFORMERS
from stress.explain.worlds import OF_FIRST_ZONE, Operation, Sketch

GROWS_AFTER = 40  # sketches with two CPUs and one operation each or two
LINK_STORES = ("descriptor", "table", "index", "bitmap")
SMALL_OBJECTS = (8, 16, 32)
SHEAF_BYTES = 48  # four objects in a page of 256 bytes, with sheaves of one object
SHEAF_FLAGS = 1 << cs.CF_CAPACITY_SHIFT | 1 << cs.CF_BARN_SHIFT
PAGE_SLOTS, OBJECT_SLOTS = 2, 4


def sketches(evidence: Evidence, seed: int = 1) -> Iterator[Sketch]:
    """Programs without end, small ones first."""
    chance = random.Random(seed)
    weights = evidence.alphabet
    on_objects = sum(n for name, n in weights.items() if name in OBJECTS and name not in PAGES)
    on_pages = sum(n for name, n in weights.items() if name in PAGES)
    total = on_objects + on_pages
    number = 0
    while True:
        objects = total > 0 and chance.random() * total < on_objects
        yield _sketch(chance, evidence, weights, objects, number)
        number += 1


def _sketch(
    chance: random.Random,
    evidence: Evidence,
    weights: Mapping[str, int],
    objects: bool,
    number: int,
) -> Sketch:
    table = OBJECTS if objects else PAGES
    small = number < GROWS_AFTER
    cpus = 2 if small or chance.random() < 0.75 else 3
    world = _object_world(chance) if objects else _page_world(chance, evidence, small)
    names = [name for name in table if weights.get(name)] or ["take", "put"]
    if world.get("zones", 1) > 1:  # what goes past the lists goes to the first zone
        names = [name for name in names if name not in OF_FIRST_ZONE] or ["take", "put"]
    if not objects:
        names = _together(chance, names)
    drawer = _Drawer(chance, world, table, names, [weights.get(name, 1) for name in names], cpus)
    before = tuple(drawer.preparation(objects) for _ in range(cpus))
    most = 2 if small else 3
    threads = tuple(drawer.thread(chance.randint(1, most)) for _ in range(cpus))
    return Sketch(world, before, threads)


def _together(chance: random.Random, names: list[str]) -> list[str]:
    """Those of ``names`` that one kernel has: of the kernels that have most of what is special."""
    fitting = [[name for name in names if name in known] for _, known in PERFORMERS]
    most = max(map(len, fitting))
    return chance.choice([one for one in fitting if len(one) >= most - 1])


def _page_world(chance: random.Random, evidence: Evidence, small: bool) -> dict[str, Any]:
    order = chance.choice((0, 1, 1, 2)) if small else chance.choice((0, 1, 2, 3))
    world: dict[str, Any] = {"pages": 1 << order, "max_order": order}
    if order == 0 or chance.random() < 0.3:
        world["pages"] *= 2
    if order and chance.random() < 0.5:
        world["pageblock_order"] = chance.randint(0, order)
    if chance.random() < 0.3:
        world["pcp_high"] = world["pcp_batch"] = 2
    if chance.random() < 0.2 and str(evidence.options.get("zones", "2")) != "1":
        world["zones"] = 2
    store = evidence.options.get("link-store", evidence.options.get("link_store"))
    if store in LINK_STORES:
        world["link_store"] = store
    filled = "poison" in str(evidence.options.get("geometry", ""))
    if filled or chance.random() < 0.15:
        world["poison"] = True
    return world


def _object_world(chance: random.Random) -> dict[str, Any]:
    pages = chance.choice((1, 2, 4))
    if chance.random() < 0.5:
        return {"pages": pages, "object_bytes": chance.choice(SMALL_OBJECTS)}
    return {
        "pages": max(pages, 2),
        "page_bytes": 256,
        "object_bytes": SHEAF_BYTES,
        "cache_flags": SHEAF_FLAGS | (cs.CF_EXACT if chance.random() < 0.2 else 0),
    }


class _Drawer:
    """Operations of one world."""

    def __init__(
        self,
        chance: random.Random,
        world: Mapping[str, Any],
        table: Mapping[str, tuple[int, tuple[str, ...]]],
        names: list[str],
        weights: list[int],
        cpus: int,
    ) -> None:
        self._chance, self._world, self._table = chance, world, table
        self._names, self._weights, self._cpus = names, weights, cpus

    def thread(self, count: int) -> tuple[Operation, ...]:
        names = self._chance.choices(self._names, self._weights, k=count)
        return tuple(self.operation(name) for name in names)

    def preparation(self, objects: bool) -> tuple[Operation, ...]:
        """Some blocks or objects taken, a few of them given back: lists and slabs are not empty."""
        take, put, slots = ("take", "put", PAGE_SLOTS)
        if objects:
            take, put, slots = ("object_take", "object_put", OBJECT_SLOTS)
        elif self._world.get("zones", 1) == 1 and self._chance.random() < 0.5:
            take, put = "zone_take", "zone_put"
        taken = self._chance.sample(range(slots), self._chance.randint(0, slots))
        found = [self._with_slot(take, slot) for slot in taken]
        back = [slot for slot in taken if self._chance.random() < 0.3]
        return (*found, *((put, slot) for slot in back))

    def _with_slot(self, name: str, slot: int) -> Operation:
        return (name, slot, *self.operation(name)[2:])

    def operation(self, name: str) -> Operation:
        return (name, *(self._value(kind) for kind in self._table[name][1]))

    def _value(self, kind: str) -> int:
        limits = {
            "slot": PAGE_SLOTS,
            "object": OBJECT_SLOTS,
            "order": self._world.get("max_order", 0) + 1,
            "pfn": self._world["pages"] * self._world.get("zones", 1),
            "cpu": self._cpus,
            "count": MOST_IN_BULK,
        }
        value = self._chance.randrange(limits[kind])
        return value + 1 if kind == "count" else value
