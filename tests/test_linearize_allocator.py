"""The allocator's model at full size: made-up histories, broken ones, the dead, and its parts."""

from __future__ import annotations

import random

import pytest

from shmalloc.errors import MisuseError
from stress.linearize import Operation, check
from stress.linearize.allocator import FAILED, allocator, overlapping
from stress.linearize.simulate import Intent, Pages, hand_out_twice, simulate

PAGES, MAX_ORDER = 64, 3
MODEL = allocator(PAGES, MAX_ORDER)


def alloc(client: int, order: int, pfn: int | None, call: float, returned: float | None):
    return Operation(client, "alloc", order, pfn, call, returned)


def free(client: int, pfn: int, order: int, call: float, returned: float | None, told=True):
    return Operation(client, "free", (pfn, order), told, call, returned)


def made_up(rng: random.Random, operations: int, death: float = 0.0) -> list[Operation]:
    """Six clients; if some die, the others free what they had, pending allocations included."""
    world, living = Pages(PAGES, MAX_ORDER, rng, hold=3), set[int]()

    def begin(client: int) -> Intent:
        if client not in living and len(living) == 6:
            world.held.setdefault(client, [])
            world.reap(min(living))
            living.remove(min(living))
        living.add(client)
        return world.begin(client)

    return simulate(begin, 6, operations, rng, death)


@pytest.mark.parametrize("death", [0.0, 0.01])
def test_an_atomic_allocator_passes_and_one_wrong_address_is_caught(rng, death):
    for _ in range(5):
        history = made_up(rng, 1000, death)
        found = check(history, MODEL)
        assert found.ok, found.report()
        broken = check(hand_out_twice(history, rng), MODEL)
        assert broken.verdict == "not-linearizable"
        assert broken.failed[0].blocked is not None


def test_pending_allocs_are_needed_where_the_dead_are_reaped(rng):
    """Otherwise the tests of dead clients above would test nothing."""
    histories = [made_up(rng, 1000, 0.01) for _ in range(10)]
    assert sum(one.pending and one.name == "alloc" for h in histories for one in h) > 40
    without = [[o for o in h if not (o.pending and o.name == "alloc")] for h in histories]
    assert all(check(history, MODEL).ok for history in histories)
    assert not all(check(history, MODEL).ok for history in without)


@pytest.mark.parametrize("spoil", [False, True])
def test_blocks_one_by_one_and_all_at_once_have_the_same_verdict(rng, spoil):
    for _ in range(15):
        history = made_up(rng, 150, 0.02)
        if spoil:
            history = hand_out_twice(history, rng)
        split, whole = (check(history, MODEL, partition=p) for p in (True, False))
        assert split.verdict == whole.verdict == ("not-linearizable" if spoil else "linearizable")


# --- what is legal -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("order", "pfn"),
    [(1, 1), (0, PAGES), (3, PAGES - 4), (0, -1), (4, 0)],
    ids=["misaligned", "behind the end", "over the end", "negative", "order too large"],
)
def test_an_address_that_no_block_can_have_is_illegal(order, pfn):
    assert not check([alloc(0, order, pfn, 1, 2)], MODEL).ok


def test_extents_that_share_a_page_overlap_and_no_others():
    def pages(pfn: int, order: int) -> set[int]:
        return set(range(pfn, pfn + (1 << order)))

    extents = [(pfn, order) for order in range(4) for pfn in range(0, 8, 1 << order)]
    for one in extents:
        bits = overlapping((8 | one[0]) >> one[1], one[1])
        for other in extents:
            shares = bool(pages(*one) & pages(*other))
            assert shares == bool(bits >> ((8 | other[0]) >> other[1]) & 1)


def test_a_free_at_another_order_is_illegal():
    assert not check([alloc(0, 1, 2, 1, 2), free(0, 2, 0, 3, 4)], MODEL).ok


def test_a_refused_free_is_legal_only_where_nothing_is_to_be_freed():
    taken = alloc(0, 0, 5, 1, 2)
    assert not check([taken, free(0, 5, 0, 3, 4, told=False)], MODEL).ok
    assert check([taken, free(0, 5, 0, 3, 4), free(1, 5, 0, 5, 6, told=False)], MODEL).ok


def test_spurious_failures_are_left_out_and_counted():
    found = check([alloc(0, 0, None, 1, 2), alloc(0, 0, 3, 3, 4)], MODEL)
    assert found.ok and len(found.left_out) == 1
    assert "alloc x 1" in found.report()


def test_failures_are_illegal_where_the_model_says_never():
    model = allocator(PAGES, MAX_ORDER, failures="never")
    found = check([alloc(0, 0, None, 1, 2), alloc(0, 0, 3, 3, 4)], model)
    assert [part.key for part in found.failed] == [FAILED]


def test_a_reaper_may_free_what_a_pending_alloc_got_but_only_once():
    lost = alloc(0, 1, None, 1, None)
    assert check([lost, free(9, 6, 1, 2, 3)], MODEL).ok
    assert not check([lost, free(9, 6, 1, 2, 3), free(9, 8, 1, 4, 5)], MODEL).ok
    assert not check([lost, free(9, 6, 0, 2, 3)], MODEL).ok


def test_a_reaper_may_not_free_before_the_pending_alloc_was_called():
    assert not check([alloc(0, 1, None, 4, None), free(9, 6, 1, 2, 3)], MODEL).ok


def test_a_pending_free_frees_or_not():
    taken, lost = alloc(0, 0, 5, 1, 2), free(0, 5, 0, 3, None)
    assert check([taken, lost, alloc(1, 0, 5, 4, 5)], MODEL).ok
    assert check([taken, lost, free(9, 5, 0, 4, 5)], MODEL).ok
    assert not check([taken, lost, free(9, 5, 0, 4, 5), alloc(1, 0, 5, 6, 7),
                      alloc(1, 0, 5, 8, 9), alloc(1, 0, 5, 10, 11)], MODEL).ok  # fmt: skip


def test_a_history_that_cannot_be_broken_so_is_refused(rng):
    with pytest.raises(MisuseError, match="use a longer one"):
        hand_out_twice([alloc(0, 0, 5, 1, 2)], rng)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [((0, 0), "pages, max_order: 0, 0"), ((8, 1, "sometimes"), "use allowed or never")],
)
def test_a_model_that_makes_no_sense_is_refused(arguments, complaint):
    with pytest.raises(MisuseError, match=complaint):
        allocator(*arguments)
