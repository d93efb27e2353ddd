"""DPOR in parts counts what DPOR in one counts: every class once, however the parts are cut.

One search is compared with brute force elsewhere (test_explorer_classes.py, which counts the
classes of formulas, and test_explorer_brute_force.py). ``tox -e parts`` compares 2,000 programs.
"""

from __future__ import annotations

import random

import pytest

from stress.explorer.subtrees import Subtrees, explore_part
from stress.programs import PROGRAMS
from support.explorations import as_program
from support.explored_in_parts import compare, in_parts, numbered, plan_of, sequential
from support.litmus_programs import COUNTED, LITMUS

RANDOM_PROGRAMS = 60
MOST_PARTS = 150  # of a family
memories = pytest.mark.parametrize("memory", ["sc", "tso"])


@pytest.mark.parametrize("counted", COUNTED, ids=lambda counted: counted.program.name)
def test_a_family_in_parts_has_as_many_classes_as_its_formula_says(counted, rng):
    most = max(1, counted.classes // MOST_PARTS)
    subtrees = in_parts(as_program(counted.program), plan_of("sc"), rng, 2 * most)
    assert subtrees.exhausted
    assert subtrees.found.schedules == counted.classes


@memories
def test_the_parts_of_litmus_tests_have_the_classes_of_the_whole(memory, rng):
    for litmus in LITMUS:
        compared = compare(as_program(litmus.program), plan_of(memory), rng)
        assert compared is not None
        assert compared[1] == "", litmus.program.name


def test_the_parts_of_random_programs_have_the_classes_of_the_whole(rng):
    seed = rng.randrange(1 << 30)
    for number in range(RANDOM_PROGRAMS):
        assert numbered(seed, number)[1] == "", f"seed {seed}, program {number}"


@memories
@pytest.mark.parametrize("name", ["buddy-merge-take", "store-index-swap"])
def test_the_parts_of_a_program_of_the_allocator_have_its_classes(name, memory, rng):
    program, plan = PROGRAMS[name](), plan_of(memory, step_limit=10_000)
    subtrees = in_parts(program, plan, rng, 4000)
    whole = sequential(program, plan, 10**6)
    assert whole is not None
    assert subtrees.found.schedules == whole.schedules


def test_a_part_that_is_explored_again_gives_the_same(rng):
    program, plan = as_program(COUNTED[0].program), plan_of("sc")
    subtrees = Subtrees()
    while not subtrees.done:
        handed = subtrees.take()
        assert handed is not None
        first, second = (explore_part(program, plan, handed.part, 2) for _ in range(2))
        assert first.found == second.found
        assert (first.cut is None) == (second.cut is None)
        if first.cut is not None and second.cut is not None:
            assert first.cut.rest.key() == second.cut.rest.key()
        subtrees.merge(handed.number, first)
    assert subtrees.found.schedules == COUNTED[0].classes


def test_a_result_that_comes_twice_is_counted_once():
    program, plan = as_program(COUNTED[0].program), plan_of("sc")
    subtrees = Subtrees()
    while not subtrees.done:
        handed = subtrees.take()
        assert handed is not None
        explored = explore_part(program, plan, handed.part, 3)
        subtrees.merge(handed.number, explored)
        subtrees.merge(handed.number, explored)
    assert subtrees.found.schedules == COUNTED[0].classes


def test_a_part_that_was_given_back_is_explored_by_the_next_one():
    program, plan = as_program(COUNTED[0].program), plan_of("sc")
    rng = random.Random(0)
    subtrees = Subtrees()
    while not subtrees.done:
        handed = subtrees.take()
        assert handed is not None
        if rng.random() < 0.5:
            subtrees.give_back(handed.number)
        else:
            subtrees.merge(handed.number, explore_part(program, plan, handed.part, 3))
    assert subtrees.found.schedules == COUNTED[0].classes
