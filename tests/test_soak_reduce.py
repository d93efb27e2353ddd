"""A failing round, repeated and cut down: with rounds that fail by a rule, and a clock by hand."""

import pytest
from msgspec.structs import replace

from shmalloc.errors import MisuseError, Violation
from stress.faults.grammar import parse_faults
from stress.geometry import parse_geometry
from stress.jitter.spec import parse_jitter
from stress.records.finding import fingerprint_of
from stress.soak.again import MOST_TRIES, Repetition, Until, repeat
from stress.soak.messages import Outcome
from stress.soak.reduce import Reducer
from stress.spec import RunSpec
from stress.verdict import Verdict
from stress.zones import Hole, Zone

TAIL = Violation("I_TAIL", "pfn 5", "a tail", "a head")
OTHER = Violation("I_FREE_HEAD", "pfn 5", "a head", "a tail")
NAME = fingerprint_of(TAIL)
LARGE = RunSpec(
    workloads=("churn", "bulk", "frag", "orders", "contig", "modules", "slabmix"),
    workers=6,
    zones=(Zone(64 << 20, holes=(Hole(4096, 8192),)), Zone(64 << 20, 1)),
    link_store="table",
    geometry=parse_geometry("fill=poison,harden=on,max-order=6"),
    duration_s=20.0,
    audit_every_s=0.5,
    prealloc=True,
    jitter=parse_jitter("on"),
    flight=64,
    faults=parse_faults("stop:every=1s,fail:p=0.1,pressure:every=2s"),
)


def always() -> bool:
    return True


def outcome(*violations, seconds=1.0):
    verdict = Verdict.FAILED if violations else Verdict.PASSED
    return Outcome(verdict, seconds=seconds, violations=violations)


class Performed:
    """Performs a list of outcomes, one after the other."""

    def __init__(self, *outcomes):
        self.left = list(outcomes)
        self.commands = []

    def __call__(self, command):
        self.commands.append(command)
        return self.left.pop(0)


# --- repetitions ---------------------------------------------------------------------------------
def test_a_native_round_is_repeated_as_often_as_wanted():
    perform = Performed(outcome(TAIL), outcome(), outcome(TAIL))
    found = repeat("shmstress run --workload churn", NAME, 3, perform, always)
    assert str(found) == "came again in 2 of 3 repetitions, so it is flaky"
    assert found.repeatable and len(perform.commands) == 3


def test_an_exploration_is_repeated_once():
    found = repeat("shmstress replay shm1/x", NAME, 5, Performed(outcome(TAIL)), always)
    assert str(found) == "came again in 1 of 1 repetition"


def test_another_finding_is_no_repetition():
    found = repeat("shmstress run", NAME, 2, Performed(outcome(OTHER), outcome()), always)
    assert str(found) == "came again in 0 of 2 repetitions; 1 failed in another way"
    assert not found.repeatable


def test_a_finding_behind_another_one_counts():
    assert repeat("shmstress run", NAME, 1, Performed(outcome(OTHER, TAIL)), always).repeatable


def test_repetitions_end_when_it_has_come_often_enough():
    perform = Performed(outcome(), outcome(TAIL), outcome(TAIL))
    assert repeat("shmstress run", NAME, 9, perform, always, enough=1).tries == 2


def test_an_interrupted_repetition_is_none():
    perform = Performed(outcome(TAIL), Outcome(Verdict.INTERRUPTED), outcome(TAIL))
    assert repeat("shmstress run", NAME, 3, perform, always).tries == 1


@pytest.mark.parametrize("failed, tries, needed", [(5, 5, 1), (1, 2, 4), (1, 5, 6), (4, 5, 2)])
def test_a_flaky_round_needs_more_tries(failed, tries, needed):
    assert Repetition(tries, failed).tries_needed == needed <= MOST_TRIES


def test_time_is_over_when_the_clock_says_so_or_the_soak_ends():
    now, stopped = [0.0], [False]
    goes_on = Until(10.0, lambda: stopped[0], lambda: now[0])
    assert goes_on()
    now[0] = 10.0
    assert not goes_on()
    now[0], stopped[0] = 1.0, True
    assert not goes_on()


# --- cutting down --------------------------------------------------------------------------------
def reduced(fails, spec=LARGE, seconds=0.5, goes_on=always):
    return Reducer(spec, fails, goes_on).run(seconds)


def test_all_that_the_failure_does_not_need_goes():
    found = reduced(lambda spec: True)
    assert found.spec == RunSpec(
        workloads=found.spec.workloads, workers=1, zones=(Zone(4 << 20),), duration_s=2.0,
        seed=LARGE.seed,
    )  # fmt: skip
    assert len(found.spec.workloads) == 1 and found.complete


def test_what_it_needs_stays():
    def fails(spec):
        return (
            {"bulk", "modules"} <= set(spec.workloads)
            and spec.jitter is not None
            and [fault.name for fault in spec.faults if fault.name == "fail"] == ["fail"]
            and spec.link_store == "table"
            and len(spec.zones) == 2
            and spec.workers >= 3
        )

    spec = reduced(fails).spec
    assert spec.workloads == ("bulk", "modules") and spec.link_store == "table"
    assert [fault.name for fault in spec.faults] == ["fail"] and spec.jitter == LARGE.jitter
    assert (spec.workers, len(spec.zones), spec.flight, spec.prealloc) == (3, 2, 0, False)


def test_a_part_of_the_geometry_stays_if_it_is_needed():
    found = reduced(lambda spec: spec.geometry.harden and any(z.holes for z in spec.zones)).spec
    assert str(found.geometry) == "harden=on"
    assert [zone.holes for zone in found.zones] == [(Hole(4096, 8192),), ()]


@pytest.mark.parametrize("needed", [("churn", "slabmix"), ("bulk",), LARGE.workloads])
def test_workloads_are_cut_to_those_that_are_needed(needed):
    assert reduced(lambda spec: set(needed) <= set(spec.workloads)).spec.workloads == needed


def test_every_proposal_is_smaller_and_the_last_that_failed_stays():
    seen = []
    found = reduced(lambda spec: seen.append(spec) or "churn" in spec.workloads)
    assert found.tried == len(seen) and LARGE not in seen
    assert found.spec == [spec for spec in seen if "churn" in spec.workloads][-1]


def test_a_combination_that_cannot_run_is_not_taken():
    def fails(spec):
        if not spec.faults:
            raise MisuseError("faults: they are needed")
        return True

    assert reduced(fails).spec.faults != ()


def test_it_stops_when_the_time_is_over():
    left = [4]

    def goes_on():
        left[0] -= 1
        return left[0] >= 0

    found = reduced(lambda spec: True, goes_on=goes_on)
    assert found.tried < 4 and not found.complete


def test_a_round_that_fails_late_is_not_made_shorter_than_that():
    assert reduced(lambda spec: True, seconds=4.0).spec.duration_s == 16.0


def test_seed_engine_and_trace_stay():
    spec = replace(LARGE, seed=99, trace="sample", workloads=("trace",))
    found = reduced(lambda one: True, spec).spec
    assert (found.seed, found.trace, found.workloads) == (99, "sample", ("trace",))


def test_a_pass_that_the_time_cut_short_does_not_say_that_nothing_smaller_fails():
    left = iter([True] * 3)
    found = Reducer(LARGE, lambda spec: False, lambda: next(left, False)).run(19.0)
    assert (found.taken, found.complete) == (0, False)
