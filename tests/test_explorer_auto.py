"""``auto``: small programs are proved, others first get a glance, no strategy's error ends it."""

from __future__ import annotations

import math
import sys

import pytest

from shmalloc import kernel
from shmalloc.words import fetch_add, load, store
from stress import Exploration, Program, explore
from stress.explorer import auto, searches
from stress.explorer.found import Found
from stress.explorer.searches import Search
from stress.machine import block as cb
from stress.machine.engines import make_machine

GLANCE_AND_START = auto.START_SCHEDULES + auto.GLANCE_SCHEDULES


@kernel
def set_both(mem, cpu):
    store(mem, 0, 1)
    store(mem, 1, 1)


@kernel
def look(mem, cpu):
    first = load(mem, 0)
    if first == 1 and load(mem, 1) == 0:
        store(mem, 2, 1)


@kernel
def unseen(mem):
    return mem[2]


@kernel
def add_both(mem, cpu):
    fetch_add(mem, 0, 1)
    fetch_add(mem, 1, 1)


@kernel
def all_added(mem):
    return 0 if mem[0] == 3 and mem[1] == 3 else 1


def reorder(setters: int) -> Program:
    """SCTBench's reorder: one of two halves is seen. Almost no class shows it."""
    return Program(name="reorder", words=4, threads=[set_both] * setters + [look], check=unseen)


ADDS = Program(name="adds", words=2, threads=[add_both] * 3, check=all_added)
ORDERS_OF_ADDS = math.factorial(6) // math.factorial(2) ** 3


def run(program: Program, **options: object) -> Exploration:
    given = {"schedules": 20_000, "seconds": None, "races": False, **options}
    return explore(program, "auto", **given)


@pytest.mark.parametrize("setters", [9, 19, 49])
def test_what_random_schedules_show_at_once_is_found_in_the_glance(setters):
    result = run(reorder(setters))
    assert result.verdict == "failed"
    assert result.schedules <= GLANCE_AND_START


def test_the_time_to_compile_is_not_taken_from_the_turn_of_a_strategy(monkeypatch):
    now = [0.0]

    def slowly(*arguments: object, **given: object) -> object:
        now[0] += 1_000  # seconds
        return make_machine(*arguments, **given)

    monkeypatch.setattr(searches, "make_machine", slowly)
    monkeypatch.setattr(searches.time, "perf_counter", lambda: now[0])
    result = run(ADDS, engine="interpreted", seconds=10)
    assert (result.verdict, result.schedules) == ("passed-exhausted", result.classes)


def test_a_proof_ends_the_threads_beside_it(monkeypatch):
    told_to_stop = []

    def waits(program: Program, plan: searches.Plan, budget: searches.Budget) -> Found:
        told_to_stop.append(budget.stop.wait(timeout=60))
        return Found()

    monkeypatch.setattr(sys.modules["stress.explorer.explore"], "run_portfolio", waits)
    assert run(ADDS, workers=2).verdict == "passed-exhausted"
    assert told_to_stop == [True], "the other thread waited for the proof to stop it"


def test_a_small_program_is_proved_without_a_random_schedule():
    result = run(ADDS)
    assert (result.verdict, result.schedules) == ("passed-exhausted", result.classes)


def test_a_larger_program_is_proved_after_the_glance():
    result = run(reorder(3), known=lambda failure: True)
    assert result.verdict == "passed-exhausted"
    assert result.schedules == result.classes + auto.GLANCE_SCHEDULES


def test_under_pso_dfs_proves_what_dpor_cannot_take():
    result = run(ADDS, memory="pso")
    assert (result.verdict, result.classes) == ("passed-exhausted", None)
    assert result.schedules == ORDERS_OF_ADDS + auto.GLANCE_SCHEDULES
    assert result.guarantee == "every schedule was run"


def out_of_order(monkeypatch: pytest.MonkeyPatch, *strategies: str) -> None:
    """From their second schedule on these strategies find that a schedule did not repeat."""
    run_as_ever = Search.run

    def fails(self: Search, *arguments: object) -> None:
        run_as_ever(self, *arguments)
        if self.plan.strategy in strategies and self.schedules > 1:
            self.block[cb.OUTCOME] = cb.ERROR

    monkeypatch.setattr(Search, "run", fails)


@pytest.mark.parametrize("out", ["dpor", "surw", "random"])
def test_an_error_of_one_strategy_is_told_and_the_others_go_on(monkeypatch, out):
    out_of_order(monkeypatch, out)
    result = run(reorder(9), known=lambda failure: True, schedules=5_000)
    assert (result.verdict, result.schedules) == ("passed-budget", 5_000)
    assert f"{out}: a schedule did not repeat; the other strategies went on" in result.note


def test_an_error_in_one_thread_takes_the_proof_of_another_away():
    proof, doubt = Found(classes=3, exhausted=True), Found(out=["surw"])
    proof.add(doubt)
    proof.weigh()
    assert not proof.exhausted
    assert proof.notes == [
        "surw: a schedule did not repeat; the other strategies went on, and a pass is no proof"
    ]


def test_a_pass_after_an_error_is_no_proof(monkeypatch):
    out_of_order(monkeypatch, "surw")
    result = run(reorder(3), known=lambda failure: True, schedules=5_000)
    assert (result.verdict, result.guarantee) == ("passed-budget", "")


def test_a_failure_is_found_after_an_error_of_dpor(monkeypatch):
    out_of_order(monkeypatch, "dpor")
    result = run(reorder(9))
    assert result.verdict == "failed"
    assert result.failure.kind == "check"


def test_it_is_an_error_when_no_strategy_is_left(monkeypatch):
    out_of_order(monkeypatch, "dpor", *auto.PORTFOLIO)
    result = run(reorder(9), known=lambda failure: True)
    assert result.verdict == "error"
    assert "a schedule that was run twice did not repeat" in result.note


@pytest.mark.parametrize("schedules", [1, 2, 5, 137, 1_000])
def test_the_budget_of_schedules_is_spent_exactly(schedules):
    assert run(reorder(9), known=lambda failure: True, schedules=schedules).schedules == schedules
