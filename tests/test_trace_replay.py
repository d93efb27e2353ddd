"""The replay of a trace: same counts, same order, same live pages, and nothing left behind."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shmalloc import constants as c
from shmalloc.compiler.check import violations
from shmalloc.dialect import is_kernel
from shmalloc.engine import Engine
from stress.trace.compile import Plan
from stress.trace.format import OBJECT_ALLOC, OBJECT_FREE, PAGE_ALLOC, PAGE_FREE, load, save
from stress.workloads import trace as trace_kernels
from support.traces import SmallReplay, random_trace, trace_of

ACROSS = [  # CPU 0 allocates, CPU 1 frees, first pages and then an object
    (PAGE_ALLOC, 0, 0, 1, 1),
    (PAGE_FREE, 1, 0, 1, 0),
    (OBJECT_ALLOC, 0, 1, 24, 0),
    (OBJECT_FREE, 1, 1, 0, 0),
]
LEFT = [(PAGE_ALLOC, 0, 0, 0, 0), (OBJECT_ALLOC, 1, 1, 200, 1), (PAGE_ALLOC, 1, 2, 2, 2)]


def test_replay_kernels_keep_the_dialect() -> None:
    found = [
        problem
        for value in vars(trace_kernels).values()
        if is_kernel(value) and value.__module__ == trace_kernels.__name__
        for problem in violations(value)
    ]
    assert found == []


def test_replay_does_what_the_trace_did(engine: Engine, rng: random.Random) -> None:
    trace = random_trace(rng, events=300, cpus=2)
    report = SmallReplay(engine, trace).run()
    assert report.counts == trace.counts()


def test_live_pages_at_every_sample_are_those_of_the_trace(
    engine: Engine, rng: random.Random
) -> None:
    trace = random_trace(rng, events=300, cpus=3)
    report = SmallReplay(engine, trace).run()
    assert report.violations == []
    assert report.peak_pages == trace.peak_pages() > 0


def test_all_memory_is_whole_again_at_the_end(engine: Engine, rng: random.Random) -> None:
    small = SmallReplay(engine, random_trace(rng, events=300, cpus=2))
    small.run()
    small.finish()
    assert small.world.audit() == 0
    assert small.world.teardown() == 0
    assert small.world.reports() == []


def test_what_the_trace_never_freed_is_given_back_at_the_end(engine: Engine) -> None:
    small = SmallReplay(engine, trace_of(LEFT))
    assert small.run().left == {"blocks": 2, "objects": 1}
    assert small.world.teardown() != 0  # the caches still hold their slabs
    small.finish()
    assert small.world.teardown() == 0


def test_a_replay_says_how_much_of_it_is_done(engine: Engine) -> None:
    small = SmallReplay(engine, trace_of(LEFT))
    before = small.replay.share
    small.run()
    assert (before, small.replay.share) == (0.0, 1.0)


def test_what_a_stopped_replay_holds_is_given_back(engine: Engine) -> None:
    small = SmallReplay(engine, trace_of(LEFT))
    small.step_until_allocated(1, row=1)
    assert small.finish() > 0
    assert small.world.teardown() == 0


def test_a_second_finish_gives_nothing_back(engine: Engine) -> None:
    small = SmallReplay(engine, trace_of(LEFT))
    small.step_until_allocated(1, row=1)
    small.finish()
    assert small.finish() == 0


def test_a_free_waits_for_the_allocation_of_another_cpu(engine: Engine) -> None:
    small = SmallReplay(engine, trace_of(ACROSS))
    position = trace_kernels.W_CURSOR + small.world.layout.work(1)
    free_at = int(np.flatnonzero(small.plan.rows[1] == 1)[0])
    small.step(0)  # CPU 0 stands at its first sync point
    for _ in range(2 * len(small.plan.streams[1])):
        small.step(1)
        while small.world.mem[small.world.layout.work(0) + trace_kernels.W_CURSOR] < 1:
            small.step(0)
    assert small.world.mem[position] <= free_at
    assert small.report().counts["page frees"] == 0


def test_frees_on_another_cpu_are_counted(engine: Engine) -> None:
    report = SmallReplay(engine, trace_of(ACROSS)).run()
    assert report.counts["remote frees"] == 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1, 1, 1, 0)])
def test_any_order_of_cpus_comes_to_the_same_end(engine: Engine, order: tuple[int, ...]) -> None:
    small = SmallReplay(engine, trace_of(ACROSS))
    report = small.run(order, steps=1)
    assert (report.counts, report.violations) == (small.plan.trace.counts(), [])


def test_failed_allocations_and_their_frees_are_counted(engine: Engine) -> None:
    pages = 64
    rows = [(PAGE_ALLOC, 0, i, 3, 1) for i in range(pages)]
    rows += [(PAGE_FREE, 0, i, 3, 0) for i in range(pages)]
    small = SmallReplay(engine, trace_of(rows, caches=()), pages=pages)
    report = small.run()
    fit = pages // 8
    assert report.counts["page allocs"] == report.counts["page frees"] == fit
    assert report.missed["failed page allocs"] == report.missed["skipped page frees"] == pages - fit


def test_failures_alone_are_no_violation(engine: Engine) -> None:
    rows = [(PAGE_ALLOC, 0, i, 3, 1) for i in range(32)]
    report = SmallReplay(engine, trace_of(rows, caches=()), pages=64).run()
    assert report.violations == []


def test_a_count_that_differs_from_the_trace_is_a_violation(engine: Engine) -> None:
    small = SmallReplay(engine, trace_of(ACROSS))
    small.run()
    at = small.world.layout.work(0) + trace_kernels.T_COUNTS + trace_kernels.N_PAGE_ALLOC
    small.world.mem[at] += 1
    assert [v.invariant for v in small.report().violations] == ["TRACE_COUNTS"]


def test_a_damaged_stamp_of_an_object_is_reported(engine: Engine) -> None:
    small = SmallReplay(engine, trace_of(LEFT))
    address = small.step_until_allocated(1, row=1) >> trace_kernels.HANDLE_SHIFT
    small.world.mem[address] += 1
    small.finish()
    assert c.X_PAYLOAD in small.world.reports()


def test_a_looping_replay_does_whole_rounds(engine: Engine) -> None:
    small = SmallReplay(engine, trace_of([*ACROSS, (PAGE_ALLOC, 1, 2, 0, 0)]), loop=True)
    while small.report().rounds < 3:
        for slot in range(2):
            small.step(slot, 50)
    report = small.report()
    assert report.counts["page allocs"] >= 3 * 2
    assert report.violations == []


def test_a_later_round_still_shows_the_peak(engine: Engine, rng: random.Random) -> None:
    trace = random_trace(rng, events=200, cpus=2)
    small = SmallReplay(engine, trace, loop=True)
    while small.report().rounds < 1:
        for slot in range(2):
            small.step(slot, 50)
    assert small.report().peak_pages == trace.peak_pages()
    assert small.report().violations == []


def test_a_looping_replay_that_is_stopped_gives_everything_back(
    engine: Engine, rng: random.Random
) -> None:
    small = SmallReplay(engine, random_trace(rng, events=200, cpus=2), loop=True)
    for _ in range(300):
        small.step(rng.randrange(2), rng.randrange(1, 40))
    assert small.report().violations == []
    small.finish()
    assert small.world.teardown() == 0


def test_stop_ends_a_batch_at_once(engine: Engine) -> None:
    small = SmallReplay(engine, trace_of(LEFT))
    small.world.mem[c.H_STOP] = 1
    assert small.step(0, 100) == 0
    assert small.report().events == 0


def test_samples_are_taken_at_the_peak_and_at_the_end(rng: random.Random) -> None:
    trace = random_trace(rng, events=500, cpus=2)
    plan = Plan.of(trace)
    assert plan.live_pages.max() == trace.peak_pages()
    assert plan.sample_rows[-1] == len(trace)


def test_every_slot_keeps_the_order_of_its_cpu(rng: random.Random) -> None:
    trace = random_trace(rng, events=500, cpus=3)
    for slot, rows in enumerate(Plan.of(trace).rows):
        expected = np.flatnonzero(trace.cpu == trace.cpus[slot])
        assert rows[rows >= 0].tolist() == expected.tolist()


def test_cpus_that_did_nothing_get_no_slot() -> None:
    trace = trace_of([(PAGE_ALLOC, 7, 0, 0, 0), (PAGE_FREE, 200, 0, 0, 0)])
    assert Plan.of(trace).slots == 2


def test_a_cache_is_as_large_as_its_largest_object() -> None:
    rows = [(OBJECT_ALLOC, 0, 0, 40, 0), (OBJECT_ALLOC, 0, 1, 64, 0), (OBJECT_ALLOC, 0, 2, 8, 1)]
    assert Plan.of(trace_of(rows)).cache_bytes.tolist() == [64, 8]


def test_needed_memory_covers_pages_and_slabs(rng: random.Random) -> None:
    trace = random_trace(rng, events=500, cpus=2)
    larger = replace(trace, arg=np.where(trace.kind == OBJECT_ALLOC, 8192, trace.arg).astype("u4"))
    assert Plan.of(larger).needed_pages > Plan.of(trace).needed_pages >= trace.peak_pages()


def run_cli(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stress", "run", "--workload", "trace", "--progress", "never"]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=200)


def test_the_sample_is_replayed_through_the_command_line(tmp_path: Path) -> None:
    done = run_cli("--json", str(tmp_path / "run.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "run.json").read_text())["results"][0]["trace"]
    counts = load("sample").counts()
    assert (report["finished"], report["counts"], report["trace_counts"]) == (True, counts, counts)
    assert report["peak_pages"] == report["trace_peak_pages"]
    assert "fragmentation" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--workers", "3"), "was recorded on 2 CPUs"),
        (("--engine", "interpreted"), "use --engine native"),
        (("--workload", "churn,trace"), "use --workload trace alone"),
        (("--trace", "no-such.npz"), "no-such.npz: No such file"),
    ],
)
def test_options_that_cannot_hold_are_refused(options: tuple[str, ...], message: str) -> None:
    done = run_cli(*options)
    assert done.returncode == 4
    assert message in done.stderr


def test_a_trace_without_a_duration_is_repeated_without_one() -> None:
    done = run_cli("--dry-run")
    assert "--duration" not in done.stdout
    assert "--trace sample" in done.stdout


def test_a_trace_that_needs_more_memory_gets_more(tmp_path: Path) -> None:
    rows = [(PAGE_ALLOC, 0, i, 10, 1) for i in range(100)]
    save(trace_of(rows), tmp_path / "large.npz")
    done = run_cli("--dry-run", "--trace", str(tmp_path / "large.npz"))
    assert "--zones 229356KiB,229396KiB@1" in done.stdout  # 448 MiB, an odd border
