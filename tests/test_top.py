"""``shmstress top`` end to end: a real run is watched, what is no segment is refused."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shmalloc import constants as c
from shmalloc import leftovers
from shmalloc.layout import Geometry, ZoneSpec
from shmalloc.segment import Segment
from stress import cli
from stress.commands import top
from stress.records.writer import Records, Work
from stress.top.segments import segments
from support.runs import PATIENCE_S, RunningRun, environment, shmstress, wait_until

SHM = Path("/dev/shm")
SMALL = Geometry(zones=(ZoneSpec(pages=64),), page_bytes=64, cpus=2, max_order=3, pageblock_order=2)


@pytest.fixture(scope="module")
def running() -> Iterator[RunningRun]:
    """Three workers at work, for as long as the tests of this file need them."""
    arguments = ("--workload", "churn,slabmix", "--workers", "3", "--ram", "16MiB")
    with RunningRun(*arguments, "--duration", "1h", "--hang-timeout", "1h") as run:
        yield run
        run.send(signal.SIGTERM)
        run.end()


def of(run: RunningRun) -> str:
    """The name of its segment."""
    (name,) = run.segment_names
    return name


@pytest.fixture
def read(running, capsys):
    """One reading of the run as data."""

    def read() -> dict:
        assert cli.run(("top", of(running), "--json", "-", "--interval", "100ms")) == 0
        return json.loads(capsys.readouterr().out)

    return read


def test_one_frame_of_a_running_run_names_its_workers_and_its_memory(running):
    done = shmstress("top", of(running), "--once", "--interval", "100ms", COLUMNS="140")
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^ *(\d) +(\d+) +(?:running|sleeping)", done.stdout, re.MULTILINE)
    assert [(int(cpu), int(pid)) for cpu, pid in rows] == list(enumerate(running.workers()))
    assert f"of pid {running.process.pid}" in done.stdout and "no violations" in done.stdout
    assert " of 4,096 pages used" in done.stdout  # 16 MiB
    assert "a letter, of most:" in done.stdout and "\x1b" not in done.stdout


def test_the_same_as_data_adds_up(running, read):
    seen = read()
    assert seen["managed_pages"] == 4096 == sum(seen["map"]["pages"].values())
    assert seen["segment"]["owner"]["pid"] == running.process.pid
    assert seen["events"]["alloc"] >= seen["events"]["free"] > 0
    assert sum(cpu["operations_per_s"] for cpu in seen["cpus"]) > 0


def test_watching_claims_no_slot(running, read):
    before = [(cpu["slot"]["pid"], cpu["slot"]["users"]) for cpu in read()["cpus"]]
    after = [(cpu["slot"]["pid"], cpu["slot"]["users"]) for cpu in read()["cpus"]]
    assert before == after == [(pid, 1) for pid in running.workers()]


def test_a_stopped_worker_is_named(running, read):
    pid = running.workers()[1]
    os.kill(pid, signal.SIGSTOP)
    try:
        states = {cpu["process"]["pid"]: cpu["process"]["state"] for cpu in read()["cpus"]}
    finally:
        os.kill(pid, signal.SIGCONT)
    assert states[pid] == "stopped"


def test_without_a_name_the_segments_are_listed(running, capsys):
    assert cli.run(("top",)) == 0
    output = capsys.readouterr().out
    (line,) = [line for line in output.splitlines() if line.startswith(of(running))]
    assert str(running.process.pid) in line.split() and "stress run" in line
    assert cli.run(("top", "--json", "-")) == 0
    listed = json.loads(capsys.readouterr().out)["segments"]
    (entry,) = [one for one in listed if one["name"] == of(running)]
    assert (entry["owner"]["pid"], entry["note"]) == (running.process.pid, "")
    assert entry["age_s"] >= 0


def test_a_segment_that_cannot_be_read_is_listed_with_the_reason(monkeypatch):
    with Segment.create(SMALL, engine="interpreted") as made:
        made.ram[c.H_MAGIC] = 0
        monkeypatch.setattr(leftovers, "header_of", lambda path: (0,) * c.HEADER_WORDS)
        for may_read, note in ((True, "still being made"), (False, "another user's")):
            monkeypatch.setattr(os, "access", lambda path, mode, may_read=may_read: may_read)
            (one,) = [one for one in segments() if one.name == made.name]
            assert (one.note, one.owner.pid, one.bytes) == (note, os.getpid(), made.layout.bytes)


def test_a_pipe_among_the_segments_is_passed_over(foreign):
    os.mkfifo(foreign)
    assert foreign.name not in {one.name for one in segments()}


class OnTerminal:
    """``shmstress top`` on a pseudo-terminal; leaving its ``with`` block kills what still runs."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.side, inside = pty.openpty()
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stress", "top", *arguments],
            env=environment(TERM="xterm-256color", COLUMNS="110", LINES="50", **variables),
            stdin=inside,
            stdout=inside,
            stderr=inside,
        )
        os.close(inside)

    def __enter__(self) -> OnTerminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.side)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while text not in re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", self.seen):
            assert time.monotonic() < deadline, f"waited for {text!r} in {self.seen[-2000:]!r}"
            self._read()

    def _read(self) -> None:
        if select.select([self.side], [], [], 0.5)[0]:
            try:
                self.seen += os.read(self.side, 65536).decode("utf-8", "replace")
            except OSError:  # its end, when no process has the other side
                self.process.wait(PATIENCE_S)

    def press(self, keys: str) -> None:
        os.write(self.side, keys.encode())

    def end(self) -> int:
        while self.process.poll() is None:
            self._read()
        return self.process.returncode


def test_on_a_terminal_it_runs_until_q(running):
    with OnTerminal(of(running)) as terminal:
        terminal.wait_for("CPU slots, by number")
        terminal.press("s")
        terminal.wait_for("by what is on their lists")
        terminal.press("q")
        assert terminal.end() == 0


@pytest.mark.parametrize(("how", "code"), [("\x03", 0), (signal.SIGTERM, 2)])
def test_ctrl_c_and_sigterm_end_it_and_leave_the_terminal_as_it_was(how, code):
    with Segment.create(SMALL, engine="interpreted") as made, OnTerminal(made.name) as terminal:
        terminal.wait_for("CPU slots, by number")
        if isinstance(how, str):
            terminal.press(how)
        else:
            terminal.process.send_signal(how)
        assert terminal.end() == code
    assert "\x1b[?1049l" in terminal.seen and "\x1b[?25h" in terminal.seen


def test_the_end_of_a_segment_is_told_and_q_still_ends_with_0():
    made = Segment.create(SMALL, engine="interpreted")
    with OnTerminal(made.name, "--interval", "100ms") as terminal:
        with made:
            terminal.wait_for("CPU slots, by number")
        terminal.wait_for("ENDED: the segment was removed")
        terminal.press("q")
        assert terminal.end() == 0


def test_a_segment_that_is_removed_between_two_readings_is_shown_as_it_was():
    with Segment.create(SMALL, engine="interpreted") as made:
        watching = subprocess.Popen(
            [sys.executable, "-m", "stress", "top", made.name, "--once", "--interval", "2s"],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        path = f"/proc/{watching.pid}/fd"
        wait_until(lambda: f"/dev/shm/{made.name}" in links_of(path), "top to open the segment")
    output, _ = watching.communicate(timeout=PATIENCE_S)
    assert watching.returncode == 0 and "64 pages" in output


def links_of(folder: str) -> set[str]:
    return {os.readlink(path) for path in Path(folder).iterdir() if path.is_symlink()}


@pytest.fixture
def foreign() -> Iterator[Path]:
    path = SHM / f"shmalloc-test-top-{os.getpid()}"
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def call(capsys):
    """Run one command line in this process: exit code and standard error."""

    def run(*arguments: str) -> tuple[int, str]:
        return cli.run(arguments), capsys.readouterr().err

    return run


@pytest.mark.parametrize("contents", [b"", b"\0" * 4096, b"x" * 100_000, None])
def test_a_file_that_is_no_segment_is_one_line_and_exit_4(foreign, call, contents):
    if contents is None:
        os.mkfifo(foreign)
    else:
        foreign.write_bytes(contents)
        os.utime(foreign, (0, 0))  # else it might be one that is being made
    code, error = call("top", foreign.name, "--once")
    assert code == 4 and error.count("\n") == 1 and "is foreign" in error


def test_a_corrupt_segment_is_one_line_and_exit_4(call):
    with Segment.create(SMALL, engine="interpreted") as made:
        made.ram[made.layout.at["geometry"]] = 1 << 60
        code, error = call("top", made.name, "--once")
        assert code == 4 and error.count("\n") == 1 and "unreadable geometry" in error


@pytest.mark.parametrize("name", ["shm-no-such-segment", "./no/such.db", "a b", ""])
def test_what_does_not_exist_is_one_line_and_exit_4(call, name):
    code, error = call("top", name, "--once")
    assert code == 4 and error.count("\n") == 1 and error.startswith("shmstress: ")


def test_a_path_in_dev_shm_names_a_segment(capsys):
    with Segment.create(SMALL, engine="interpreted") as made:
        assert cli.run(("top", f"/dev/shm/{made.name}", "--once", "--interval", "10ms")) == 0
        assert made.name in capsys.readouterr().out


def test_a_database_is_shown_by_its_file_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    work = Work("soak", "shmstress soak", {})
    with Records("s.db") as records:
        records.begin_round(records.begin_run(work), work)
        assert cli.run(("top", "s.db", "--once", "--interval", "10ms")) == 0
    assert "soak in s.db" in capsys.readouterr().out


def test_a_segment_of_another_build_is_shown_with_a_warning(capsys):
    with Segment.create(SMALL, engine="interpreted") as made:
        made.ram[c.H_DIGEST] += 1
        assert cli.run(("top", made.name, "--once", "--interval", "10ms")) == 0
        assert "made by another build" in capsys.readouterr().out


def test_without_textual_a_terminal_is_told_what_to_install(call, monkeypatch):
    with Segment.create(SMALL, engine="interpreted") as made:
        monkeypatch.setattr(top, "find_spec", lambda name: None)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        code, error = call("top", made.name)
        assert code == 7 and "pip install 'shmalloc[top]'" in error and error.count("\n") == 1


def test_names_of_segments_are_completed():
    with Segment.create(SMALL, engine="interpreted") as made:
        done = shmstress(
            _SHMSTRESS_COMPLETE="bash_complete", COMP_WORDS=f"shmstress top {made.name[:8]}",
            COMP_CWORD="2",
        )  # fmt: skip
        assert made.name in done.stdout
