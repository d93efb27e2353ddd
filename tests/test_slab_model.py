"""The object allocator in lock-step with a Python model: what is live, and what was freed."""

from __future__ import annotations

import random

import pytest

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.engine import Engine
from support.object_segment import FEW, ObjectSegment

SIZES = (8, 24, 64, 100, 700)


class Model:
    """Live objects of each cache, with the words they cover and the stamp in each."""

    def __init__(self, world: ObjectSegment, flags: int) -> None:
        self.world = world
        self.caches = [world.create(size, flags=flags) for size in SIZES]
        self.live: dict[int, tuple[int, int]] = {}
        self.covered: dict[int, int] = {}
        self.freed: dict[int, int] = {}

    def given(self, cache: int, address: int) -> None:
        words = (SIZES[self.caches.index(cache)] + 7) // 8
        for word in range(address, address + words):
            assert self.covered.setdefault(word, address) == address, "two objects share a word"
            if word < address + words - 1 or words == 1:
                self.world.mem[word] = word
        self.live[address] = (cache, words)
        self.freed.pop(address, None)

    def taken(self, address: int) -> int:
        cache, words = self.live.pop(address)
        for word in range(address, address + words):
            if word < address + words - 1 or words == 1:
                assert self.world.mem[word] == word, "a live object was overwritten"
            del self.covered[word]
        self.freed[address] = cache
        return cache

    def step(self, rng: random.Random) -> None:
        cpu, choice = rng.randrange(2), rng.random()
        if choice < 0.45 or not self.live:
            cache = rng.choice(self.caches)
            address = self.world.alloc(cache, cpu)
            if address != c.E_NOMEM:
                self.given(cache, address)
        elif choice < 0.85:
            address = rng.choice(list(self.live))
            assert self.world.free(self.taken(address), address, cpu) == 0
        elif choice < 0.9:
            self.bulk(rng, cpu)
        elif choice < 0.95 and self.freed:
            address, cache = rng.choice(list(self.freed.items()))
            if address not in self.covered:
                assert self.world.free(cache, address, cpu) == c.E_STATE
                assert len(self.world.reports()) == 1
        else:
            assert self.world.shrink(rng.choice(self.caches)) >= 0

    def bulk(self, rng: random.Random, cpu: int) -> None:
        cache = rng.choice(self.caches)
        objects = self.world.alloc_bulk(cache, rng.randrange(1, 20), cpu)
        if isinstance(objects, list):
            for address in objects:
                self.given(cache, address)
        mine = [a for a, (owner, _) in self.live.items() if owner == cache][:10]
        for address in mine:
            self.taken(address)
        assert self.world.free_bulk(cache, mine, cpu) == len(mine)

    def finish(self) -> None:
        assert self.world.reports() == [] and self.world.audit() == 0
        for address in list(self.live):
            assert self.world.free(self.taken(address), address) == 0
        assert [self.world.destroy(cache) for cache in self.caches] == [0] * len(SIZES)
        assert self.world.reports() == []


@pytest.mark.parametrize(
    "flags", [0, FEW, cs.CF_NO_SHEAVES, cs.CF_SHUFFLE | FEW, cs.CF_EXACT | FEW, cs.CF_DEBUG]
)
@pytest.mark.parametrize("harden", [0, 0x2545_F491_4F6C_DD1])
def test_allocator_and_model_agree(
    engine: Engine, rng: random.Random, flags: int, harden: int
) -> None:
    world = ObjectSegment(engine, harden=harden)
    everything = len(world.take_every_page())
    world = ObjectSegment(engine, harden=harden)
    model = Model(world, flags)
    for turn in range(1500):
        model.step(rng)
        if turn % 100 == 0:
            assert world.audit() == 0
    model.finish()
    assert len(world.take_every_page()) == everything
