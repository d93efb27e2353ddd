"""Which kernels a run compiles, and how the forkserver learns of them."""

import json

import pytest

from shmalloc.kernels.recover import recover
from stress.faults.grammar import parse_faults
from stress.jitter.spec import Jitter
from stress.run import kernels
from stress.run.kernels import (
    plan_at_hand,
    plan_from,
    plan_of,
    rows_of,
    whole_plan,
    workload_kernels,
)
from stress.spec import RunSpec, Zone
from stress.workloads import DEFAULT_WORKLOADS

KILLS = parse_faults("kill:every=100ms,stop:every=300ms,for=100ms,hotplug:every=1s")


def spec(workloads=DEFAULT_WORKLOADS, **more):
    return RunSpec(workloads, workers=2, zones=(Zone(32 << 20),), **more)


def test_a_plan_survives_its_way_to_another_process():
    plan = plan_of(spec(jitter=Jitter()))
    assert plan_from(json.loads(json.dumps(rows_of(plan)))) == plan


def test_only_workloads_run_on_the_hooked_memory():
    hooked = {kernel for engine, kernel in plan_of(spec(jitter=Jitter())) if engine == "jitter"}
    assert hooked == set(workload_kernels(DEFAULT_WORKLOADS, kills=False))


@pytest.mark.parametrize("more", [{}, {"workloads": ("arrays", "trace")}, {"faults": KILLS}])
def test_every_run_without_hooks_is_a_part_of_the_whole_plan(more):
    assert set(plan_of(spec(**more))) <= set(whole_plan())


@pytest.mark.parametrize("kept", [True, False])
def test_the_whole_plan_serves_a_run_where_it_is_compiled_already(monkeypatch, kept):
    monkeypatch.setattr(kernels, "is_kept", lambda plan: kept)
    plan = plan_of(spec(workloads=("churn",)))
    assert plan_at_hand(plan) == (whole_plan() if kept else plan)


@pytest.mark.parametrize("kept", [True, False])
def test_a_hooked_run_is_served_by_the_whole_plan_with_hooks(monkeypatch, kept):
    monkeypatch.setattr(kernels, "is_kept", lambda plan: kept)
    plan = plan_of(spec(flight=64))
    assert plan_at_hand(plan) == (whole_plan(hooked=True) if kept else plan)


def test_the_whole_plan_has_no_hooks_unless_they_are_asked_for():
    assert "jitter" not in {engine for engine, _ in whole_plan()}


def test_recovery_is_compiled_only_for_runs_with_kills():
    assert ("native", recover) in plan_of(spec(faults=KILLS))
    assert ("native", recover) not in plan_of(spec())
