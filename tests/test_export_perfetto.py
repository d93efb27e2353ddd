"""``--perfetto``: judged by the rules of the Trace Event Format, checked independently."""

import json
import os
import signal
from dataclasses import replace

import pytest

from stress import cli
from stress.explorer.report.trace import Marker
from stress.report import perfetto_flight
from stress.report.perfetto import perfetto
from stress.run.flight import Entry
from support import failures
from support.runs import RunningRun
from support.trace_rules import RuleError, Trace


def trace_of(make):
    return Trace(perfetto(make()))


@pytest.mark.parametrize("make", failures.ALL)
def test_every_kind_of_failure_keeps_the_rules_of_the_format(make):
    failure = make()
    found = Trace(perfetto(failure))
    lanes = [f"cpu {cpu} {one.__name__}" for cpu, one in enumerate(failure.program.threads)]
    assert [*found.tracks][: len(lanes)] == lanes
    assert failure.program.name in found.process


@pytest.mark.parametrize("make", failures.ALL)
def test_every_step_is_an_instant_or_a_flush_in_order(make):
    steps = make().trace.steps
    found = trace_of(make)
    shown = [i["args"] for track in found.tracks.values() for i in track.instants]
    shown += [one.args for track in found.tracks.values() for one in track.slices]
    assert sorted(one["step"] for one in shown if "step" in one) == [one.index for one in steps]


def test_a_step_stands_in_its_call_and_its_line():
    track = trace_of(failures.deadlock).tracks["cpu 0 two_then_four"]
    first = track.at(0.5)
    assert first.name.endswith("while not cas(mem, i, 0, cpu + 1):")
    assert first.inside == ("two_then_four", "lock")
    assert track.instants[0]["name"] == "cas [2] ok"


def test_a_line_is_shown_only_while_its_cpu_runs():
    track = trace_of(failures.failed_check).tracks["cpu 0 increment"]
    lines = [(one.start, one.end) for one in track.slices if one.inside]
    assert lines == [(0, 1), (3, 4)]
    assert [(one.start, one.end) for one in track.slices if not one.inside] == [(0, 4)]


def test_an_arrow_leads_from_the_write_to_the_cpu_that_reads_it():
    assert ("reads from", "cpu 1 swap_both", "cpu 0 read_halves") in [
        (name, start, end) for name, start, _, end, _ in trace_of(failures.torn).arrows
    ]


def test_a_cpu_that_reads_its_own_write_needs_no_arrow():
    names = [arrow[0] for arrow in trace_of(failures.long_run).arrows]
    assert names == ["race"]


def test_the_two_steps_of_a_conflict_are_joined_and_marked():
    found = trace_of(failures.race)
    assert [arrow[:2] + arrow[3:4] for arrow in found.arrows if arrow[0] == "race"] == [
        ("race", "cpu 0 increment", "cpu 1 increment")
    ]
    marked = [i for track in found.tracks.values() for i in track.instants if "mark" in i["args"]]
    assert [one["args"]["step"] for one in marked] == [0, 2]


def test_a_store_buffer_has_a_track_and_a_counter_under_tso():
    found = trace_of(failures.store_buffering)
    assert [one.name for one in found.tracks["cpu 0 store buffer"].slices] == ["flush [0] <- 1"]
    levels = [values["stores"] for _, values in found.counters["cpu 0 stores not visible yet"]]
    assert levels == [1, 0]
    assert [arrow[0] for arrow in found.arrows].count("becomes visible") == 2


def test_there_is_no_store_buffer_under_sc():
    found = trace_of(failures.failed_check)
    assert not found.counters and len(found.tracks) == 2


def test_a_cpu_that_waits_waits_to_the_end():
    found = trace_of(failures.deadlock)
    waiting = [
        one for track in found.tracks.values() for one in track.slices if "held by" in one.name
    ]
    assert [one.name.split()[1] for one in waiting] == ["0", "1"]
    assert {one.end for one in waiting} == {5}


def test_an_access_that_was_refused_is_shown():
    (track,) = trace_of(failures.out_of_range).tracks.values()
    assert track.instants[-2]["name"] == "not performed: write [99] (outside memory, 0..15)"


def test_the_failure_is_shown_across_all_tracks():
    found = trace_of(failures.race)
    across = [i for track in found.tracks.values() for i in track.instants if i["s"] == "g"]
    assert [one["name"] for one in across] == ["lost-update: race"]
    assert found.facts["to see it again"].count(failures.TOKEN) == 1


def test_a_death_is_an_instant_where_it_happened():
    failure = failures.failed_check()
    dead = replace(failure, trace=replace(failure.trace, markers=(Marker(3, 0, "cpu 0 dies"),)))
    track = Trace(perfetto(dead)).tracks["cpu 0 increment"]
    assert [(i["ts"], i["name"]) for i in track.instants if "dies" in i["name"]] == [
        (3, "cpu 0 dies")
    ]


@pytest.mark.parametrize(
    "events",
    [
        [("B", 1, "a")],
        [("B", 1, "a"), ("E", 0, "a")],
        [("B", 1, "a"), ("B", 2, "b"), ("E", 3, "a"), ("E", 4, "b")],
        [("E", 1, "a")],
    ],
)
def test_the_rules_find_what_is_wrong(events):
    made = [{"ph": p, "ts": t, "pid": 1, "tid": 1, "name": n} for p, t, n in events]
    with pytest.raises(RuleError):
        Trace(json.dumps({"traceEvents": made}))


# --- flight recordings ---------------------------------------------------------------------------
ENTRIES = (
    Entry(-3_000, 0, "cas", "zone 0 lock", "0 -> 1 won", False),
    Entry(-3_000, 0, "write", "header stop", ":= 5", False),
    Entry(-1_000, 2, "load", "header stop", "= 5", False),
    Entry(500, 2, "write", "header stop", ":= 6", True),
)


def flight():
    return Trace(perfetto_flight.perfetto(ENTRIES, "a run", "shmstress run"))


def test_a_recording_has_a_track_for_each_cpu_and_an_instant_for_each_access():
    found = flight()
    assert [*found.tracks] == ["cpu 0", "cpu 2"]
    names = [
        [i["name"] for i in track.instants if i["s"] == "t"] for track in found.tracks.values()
    ]
    assert names == [
        ["cas zone 0 lock 0 -> 1 won", "write header stop := 5"],
        ["load header stop = 5", "write header stop := 6 (killed before this)"],
    ]


def test_the_moment_at_which_it_went_wrong_is_marked():
    (moment,) = (i for track in flight().tracks.values() for i in track.instants if i["s"] == "g")
    assert moment["ts"] == 3 and "1,000 ticks" in flight().facts["clock"]


# --- commands ------------------------------------------------------------------------------------
def test_a_schedule_that_is_explored_and_replayed_gives_one_trace(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from shmalloc import kernel\nfrom stress import Program\n\n"
        "@kernel\ndef count(mem, cpu):\n    mem[0] = mem[0] + 1\n\n"
        "@kernel\ndef counted(mem):\n    return 0 if mem[0] == 2 else 3\n\n"
        'lost = Program("lost update", 2, [count, count], check=counted)\n'
    )
    options = ("--engine", "interpreted", "--no-races")
    assert cli.run(["explore", "mine.py:lost", *options, "--perfetto", "a.json"]) == 1
    token = capsys.readouterr().out.split("shmstress replay ")[1].split()[-1]
    assert cli.run(["replay", token, "--perfetto", "-"]) == 1
    first, again = Trace((tmp_path / "a.json").read_text()), Trace(capsys.readouterr().out)
    assert [*first.tracks] == [*again.tracks] == ["cpu 0 count", "cpu 1 count"]
    assert first.arrows == again.arrows != []


def test_without_a_failure_there_is_no_trace_and_no_page_and_that_is_said(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    options = ("--engine", "interpreted", "--perfetto", "a.json", "--html", "a.html")
    assert cli.run(["explore", "buddy-alloc-alloc", *options]) == 0
    told = capsys.readouterr().err
    assert "perfetto: nothing failed; a.json is not written" in told
    assert "html: nothing failed; a.html is not written" in told
    assert not [*tmp_path.iterdir()]


def test_a_run_that_fails_shows_the_last_accesses_of_its_cpus(tmp_path):
    """Of those that have a clock in their ring: one that spins fills its ring with reads.

    The ring is large enough for several clocks of a worker that was killed in a long update."""
    path = tmp_path / "a.json"
    spec = ("--workload", "churn", "--workers", "2", "--ram", "32MiB", "--duration", "10m")
    with RunningRun(*spec, "--flight", "1024", "--perfetto", str(path)) as run:
        os.kill(run.workers()[1], signal.SIGKILL)
        code, output = run.end()
    found = Trace(path.read_text())
    assert code == 1 and set(found.tracks) <= {"cpu 0", "cpu 1"}
    assert found.tracks and all(len(track.instants) > 10 for track in found.tracks.values())
    assert f"seed {output.split('seed=')[1].split()[0]}" in found.process
