"""The judge of programs that spin and sleep, against known numbers and against reference.py."""

from __future__ import annotations

from itertools import permutations

import pytest

from support import reference
from support.reference import Instruction, Straight
from support.spinning_classes import Enumerator, TooManyError
from support.spinning_programs import LOOPS, draw
from support.spinning_reference import DEADLOCK, ENDLESS, WHAT

SET_FIRST, SET_SECOND = Instruction("store", 0, 1), Instruction("store", 1, 1)
EITHER = Instruction("spin_either", 0, 1)


def judged(*cpus: list[Instruction], model: str = "sc", free_spins: int = 1) -> Enumerator:
    program = Straight("judged", (0, 0), tuple(tuple(code) for code in cpus))
    return Enumerator(program, model, free_spins)


@pytest.mark.parametrize("model", reference.MEMORY_MODELS)
def test_both_references_agree_about_straight_programs(model, rng):
    first = rng.randrange(1 << 30)
    for seed in range(first, first + 12):
        program = reference.random_straight_program(seed, limit=500)
        judge = Enumerator(program, model)
        assert judge.schedules == reference.schedules(program, model), program
        assert judge.traces.classes == reference.classes(program, model), program
        assert judge.traces.outcomes == reference.outcomes(program, model), program


def test_a_word_that_changes_and_changes_back_gives_25_classes_of_312_schedules():
    toggles = [SET_FIRST, Instruction("store", 0, 0), SET_SECOND]
    judge = judged(toggles, [Instruction("spin_seen", 1, 0)])
    assert (judge.schedules, judge.traces.classes) == (312, 25)


def test_either_of_two_changes_ends_a_wait_in_nine_classes():
    assert judged([SET_FIRST], [SET_SECOND], [EITHER]).traces.classes == 9


def test_a_sleeper_that_nobody_wakes_is_a_deadlock():
    assert judged([Instruction("wait", 0, 0)], [SET_SECOND]).traces.ends == {DEADLOCK}


def test_a_wake_before_the_wait_is_lost():
    traces = judged([Instruction("wait", 0, 0)], [Instruction("wake", 0)]).traces
    assert (traces.classes, traces.failing, len(traces.outcomes)) == (2, True, 1)


@pytest.mark.parametrize("count", [1, 2])
def test_a_wake_takes_any_of_the_sleepers(count):
    """One of two sleepers wakes the other one, which does not return that."""
    sleeps, wakes = Instruction("wait", 0, 0), Instruction("wake", 0, count - 1)
    for cpus in permutations([[SET_FIRST, wakes], [sleeps, wakes], [sleeps]]):
        assert judged(*cpus).traces.failing == (count == 1)


def test_a_spin_for_a_word_that_nobody_writes_has_no_end():
    assert judged([Instruction("spin_until", 0, 1)], [SET_SECOND]).traces.ends == {ENDLESS}


def test_a_cpu_that_stands_still_gives_up_when_all_others_have_stopped():
    thrice = Instruction("spin_thrice", 0, 1)
    patient = judged([thrice, SET_SECOND], [SET_FIRST], free_spins=3).traces.outcomes
    stopped = judged([thrice, SET_SECOND], [SET_FIRST], free_spins=0).traces.outcomes
    assert patient == {(1, 1, 0, 1), (1, 1, 5, 1)}
    assert stopped == {(1, 1, 5, 1)}


@pytest.mark.parametrize("take", [Instruction("spin_lock", 0), Instruction("spin_cas", 0, 0, 1)])
@pytest.mark.parametrize("model", ["sc", "tso"])
def test_a_spin_lock_protects(take, model):
    code = [take, Instruction("read", 1), Instruction("write", 1, 4), Instruction("store", 0, 0)]
    outcomes = judged(code, code, model=model).traces.outcomes
    assert {outcome[2:] for outcome in outcomes} == {(0, 5), (5, 1)}


def test_a_value_from_the_own_buffer_is_new_when_it_is_flushed():
    spins = [Instruction("store", 0, 1), Instruction("spin_until", 0, 2)]
    adds = [Instruction("cas", 0, 1, 2)]
    assert judged(spins, adds, model="tso").traces.ends >= {(2, 0, 0, 2)}


def test_a_program_that_is_too_large_is_refused():
    with pytest.raises(TooManyError):
        _ = Enumerator(judged(*[[SET_FIRST] * 4] * 4).machine.program, "sc", most=50).schedules


def test_the_programs_drawn_have_all_instructions(rng):
    programs = [draw(rng, "sc", 20_000).program for _ in range(1500)]
    drawn = {one.op for program in programs for code in program.cpus for one in code}
    assert drawn == set(WHAT)
    assert set(LOOPS) < drawn
