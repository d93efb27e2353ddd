"""The estimated number of classes, against their number: exact where little is to be seen, without
bias and with an honest interval elsewhere. The numbers come from formulas and from reference.py.
"""

from __future__ import annotations

import random
from math import factorial, isclose, sqrt

import pytest

from model_programs import increment
from stress import Program, explore
from stress.explorer.sampling import Estimate, Member, Sampler, interval_of, thin
from stress.machine.block_layout import Settings
from stress.programs import PROGRAMS
from stress.quantities import rough_count
from support import reference
from support.explorations import FETCH_ADD, as_program, coded
from support.litmus_programs import COUNTED, LITMUS, adders

MEMORIES = pytest.mark.parametrize("memory", ["sc", "tso"])
LONG_S = 1e9
SIZE = 8  # of a population, so that most members are dropped
POPULATIONS = 40
TURNS = coded("turns", *[[(FETCH_ADD, 0, 1, 0)] * 6] * 3)
TURNS_CLASSES = factorial(18) // factorial(6) ** 3


def sampler_of(program: Program, memory: str, seed: int, engine: str = "native") -> Sampler:
    settings = Settings(step_limit=300, model=memory, races=False)
    return Sampler(program, settings, engine, seed)


def estimate(program: Program, memory: str, seed: int, engine: str = "native") -> Estimate:
    found = sampler_of(program, memory, seed, engine).estimate(LONG_S)
    assert found is not None
    return found


# --- exact where a population holds everything ----------------------------------------------------
@MEMORIES
@pytest.mark.parametrize("litmus", LITMUS, ids=lambda litmus: litmus.program.name)
def test_the_classes_of_a_litmus_test_are_counted_exactly(litmus, memory, shm_seed):
    found = estimate(as_program(litmus.program), memory, shm_seed)
    assert found.exact
    assert isclose(found.classes, reference.classes(litmus.program, memory)), shm_seed


@MEMORIES
def test_the_classes_of_small_random_programs_are_counted_exactly(memory, rng, shm_seed):
    exact = 0
    for _ in range(30):
        program = reference.random_straight_program(rng.randrange(1 << 30), 500, ("choose",))
        found = estimate(as_program(program), memory, shm_seed)
        if found.exact:
            assert isclose(found.classes, reference.classes(program, memory)), program
            exact += 1
    assert exact > 20, "most of them have few classes"


def test_both_engines_count_alike(shm_seed):
    found = [
        estimate(as_program(adders(3).program), "sc", shm_seed, engine)
        for engine in ("native", "interpreted")
    ]
    assert found[0] == found[1]
    assert found[0].classes == 6


SOME = [one for one in COUNTED if 2 * SIZE < one.classes < 100]


# --- without bias where it does not ---------------------------------------------------------------
def assert_unbiased(found: list[float], classes: float, seed: int) -> None:
    count = len(found)
    mean = sum(found) / count
    spread = sqrt(sum((value - mean) ** 2 for value in found) / (count - 1) / count)
    assert abs(mean - classes) < 6 * spread + 1e-6 * classes, (seed, mean, spread, classes)


def populations(program: Program, memory: str, seed: int, count: int) -> list[float]:
    sampler = sampler_of(program, memory, seed)
    sampler.learn()
    return [sampler.population(SIZE) for _ in range(count)]


@MEMORIES
@pytest.mark.parametrize("counted", SOME, ids=lambda counted: counted.program.name)
def test_the_mean_of_many_populations_is_the_number_of_classes(counted, memory, shm_seed):
    classes = reference.classes_by_prefixes(counted.program, memory)
    found = populations(as_program(counted.program), memory, shm_seed, POPULATIONS)
    assert_unbiased(found, classes, shm_seed)


def test_the_mean_is_right_for_seventeen_million_classes(shm_seed):
    assert_unbiased(populations(TURNS, "sc", shm_seed, POPULATIONS), TURNS_CLASSES, shm_seed)


@pytest.mark.parametrize("name", ["lock-sleep-2", "lock-sleep-spin-2", "lock-drain-unplug-3"])
def test_programs_that_sleep_and_spin_have_as_many_classes_as_dpor_runs(name, shm_seed):
    program = PROGRAMS[name]()
    classes = explore(program, "dpor", seconds=None).classes
    found = estimate(program, "sc", shm_seed)
    if found.exact:
        assert isclose(found.classes, classes), shm_seed
    assert_unbiased(populations(program, "sc", shm_seed, POPULATIONS), classes, shm_seed)


# --- thinning -------------------------------------------------------------------------------------
def test_thinning_keeps_the_expected_weight_of_each_member():
    rng = random.Random(1)
    weights = [8.0, 3.0, 1.0, 1.0, 0.5, 0.25]
    members = {k: Member(weight, (k,), (0,)) for k, weight in enumerate(weights)}
    sums = dict.fromkeys(members, 0.0)
    rounds = 20_000
    for _ in range(rounds):
        kept = thin(members, 3, rng)
        assert len(kept) <= 3
        for key, member in kept.items():
            sums[key] += member.weight
    for key, weight in enumerate(weights):
        assert sums[key] / rounds == pytest.approx(weight, abs=0.15)


def test_few_members_stay_as_they_are():
    members = {k: Member(float(k), (k,), (0,)) for k in range(3)}
    assert thin(members, 3, random.Random(1)) == members


# --- the interval ---------------------------------------------------------------------------------
def test_the_interval_is_that_of_student():
    assert interval_of([9.0, 10.0, 11.0], 50) == pytest.approx((10, 7.52, 12.48, 150), abs=0.01)


@pytest.mark.parametrize("found", [[], [9.0], [9.0, 11.0]])
def test_two_populations_say_nothing(found):
    assert interval_of(found, 50) is None


def test_no_time_is_no_estimate(shm_seed):
    assert sampler_of(TURNS, "sc", shm_seed).estimate(0) is None


def test_an_exploration_that_ends_early_prints_the_interval():
    program = Program("6 increments", 16, [increment] * 6)  # 6! ** 2 classes
    result = explore(program, "dpor", schedules=100, seconds=None, races=False)
    assert result.classes == 100
    assert result.interval is not None
    low, high = result.interval
    assert 100 < low < result.estimate < high
    assert f"of about {result.estimate:,.0f} ({low:,.0f} to {high:,.0f})" in str(result)


def test_an_exploration_to_the_end_has_no_interval():
    result = explore(as_program(adders(4).program), "dpor", seconds=None, races=False)
    assert (result.estimate, result.interval) == (24, None)


def test_a_number_that_nobody_counts_is_printed_with_three_digits():
    assert (rough_count(914_991.4), rough_count(1.58e18)) == ("914,991", "1.58e+18")
