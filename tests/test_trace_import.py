"""``shmstress trace import`` and ``show``: what a person types, sees and gets."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stress import cli
from stress.trace.format import load
from stress.trace.text import MAX_LINE_CHARS
from support.bounded import Bounded
from support.fuzz_traces import fuzz
from support.runs import environment, shmstress

# A page and an object of Linux 6.18, with what else stands in such a file.
TEXT = """\
# tracer: nop
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
            make-4812    [000] .....   913.204101: mm_page_alloc: page=00000000a1b2c3d4 pfn=0x101 \
order=0 migratetype=1 gfp_flags=GFP_HIGHUSER_MOVABLE
            make-4812    [000] .....   913.204117: kmalloc: call_site=pipe_new+0x6c/0x220 \
ptr=000000009c3a1e77 bytes_req=640 bytes_alloc=1024 gfp_flags=GFP_KERNEL node=-1 accounted=true
            make-4812    [000] .....   913.204118: kfree: call_site=f ptr=0000000000000000
CPU:1 [LOST 17 EVENTS]
            make-4812    [001] .....   913.204140: kfree: call_site=pipe_del ptr=000000009c3a1e77
            make-4813    [001] .....   913.204150: mm_page_free: page=00000000a1b2c3d4 pfn=0x101 \
order=0
            make-4813    [001] .....   913.204151: sched_switch: prev_comm=make
            make-4813    [001] .....   913.204152: mm_page_free: page=00000000a1b2c3e8 pfn=0x102 \
order=0
and a line of something else
"""
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run one command line: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_recording_is_imported_shown_and_replayed(call: Call, tmp_path: Path) -> None:
    """The whole way of a text of another tool: into a trace, looked at, and into a run."""
    (tmp_path / "t.txt").write_text(TEXT)
    trace = tmp_path / "t.npz"
    assert call("trace", "import", tmp_path / "t.txt", "--out", trace)[0] == 0
    code, output, _ = call("trace", "show", trace)
    assert code == 0 and "1 page alloc, 1 page free, 1 object alloc, 1 object free," in output
    run = shmstress("run", "--workload", "trace", "--trace", str(trace), "--progress", "never")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "page allocs 1, page frees 1, object allocs 1, object frees 1" in run.stdout


def test_an_import_tells_what_became_of_every_line(call: Call, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(TEXT)
    _, output, error = call("trace", "import", tmp_path / "t.txt", "--out", tmp_path / "t.npz")
    lines = output.splitlines()
    assert error == ""
    assert lines[0] == "format: ftrace, trace of the kernel (tracefs); 11 lines"
    assert lines[1:3] == [
        "LOST: 17 events of CPU 1; pairs across the gap may be wrong",
        "left out: frees of memory allocated before the recording began: 1",
    ]
    assert [line.split(": ")[:3] for line in lines[3:7]] == [
        ["left out", "frees of nothing (a null pointer)", "1, first in line 5"],
        ["other lines", "comments and headers", "2, first in line 1"],
        ["other lines", "marks of lost events", "1, first in line 6"],
        ["other lines", "sched_switch events", "1, first in line 9"],
    ]
    assert lines[7] == "not understood: 1 line, first in line 11: and a line of something else"


def test_show_repeats_what_is_approximated(call: Call, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(TEXT)
    call("trace", "import", tmp_path / "t.txt", "--out", tmp_path / "t.npz")
    _, output, _ = call("trace", "show", tmp_path / "t.npz")
    for line in (
        f"{tmp_path / 't.npz'}: 4 events in 0.000049 s on 2 CPUs, 2 tasks",
        "imported from: trace of the kernel (tracefs), 11 lines",
        "approximated: left out: frees of memory allocated before the recording began: 1",
        "events on each CPU: CPU 0: 2, CPU 1: 2",
        "blocks by order: order 0: 1",
        "blocks by type: unmovable: 0, movable: 1, reclaimable: 0",
        "objects by cache: kmalloc-1024: 1",
        "never freed: 0; a replay gives them back at its end",
        "replay: 2 workers, --ram 256MiB",
    ):
        assert line in output.splitlines()


def test_the_sample_of_the_package_is_shown(call: Call) -> None:
    assert "sample: 46,433 events" in call("trace", "show", "sample")[1]


def test_a_run_is_told_to_import_a_text_first(call: Call, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(TEXT)
    code, _, error = call("run", "--workload", "trace", "--trace", tmp_path / "t.txt")
    assert (code, error.count("\n")) == (4, 1)
    assert error.endswith(f"shmstress trace import {tmp_path / 't.txt'} --out t.npz\n")


# --- bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_text_is_read(
    call: Call, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "t.txt.z").write_bytes(compress(TEXT.encode()))
    assert call("trace", "import", tmp_path / "t.txt.z", "--out", tmp_path / "t.npz")[0] == 0
    assert len(load(tmp_path / "t.npz")) == 4


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_text_that_is_cut_off_gives_what_is_there(
    call: Call, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    line = TEXT.splitlines()[2]
    long = "".join(f"{line.replace('0x101', f'0x{n:x}')}\n" for n in range(30_000))
    data = compress(long.encode())
    (tmp_path / "t.txt.z").write_bytes(data[: len(data) * 3 // 4])
    code, output, _ = call("trace", "import", tmp_path / "t.txt.z", "--out", tmp_path / "t.npz")
    assert code == 0 and "is damaged or cut off" in output
    assert 0 < len(load(tmp_path / "t.npz")) < 30_000


def test_streams_of_xz_one_after_the_other_are_read(call: Call, tmp_path: Path) -> None:
    text = TEXT.encode()
    first, second = lzma.compress(text[:300]), lzma.compress(text[300:])
    (tmp_path / "t.xz").write_bytes(first + b"\0" * 8 + second)  # padded by a multiple of four
    call("trace", "import", tmp_path / "t.xz", "--out", tmp_path / "t.npz")
    assert len(load(tmp_path / "t.npz")) == 4


def test_an_xz_file_that_takes_much_memory_to_read_is_refused(call: Call, tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 256 << 20}]
    (tmp_path / "t.xz").write_bytes(lzma.compress(TEXT.encode(), filters=filters))
    code, _, error = call("trace", "import", tmp_path / "t.xz", "--out", tmp_path / "t.npz")
    assert (code, error.count("\n")) == (4, 1)
    assert "reading this xz file takes more than 96 MiB; unpack it first" in error


def test_lines_may_end_as_windows_ends_them_and_hold_any_bytes(call: Call, tmp_path: Path) -> None:
    data = TEXT.replace("make", "m\udce4k\r", 3).encode("utf-8", "surrogateescape")
    (tmp_path / "t.txt").write_bytes(data.replace(b"\n", b"\r\n"))
    _, output, _ = call("trace", "import", tmp_path / "t.txt", "--out", tmp_path / "t.npz")
    assert len(load(tmp_path / "t.npz")) == 4
    assert "not understood: 1 line, first in line 11" in output


def test_a_mark_of_utf_8_belongs_to_no_line(call: Call, tmp_path: Path) -> None:
    (tmp_path / "t.rep").write_bytes(b"\xef\xbb\xbfa 0 64\nf 0\n")
    call("trace", "import", tmp_path / "t.rep", "--out", tmp_path / "t.npz")
    assert len(load(tmp_path / "t.npz")) == 2


def test_a_last_line_without_an_end_is_read(call: Call, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a 0 64\nf 0")
    call("trace", "import", tmp_path / "t.txt", "--out", tmp_path / "t.npz")
    assert len(load(tmp_path / "t.npz")) == 2


def test_a_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    """200 MB without a line feed in a gzip of 200 KB, behind a good beginning."""
    with gzip.open(tmp_path / "t.gz", "wb", 1) as file:
        file.write(TEXT.encode())
        for _ in range(200):
            file.write(b"x" * (1 << 20))
    with Bounded(48 << 20) as child:
        out = str(tmp_path / "t.npz")
        code, output, error = child.run("trace", "import", str(tmp_path / "t.gz"), "--out", out)
    assert (code, error) == (0, "")
    assert f"1 line cut at {MAX_LINE_CHARS:,} characters" in output


def test_memory_grows_with_the_events_and_not_with_the_text(tmp_path: Path) -> None:
    """24 MB of lines that are no events of an allocator, and four that are."""
    noise = (
        "            make-4813    [001] .....   913.204151: sched_switch: prev_comm=make\n" * 500
    )
    with gzip.open(tmp_path / "t.gz", "wb", 1) as file:
        file.write(TEXT.encode())
        for _ in range(600):
            file.write(noise.encode())
    with Bounded(24 << 20) as child:
        out = str(tmp_path / "t.npz")
        code, output, error = child.run("trace", "import", str(tmp_path / "t.gz"), "--out", out)
    assert (code, error) == (0, "")
    assert "sched_switch events: 300,001, first in line 9" in output


# --- where it comes from and where it goes -------------------------------------------------------


def test_a_text_may_come_through_a_pipe(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "stress", "trace", "import", "-", "--out", tmp_path / "t.npz"]
    subprocess.run(words, input=TEXT.encode(), env=environment(), check=True, timeout=60)
    assert len(load(tmp_path / "t.npz")) == 4


def test_a_text_may_come_from_a_process_of_the_shell(tmp_path: Path) -> None:
    """``<(zcat t.gz)`` is /dev/fd/63, which is a FIFO that is open already."""
    (tmp_path / "t.txt").write_text(TEXT)
    line = '"$0" -m stress trace import <(cat t.txt) --out t.npz'
    shell = ["bash", "-c", line, sys.executable]
    subprocess.run(shell, env=environment(), cwd=tmp_path, check=True, timeout=60)
    assert len(load(tmp_path / "t.npz")) == 4


def test_a_fifo_that_has_no_writer_is_refused(call: Call, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.txt")
    code, _, error = call("trace", "import", tmp_path / "t.txt", "--out", tmp_path / "t.npz")
    assert (code, error.count("\n")) == (4, 1) and "it is a FIFO" in error


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no format is known by its first 0 lines (the file is empty)"),
        (b"\x7fELF\0\0\0\0", "not text"),
        (b"\x17\x08Dtracing6\0", "make text of it: trace-cmd report"),
        (b"PERFILE2\0\0", "make text of it: perf script"),
        (b"PK\x03\x04", "which needs no import"),
        (b"\x1f\x8b\x08\0\0\0", "the gzip file is damaged"),
        (b"hello\n", "(1 line, first in line 1: hello)"),
    ],
)
def test_a_file_of_something_else_is_one_line(
    call: Call, tmp_path: Path, content: bytes, told: str
) -> None:
    (tmp_path / "t.txt").write_bytes(content)
    code, output, error = call("trace", "import", tmp_path / "t.txt", "--out", tmp_path / "t.npz")
    assert (code, output, error.count("\n")) == (4, "", 1)
    assert told in error and not (tmp_path / "t.npz").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("import", "t.txt"), "Missing option '--out'"),
        (
            ("import", "none.txt", "--out", "t.npz"),
            "none.txt: No such file or directory; name a file that can be read",
        ),
        (("import", "t.txt", "--out", "no/t.npz"), "there is no directory 'no'"),
        (("import", "t.txt", "--out", "./t.txt"), "is the text itself"),
        (("import", "t.txt", "--out", "t.npz", "--format", "ftrac"), "did you mean 'ftrace'"),
        (("import", "t.txt", "--out", "t.npz", "--format", "perf"), "read as perf"),
        (("shwo", "t.npz"), "did you mean 'show'"),
    ],
)
def test_a_wrong_command_line_is_one_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text(TEXT)
    code, _, error = call("trace", *words)
    assert (code, error.count("\n")) == (4, 1) and told in error


# --- anything at all -----------------------------------------------------------------------------


def test_damaged_traces_and_texts_are_read_or_refused_in_one_line(
    shm_seed: int, tmp_path: Path
) -> None:
    """A share of ``tox -e fuzz-traces``, from the test's seed."""
    outcome = fuzz(shm_seed, tmp_path, lambda number: number == 100)
    assert outcome.findings == []
