"""The live view, the database and the page show the same samples of one run of real processes."""

from __future__ import annotations

import json
import sqlite3

import pytest

from stress.cli import run as run_command
from stress.records.receiver import RecordingProgress
from stress.records.writer import Records, Work
from stress.report import live
from stress.report.live import LiveProgress
from stress.run.controller import Controller
from stress.run.interrupts import Interrupts
from stress.run.progress import Progress, Several
from stress.spec import RunSpec, Zone
from support.browser import Document
from support.runs import compile_once, shmstress

SPEC = RunSpec(("churn", "orders"), 2, (Zone(16 << 20),), duration_s=2.5, seed=0xD1)


class Kept(Progress):
    """Every moment that any receiver asked for: all are taken through this one."""

    def __init__(self, receivers):
        self._receivers = Several(receivers)
        self.taken = []

    def _take(self, take):
        self.taken.append(take())
        return self.taken[-1]

    def begin(self, spec):
        self._receivers.begin(spec)

    def moment(self, take):
        self._receivers.moment(lambda: self._take(take))

    def last(self, take):
        self._receivers.last(lambda: self._take(take))

    def end(self):
        self._receivers.end()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run with a live view and a record: the frames, the moments, the result, the database."""
    compile_once()
    path = tmp_path_factory.mktemp("live") / "run.db"
    frames = []
    with pytest.MonkeyPatch.context() as patch, Records(path) as records, Interrupts() as stops:
        view = live.View
        patch.setattr(live, "View", lambda now, *rest: frames.append(now) or view(now, *rest))
        work = Work("run", SPEC.command_line(), SPEC.as_dict(), SPEC.seed)
        run = records.begin_run(work)
        round_id = records.begin_round(run, work)
        kept = Kept([LiveProgress(always=True), RecordingProgress(records, round_id)])
        result = Controller(SPEC, kept, stops, None, lambda result: None).run()
        records.end_round(
            round_id, result.verdict.name, result.seconds, result.ops, result.as_dict(),
            result.latencies,
        )  # fmt: skip
        records.end_run(run, result.verdict.name)
    return frames, kept.taken, result, path


def rows(path):
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    return connection.execute("SELECT * FROM samples ORDER BY id").fetchall()


def test_the_last_moment_shown_is_the_last_sample_recorded(recorded):
    frames, _, _, path = recorded
    shown, row = frames[-1], rows(path)[-1]
    assert (row["time_s"], row["at_s"]) == (shown.time_s, shown.elapsed_s)
    assert (row["operations"], row["refused"]) == (shown.operations, shown.refused)
    assert (row["used_pages"], row["fragmentation"]) == (shown.used_pages, shown.fragmentation)
    assert json.loads(row["free_by_order"]) == list(shown.snapshot.free_by_order)
    assert [(one["name"], one["operations"]) for one in json.loads(row["accounts"])] == [
        (account.name, account.operations) for account in shown.accounts
    ]


def test_every_sample_and_every_frame_is_a_moment_that_was_taken_once(recorded):
    frames, taken, _, path = recorded
    times = [moment.time_s for moment in taken]
    assert len(set(times)) == len(times)
    assert {frame.time_s for frame in frames} <= set(times)
    assert {row["time_s"] for row in rows(path)} <= set(times)


def test_the_last_sample_has_what_the_result_says(recorded):
    _, _, result, path = recorded
    last = rows(path)[-1]
    assert last["operations"] == result.ops > 0
    assert last["at_s"] == pytest.approx(result.seconds)


def test_the_page_ends_with_the_last_moment_shown(recorded, tmp_path):
    frames, _, result, path = recorded
    page = tmp_path / "run.html"
    assert run_command(["report", str(path), "--html", str(page)]) == 0
    root = Document(page.read_text("utf-8")).root
    numbers = {
        one.attributes["data-key"]: float(one.attributes["value"])
        for one in root.all("data")
        if "data-key" in one.attributes
    }
    last = frames[-1]
    for order, blocks in enumerate(last.snapshot.free_by_order):
        assert numbers[f"free-blocks/{order}/last"] == blocks
    for use in last.processes:
        assert numbers[f"memory/{use.role}/last"] == use.private_bytes
    for name, histogram in result.latencies.items():
        assert numbers[f"latency/{name}/calls"] == histogram.count
        assert numbers[f"latency/{name}/p99"] == histogram.percentile(99)
    assert root.all("h1")[0].text().startswith(result.verdict.name)


def test_a_run_with_out_can_be_made_a_page(tmp_path):
    """``shmstress run --out DIR``, then ``shmstress report DIR --html FILE``."""
    runs, page = tmp_path / "runs", tmp_path / "run.html"
    line = "run --duration 2s --workload churn,orders --workers 2 --ram 32MiB --progress never"
    done = shmstress(*line.split(), "--out", str(runs))
    verdict = done.stdout.splitlines()[-1].partition(" ")[0]
    assert shmstress("report", str(runs), "--html", str(page)).returncode == 0
    root = Document(page.read_text("utf-8")).root
    assert root.all("h1")[0].text().startswith(verdict)
    (told,) = runs.glob("*/run.json")
    operations = json.loads(told.read_text())["results"][0]["ops"]
    (shown,) = root.all("data", data_key="runs/1/operations")
    assert int(shown.attributes["value"]) == operations > 0
