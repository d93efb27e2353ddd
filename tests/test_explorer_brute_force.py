"""Programs that spin, sleep and wake: exhaustive searches against brute force.

The judge is spinning_classes.py, which shares nothing with the explorer. The session's seed makes
the programs. ``tox -e fuzz-explorer`` compares 20,000.
"""

from __future__ import annotations

import pytest

from support.fuzz_explorer import numbered
from support.reference import Instruction, Straight
from support.spinning_agreement import differences

PARTS = range(6)
PROGRAMS = 25  # of a part

memories = pytest.mark.parametrize("memory", ["sc", "tso"])


@pytest.mark.parametrize("part", PARTS)
def test_the_explorer_agrees_with_brute_force_about_random_programs(part, rng):
    seed = rng.randrange(1 << 30)
    for number in range(PROGRAMS):
        assert numbered(seed, number).differences == []


@memories
def test_a_spin_by_exchange_ends_by_any_change(memory):
    """A lock that is taken, given another value and added to: an exchange finds all three."""
    program = Straight("exchange", (0, 0), (
        (Instruction("cas", 1, 0, 1), Instruction("store", 1, 2), Instruction("fetch_add", 1, 1)),
        (Instruction("spin_lock", 1),),
    ))  # fmt: skip
    assert differences(program, memory, free_spins=1) == []


@memories
def test_a_store_of_the_value_that_a_word_has_ends_no_spin(memory):
    program = Straight("same value", (0, 0), (
        (Instruction("cas", 0, 0, 2), Instruction("fetch_add", 1, 1)),
        (Instruction("spin_seen", 1, 0),),
        (Instruction("exchange", 0, 2),),
    ))  # fmt: skip
    assert differences(program, memory, free_spins=1) == []


@memories
def test_two_values_do_not_pass_for_a_third_that_a_spin_reads(memory):
    """The first spin finds 0 and then 2, the next one 3: nothing repeats."""
    program = Straight("sum", (0, 1, 1), (
        (Instruction("exchange", 0, 2), Instruction("spin_thrice", 0, 0)),
        (Instruction("fetch_add", 0, 1), Instruction("cas2", 0, 1)),
    ))  # fmt: skip
    assert differences(program, memory, free_spins=1) == []


def test_a_heavy_fence_comes_behind_no_read_for_the_flush_that_it_waited_for():
    """In front of both stores the fence is behind neither flush, nor behind what came before it."""
    program = Straight("fenced", (0, 0), (
        (Instruction("cas", 0, 1, 0),),
        (Instruction("heavy_fence", 0, 1, 2),),
        (Instruction("store", 0, 2, 1), Instruction("store", 0, 3, 2)),
    ))  # fmt: skip
    assert differences(program, "tso", free_spins=0) == []


def test_a_heavy_fence_is_not_tried_where_an_older_store_could_not_be_flushed():
    """Behind the second store comes the read of it, and behind that the flush of the first one."""
    program = Straight("held back", (0, 0), (
        (Instruction("store", 0, 1), Instruction("store", 0, 3), Instruction("load", 0)),
        (Instruction("heavy_fence", 0),),
    ))  # fmt: skip
    assert differences(program, "tso", free_spins=1) == []


def test_steps_behind_the_resumed_side_of_a_race_are_taken_once():
    """The load of the spin may be resumed by the fetch_add, which comes behind it: that one is in
    the sequence to insert already, when the sequence asks what else lies behind."""
    program = Straight("resumed", (0, 1), (
        (Instruction("store", 1, 2), Instruction("cas", 0, 1, 1)),
        (Instruction("cas", 0, 1, 0), Instruction("spin_until", 1, 2)),
        (Instruction("load", 0),),
        (Instruction("fetch_add", 0, 1), Instruction("cas", 0, 0, 1)),
    ))  # fmt: skip
    assert differences(program, "sc", free_spins=0) == []
