"""A new random strategy is one module of three functions and its line in the table: this one.

The actors take turns in the order of their numbers; chance decides only which one begins. The area
has one word, the actor that made the last step.
"""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest

import model_programs as m
from shmalloc.engine.control import scheduler
from stress import Program, explore
from stress.explorer.searches import Budget, Plan, Search
from stress.explorer.strategies.loop import enabled
from stress.explorer.strategies.table import RANDOM, RandomStrategy
from stress.explorer.strategies.walk import driver_of
from stress.machine import block as cb
from stress.machine.block_layout import Settings
from stress.machine.machine import events_of
from stress.machine.schedule import draw
from support.explorations import searching, state, varied_program

STRIDE = cb.STRATEGY_OWN
NAME = "rotation"
LOST_UPDATE = Program("lost update", 8, (m.increment, m.increment), check=m.expect_two)
THREE = Program("three", 8, (m.spin_without_relax,) * 3)

engines = pytest.mark.parametrize("engine", ["native", "interpreted"])


@scheduler
def start(ctl):
    ctl[ctl[cb.TREE_AT]] = draw(ctl, ctl[cb.ACTORS])


@scheduler
def choose(ctl, choices):
    actor = (ctl[ctl[cb.TREE_AT]] + ctl[STRIDE]) % ctl[cb.ACTORS]
    while enabled(ctl, actor, choices) == 0:
        actor = (actor + 1) % ctl[cb.ACTORS]
    return actor


@scheduler
def after(ctl, actor, op, at, choices):
    ctl[ctl[cb.TREE_AT]] = actor


@pytest.fixture(autouse=True)
def rotation(monkeypatch: pytest.MonkeyPatch) -> RandomStrategy:
    """The line in the table."""
    line = RandomStrategy(
        sys.modules[__name__], "CPUs take turns", lambda words, cpus: 1, {STRIDE: "depth"}
    )
    monkeypatch.setitem(RANDOM, NAME, line)
    return line


@engines
def test_a_new_strategy_finds_what_its_schedules_show(engine):
    found = explore(LOST_UPDATE, strategy=NAME, depth=1, schedules=10, engine=engine, races=False)
    assert (found.verdict, found.strategy, found.failure.code) == ("failed", NAME, -1)


@engines
def test_its_schedules_are_the_ones_that_it_describes(engine):
    plan = Plan(NAME, Settings(step_limit=30, log=True), engine, 1, False, depth=1)
    search = Search(THREE, plan, Budget(None, None))
    first = set()
    for seed in range(20):
        search.machine.call(search.driver, seed, 1)
        cpus = [event.cpu for event in events_of(search.block)]
        assert all(later == (cpu + 1) % 3 for cpu, later in pairwise(cpus))
        first.add(cpus[0])
    assert first == {0, 1, 2}


def test_an_argument_of_explore_reaches_its_word(rotation):
    plan = Plan(NAME, Settings(), "interpreted", 1, False, depth=2)
    assert Search(THREE, plan, Budget(None, None)).block[STRIDE] == 2


@pytest.mark.parametrize("memory", ["sc", "tso", "pso"])
def test_it_makes_the_same_schedules_on_both_engines(memory):
    for number in range(40):
        program = varied_program(number)
        native, python = (searching(program, NAME, memory, e) for e in ("native", "interpreted"))
        for search in (native, python):
            search.run(Budget(None, 3))
        assert state(native.machine) == state(python.machine)


def test_each_strategy_has_one_loop_of_its_own():
    loops = [line.driver() for line in RANDOM.values()]
    assert len(set(loops)) == len(RANDOM)
    assert loops == [driver_of(line.module) for line in RANDOM.values()]
    assert {loop.__module__ for loop in loops} == {line.module.__name__ for line in RANDOM.values()}
