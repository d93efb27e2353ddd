"""Hostile .npz files: each is one line and exit code 4, within little memory, and nothing hangs."""

from __future__ import annotations

import os
import socket
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stress.trace.archive import write_arrays
from stress.trace.format import load
from support.archives import archive, arrays, header, npy, sound, with_header, with_member
from support.bounded import Bounded

LITTLE = 96 << 20
TIME = npy(arrays()["time_ns"])
END = struct.Struct("<4s4H2LH")


@pytest.fixture(scope="module")
def child() -> Iterator[Bounded]:
    with Bounded(LITTLE) as bounded:
        yield bounded


def refused(child: Bounded, path: Path | str) -> str:
    """The one line that ``trace show`` says."""
    code, output, error = child.run("trace", "show", str(path))
    assert (code, output) == (4, ""), error
    assert error.startswith("shmstress: trace: ") and error.count("\n") == 1, error
    return error


def promising(shape: str) -> bytes:
    return with_member("time_ns", with_header(TIME, header(shape=shape)))


def typed(descr: str) -> bytes:
    return with_member("time_ns", with_header(TIME, header(descr)))


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ("(1000000000000,)", "has 1,000,000,000,000 rows, at most 16,777,216 are supported"),
        ("(9223372036854775807,)", "has far too many rows"),
        ("(" + "9" * 22 + ",)", "has far too many rows"),
        ("(-1,)", "has -1 rows"),
        ("(16777216,)", "in 134,217,728 bytes, 512 are there"),
        ("(65,)", "has 65 rows in 520 bytes, 512 are there"),
        ("(0,)", "has 0 rows in 0 bytes, 512 are there"),
        ("(64, 64)", "has 2 dimensions"),
        ("()", "has 0 dimensions"),
        ("(6.4,)", "has no header that can be read"),
        ("(" * 300 + "64," + ")" * 300, "has no header that can be read"),
        ("(1 << 40,)", "has no header that can be read"),
        ("(" + "9" * 5000 + ",)", "has no header that can be read"),
    ],
)
def test_a_header_is_believed_only_if_its_rows_are_there(
    child: Bounded, tmp_path: Path, shape: str, told: str
) -> None:
    (tmp_path / "t.npz").write_bytes(promising(shape))
    assert told in refused(child, tmp_path / "t.npz")


@pytest.mark.parametrize(
    ("descr", "told"),
    [
        ("'|O'", "holds Python objects, never read"),
        ("[('a', '|O8', (2,))]", "holds Python objects, never read"),
        ("'<f8'", "has type float64, expected int64"),
        ("'>i8'", "has type >i8, expected int64"),
        ("'<M8[s]'", "has type datetime64[s]"),
        ("'<U99999999'", "has type <U99999999, expected int64"),
        ("[('a', '<i8', (3,))]", "has type [('a'"),
        ("'nothing'", "has no header that can be read"),
        ("__import__('os')", "has no header that can be read"),
    ],
)
def test_an_array_of_another_type_is_refused_before_it_is_read(
    child: Bounded, tmp_path: Path, descr: str, told: str
) -> None:
    (tmp_path / "t.npz").write_bytes(typed(descr))
    assert told in refused(child, tmp_path / "t.npz")


def _names(text: str, count: int = 1) -> np.ndarray:
    return np.array([text] * count, dtype=np.str_)


def _points(*points: int) -> np.ndarray:
    """A name of these code points, which need not be letters."""
    return np.array(points, dtype=np.uint32).view(f"<U{len(points)}")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (_names("x", 4097), "has 4,097 rows, at most 4,096"),
        (_names("x" * 129), "has texts of 129 characters, at most 128"),
        (_names("a\nb"), "has characters that cannot be printed"),
        (_names("\x1b[31m"), "has characters that cannot be printed"),
        (_points(0x110000, 65), "has characters that cannot be printed"),
        (_points(0xD800, 65), "has characters that cannot be printed"),
        (np.array([b"kmalloc-64"]), "has type |S10, expected a list of names"),
        (np.zeros(3), "has type float64, expected a list of names"),
    ],
)
def test_names_of_caches_are_few_short_and_printable(
    child: Bounded, tmp_path: Path, names: np.ndarray, told: str
) -> None:
    (tmp_path / "t.npz").write_bytes(with_member("caches", npy(names)))
    assert f"array 'caches' {told}" in refused(child, tmp_path / "t.npz")


def _headers() -> dict[str, bytes]:
    return {
        "version 3": with_header(TIME, header(), version=3),
        "version 9": b"\x93NUMPY\x09\x00" + TIME[8:],
        "a header of 4 GiB": with_header(TIME, header(), version=2, length=0xFFFFFFFF),
        "a header of 20 KB": with_header(TIME, header() + " " * 20_000, version=2),
        "no header": b"",
        "no magic": b"\x00" * 200,
        "no brace": with_header(TIME, "'descr': '<i8'"),
        "other keys": with_header(TIME, header().replace("descr", "dcesr")),
        "bytes that are no text": with_header(TIME, header("'\xff'")),
    }


@pytest.mark.parametrize("name", _headers())
def test_a_header_that_numpy_would_not_write_is_refused(
    child: Bounded, tmp_path: Path, name: str
) -> None:
    (tmp_path / "t.npz").write_bytes(with_member("time_ns", _headers()[name]))
    assert "array 'time_ns' has no header that can be read" in refused(child, tmp_path / "t.npz")


def _end(data: bytes, **parts: int) -> bytes:
    """``data`` with another end of its directory."""
    at = data.rindex(b"PK\x05\x06")
    names = ("sign", "disk", "disks", "here", "members", "bytes", "place", "comment")
    fields = dict(zip(names, END.unpack_from(data, at), strict=True))
    return data[:at] + END.pack(*{**fields, **parts}.values())


def _entry(data: bytes, member: str, offset: int, value: bytes) -> bytes:
    """``data`` with other bytes in the directory's entry of one member."""
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(f"{member}.npy".encode())) + offset
    return data[:at] + value + data[at + len(value) :]


def _twice() -> bytes:
    return sound().replace(b"task.npy", b"kind.npy")


def _archives() -> dict[str, tuple[bytes, str]]:
    good, stored = sound(), sound(zipfile.ZIP_STORED)
    many = archive({f"{n}": b"" for n in range(70)})
    zip64 = good[: good.rindex(b"PK\x05\x06")] + b"PK\x06\x07" + bytes(16)
    long = TIME + bytes(8)
    return {
        "cut off": (good[:-30], "an .npz file that is cut off"),
        "a second member of a name": (_twice(), "array 'kind' is there twice"),
        "bzip2": (sound(zipfile.ZIP_BZIP2), "is compressed by method 12"),
        "lzma": (sound(zipfile.ZIP_LZMA), "is compressed by method 14"),
        "encrypted": (_entry(good, "cpu", 8, b"\x01"), "is encrypted"),
        "a method without a name": (_entry(good, "cpu", 10, b"\x63\0"), "by method 99"),
        "70 members": (many, "its directory is too large"),
        "65,535 members": (_end(good, members=65535), "its directory is too large"),
        "a directory of 1 GiB": (_end(good, bytes=1 << 30), "its directory is too large"),
        "a directory of zip64": (zip64 + good[good.rindex(b"PK\x05\x06") :], "is too large"),
        "a directory elsewhere": (_end(good, place=1 << 31), "not a sound .npz file"),
        "more promised than deflate gives": (
            _entry(good, "cpu", 24, struct.pack("<L", 1 << 30)),
            "promises more bytes than it can hold",
        ),
        "other data than its checksum": (
            stored.replace(TIME, TIME[:-8] + bytes(8)),
            "Bad CRC-32",
        ),
        "more data than rows": (with_member("time_ns", long), "512 bytes, 520 are there"),
        "less data than rows": (with_member("time_ns", TIME[:-8]), "512 bytes, 504 are there"),
        "members in one place": (
            _entry(good, "cpu", 42, struct.pack("<L", 0)),
            "not a sound .npz file",
        ),
        "an array missing": (good.replace(b"flag.npy", b"galf.npy"), "array 'flag' is missing"),
        "rows of several lengths": (with_member("cpu", npy(np.zeros(3, np.uint8))), "has shape (3"),
    }


@pytest.mark.parametrize("name", _archives())
def test_an_archive_that_is_not_what_it_says_is_refused(
    child: Bounded, tmp_path: Path, name: str
) -> None:
    data, told = _archives()[name]
    (tmp_path / "t.npz").write_bytes(data)
    assert told in refused(child, tmp_path / "t.npz")


def test_zeros_that_inflate_a_thousandfold_take_no_more_than_the_rows_allow(
    child: Bounded, tmp_path: Path
) -> None:
    """A million rows of zeros are 22 MB in a file of 23 KB: refused at their second row."""
    zeros = {name: npy(np.zeros(1 << 20, a.dtype)) for name, a in arrays().items()}
    zeros["caches"] = npy(_names("x"))
    (tmp_path / "t.npz").write_bytes(archive(zeros))
    assert (tmp_path / "t.npz").stat().st_size < 30_000
    assert "array 'id' 0 is allocated twice, again at row 1" in refused(child, tmp_path / "t.npz")


# --- what is no regular file ----------------------------------------------------------------------


def test_a_fifo_is_refused_and_not_waited_for(child: Bounded, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.npz")
    assert "it is a FIFO" in refused(child, tmp_path / "t.npz")


def test_a_socket_is_refused(child: Bounded, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "s"))
        assert "it is a socket" in refused(child, tmp_path / "s")


@pytest.mark.parametrize(
    ("path", "told"),
    [("/dev/zero", "it is a device"), ("/", "it is a directory"), ("/none", "No such file")],
)
def test_another_kind_of_file_is_refused(child: Bounded, path: str, told: str) -> None:
    assert told in refused(child, path)


def test_a_symbolic_link_is_followed_and_no_further_than_it_goes(
    child: Bounded, tmp_path: Path
) -> None:
    (tmp_path / "good.npz").write_bytes(sound())
    (tmp_path / "t.npz").symlink_to("good.npz")
    assert child.run("trace", "show", str(tmp_path / "t.npz"))[0] == 0
    for target, told in (("nowhere", "No such file"), ("loop", "symbolic links")):
        (tmp_path / "loop").unlink(missing_ok=True)
        (tmp_path / "loop").symlink_to(target)
        assert told in refused(child, tmp_path / "loop")


def test_a_file_that_may_not_be_read_is_refused(child: Bounded, tmp_path: Path) -> None:
    (tmp_path / "t.npz").write_bytes(sound())
    (tmp_path / "t.npz").chmod(0)
    if os.access(tmp_path / "t.npz", os.R_OK):
        pytest.skip("this user may read everything")
    assert "Permission denied" in refused(child, tmp_path / "t.npz")


# --- writing --------------------------------------------------------------------------------------


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "t.npz").write_bytes(sound())

    class Full:
        def __array__(self, *more: object, **others: object) -> np.ndarray:
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        write_arrays(tmp_path / "t.npz", {"a": Full()})  # type: ignore[dict-item]
    assert [path.name for path in tmp_path.iterdir()] == ["t.npz"]
    assert len(load(tmp_path / "t.npz")) == 64


def test_a_file_keeps_its_permissions_and_a_link_its_target(tmp_path: Path) -> None:
    (tmp_path / "real.npz").write_bytes(b"old")
    (tmp_path / "real.npz").chmod(0o640)
    (tmp_path / "t.npz").symlink_to("real.npz")
    write_arrays(tmp_path / "t.npz", arrays())
    assert (tmp_path / "t.npz").is_symlink()
    assert (tmp_path / "real.npz").stat().st_mode & 0o777 == 0o640
