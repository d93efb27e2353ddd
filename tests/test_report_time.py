"""How long a soak worked that went on after a pause, as the page, the exports and top tell it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from stress.records.reader import Reader
from stress.report.history import runs_table
from stress.report.page.gather import report_of
from stress.report.run_time import elapsed_s, worked_s
from stress.report.suites.recorded import suite_of
from stress.tables import text_of
from stress.top.frame import frame
from stress.top.soak import DatabaseSource
from support.recorded import Made, make
from support.recorded_numbers import Numbers

MADE = Made(rounds=2, samples=10)  # 2 rounds of 10 s, with 2 s behind each
DAY_S = 86_400


@pytest.fixture
def soak(tmp_path):
    """Make a soak that began two days ago by what its row says; its file."""

    def made(finish=True, **columns):
        path = tmp_path / "soak.db"
        make(path, MADE, finish=finish)
        with closing(sqlite3.connect(path)) as file:
            for name, value in columns.items():
                text = json.dumps(value) if name == "summary" else value
                file.execute(f"UPDATE runs SET {name} = ?", (text,))
            file.execute("UPDATE runs SET ended_s = started_s + ? WHERE state = 'ended'", (DAY_S,))
            file.commit()
        return path

    return made


def run_and_rounds(path):
    with Reader(path) as reader:
        return reader.runs()[-1], reader.rounds()


def test_a_soak_of_two_sessions_worked_as_long_as_its_own_clock_says(soak):
    run, rounds = run_and_rounds(soak(summary={"clock_s": 30.0, "sessions": 2}))
    assert (worked_s(run, rounds), elapsed_s(run, rounds)) == (30.0, DAY_S)


def test_a_soak_of_one_session_worked_all_of_its_time(soak):
    run, rounds = run_and_rounds(soak(summary={"clock_s": 30.0, "sessions": 1}))
    assert worked_s(run, rounds) == elapsed_s(run, rounds) == DAY_S


def test_a_round_that_was_lost_counts_until_its_last_sample(soak):
    path = soak(finish=False, summary={"clock_s": 5.0, "sessions": 3})
    with closing(sqlite3.connect(path)) as file:
        file.execute("UPDATE rounds SET state = 'running', ended_s = NULL WHERE number = 2")
        file.commit()
    run, rounds = run_and_rounds(path)
    begun_s = rounds[1].started_s - run.started_s
    assert worked_s(run, rounds, last_s=begun_s + 7) == pytest.approx(5 + 7)


def test_page_and_exports_leave_the_pause_out(soak):
    path = soak(summary={"clock_s": 30.0, "sessions": 2})
    with Reader(path) as reader:
        report = report_of(reader, reader.run(1), path.name)
        assert suite_of(reader, reader.run(1)).seconds == 30.0
    assert "in 30 s, 2 rounds and" in report.sentence
    (worked,) = (fact.value for fact in report.facts if fact.label == "Worked")
    assert worked.text == "30 s in 2 sessions"
    assert worked.value == Numbers(path, 1).value_of(worked.key)
    assert any("pauses" in note for note in report.notes)


def test_history_and_top_leave_the_pause_out(soak):
    path = soak(summary={"clock_s": 30.0, "sessions": 2})
    run, rounds = run_and_rounds(path)
    source = DatabaseSource(str(path))
    source.read()
    assert " 30 s " in text_of(runs_table([run], rounds))
    assert "ended: PASSED, 30 s of 1h," in frame(source.panels("number"))
    source.close()


def test_top_does_not_count_the_time_after_the_death_of_a_soak(soak):
    source = DatabaseSource(str(soak(finish=False)))
    source.read()
    assert "lost, 22 s of 1h," in frame(source.panels("number"))
    source.close()
