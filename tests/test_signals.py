"""Ctrl-C, SIGTERM and SIGHUP: what each command keeps, says and leaves behind.

Random moments of all commands are ``tox -e signals``; here is one of each kind, met by a condition.
"""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest

from shmalloc.compiler import obtain
from stress import cli, signals
from stress import explore as explore_program
from stress import progress as watching
from stress.commands import explore
from support.runs import ROOT, RunningRun, environment, hear_ctrl_c, wait_until
from support.sources import LOST_UPDATE, module

EXPLORE = ("explore", "lock-try-try", "--engine", "interpreted")
ENDLESS = ("--workers", "2", "--ram", "16MiB", "--duration", "1h")


@pytest.fixture(autouse=True, scope="module")
def heard():
    """Signals that this session was started with as ignored (nohup) are heard by what it starts."""
    usual = {signal.SIGINT: signal.default_int_handler}
    before = {one: signal.signal(one, usual.get(one, signal.SIG_DFL)) for one in signals.ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def as_before():
    """The handlers of this process, put back."""
    before = {number: signal.getsignal(number) for number in signals.ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def session_of(pid):
    """The processes that are alive in the session that ``pid`` leads."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@pytest.mark.parametrize("number", signals.ENDING, ids=lambda number: number.name)
def test_each_signal_is_exit_code_2_and_named(number, as_before, monkeypatch, capsys):
    from stress.commands import doctor

    monkeypatch.setattr(doctor, "environment", lambda: signal.raise_signal(number))
    with signals.obeyed():
        assert cli.run(["doctor"]) == 2
    assert capsys.readouterr().err.strip() == f"shmstress: interrupted by {number.name}"


def test_what_is_left_to_do_after_the_command_ignores_them(as_before):
    with signals.obeyed():
        pass
    assert [signal.getsignal(number) for number in signals.ENDING] == [signal.SIG_IGN] * 3


def test_a_signal_that_nohup_ignores_stays_ignored(as_before):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals.obeyed():
        signal.raise_signal(signal.SIGHUP)
    from stress.run.interrupts import Interrupts

    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGHUP)
        assert not interrupts.requested


def deaf(process):
    """Whether a process ignores or blocks all of them."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigIgn", "SigBlk"))]
    return all(any(mask >> (number - 1) & 1 for mask in masks) for number in signals.ENDING)


def test_a_signal_to_all_processes_ends_the_slice_in_order(tmp_path):
    """As a closed terminal, a service manager or CI sends it: no worker dies of it."""
    with RunningRun(*ENDLESS, "--json", str(tmp_path / "r.json"), group=True) as run:
        family = psutil.Process(run.process.pid).children(recursive=True)
        assert len(family) >= 4 and all(map(deaf, family))
        os.killpg(run.process.pid, signal.SIGHUP)
        code, output = run.end()
        said = next(line for line in output.splitlines() if line.startswith("interrupted: "))
        assert code == 2 and "stopped by SIGHUP after " in said
        wait_until(lambda: not session_of(run.process.pid), "the end of its processes")
        assert not run.segment_names and "INTERRUPTED" in (tmp_path / "r.json").read_text()


def test_a_run_that_compiles_is_ended_and_its_compiler_with_it(tmp_path):
    """The kernels of a fresh folder are compiled; the signal comes when that is told."""
    with subprocess.Popen(
        [sys.executable, "-m", "stress", "run", *ENDLESS],
        env=environment(SHMALLOC_CACHE_DIR=str(tmp_path / "cache")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
        start_new_session=True,
    ) as run:
        assert run.stderr is not None
        while "compiling" not in run.stderr.readline():
            assert run.poll() is None
        run.send_signal(signal.SIGTERM)
        output, _ = run.communicate(timeout=120)
    assert run.returncode == 2 and "stopped by SIGTERM at its start" in output
    wait_until(lambda: not session_of(run.pid), "the end of its processes")
    assert not list((tmp_path / "cache").glob("*.image")), "it was compiled to its end"


def test_a_closed_terminal_takes_no_results_away(tmp_path):
    """What is printed goes nowhere; what is written is there."""
    ours, theirs = pty.openpty()
    kept = tmp_path / "facts.json"
    later = (  # the streams are looked at while the terminal is there
        "import sys; from stress import cli, surroundings; surroundings.prepare_streams();"
        " input('R'); sys.exit(cli.run())"
    )
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            later,
            *EXPLORE,
            "--json",
            str(kept),
        ],
        env=environment(),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=theirs,
        text=True,
    ) as command:
        os.close(theirs)
        wait_until(lambda: b"R" in os.read(ours, 10), "the streams to be ready")
        os.close(ours)
        command.communicate("\n", timeout=120)
    assert command.returncode == 0 and kept.read_text().startswith("{")


# --- what was found until then -------------------------------------------------------------------
@pytest.fixture
def interrupted(as_before, monkeypatch):
    """A command that gets SIGTERM when it reports its progress for the third time."""

    def run(*arguments):
        steps = []

        def report(step):
            steps.append(step)
            if len(steps) == 3:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(watching, "shown", lambda *wanted, **more: nullcontext(report))
        with signals.obeyed():
            return cli.run(list(arguments))

    return run


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_exploration_tells_and_writes_what_it_had_found(workers, interrupted, tmp_path, capsys):
    kept = tmp_path / "r.json"
    how = ("--engine", "interpreted", "--workers", workers, "--duration", "1h")
    assert interrupted("explore", "lock-sleep-kept-3", *how, "--json", str(kept)) == 2
    told, found = capsys.readouterr(), json.loads(kept.read_text())
    assert "lock-sleep-kept-3 (sc, auto): interrupted, " in told.out
    assert told.err.splitlines()[-1] == "shmstress: interrupted by SIGTERM"
    assert found["verdict"] == "interrupted" and found["schedules"] >= 3


def test_a_failure_that_was_found_before_is_exit_code_1(interrupted, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(LOST_UPDATE)
    programs = (f"{tmp_path / 'mine.py'}:lost", "lock-sleep-kept-3")
    how = ("--engine", "interpreted", "--strategy", "dfs", "--duration", "1h")
    assert interrupted("explore", *programs, *how) == 1
    told = capsys.readouterr().out
    assert "lost: race" in told and "lock-sleep-kept-3 (sc, dfs): interrupted" in told


def test_an_exploration_in_threads_loads_kernels_in_the_one_that_hears_signals(
    tmp_path, monkeypatch
):
    load, threads = obtain._loaded, []

    def loaded(*given):
        threads.append(threading.current_thread())
        return load(*given)

    monkeypatch.setattr(obtain, "_loaded", loaded)
    program = module(tmp_path, LOST_UPDATE).lost
    assert explore_program(program, workers=2, schedules=10).failure is not None
    assert threads and set(threads) == {threading.main_thread()}


def test_a_wait_for_threads_is_told_and_not_broken(as_before):
    met = []
    with signals.obeyed(), signals.noted(met.append):
        for number in signals.ENDING:
            signal.raise_signal(number)
    assert [one.signal_name for one in met] == ["SIGINT", "SIGTERM", "SIGHUP"]


def test_crash_tells_and_writes_what_it_had_found(interrupted, tmp_path, capsys):
    kept = tmp_path / "r.json"
    how = ("--engine", "interpreted", "--junit", str(tmp_path / "r.xml"), "--json", str(kept))
    source = (ROOT / "tests" / "crash_programs.py").read_text()
    (tmp_path / "mine.py").write_text(f"{source}\ncase = case_of(recover_well)\n")
    assert interrupted("crash", f"{tmp_path / 'mine.py'}:case", *how) == 2
    told = capsys.readouterr()
    assert "interrupted before everything was tried" in told.out and " crashes" in told.out
    assert json.loads(kept.read_text())["complete"] is False
    assert "INTERRUPTED" in (tmp_path / "r.xml").read_text()


def test_mutants_tells_and_writes_what_it_had_found(as_before, monkeypatch, tmp_path, capsys):
    from stress.mutants import runner

    def hunts(*arguments):
        yield runner.Hunted("merge-any-order", runner.EXPLORER, runner.FOUND, by="some-program")
        signal.raise_signal(signal.SIGHUP)

    monkeypatch.setattr(runner, "hunt_all", hunts)
    with signals.obeyed():
        assert cli.run(["mutants", "buddy", "--json", str(tmp_path / "r.json")]) == 2
    assert "some-program" in capsys.readouterr().out
    assert "some-program" in (tmp_path / "r.json").read_text()


def test_a_second_signal_leaves_an_old_file_whole(as_before, monkeypatch, tmp_path, capsys):
    (tmp_path / "r.json").write_text("the old one")
    made = explore.document

    def document(result):
        signal.raise_signal(signal.SIGINT)
        return made(result)

    monkeypatch.setattr(explore, "document", document)
    with signals.obeyed():
        assert cli.run([*EXPLORE, "--json", str(tmp_path / "r.json")]) == 2
    assert (tmp_path / "r.json").read_text() == "the old one"
    assert capsys.readouterr().err.strip() == "shmstress: interrupted by SIGINT"
