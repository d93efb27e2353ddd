"""Recording: text first, then the trace; nothing is lost, and tracefs is left as it was found."""

from __future__ import annotations

import errno
import fcntl
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from shmalloc.errors import EnvironmentUnfitError
from stress import cli
from stress.trace.format import load, validate
from stress.trace.importing import import_text
from stress.trace.record import EVENTS, RawText
from stress.trace.tracefs import Instance, find_tracefs, sweep
from stress.verdict import Verdict

PAGE = "mm_page_alloc: page=0xffffea0004 pfn=0x140040 order=1 migratetype=2 gfp_flags=GFP_KERNEL"
PAGE_BACK = "mm_page_free: page=0xffffea0004 pfn=0x140040 order=1"


def line(event: str, cpu: int = 0, micros: int = 0) -> bytes:
    return f"       bash\r-8722    [{cpu:03}] ...2.  3041.{micros:06}: {event}\n".encode()


class FakeInstance:
    """An instance that has recorded these lines, and dropped events of some CPUs."""

    def __init__(self, *lines: bytes, full: dict[int, int] | None = None) -> None:
        self._lines, self._full = lines, full or {}

    def __enter__(self) -> FakeInstance:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @contextmanager
    def on(self) -> Iterator[None]:
        yield

    def lines(self) -> Iterator[bytes]:
        yield from self._lines

    def full_cpus(self) -> dict[int, int]:
        return self._full


RECORDED = (line(PAGE, 0, 1), line(PAGE_BACK, 1, 2))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeInstance], None]:
    """Lets ``shmstress record`` find an instance of ours instead of the kernel's."""

    def use(instance: FakeInstance) -> None:
        monkeypatch.setattr("stress.commands.record.Instance", lambda events, buffer: instance)

    return use


Recorded = Callable[[FakeInstance], None]


def run(out: Path, *more: str) -> int:
    return cli.run(["record", "--out", str(out), *more, "--", "true"])


# --- text first, then the trace -----------------------------------------------------------------


def test_the_text_is_gone_when_the_trace_is_written(recorded: Recorded, tmp_path: Path) -> None:
    recorded(FakeInstance(*RECORDED))
    assert run(tmp_path / "t.npz") == 0
    assert load(tmp_path / "t.npz").counts()["remote frees"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["t.npz"]


def test_the_text_is_kept_if_that_is_wanted(recorded: Recorded, tmp_path: Path) -> None:
    recorded(FakeInstance(*RECORDED))
    assert run(tmp_path / "t.npz", "--keep-raw") == 0
    assert (tmp_path / "t.npz.txt").read_bytes() == b"".join(RECORDED)
    assert (tmp_path / "t.npz.txt").stat().st_mode & 0o077 == 0  # it has addresses and names


def test_no_other_text_is_written_over(recorded: Recorded, tmp_path: Path) -> None:
    (tmp_path / "t.npz.txt").write_text("mine")
    recorded(FakeInstance(*RECORDED))
    assert run(tmp_path / "t.npz", "--keep-raw") == 0
    assert (tmp_path / "t.npz.txt").read_text() == "mine"
    assert (tmp_path / "t.npz.2.txt").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_a_conversion_that_fails_loses_nothing(
    recorded: Recorded,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: type[BaseException],
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    recorded(FakeInstance(*RECORDED))
    with monkeypatch.context() as patch:
        patch.setattr("stress.trace.record.convert", fail)
        assert run(tmp_path / "t.npz") != 0
    told = capsys.readouterr().err
    command = told[told.index("shmstress trace import") :].splitlines()[0].split()
    assert cli.run(command[1:]) == 0
    assert len(load(tmp_path / "t.npz")) == 2


def test_an_interrupted_command_loses_nothing_that_was_recorded(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    recorded(FakeInstance(*RECORDED))
    monkeypatch.setattr("stress.commands.record._run", interrupt)
    assert run(tmp_path / "t.npz") == Verdict.INTERRUPTED.exit_code
    assert (tmp_path / "t.npz.txt").read_bytes() == b"".join(RECORDED)


def test_a_disk_without_room_for_the_text_gives_a_trace_all_the_same(
    recorded: Recorded,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(raw: RawText, instance: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    recorded(FakeInstance(*RECORDED))
    monkeypatch.setattr(RawText, "write", full)
    assert run(tmp_path / "t.npz") == 0
    assert "its text cannot be kept: No space left on device" in capsys.readouterr().err
    assert len(load(tmp_path / "t.npz")) == 2


def test_a_full_buffer_ends_the_recording_of_all_cpus(
    recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (line(PAGE, 0, 1), line(PAGE.replace("140040", "140050"), 1, 2), line(PAGE_BACK, 0, 9))
    recorded(FakeInstance(*lines, full={1: 17}))
    assert run(tmp_path / "t.npz", "--keep-raw") == 0
    assert len(load(tmp_path / "t.npz")) == 2
    assert "LOST: 17 events of CPU 1, whose buffer was full" in capsys.readouterr().out
    again = import_text(tmp_path / "t.npz.txt")
    assert (len(again.trace), again.full) == (2, {1: 17})


def test_a_recording_without_an_event_is_the_fault_of_the_machine(
    recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(FakeInstance(b"# tracer: nop\n"))
    assert run(tmp_path / "t.npz") == Verdict.UNFIT.exit_code
    assert "no event was recorded while 'true' ran" in capsys.readouterr().err


# --- what is missing is said --------------------------------------------------------------------


def test_a_missing_tracefs_names_the_mount_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(EnvironmentUnfitError, match="mount -t tracefs nodev"):
        find_tracefs((tmp_path / "none",))


def test_without_root_it_asks_for_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(EnvironmentUnfitError, match="run it as root"):
        find_tracefs((tmp_path / "none",))


def test_another_system_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(EnvironmentUnfitError, match="darwin"):
        find_tracefs()


def test_a_kernel_without_the_events_is_refused(tmp_path: Path) -> None:
    (tmp_path / "instances").mkdir()
    (tmp_path / "events/kmem/kfree").mkdir(parents=True)
    with pytest.raises(EnvironmentUnfitError, match="no trace events mm_page_alloc"):
        Instance(EVENTS, 1 << 20, (tmp_path,))


def test_instances_of_dead_recorders_are_swept(tmp_path: Path) -> None:
    (tmp_path / "instances/shmstress-1-99999999999").mkdir(parents=True)
    (tmp_path / "instances/of-another-program").mkdir()
    assert sweep(tmp_path) == ["shmstress-1-99999999999"]
    assert [path.name for path in (tmp_path / "instances").iterdir()] == ["of-another-program"]


def test_an_unwritable_target_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none" / "t.npz"
    assert cli.run(["record", "--out", str(out), "--", "true"]) == 4
    assert "there is no directory" in capsys.readouterr().err


def test_an_unfit_machine_exits_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert psutil.LINUX  # imported before we pretend: it asks for the platform when it is loaded
    monkeypatch.setattr("sys.platform", "darwin")
    code = cli.run(["record", "--out", str(tmp_path / "t.npz"), "--", "true"])
    assert code == Verdict.UNFIT.exit_code == 7


# --- a real recording -----------------------------------------------------------------------------


def _reason() -> str:
    try:
        find_tracefs()
    except EnvironmentUnfitError as error:
        return str(error)
    return ""


live = pytest.mark.skipif(bool(_reason()), reason=_reason() or "tracefs is there")


@pytest.fixture
def alone() -> Iterator[None]:
    """One test at a time, over all processes: each checks for instances that it left behind."""
    with (Path(tempfile.gettempdir()) / "shmalloc-test-tracefs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _instances() -> set[str]:
    return {path.name for path in (find_tracefs() / "instances").iterdir()}


@live
@pytest.mark.usefixtures("alone")
def test_a_command_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, out = _instances(), tmp_path / "t.npz"
    work = "import sys; [bytearray(1 << 20) for _ in range(20)]; sys.exit(3)"
    code = cli.run(["record", "--out", str(out), "--", sys.executable, "-c", work])
    assert code == 0
    assert "ended with exit code 3" in capsys.readouterr().out
    assert load(out).counts()["page allocs"] > 0
    assert _instances() <= before


@live
@pytest.mark.usefixtures("alone")
def test_a_small_buffer_says_what_was_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "t.npz")
    work = "for _ in range(50): bytearray(1 << 20)"
    cli.run(["record", "--out", out, "--buffer", "8KiB", "--", sys.executable, "-c", work])
    assert "LOST: " in capsys.readouterr().out
    validate(load(out))


@live
@pytest.mark.usefixtures("alone")
def test_an_unknown_command_leaves_no_instance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _instances()
    code = cli.run(["record", "--out", str(tmp_path / "t.npz"), "--", "no-such-command-here"])
    assert (code, _instances() <= before) == (4, True)


@live
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_recording_leaves_its_text_and_nothing_else(
    tmp_path: Path, signal_name: str
) -> None:
    before, out = _instances(), tmp_path / "t.npz"
    cmd = ["record", "--out", str(out), "--", "sh", "-c", "echo ready; exec sleep 60"]
    with subprocess.Popen(
        [sys.executable, "-m", "stress", *cmd], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(getattr(signal, signal_name))
        assert process.wait(20) == Verdict.INTERRUPTED.exit_code
    assert _instances() <= before
    assert not out.exists()
    assert import_text(tmp_path / "t.npz.txt").trace.counts()["page allocs"] > 0
