"""Recording: lines of the kernel's trace become rows, and tracefs is left as it was found."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shmalloc.errors import EnvironmentUnfitError
from stress import cli
from stress.trace.format import load, validate
from stress.trace.record import EVENTS, Recorder
from stress.trace.tracefs import Instance, find_tracefs, sweep
from stress.verdict import Verdict

HEADER = ["# tracer: nop\n", "#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION\n"]
PAGE = "mm_page_alloc: page=0xffffea0004 pfn=0x140040 order=1 migratetype=2 gfp_flags=GFP_KERNEL"
PAGE_BACK = "mm_page_free: page=0xffffea0004 pfn=0x140040 order=1"
OBJECT = (
    "kmem_cache_alloc: call_site=alloc_file+0x3c/0x110 ptr=0xffff8881 name=filp bytes_req=184"
    " bytes_alloc=192 gfp_flags=GFP_KERNEL node=-1 accounted=true"
)
OBJECT_BACK = "kmem_cache_free: call_site=__fput+0x141/0x2a0 ptr=0xffff8881 name=filp"
KMALLOC = (
    "kmalloc: call_site=f+0x1/0x2 ptr=0xffff8882 bytes_req=60 bytes_alloc=64 gfp_flags=GFP_NOFS"
    " node=-1 accounted=false"
)
KFREE = "kfree: call_site=g+0x1/0x2 ptr=0xffff8882"


def line(event: str, cpu: int = 0, micros: int = 0, task: str = "bash-8722") -> str:
    return f"{task:>16}    [{cpu:03}] ...2.  3041.{micros:06}: {event}\n"


def record(*lines: str) -> Recorder:
    recorder = Recorder()
    recorder.feed(lines)
    return recorder


def rows(*lines: str) -> list[tuple[int, ...]]:
    """kind, id, arg, flag of what is recorded."""
    return [row[3:] for row in record(*lines).rows]


def test_pages_are_known_by_their_pfn() -> None:
    assert rows(line(PAGE), line(PAGE_BACK)) == [(0, 0, 1, 2), (1, 0, 1, 0)]


def test_objects_are_known_by_their_address() -> None:
    assert rows(line(OBJECT), line(OBJECT_BACK)) == [(2, 0, 192, 0), (3, 0, 0, 0)]


def test_kmalloc_has_a_cache_for_each_size() -> None:
    recorder = record(line(OBJECT), line(KMALLOC), line(KFREE))
    assert recorder.trace("t").caches.tolist() == ["filp", "kmalloc-64"]


def test_kfree_frees_what_came_from_a_named_cache() -> None:
    assert rows(line(OBJECT), line(KFREE.replace("8882", "8881")))[1] == (3, 0, 0, 0)


def test_a_pfn_that_is_used_again_is_another_id() -> None:
    assert [row[1] for row in rows(line(PAGE), line(PAGE_BACK), line(PAGE))] == [0, 0, 1]


def test_frees_of_earlier_allocations_are_left_out_and_counted() -> None:
    recorder = record(line(PAGE_BACK), line(KFREE))
    assert (recorder.rows, recorder.skipped["frees of earlier allocations"]) == ([], 2)


def test_a_free_in_other_pieces_is_left_out_and_counted() -> None:
    recorder = record(line(PAGE), line(PAGE_BACK.replace("order=1", "order=0")))
    assert (len(recorder.rows), recorder.skipped["frees in other pieces"]) == (1, 1)


def test_kmalloc_of_whole_pages_is_left_to_the_page_events() -> None:
    assert rows(line(KMALLOC.replace("bytes_alloc=64", "bytes_alloc=16384"))) == []


def test_a_failed_allocation_is_no_allocation() -> None:
    failed = PAGE.replace("page=0xffffea0004 pfn=0x140040", "page=0000000000000000 pfn=0x0")
    assert rows(line(failed), line(KMALLOC.replace("0xffff8882", "(null)"))) == []


def test_a_migratetype_without_lists_of_its_own_is_unmovable() -> None:
    assert rows(line(PAGE.replace("migratetype=2", "migratetype=3")))[0][3] == 0


def test_comments_and_other_events_are_passed_over() -> None:
    recorder = record(*HEADER, "\n", line("sched_switch: prev_comm=a"), line(PAGE))
    assert len(recorder.rows) == 1


@pytest.mark.parametrize("task", ["<idle>-0", "a b-c-17", "kworker/0:1-events-9"])
def test_task_names_may_hold_anything(task: str) -> None:
    recorder = record(line(PAGE, task=task))
    assert recorder.rows[0][2] == int(task.rpartition("-")[2])


def test_times_count_from_the_first_event() -> None:
    trace = record(line(PAGE, micros=500), line(PAGE_BACK, micros=502)).trace("t")
    assert trace.time_ns.tolist() == [0, 2000]


def test_a_recording_is_a_sound_trace() -> None:
    recorder = record(
        *HEADER,
        line(PAGE, 0, 1),
        line(OBJECT, 1, 2, "a-5"),
        line(OBJECT_BACK, 0, 3),
        line(KMALLOC, 1, 4),
        line(PAGE_BACK, 1, 5),
    )
    trace = recorder.trace("t")
    validate(trace)
    assert trace.counts()["remote frees"] == 2


def test_a_full_buffer_ends_the_recording_of_all_cpus() -> None:
    recorder = record(line(PAGE, 0, 1), line(OBJECT, 1, 2), line(KMALLOC, 0, 9))
    recorder.cut([1])
    assert [row[1] for row in recorder.rows] == [0, 1]


def test_lost_events_are_counted() -> None:
    recorder = record("CPU:3 [LOST 17 EVENTS]\n", line(PAGE))
    assert dict(recorder.lost) == {3: 17}


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
def test_an_interrupted_recording_leaves_nothing_behind(tmp_path: Path, signal_name: str) -> None:
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
