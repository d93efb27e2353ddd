"""``shmstress bench`` with real workers: what they do is counted, and nothing is left behind.

No test looks at a time. A slice may be dropped on a busy machine, so that a job may have no figure;
then the bench says so, and so do these tests.
"""

import json
import os
import signal

import pytest

from shmalloc import constants as c
from shmalloc.kernels.pages import alloc_pages
from stress.bench import catalogue, growth, rounds
from stress.bench.catalogue import PATTERNS, PYTHON
from stress.bench.jobs import MIB, Job, Place, make_jobs
from stress.bench.machine import Machine
from stress.bench.peers import find
from stress.bench.result import Result
from stress.bench.team import BenchError, Team
from support.runs import shmstress

ROUNDS = 2
SMALL = 64 * MIB


def job_of(name, workers=1, ram=SMALL):
    return Job(0, PATTERNS[name], "shmalloc", workers, place=Place(ram))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Every pattern with one and two workers, and one peer: the jobs, their rows, what was lost."""
    glibc = find("glibc", "", tmp_path_factory.mktemp("peers"))
    jobs = make_jobs(catalogue.chosen((), full=True), (1, 2), [glibc], full=False)
    with Team(jobs) as team:
        rows, lost = rounds.measure(team, ROUNDS)
        team.finish()
    return jobs, rows, lost


def test_every_job_has_a_row_or_is_named(measured):
    jobs, rows, lost = measured
    named = [row.key for row in rows] + [(j.pattern.name, j.who, j.workers) for j in lost]
    assert sorted(named) == sorted((j.pattern.name, j.who, j.workers) for j in jobs)


def test_a_row_says_what_it_rests_on(measured):
    for row in measured[1]:
        assert 0 < row.kept <= ROUNDS
        assert len(row.core_f_ns) == row.workers and min(row.core_f_ns) > 0
        assert 0 < row.ns.low <= row.ns.median <= row.ns.high
        assert row.kept + row.dropped <= ROUNDS * rounds.PATIENCE


def test_a_row_says_where_it_is_timed_and_whose_memory_it_is(measured):
    timed = {row.pattern: row.timed for row in measured[1]}
    assert {name for name, where in timed.items() if where == PYTHON} <= set(
        catalogue.GROUPS["python"]
    )
    assert {row.memory for row in measured[1] if row.who == "glibc"} == {"private"}
    assert {row.memory for row in measured[1] if row.who == "shmalloc"} == {"shared"}


@pytest.mark.parametrize(
    ("name", "workers", "operations"),
    [
        ("repeat", 2, [30, 30]),
        ("rand", 1, [30 * 4096]),
        ("remote-pages", 2, [30 * 256, 30 * 256]),
        ("ublk", 2, [0, 30]),  # a pair is one operation, which the one that frees counts
        ("xmalloc", 2, [0, 30 * 64]),
        ("larson", 2, [30, 30]),
    ],
)
def test_what_was_asked_for_is_done_and_counted(name, workers, operations):
    with Team([job_of(name, workers)]) as team:
        for number in range(3):
            answers = team.slice(team.jobs[0], 30, number)
            assert [answer.operations for answer in answers] == operations
        team.finish()


def test_a_worker_that_dies_is_named(measured):
    with Team([job_of("repeat", 2)]) as team:
        os.kill(team.pids[1], signal.SIGKILL)
        told = rf"worker 1 \(pid {team.pids[1]}\) died by SIGKILL while running repeat of shmalloc"
        with pytest.raises(BenchError, match=told):
            team.slice(team.jobs[0], 1, 0)


def test_a_worker_that_hangs_ends_the_bench():
    with Team([job_of("repeat", 2)], limit_s=1.0) as team:
        os.kill(team.pids[1], signal.SIGSTOP)
        with pytest.raises(BenchError, match=rf"did not end in time .*{team.pids[1]}.* running"):
            team.slice(team.jobs[0], 1, 0)


def test_an_operation_that_fails_ends_the_bench():
    told = r"worker 0: [\d,]+ operations failed while it was running rand of shmalloc"
    with Team([job_of("rand", ram=8 * MIB)]) as team, pytest.raises(BenchError, match=told):
        team.slice(team.jobs[0], 1, 0)


def test_what_is_left_allocated_is_an_error():
    with Team([job_of("repeat")]) as team:
        (made,) = team._made.values()
        assert made.call(alloc_pages, 0, c.MT_MOVABLE, 7) >= 0
        with pytest.raises(BenchError, match="the audit at the end found 1 violation"):
            team.finish()


def test_objects_that_are_left_are_an_error():
    from shmalloc.kernels.cache import cache_alloc

    with Team([job_of("object")]) as team:
        (made,) = team._made.values()
        assert made.call(cache_alloc, made.caches[64]) >= 0
        with pytest.raises(BenchError, match="objects of 64 bytes are left in their cache"):
            team.finish()


def test_growth_has_a_point_for_each_size():
    result = Result(Machine.here(), 1)
    tiny = growth.Extent(
        sizes=(16 * MIB, 32 * MIB),
        counts=(1, 2),
        kept=(0, 2),
        fragmented_bytes=16 * MIB,
        recovery_sizes=(16 * MIB, 32 * MIB),
        recovered={"free": 32 * MIB, "single pages": 16 * MIB, "half in objects": 16 * MIB},
        recoveries=1,
    )
    growth.measure_growth(result, tiny)
    curves = {curve.name: curve for curve in result.curves}
    assert set(curves) == {"memory", "workers", "recovery", "audit"}
    for name in ("recovery", "audit"):  # single calls: none of them is dropped
        assert [x for x, _ in curves[name].lines["free"]] == [16, 32]
        assert [x for x, _ in curves[name].lines["single pages"]] == [16]
    fragmented, recovered = result.sheets
    assert [row[:2] for row in fragmented.rows] == [
        (store, held) for store in ("page", "descriptor") for held in ("none", "50.0%")
    ]
    assert [row[:2] for row in recovered.rows] == [
        ("16MiB", "free"),
        ("16MiB", "single pages"),
        ("16MiB", "half in objects"),
        ("32MiB", "free"),
    ]


def test_the_command_measures_and_writes(tmp_path):
    line = ("bench", "repeat", "--workers", "1", "--rounds", "1", "--peer", "none", "--json", "-")
    ended = shmstress(*line)
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert document["schema"] == 1 and document["machine"]["cores"] >= 1
    assert [row["pattern"] for row in document["rows"]] in (["repeat"], [])
    assert "two-word swaps" in ended.stderr or document["not_measured"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("repet",), "pattern: 'repet' is unknown; did you mean 'repeat'?"),
        (("repeat", "--peer", "mimaloc"), "peer: 'mimaloc' is unknown; did you mean 'mimalloc'?"),
        (("repeat", "--workers", "1,many"), "workers: '1,many'; use numbers from 1 to"),
        (("ublk", "--workers", "1"), "no pattern of ublk can be run by so many"),
        (("repeat", "--peer", "glibc=x.so"), "peer: glibc takes no file"),
        (("repeat", "--peer", "llfree=gone.so"), "there is no such file"),
        (("repeat", "--plot", "a.pdf"), "name a file that ends with .svg or .png"),
        (("repeat", "--write", "no-page.md"), "is no page with a generated part"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_cannot_be_done_is_one_line(words, told, capsys, tmp_path, monkeypatch):
    from stress import cli

    monkeypatch.chdir(tmp_path)
    assert cli.run(["bench", *words]) == 4
    shown = capsys.readouterr()
    assert told in shown.err and shown.err.count("\n") == 1 and shown.out == ""


def test_the_list_names_every_pattern(capsys):
    from stress import cli

    assert cli.run(["bench", "--list"]) == 0
    shown = capsys.readouterr().out
    assert [name for name in PATTERNS if name not in shown] == []
