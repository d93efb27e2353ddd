"""Texts and files that are damaged or made to harm: read right, or refused in one line, code 4."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from stress import cli
from stress.trace.format import load
from support.bounded import Bounded

REP = "".join(f"a {n} {8 + n % 4000}\nf {n}\n" for n in range(300)).encode()
CSV = b"op,id,bytes\nalloc,1,64\n"
MTRACE = b"= Start\n@ a.out:[0x4011c4] + 0x55d2a4e6a6b0 0x18\n"
FTRACE = (
    b"  make-4812 [000] ..... 913.204101: mm_page_alloc: page=00000000a1b2c3d4 pfn=0x%x order=%d "
)
FTRACE += b"migratetype=0 gfp_flags=GFP_KERNEL\n"
Call = Callable[[bytes], tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Import some bytes: exit code, standard output, standard error."""

    def run(content: bytes) -> tuple[int, str, str]:
        (tmp_path / "t").write_bytes(content)
        code = cli.run(["trace", "import", str(tmp_path / "t"), "--out", str(tmp_path / "t.npz")])
        told = capsys.readouterr()
        if code == 0:
            assert len(load(tmp_path / "t.npz")) > 0 and told.err == ""
        else:
            assert (code, told.out, told.err.count("\n")) == (4, "", 1), told.err
            assert not (tmp_path / "t.npz").exists()
        return code, told.out, told.err

    return run


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


# --- compressed ----------------------------------------------------------------------------------
NOTHING_LEFT = {
    "gzip cut off in its header": gzip.compress(REP)[:8],
    "gzip cut off before its first byte": gzip.compress(REP)[:10],
    "bzip2 cut off": bz2.compress(REP)[:60],
    "bzip2 with a wrong byte": flipped(bz2.compress(REP), 60),
    "xz cut off": lzma.compress(REP)[:30],
    "xz with a wrong byte": flipped(lzma.compress(REP), 30),
    "xz with a wrong end": flipped(lzma.compress(REP), len(lzma.compress(REP)) - 3),
}


@pytest.mark.parametrize("data", NOTHING_LEFT.values(), ids=NOTHING_LEFT)
def test_a_damaged_file_of_which_nothing_can_be_read_is_told_as_damaged(
    call: Call, data: bytes
) -> None:
    code, _, error = call(data)
    assert code == 4 and "damaged" in error and "copy it again" in error and "empty" not in error


SOMETHING_LEFT = {
    "gzip cut off": gzip.compress(REP)[:-20],
    "gzip with a wrong checksum": flipped(gzip.compress(REP), len(gzip.compress(REP)) - 8),
    "gzip with something behind it": gzip.compress(REP) + b"something",
    "bzip2 cut off at its end": bz2.compress(REP)[:-5],
}


@pytest.mark.parametrize("data", SOMETHING_LEFT.values(), ids=SOMETHING_LEFT)
def test_a_small_damaged_file_gives_what_comes_before_the_damage(call: Call, data: bytes) -> None:
    code, output, _ = call(data)
    assert code == 0 and "is damaged" in output


def test_a_file_compressed_twice_is_of_no_format(call: Call) -> None:
    assert "no format is known" in call(gzip.compress(gzip.compress(REP)))[2]


def test_a_million_empty_lines_take_no_memory(tmp_path: Path) -> None:
    (tmp_path / "t.gz").write_bytes(gzip.compress(REP + b"\n" * (4 << 20), 1))
    with Bounded(64 << 20) as child:
        out = str(tmp_path / "t.npz")
        code, output, _ = child.run("trace", "import", str(tmp_path / "t.gz"), "--out", out)
    assert code == 0 and "empty lines: 4,194,304" in output


# --- texts ---------------------------------------------------------------------------------------
ONE_EVENT = {
    "digits of another script": CSV + "alloc,2,\u0661\u0662\n".encode(),
    "an underscore in a number": CSV + b"alloc,2,1_000\n",
    "no bytes": CSV + b"alloc,2,0\n",
    "fewer bytes than none": CSV + b"alloc,2,-64\n",
    "a quote that does not end": CSV + b'alloc,"2,64\nalloc,3,64\n'[:12],
    "a cell of 4,000 digits": CSV + b"alloc,2," + b"9" * 4000 + b"\n",
    "half of a letter at the end": CSV + b"alloc,2,\xc3",
    "an id of 30 digits": b"a 1 64\na 1" + b"0" * 30 + b" 64\n",
    "a size without end": MTRACE + b"@ a.out:[0x4011c4] + 0x1 0x" + b"f" * 4000 + b"\n",
    "an order that no block has": FTRACE % (1, 0) + FTRACE % (2, 10**12),
}


@pytest.mark.parametrize("text", ONE_EVENT.values(), ids=ONE_EVENT)
def test_a_line_that_cannot_be_meant_is_no_event_and_is_told(call: Call, text: bytes) -> None:
    code, output, _ = call(text)
    assert code == 0 and ": 1 event in " in output
    assert "first in line" in output.split("not understood: ")[-1].split("left out: ")[-1]


def test_a_negative_size_is_not_told_as_a_large_one(call: Call) -> None:
    assert "objects of less than one byte: 1, first in line 3" in call(CSV + b"alloc,2,-64\n")[1]


def test_what_was_not_understood_is_told_once(call: Call) -> None:
    error = call(b"op,id,bytes\nalloc,1,x\nalloc,2,64y\nfree,3,\nalloc,z1,1_0\n")[2]
    assert "1 comments and headers, 3 not understood, first in line 2: alloc,1,x)" in error


def test_a_text_of_two_bytes_a_letter_is_no_text(call: Call) -> None:
    assert "not text" in call(CSV.decode().encode("utf-16"))[2]
    assert "not text" in call(CSV + b"alloc,2,6\x004\n")[2]
