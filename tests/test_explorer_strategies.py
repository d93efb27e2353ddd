"""What each strategy finds, promises and counts."""

from __future__ import annotations

from math import comb

import pytest

import model_programs as m
from shmalloc.errors import MisuseError
from stress import Exploration, Program, explore
from support.explorations import (
    ENGINES,
    FETCH_ADD,
    LOAD,
    MEMORY_MODELS,
    PLAIN_READ,
    PLAIN_WRITE,
    RANDOM_STRATEGIES,
    SPIN_LOCK,
    SPIN_UNTIL,
    STORE,
    STRATEGIES,
    as_program,
    coded,
)
from support.litmus_programs import COUNTED, Counted, adders

X, LOCK = 0, 2
LOST_UPDATE = Program("lost update", 8, [m.increment] * 2, check=m.expect_two)
TWO_STEPS = [(FETCH_ADD, X, 1, 0)] * 2
# CPU 1 sees both values of CPU 0 (and its own number): only if they take turns, step by step.
TURNS = coded("turns", [(STORE, X, 1, 0), (STORE, X, 3, 0)], [(LOAD, X, 0, 0)] * 2)
IN_TURN = (3, 0, 0, 1 + 1 + 3)
BIG = coded("big", *[[(FETCH_ADD, X, 1, 0), (FETCH_ADD, 1, 2, 0)] * 3] * 6)
SPINNERS = coded("spinners", *[[(SPIN_UNTIL, X, 1, 0)]] * 2, [(STORE, X, 1, 0)])
UNWRITTEN = coded("never written", *[[(SPIN_UNTIL, X, 1, 0)]] * 2)
LOCKERS = coded(
    "lockers",
    *[[(SPIN_LOCK, LOCK, 0, 0), (PLAIN_READ, X, 0, 0), (PLAIN_WRITE, X, 1, 0), (STORE, LOCK, 0, 0)]]
    * 3,
    init=(0, 0, 0),
)
NO_RELAX = Program("no relax", 8, [m.spin_without_relax] * 2)

every_engine = pytest.mark.parametrize("engine", ENGINES)
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)
sampling = pytest.mark.parametrize("strategy", RANDOM_STRATEGIES)
EVERYWHERE = [
    pytest.param(strategy, memory, id=f"{strategy}-{memory}")
    for strategy in STRATEGIES
    for memory in MEMORY_MODELS
    if (strategy, memory) != ("dpor", "pso")
]


def run(program: Program, strategy: str, schedules: int | None = 1_000, **options) -> Exploration:
    """Explore without race detection and without a time limit."""
    options = {"races": False, "seconds": None, **options}
    return explore(program, strategy, schedules=schedules, **options)


# --- bugs are found -------------------------------------------------------------------------------
@every_engine
@every_strategy
def test_a_lost_update_is_found(strategy, engine):
    result = run(LOST_UPDATE, strategy, engine=engine)
    assert result.verdict == "failed"
    assert result.failure is not None
    assert (result.failure.kind, result.failure.code) == ("check", -1)


@every_strategy
def test_a_lost_update_is_a_race_where_races_are_looked_for(strategy):
    result = run(LOST_UPDATE, strategy, races=True)
    assert result.failure is not None
    assert result.failure.kind == "race"


@every_engine
@pytest.mark.parametrize(("depth", "found"), [(1, False), (2, False), (3, True)])
def test_pct_shows_what_needs_three_orderings_from_depth_three_on(depth, found, engine):
    result = run(TURNS, "pct", depth=depth, engine=engine)
    assert (IN_TURN in result.outcomes) == found


@sampling
def test_random_strategies_show_every_outcome_of_a_small_program(strategy):
    assert set(run(TURNS, strategy).outcomes) == set(run(TURNS, "dfs", None).outcomes)


def test_pct_says_with_which_probability_it_missed_a_bug():
    result = run(TURNS, "pct", depth=2, schedules=100)
    assert "depth <= 2" in result.guarantee
    assert "n = 2" in result.guarantee
    assert "100 schedules" in result.guarantee


# --- dfs and its bounds ---------------------------------------------------------------------------
@every_engine
def test_no_preemption_misses_a_lost_update_and_says_what_was_covered(engine):
    result = run(LOST_UPDATE, "dfs", preemptions=0, engine=engine)
    assert (result.verdict, result.schedules) == ("passed-budget", 2)
    assert result.guarantee == "every schedule with at most 0 preemptions was run"


@every_engine
def test_one_preemption_loses_an_update(engine):
    result = run(LOST_UPDATE, "dfs", preemptions=1, engine=engine)
    assert result.failure is not None
    assert result.failure.preemptions == 1


@pytest.mark.parametrize(("preemptions", "found"), [(0, False), (1, False), (2, True)])
def test_turns_step_by_step_need_two_preemptions(preemptions, found):
    result = run(TURNS, "dfs", preemptions=preemptions)
    assert (IN_TURN in result.outcomes) == found


def test_the_guarantee_names_the_last_bound_that_was_completed():
    result = run(BIG, "dfs", preemptions=1)
    assert result.verdict == "passed-budget"
    assert result.guarantee == "every schedule with at most 0 preemptions was run"


@pytest.mark.parametrize("bound", ["preemptions", "delays"])
def test_a_bound_that_cuts_nothing_leaves_nothing(bound):
    result = run(coded("adders", TWO_STEPS, TWO_STEPS), "dfs", **{bound: 9})
    assert result.verdict == "passed-exhausted"
    assert result.guarantee == "every schedule was run"


@pytest.mark.parametrize(("delays", "verdict"), [(0, "passed-budget"), (1, "failed")])
def test_one_delay_loses_an_update(delays, verdict):
    assert run(LOST_UPDATE, "dfs", delays=delays).verdict == verdict


def test_no_delay_is_one_schedule():
    result = run(LOST_UPDATE, "dfs", delays=0)
    assert result.schedules == 1
    assert result.guarantee == "every schedule with at most 0 delays was run"


@every_engine
def test_dfs_without_a_bound_runs_every_interleaving(engine):
    result = run(coded("adders", TWO_STEPS, TWO_STEPS, TWO_STEPS[:1]), "dfs", engine=engine)
    assert (result.verdict, result.schedules) == ("passed-exhausted", comb(5, 1) * comb(4, 2))


@pytest.mark.parametrize("strategy", ["random", "dpor", "auto"])
def test_bounds_are_for_dfs_alone(strategy):
    with pytest.raises(MisuseError, match="dfs"):
        run(LOST_UPDATE, strategy, preemptions=1)


# --- fairness -------------------------------------------------------------------------------------
@every_engine
@pytest.mark.parametrize(("strategy", "memory"), EVERYWHERE)
def test_spinning_with_relax_ends(strategy, memory, engine):
    result = run(SPINNERS, strategy, 100, memory=memory, engine=engine, step_limit=100)
    assert result.passed
    assert (result.failures, result.abandoned) == (0, 0)


@sampling
@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_spinning_for_a_lock_ends_and_every_update_counts(strategy, memory):
    result = run(LOCKERS, strategy, 2_000, memory=memory, races=True, step_limit=300)
    assert result.verdict == "passed-budget"
    assert {outcome[LOCK] for outcome in result.outcomes} == {0}


@every_engine
@every_strategy
def test_a_spin_that_never_ends_is_a_livelock(strategy, engine):
    result = run(UNWRITTEN, strategy, 10, engine=engine)
    assert result.failure is not None
    assert result.failure.kind == "livelock"


@every_engine
@every_strategy
def test_an_endless_spin_without_relax_is_abandoned_and_no_failure(strategy, engine):
    result = run(NO_RELAX, strategy, 5, engine=engine, step_limit=50)
    assert (result.verdict, result.failures) == ("abandoned", 0)
    assert result.abandoned == result.schedules > 0


# --- auto -----------------------------------------------------------------------------------------
@every_engine
def test_auto_exhausts_a_small_program(engine):
    result = run(TURNS, "auto", engine=engine)
    assert (result.verdict, result.classes) == ("passed-exhausted", run(TURNS, "dpor").classes)


def test_auto_gives_up_classes_for_the_portfolio_where_they_are_too_many():
    result = run(BIG, "auto", schedules=4_000)
    assert (result.verdict, result.schedules) == ("passed-budget", 4_000)
    assert result.classes is not None
    assert 0 < result.classes < 4_000
    assert result.estimate is not None
    assert result.estimate > 4_000


def test_auto_samples_at_once_where_dpor_cannot():
    result = run(BIG, "auto", schedules=100, memory="pso")
    assert (result.verdict, result.classes, result.schedules) == ("passed-budget", None, 100)


# --- budgets and seeds ----------------------------------------------------------------------------
@every_engine
@pytest.mark.parametrize("strategy", [*STRATEGIES, "auto"])
def test_as_many_schedules_are_run_as_were_asked_for(strategy, engine):
    result = run(BIG, strategy, 137, engine=engine)
    assert (result.verdict, result.schedules) == ("passed-budget", 137)
    assert result.outcomes.total() == 137


def test_bounds_share_the_schedules():
    assert run(BIG, "dfs", 1_000, preemptions=3).schedules == 1_000


def test_the_time_is_kept():
    result = explore(BIG, "random", seconds=0.2, races=False)
    assert (result.verdict, result.schedules > 0) == ("passed-budget", True)
    assert 0.2 <= result.seconds < 2


@every_strategy
def test_the_same_seed_gives_the_same_result(strategy):
    one, other = (run(BIG, strategy, 200, seed=7) for _run in range(2))
    assert (one.outcomes, one.steps, one.longest) == (other.outcomes, other.steps, other.longest)


@sampling
def test_another_seed_gives_other_schedules(strategy):
    one, other = (run(BIG, strategy, 200, seed=seed) for seed in (7, 1_000_007))
    assert one.outcomes != other.outcomes


@sampling
def test_both_engines_find_the_same(strategy):
    native, python = (run(BIG, strategy, 150, engine=engine) for engine in ENGINES)
    assert (native.outcomes, native.steps) == (python.outcomes, python.steps)


# --- workers --------------------------------------------------------------------------------------
@sampling
def test_two_workers_find_a_bug(strategy):
    assert run(LOST_UPDATE, strategy, workers=2).verdict == "failed"


@sampling
def test_two_workers_share_the_schedules_and_have_seeds_of_their_own(strategy):
    both = run(BIG, strategy, 401, workers=2)
    first = run(BIG, strategy, 201)
    assert both.schedules == 401
    assert first.outcomes <= both.outcomes
    assert both.outcomes - first.outcomes != run(BIG, strategy, 200).outcomes


@pytest.mark.parametrize("strategy", ["dfs", "dpor"])
def test_an_exhaustive_search_is_one_worker_and_says_so(strategy):
    result = run(TURNS, strategy, None, workers=2)
    assert result.verdict == "passed-exhausted"
    assert "one worker" in result.note


def test_auto_with_two_workers_exhausts_a_small_program():
    assert run(TURNS, "auto", workers=2).verdict == "passed-exhausted"


# --- failures are counted -------------------------------------------------------------------------
@every_engine
@pytest.mark.parametrize(("strategy", "schedules", "failures"), [("dfs", 6, 4), ("dpor", 4, 2)])
def test_all_failures_are_counted_when_asked_for(strategy, schedules, failures, engine):
    result = run(LOST_UPDATE, strategy, None, stop_on_failure=False, engine=engine)
    assert (result.verdict, result.schedules, result.failures) == ("failed", schedules, failures)


@every_strategy
def test_the_first_failure_stops_the_search(strategy):
    result = run(LOST_UPDATE, strategy)
    assert result.failures == 1
    assert result.failure is not None
    assert result.failure.found_after == result.schedules


# --- the estimate ---------------------------------------------------------------------------------
MANY = [counted for counted in COUNTED if counted.classes >= 6]
names = {"ids": lambda counted: counted.program.name}


def estimated(counted: Counted, share: float) -> float:
    schedules = int(counted.classes * share)
    result = run(as_program(counted.program), "dpor", schedules)
    assert result.estimate is not None
    return result.estimate / counted.classes


@pytest.mark.parametrize("counted", MANY, **names)
def test_the_estimate_is_the_count_at_the_end(counted):
    result = run(as_program(counted.program), "dpor", None)
    assert result.estimate == result.classes == counted.classes


@pytest.mark.parametrize("counted", MANY, **names)
def test_the_estimate_is_within_a_factor_of_two_and_a_half_when_half_is_done(counted):
    assert 1 / 2.5 < estimated(counted, 0.5) < 2.5


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("n", [4, 5, 6])
def test_the_estimate_is_exact_in_a_regular_tree(n, share):
    assert estimated(adders(n), share) == pytest.approx(1)


def test_the_old_name_of_free_spins_is_accepted():
    program = coded("spin", [(SPIN_UNTIL, 0, 1, 0)], [(STORE, 0, 1, 0)])
    found = [
        explore(program, strategy="dfs", engine="interpreted", races=False, **spins)
        for spins in ({"free_spins": 3}, {"vain_spins": 3}, {})
    ]
    three, old, one = (result.schedules for result in found)
    assert three == old > one


@pytest.mark.parametrize("engine", ["native", "interpreted"])
def test_surw_survives_an_access_of_word_minus_one_where_no_cpus_meet(engine):
    program = coded("apart", [(LOAD, 0, 0, 0), (LOAD, -1, 0, 0)], [(LOAD, 1, 0, 0)])
    found = explore(
        program, "surw", engine=engine, schedules=20, seconds=None, stop_on_failure=False
    )
    assert found.failure is not None and found.failure.kind == "memory"
    assert found.failures == 20
