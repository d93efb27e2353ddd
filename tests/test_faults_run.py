"""Faults in real runs: workers that are killed and stopped, a controller that is killed."""

import json
import os
import signal
from types import SimpleNamespace

import psutil
import pytest

from shmalloc import constants as c
from shmalloc.arena import Arena
from stress.oracles.owners import ID_CLAIM_BITS
from stress.run.holdings import HoldingsReader
from stress.run.resume import Resumer
from support.runs import RunningRun, alive, shmstress, wait_until

CHURN = ("--workload", "churn", "--workers", "3", "--ram", "32MiB", "--zones", "2")
KILLS = "kill:every=150ms,kill:every=150ms,fuse=1..500,stop:every=300ms,for=100ms"


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """One run whose workers are killed from outside and by their fuses, and are stopped.

    Two of them are on one CPU, so that deaths meet the living on its lists.
    """
    path = tmp_path_factory.mktemp("faults") / "run.json"
    run = shmstress(
        "run",
        *CHURN,
        "--geometry",
        "cpus=2",
        "--duration",
        "4s",
        "--audit-every",
        "1s",
        "--faults",
        KILLS,
        "--json",
        str(path),
    )
    print(run.stdout, run.stderr)
    return run, json.loads(path.read_text())["results"][0]


def test_a_run_survives_the_deaths_of_its_workers(killed):
    run, result = killed
    assert run.returncode == 0 and result["verdict"] == "PASSED" and not result["violations"]


def test_workers_died_from_outside_and_by_fuse_and_each_was_recovered(killed):
    faults = killed[1]["faults"]
    assert faults["kills"]["random"] > 0 and faults["kills"]["fuse"] > 0 and faults["stops"] > 0
    assert 0 < faults["recoveries"] <= sum(faults["kills"].values())
    assert faults["recovery_seconds"]["max"] > 0 and faults["vacancy_seconds"]["max"] > 0


def test_what_the_dead_owned_was_reaped(killed):
    reaped = killed[1]["faults"]["reaped"]
    assert reaped["pages"] >= reaped["blocks"] > 0


def test_the_text_tells_what_was_done(killed):
    lines = killed[0].stdout.splitlines()
    assert any(line.startswith("kills: ") and "by fuse" in line for line in lines)
    assert any(line.startswith("recoveries: ") for line in lines)
    assert any(line.startswith("reaped: ") for line in lines)


def test_an_unrequested_death_is_a_violation_under_faults_too():
    with RunningRun(*CHURN, "--duration", "10m", "--faults", "stop:every=10m") as run:
        os.kill(run.workers()[0], signal.SIGKILL)
        code, output = run.end()
    assert code == 1 and "which the run did not send" in output and not run.segment_names


def test_all_processes_leave_when_the_controller_is_killed_stopped_ones_and_spares_too():
    faults = "kill:every=200ms,stop:every=200ms,for=4s"
    with RunningRun(*CHURN, "--duration", "10m", "--faults", faults) as run:
        processes = psutil.Process(run.process.pid).children(recursive=True)
        os.kill(run.workers()[0], signal.SIGSTOP)
        run.process.kill()
        wait_until(lambda: not any(alive(p.pid) for p in processes), "the workers to leave")
    assert len(processes) > 4  # workers, the forkserver and spares
    # Its segment is left, until the next start on this machine, which may be another test's.
    run_again = shmstress("run", *CHURN, "--duration", "1s")
    assert run_again.returncode == 0 and not run.segment_names  # the next start has swept it


@pytest.fixture
def estate():
    """An arena with an owner map, one block of two pages in it that the map knows, and a reader."""
    with Arena.create(
        size=256 * 64,
        page_bytes=64,
        max_order=4,
        pageblock_order=3,
        pcp_batch=2,
        pcp_high=4,
        cpus=2,
        owner_map=True,
        engine="interpreted",
    ) as arena:
        pfn = arena.alloc_pages(1)
        mark_owned(arena, pfn)
        mark_owned(arena, pfn + 1)
        ram, layout = arena.segment.ram, arena.segment.layout
        yield arena, HoldingsReader(ram, layout), pfn, ram[layout.cpu(arena.cpu) + c.C_EPOCH]


def mark_owned(arena, pfn):
    at = arena.segment.layout.at["owners"] + pfn
    arena.segment.ram[at] = 5 << ID_CLAIM_BITS | (arena.cpu + 1)


def test_the_estate_of_a_worker_is_what_bears_its_label(estate):
    arena, reader, pfn, epoch = estate
    held = reader.holdings(arena.cpu, epoch)
    assert (held.blocks, held.unknown_blocks, held.pages) == (1, 0, {pfn, pfn + 1})
    assert not held.lost and not reader.holdings(arena.cpu, epoch + 1).blocks


def test_a_page_that_only_the_owner_map_knows_is_lost(estate):
    arena, reader, pfn, epoch = estate
    mark_owned(arena, pfn + 2)
    assert reader.holdings(arena.cpu, epoch).lost == {pfn + 2}


def test_a_block_that_the_owner_map_does_not_know_is_counted(estate):
    arena, reader, _, epoch = estate
    arena.alloc_pages(0)
    assert reader.holdings(arena.cpu, epoch).unknown_blocks == 1


def test_the_live_objects_of_a_life_are_counted_in_slabs_of_every_order(estate):
    arena, reader, _, epoch = estate
    small, large = arena.cache("small", 16), arena.cache("large", 48)
    kept = [cache.alloc() for cache in (small, large, large)]
    small.free(small.alloc())
    assert reader.objects(arena.cpu, epoch) == len(kept)
    assert not reader.objects(arena.cpu, epoch + 1)


class Moving:
    """The words of a segment, one of which changes at each of the first ``reads`` reads."""

    def __init__(self, words, at, reads):
        self.words, self.at, self.left = words, at, reads

    def __getitem__(self, key):
        if self.left:
            self.left -= 1
            self.words[self.at] += 1 << c.S_VERSION_SHIFT
        return self.words[key]


def reads_while_its_slab_changes(estate, reads):
    """A reader of an arena with one object, whose slab changes at each of so many reads."""
    arena, reader, _, _ = estate
    arena.cache("small", 16).alloc()
    words, layout = arena.segment.ram.array, arena.segment.layout
    pages = range(layout.geometry.pages)
    (slab,) = (pfn for pfn in pages if words[layout.descriptor(pfn)] & c.TYPE_MASK == c.T_SLAB)
    moving = Moving(words, layout.descriptor(slab) + 1, reads)
    reader._ram = SimpleNamespace(array=moving, load=arena.segment.ram.load)
    return reader, moving


def test_a_slab_that_changes_while_it_is_read_is_read_again(estate):
    reader, moving = reads_while_its_slab_changes(estate, 3)
    assert reader.objects(estate[0].cpu, estate[3]) == 1
    assert moving.left == 0


def test_a_slab_that_never_stands_still_is_named(estate):
    reader, _ = reads_while_its_slab_changes(estate, 1 << 40)
    with pytest.raises(AssertionError, match=r"the slab at pfn \d+ changed during"):
        reader.objects(estate[0].cpu, estate[3])


def test_forgetting_clears_the_map_of_the_dead_only(estate):
    arena, reader, pfn, epoch = estate
    other = arena.segment.layout.at["owners"] + pfn + 9
    arena.segment.ram[other] = 5 << ID_CLAIM_BITS | (arena.cpu + 2)
    reader.forget(arena.cpu)
    assert not reader.holdings(arena.cpu, epoch).mapped and arena.segment.ram[other] != 0


def test_a_lock_that_a_life_holds_is_seen(estate):
    arena, reader, _, epoch = estate
    assert not reader.holds_lock(arena.cpu, epoch)
    arena.segment.ram[arena.segment.layout.zone(0) + c.Z_LOCK] = epoch << 32 | (arena.cpu + 1)
    assert reader.holds_lock(arena.cpu, epoch) and not reader.holds_lock(arena.cpu, epoch + 1)


def test_an_intent_a_seat_and_a_change_are_the_middle_of_something(estate):
    arena, reader, _, epoch = estate
    ram, slot = arena.segment.ram, arena.segment.layout.cpu(arena.cpu)
    other = arena.segment.layout.cpu(1 - arena.cpu)
    changing = c.CPU_CHANGING | (arena.cpu + 1) << c.CPU_CHANGER_SHIFT
    arena.drain()
    assert not reader.is_inside(arena.cpu, epoch)
    for word, value in (
        (slot + c.C_INTENT, 1),
        (arena.segment.layout.at["seats"], epoch << c.LIFE_EPOCH_SHIFT | (arena.cpu + 1)),
        (other + c.C_STATE, changing),
    ):
        before, ram[word] = ram[word], value
        assert reader.is_inside(arena.cpu, epoch)
        ram[word] = before


def test_a_stopped_process_goes_on_in_time_and_is_looked_at_before():
    process = psutil.Popen(["sleep", "60"])
    seen = []
    resumer = Resumer()
    try:
        assert resumer.stop(process.pid, 0.2, lambda: seen.append(process.status()))
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, "the process to stop")
        wait_until(lambda: process.status() != psutil.STATUS_STOPPED, "the process to go on")
        assert seen == [psutil.STATUS_STOPPED]
        resumer.stop(process.pid, 60, lambda: None)
    finally:
        resumer.close()  # resumes all processes at once
        assert process.status() != psutil.STATUS_STOPPED
        process.kill()
        process.wait()
    assert not resumer.stop(process.pid, 1, lambda: None)
