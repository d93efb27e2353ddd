"""Progress: drawn on a terminal, logged for Python code, and nothing in a pipe."""

import logging
import os
import pty
import subprocess
import sys

import pytest

from crash_programs import case_of, recover_well
from stress import cli, explore, progress
from stress.crash.search import Effort, Hunt
from stress.machine.program import Program
from stress.programs import PROGRAMS
from stress.progress import Step, logged, shown
from stress.tables import grid, text_of
from support.runs import ROOT, environment


def lost() -> Program:
    return PROGRAMS["buddy-merge-merge"]()


@pytest.mark.parametrize("wanted", ["auto", "never"])
def test_nothing_is_drawn_where_no_terminal_is(capsys, wanted):
    with shown(wanted) as report:
        report(Step("work", 1, 2))
    assert capsys.readouterr() == ("", "")


def test_always_draws_what_is_done_and_of_what(capsys):
    with shown("always") as report:
        report(Step("counting", 1, 2, "77 beans"))
        report(Step("counting", 2, 2, "78 beans"))
    output, errors = capsys.readouterr()
    assert output == "" and "counting" in errors and "78 beans" in errors


def test_a_notebook_gets_tables_as_text(monkeypatch, capsys):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    table = grid("program", "result")
    table.add_row("mine", "passed")
    assert "mine" in text_of(table)
    with shown("always") as report:
        report(Step("counting", 1, 2, "77 beans"))
    assert "77 beans" in capsys.readouterr().err


def test_a_step_says_its_share_and_its_note():
    assert str(Step("sweep", 1, 4, "page")) == "sweep: 25% page"
    assert str(Step("sweep", note="page")) == "sweep: page"
    assert str(Step("sweep")) == "sweep"


def test_a_log_has_a_line_every_ten_seconds(caplog):
    now = 0.0
    report = logged(logging.getLogger("stress"), lambda: now)
    for now in (0.0, 9.0, 10.0, 12.0, 19.0, 21.0):
        report(Step("work", now, 40.0))
    assert caplog.messages == ["work: 25%", "work: 52%"]


def test_an_exploration_says_how_many_schedules_of_how_many():
    steps: list[Step] = []
    found = explore(
        lost(), "random", schedules=300, seconds=None, engine="interpreted", progress=steps.append
    )
    assert found.schedules == 300
    last = steps[-1]
    assert (last.done, last.total, last.note) == (300, 300, "300 schedules")
    assert [step.done for step in steps] == sorted(step.done for step in steps)


def test_an_exploration_in_time_says_how_much_of_it_is_over():
    steps: list[Step] = []
    explore(lost(), "random", seconds=0.3, engine="interpreted", progress=steps.append)
    assert steps and all(0 < step.done <= step.total == 0.3 for step in steps)


def test_python_code_is_told_by_the_logger(monkeypatch, caplog):
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    explore(lost(), "random", schedules=50, seconds=None, engine="interpreted")
    assert caplog.records[-1].name == "stress"
    assert caplog.messages[-1] == "buddy-merge-merge: 100% 50 schedules"


def test_a_crash_hunt_says_which_schedule_it_is_at():
    steps: list[Step] = []
    Hunt(case_of(recover_well), Effort(seeds=2, engine="interpreted"), report=steps.append).run()
    assert len(steps) == steps[0].total and [s.done for s in steps] == list(range(len(steps)))


def on_a_terminal(*arguments):
    """Standard output, and what a terminal got that is standard error."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "stress", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env=environment(TERM="xterm", COLUMNS="120"),
    )
    os.close(theirs)
    drawn = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # the child has closed its end
            break
        if not part:
            break
        drawn += part
    os.close(ours)
    output, _ = child.communicate()
    return child.returncode, output, drawn.decode(errors="replace")


def test_a_terminal_sees_progress_and_a_pipe_gets_only_the_result():
    code, output, drawn = on_a_terminal("sweep", "page", "block")
    assert code == 0 and output.splitlines()[-1] == "PASSED operations=2 faults=4"
    assert "sweep" in drawn and "\x1b" not in output


def test_progress_never_leaves_a_terminal_alone():
    assert on_a_terminal("sweep", "page", "--progress", "never")[2] == ""


def test_an_exploration_on_a_terminal_shows_its_program():
    code, output, drawn = on_a_terminal(
        "explore", "buddy-merge-merge", "--engine", "interpreted", "--duration", "2s"
    )
    assert code == 0 and "buddy-merge-merge" in drawn and output.startswith("buddy-merge-merge")


def test_an_exploration_in_a_pipe_says_nothing_of_compiling_what_is_not_compiled(capsys):
    arguments = ["explore", "buddy-merge-merge", "--engine", "interpreted", "--duration", "1s"]
    assert cli.run(arguments) == 0
    assert capsys.readouterr().err == ""


def test_a_compile_is_told_once_and_only_when_it_happens(tmp_path):
    few = ("explore", "lock-try-try", "--strategy", "random", "--schedules", "10")

    def errors() -> str:
        child = subprocess.run(
            [sys.executable, "-m", "stress", *few],
            cwd=ROOT,
            env=environment(SHMALLOC_CACHE_DIR=str(tmp_path)),
            capture_output=True,
            text=True,
            check=True,
        )
        return child.stderr

    assert "compiling" in errors()
    assert errors() == ""


def test_a_check_on_a_terminal_shows_the_program_it_is_at():
    code, _, drawn = on_a_terminal("check", "lock-try-try", "--duration", "1h")  # it ends
    assert code == 0 and "lock-try-try (sc)" in drawn
