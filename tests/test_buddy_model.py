"""Real and model in lock-step: random operations against a set of pages, on all configurations."""

import pytest

from shmalloc import constants as c
from shmalloc.layout import LINK_STORES, PCP_FORMS, ZoneSpec
from support import driver
from support.page_segment import SMALL, PageSegment

STEPS = 600
CONFIGURATIONS = [(store, form) for store in LINK_STORES for form in PCP_FORMS]


class Model:
    """What must be true of pages: a set of live, disjoint, aligned extents, each in one zone."""

    def __init__(self, pages, border=None):
        self.free = set(pages)
        self.live = {}
        self.border = border  # first page of the second zone

    def allocated(self, pfn, order):
        block = set(range(pfn, pfn + (1 << order)))
        assert pfn % (1 << order) == 0 and not self.crosses(sorted(block)), "misaligned"
        assert block <= self.free, f"pages {sorted(block - self.free)} were not free"
        self.free -= block
        self.live[pfn] = order

    def may_fail(self, order):
        """Whether no zone has an aligned block of free pages."""
        starts = (p for p in self.free if p % (1 << order) == 0)
        blocks = (range(p, p + (1 << order)) for p in starts)
        return not any(set(b) <= self.free and not self.crosses(b) for b in blocks)

    def crosses(self, block):
        return self.border is not None and block[0] < self.border <= block[-1]

    def freed(self, pfn):
        order = self.live.pop(pfn)
        self.free |= set(range(pfn, pfn + (1 << order)))
        return order


def step(world, model, rng):
    """One random operation on both."""
    cpu = rng.randrange(2)
    if model.live and rng.random() < 0.48:
        pfn = rng.choice(sorted(model.live))
        assert world.free(pfn, model.freed(pfn), cpu=cpu) == 0
        return
    order = rng.choice([0, 0, 0, 1, 1, 2, 3, 4])
    pfn = world.alloc(order, rng.randrange(c.MT_PCP_TYPES), cpu=cpu)
    if pfn >= 0:
        model.allocated(pfn, order)
    else:
        assert pfn == c.E_NOMEM and model.may_fail(order)


@pytest.mark.parametrize(("link_store", "pcp_form"), CONFIGURATIONS)
def test_random_operations_agree_with_the_model(engine, rng, link_store, pcp_form):
    zones = (ZoneSpec(41), ZoneSpec(23, 1, ((2, 2),)))
    world = PageSegment(engine, SMALL, zones=zones, link_store=link_store, pcp_form=pcp_form)
    model = Model(set(range(64)) - {43, 44}, border=41)
    for n in range(STEPS):
        step(world, model, rng)
        if n % 50 == 0:
            assert world.audit() == 0, world.reports()
    for pfn in sorted(model.live):
        assert world.free(pfn, model.freed(pfn)) == 0
    assert world.teardown() == 0, world.reports()


@pytest.mark.parametrize("fill", ["poison", "zero"])
@pytest.mark.parametrize("link_store", LINK_STORES)
def test_random_operations_keep_the_bytes_of_free_pages(engine, rng, link_store, fill):
    world = PageSegment(engine, SMALL, link_store=link_store, **{fill: True})
    model = Model(range(64))
    for _ in range(200):
        step(world, model, rng)
        for pfn in list(model.live)[-1:]:
            world.mem[world.layout.frame(pfn) + rng.randrange(8)] = rng.randrange(1 << 62)
    assert (world.audit(), world.do(driver.AUDIT)) == (0, 0), world.reports()
