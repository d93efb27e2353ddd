"""The state machine over an arena: it passes on ours, and finds and reduces what we break."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from shmalloc import Arena, recovery
from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.engine import get_engine
from shmalloc.kernels import buddy, reap
from shmalloc.kernels.buddy import is_free_head
from shmalloc.kernels.descriptor import page_state
from shmalloc.layout import ZoneSpec
from shmalloc.processes import start_ticks
from stress.hypothesis import ArenaMachine
from stress.hypothesis.child import Child, ChildError, end_nursery, nursery
from stress.hypothesis.process_rules import SMALL

FEW = settings(
    max_examples=6, stateful_step_count=30, database=None, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def perform(machine: type[ArenaMachine], rng: random.Random, limits: settings = FEW) -> None:
    """Run it on examples that depend on the session's seed and nothing else."""
    run_state_machine_as_test(seed(rng.randrange(1 << 32))(machine), settings=limits)


NO_RULES = {
    "create",
    "teardown",
    "audit_finds_nothing",
    "arena_has_the_blocks_of_the_model",
    "arrays_have_the_references_of_the_model",
    "every_process_reads_what_it_holds",
    "everything_keeps_its_bytes",
    "what_is_in_transit_is_shown",
}


def steps(failure: BaseException) -> list[str]:
    """The rules of the falsifying example, without arguments."""
    told = "\n".join(failure.__notes__)
    lines = [line.partition("state.")[2] for line in told.splitlines() if "state." in line]
    calls = [line.partition("(")[0] for line in lines]
    return [call for call in calls if call not in NO_RULES]


def test_processes_share_an_arena_in_every_drawn_way(rng):
    perform(ArenaMachine, rng)


# Without Phase.explain, which traces every line of interpreted kernels. A hunt ends with the first
# failure, which comes after about 25 examples: so many are needed by none, whatever the seed.
ENOUGH = settings(FEW, max_examples=1_000, phases=[Phase.generate])
SHORT_HUNT = settings(ENOUGH, stateful_step_count=8)
SHORT = settings(ENOUGH, stateful_step_count=8, phases=[Phase.generate, Phase.shrink])


class Alone(ArenaMachine):
    """Pages alone, one process, two zones, kernels that a test has patched: interpreted."""

    geometry: ClassVar[dict[str, Any]] = {
        "zones": (ZoneSpec(8), ZoneSpec(24)), "page_bytes": 512, "max_order": 4, "caches": 16,
        "pageblock_order": 2,
    }  # fmt: skip
    engine = "interpreted"
    max_children = 0
    open = fork = detach = attach = kill = close = None  # rules that would dilute those of pages
    adopt_pages = kmalloc = kfree = None
    array = view = write = drop = send = produce = load = count = end_tickets = None


class OwnersAlone(ArenaMachine):
    """Who owns pages and objects: without arrays, and one child at a time."""

    max_children = 1
    fork = detach = attach = produce = None
    array = view = write = drop = send = load = count = end_tickets = None


@kernel
def mergeable_without_zone(mem, zone, buddy, order, mt):
    """``mergeable`` that looks at type and order only."""
    w0 = page_state(mem, buddy)
    return w0 if is_free_head(w0, (w0 >> c.ZONE_SHIFT) & c.ZONE_MASK, order) else 0


@kernel
def reap_no_pages(mem, cpu, holder):
    return 0


def interpreted_reap(segment, by, recovered, engine):
    """``recovery.reap`` by the patched kernel, while everything else runs natively."""
    return get_engine("interpreted").call(
        reap.reap, segment.ram, by, recovered.cpu, recovered.epoch
    )


def test_a_merge_over_the_border_of_a_zone_is_reduced_to_few_steps(rng, patch_kernels):
    patch_kernels(buddy, "mergeable", mergeable_without_zone)
    with pytest.raises(AssertionError) as failure:
        perform(Alone, rng, SHORT)
    assert len(steps(failure.value)) <= 5, failure.value.__notes__


def test_a_recovery_that_forgets_pages_is_found_at_the_kill(rng, patch_kernels, monkeypatch):
    patch_kernels(reap, "reap_pages", reap_no_pages)
    monkeypatch.setattr(recovery, "reap", interpreted_reap)
    # Said of a kill alone: that of a step, or one when the steps end.
    with pytest.raises(AssertionError, match="blocks and objects were freed; it owned"):
        perform(OwnersAlone, rng, SHORT_HUNT)


# --- the processes of a machine -------------------------------------------------------------------
@pytest.fixture
def arena():
    with Arena.create(size="256KiB", cpus=3, **SMALL) as made:
        yield made


def test_a_child_that_raises_is_quoted(arena):
    child = Child.attached(arena.name)
    with pytest.raises(ChildError, match=r"raised in free_pages\(3, 0\)[\s\S]*M_DOUBLE_FREE"):
        child.tell("free_pages", 3, 0)
    child.end()


def test_a_child_that_died_is_named_with_what_it_was_asked(arena):
    child = Child.attached(arena.name)
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ChildError, match=rf"<Child {child.pid}> died in drain\(\)"):
        child.tell("drain")


def test_a_child_that_does_not_answer_is_named_with_what_it_was_asked(arena, monkeypatch):
    child = Child.attached(arena.name)
    monkeypatch.setattr("stress.hypothesis.child.PATIENCE_S", 0.2)
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(ChildError, match=rf"<Child {child.pid}> did not answer drain\(\) within"):
        child.tell("drain")
    monkeypatch.undo()
    child.kill()


def test_a_machine_leaves_no_process_and_no_segment_when_its_steps_end():
    machine = ArenaMachine()
    machine.create()
    pids = [machine.open().child.pid for _ in range(2)]
    path = Path("/dev/shm", machine.arena.name)
    assert path.exists() and all(start_ticks(pid) for pid in pids)
    machine.teardown()
    assert not path.exists() and [start_ticks(pid) for pid in pids] == [None, None]


def test_the_nursery_ends_when_it_is_told_and_another_one_forks_the_next_child(arena):
    first = nursery().process
    end_nursery()
    assert first.returncode == 0
    Child.attached(arena.name).end()
    assert nursery().process.pid != first.pid


def test_a_nursery_that_was_killed_is_replaced(arena):
    first = nursery().process
    first.kill()
    first.wait(60)
    Child.attached(arena.name).end()
