"""Descriptor transitions as pure functions: exhaustive over states and events."""

import itertools

import pytest

from shmalloc import constants as c
from shmalloc.kernels import bits, descriptor

TYPES = range(c.T_COUNT)
ALLOWED = {
    c.T_TAIL: {c.T_FREE, c.T_ALLOCATED},
    c.T_FREE: {c.T_TAIL, c.T_FREE, c.T_PCP, c.T_ALLOCATED, c.T_ISOLATED, c.T_OFFLINE, c.T_POISONED},
    c.T_PCP: {c.T_TAIL, c.T_FREE, c.T_PCP, c.T_ALLOCATED, c.T_POISONED},
    c.T_ALLOCATED: {c.T_ALLOCATED, c.T_PCP, c.T_SLAB},
    c.T_SLAB: {c.T_SLAB, c.T_ALLOCATED},
    c.T_ISOLATED: {c.T_FREE, c.T_ALLOCATED, c.T_TAIL},
    c.T_OFFLINE: {c.T_FREE, c.T_TAIL},
    c.T_POISONED: set(),
    c.T_RESERVED: set(),
}
FIELDS = ((0, 0, 0, 0), (11, 63, 3, 1), (5, 33, 2, (1 << 34) - 1))  # order, zone, mt, detail


@pytest.mark.parametrize(("before", "after"), list(itertools.product(TYPES, TYPES)))
def test_transition_is_allowed_exactly_where_the_table_says(before, after):
    old = bits.pack(before, 3, 2, 1, 5, 7)
    new = bits.next_word(old, after, 4, 1, 2, 9)
    assert (new >= 0) == (after in ALLOWED[before])


@pytest.mark.parametrize(("kind", "fields"), list(itertools.product(TYPES, FIELDS)))
def test_every_field_survives_packing(kind, fields):
    order, zone, mt, detail = fields
    word = bits.pack(kind, order, zone, mt, detail, c.VERSION_MASK)
    read = (bits.order_of(word), bits.zone_of_word(word), bits.mt_of(word), bits.detail_of(word))
    assert (bits.type_of(word), *read) == (kind, *fields)


@pytest.mark.parametrize("kind", TYPES)
def test_no_descriptor_uses_bit_63(kind):
    full = bits.pack(kind, 15, 63, 3, (1 << 34) - 1, c.VERSION_MASK) | c.POISON_BIT
    assert 0 <= full < 1 << 63


@pytest.mark.parametrize("version", [0, 1, c.VERSION_MASK - 1, c.VERSION_MASK])
def test_every_transition_bumps_the_version(version):
    old = bits.pack(c.T_FREE, 1, 0, 0, 0, version)
    new = bits.next_word(old, c.T_FREE, 1, 0, 0, 0)
    assert bits.version_of(new) == (version + 1) % (c.VERSION_MASK + 1)


def test_only_free_has_the_free_type():
    assert [t for t in TYPES if t == c.T_FREE] == [c.T_FREE] and c.T_TAIL == 0


FREE_PROBLEMS = {
    c.T_TAIL: c.M_TAIL_FREE,
    c.T_FREE: c.M_DOUBLE_FREE,
    c.T_PCP: c.M_DOUBLE_FREE,
    c.T_SLAB: c.M_SLAB_AS_PAGE,
    c.T_ISOLATED: c.M_WRONG_STATE,
    c.T_OFFLINE: c.M_WRONG_STATE,
    c.T_POISONED: c.M_WRONG_STATE,
    c.T_RESERVED: c.M_WRONG_STATE,
}


@pytest.mark.parametrize("kind", sorted(FREE_PROBLEMS))
def test_free_of_a_page_that_is_not_allocated_names_its_misuse(kind):
    word = bits.pack(kind, 2, 0, 0, 0, 0)
    assert descriptor.free_problem(word, 7, 2, 7) == FREE_PROBLEMS[kind]


@pytest.mark.parametrize(
    ("order", "owner", "problem"),
    [(2, 7, 0), (2, 0, 0), (1, 7, c.M_WRONG_ORDER), (3, 7, c.M_WRONG_ORDER), (2, 8, c.M_STRANGER)],
)
def test_free_of_an_allocated_page_checks_order_and_owner(order, owner, problem):
    word = bits.pack(c.T_ALLOCATED, 2, 0, 0, 0, 0)
    assert descriptor.free_problem(word, 7, order, owner) == problem


@pytest.mark.parametrize(
    ("kind", "order", "zone", "pfn", "legal"),
    [
        (c.T_FREE, 3, 0, 8, True),
        (c.T_FREE, 3, 0, 4, False),
        (c.T_FREE, 5, 0, 32, False),
        (c.T_FREE, 0, 2, 1, False),
        (c.T_TAIL, 0, 0, 0, False),
        (c.T_COUNT, 0, 0, 0, False),
        (c.T_RESERVED, 0, 1, 3, True),
    ],
)
def test_legal_head_demands_type_alignment_order_and_zone(kind, order, zone, pfn, legal):
    assert bool(bits.legal_head(bits.pack(kind, order, zone, 0, 0, 0), pfn, 4, 2)) == legal
