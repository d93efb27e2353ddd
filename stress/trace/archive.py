"""Arrays in an ``.npz`` file, read within limits that the reader states, and written whole.

``read_arrays(path, wanted)`` reads the named arrays and nothing else. Before it allocates anything
it has compared each array's header with what is wanted: type, one dimension, number of rows. So a
file takes at most the memory that ``wanted`` allows, whatever its headers promise::

    file        regular, at most MAX_FILE_BYTES; a directory of at most MAX_MEMBERS members
    member      stored or deflated, not encrypted, named once, as long as its header and rows
    header      of the .npy versions 1 and 2, at most MAX_HEADER_BYTES
    array       one dimension, the type that is wanted; no objects, nothing is ever executed

``write_arrays`` makes the file under another name and renames it, so a file is there or it is not.

Everything that is wrong is a ``MisuseError``: ``trace: FILE: array 'cpu': what; cure``. What the
numbers mean is format.py's affair.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

import numpy as np

from shmalloc.errors import MisuseError
from stress.surroundings import writing
from stress.trace.opening import open_file, refusal

MAX_FILE_BYTES = 512 << 20
MAX_MEMBERS = 64
MAX_HEADER_BYTES = 10_000
_MOST_INFLATED = 1032  # deflate gives no more bytes for one
_CHUNK_BYTES = 1 << 20
_DIRECTORY_BYTES = MAX_MEMBERS * 512
_END = struct.Struct(
    "<4s4H2LH"
)  # of the zip's directory: signature, disks, counts, size, at, comment
_END_SIGNATURE, _END64_SIGNATURE = b"PK\x05\x06", b"PK\x06\x07"
_END64_BYTES = 20
_HEAD_BYTES = 4096
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")  # gzip, bzip2, xz


@dataclass(frozen=True)
class Wanted:
    """What one array may be: at most ``max_rows`` of ``dtype``, or texts of ``chars`` letters."""

    dtype: np.dtype[np.generic] | None  # None: texts
    max_rows: int
    chars: int = 0
    optional: bool = False

    def refuses(self, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> str:
        """Why an array with this header is not wanted; empty if it is."""
        if self.dtype is not None and dtype != self.dtype:
            return f"has type {str(dtype)[:40]}, expected {self.dtype}"
        if self.dtype is None and (dtype.kind != "U" or not dtype.isnative):
            return f"has type {str(dtype)[:40]}, expected a list of names"
        if len(shape) != 1:
            return f"has {len(shape)} dimensions, expected one"
        if not 0 <= shape[0] <= self.max_rows:
            return f"has {_many(shape[0])} rows, at most {self.max_rows:,} are supported"
        if self.dtype is None and dtype.itemsize // 4 > self.chars:
            long = _many(dtype.itemsize // 4)
            return f"has texts of {long} characters, at most {self.chars} are supported"
        return ""


class NotAnArchive(MisuseError):
    """The file is no ``.npz``. ``is_text``: its first bytes are text, or compressed by gzip."""

    def __init__(self, message: str, is_text: bool) -> None:
        super().__init__(message)
        self.is_text = is_text


def _many(count: int) -> str:
    return f"{count:,}" if abs(count) < 10**15 else "far too many"


def read_arrays(path: str | Path, wanted: Mapping[str, Wanted], cure: str) -> dict[str, np.ndarray]:
    """The arrays called ``wanted``, without the optional ones that are not there.

    Raises ``MisuseError`` for a file that is not sound or holds another array under these names.
    """
    name = str(path)
    with io.BufferedReader(open_file(path, cure)) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python's parser of literals
        try:
            _require_small_directory(file, name, cure)
            with zipfile.ZipFile(file) as archive:
                return _Reader(archive, name, cure).read(wanted)
        except MisuseError:
            raise
        except Exception as error:  # of zipfile, zlib and the parser of headers: a dozen kinds
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is a bad place
                raise refusal(name, error, cure) from error
            what = str(error).partition("\n")[0] or type(error).__name__
            raise MisuseError(f"trace: {name}: not a sound .npz file ({what}); {cure}") from error


def _require_small_directory(file: IO[bytes], name: str, cure: str) -> None:
    """Look at the end of a zip as zipfile will, before it makes an object of each member."""
    size = file.seek(0, os.SEEK_END)
    tail_bytes = min(size, (1 << 16) + _END.size + _END64_BYTES)
    file.seek(size - tail_bytes)
    tail = _read_fully(file, tail_bytes)
    at = len(tail) - _END.size
    if at < 0 or tail[at : at + 4] != _END_SIGNATURE or tail[-2:] != b"\0\0":
        at = tail.rfind(_END_SIGNATURE)
    if size > MAX_FILE_BYTES:
        raise _unfit(name, f"has {size:,} bytes, at most {MAX_FILE_BYTES:,} are supported", cure)
    if at < 0 or len(tail) - at < _END.size:
        raise _not_an_archive(file, name, cure)
    _, _, _, _, members, directory_bytes, _, _ = _END.unpack_from(tail, at)
    large = tail[max(0, at - _END64_BYTES) : at].startswith(_END64_SIGNATURE)
    if large or members > MAX_MEMBERS or directory_bytes > _DIRECTORY_BYTES:
        raise _unfit(name, f"its directory is too large, at most {MAX_MEMBERS} members are", cure)
    file.seek(0)


def _unfit(name: str, what: str, cure: str) -> MisuseError:
    return MisuseError(f"trace: {name}: {what}; {cure}")


def _not_an_archive(file: IO[bytes], name: str, cure: str) -> NotAnArchive:
    """The error for a file that no archive ends, by its first bytes."""
    file.seek(0)
    head = _read_fully(file, _HEAD_BYTES)
    is_text = False
    if not head:
        what = "the file is empty"
    elif head.startswith(np.lib.format.MAGIC_PREFIX):
        what = "one array; a trace is an .npz of several"
    elif head.startswith(b"PK"):
        what = "an .npz file that is cut off"
    else:
        what, is_text = "not an .npz file", head.startswith(_COMPRESSED) or b"\0" not in head
    return NotAnArchive(f"trace: {name}: {what}; {cure}", is_text)


class _Reader:
    """One open archive."""

    def __init__(self, archive: zipfile.ZipFile, name: str, cure: str) -> None:
        self._archive, self._name, self._cure = archive, name, cure
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            key = member.filename.removesuffix(".npy")
            if key in self._members:
                raise self._bad(key, "is there twice")
            self._members[key] = member

    def read(self, wanted: Mapping[str, Wanted]) -> dict[str, np.ndarray]:
        missing = [n for n, w in wanted.items() if n not in self._members and not w.optional]
        if missing:
            found = ", ".join(map(_shown, list(self._members)[:16])) or "nothing"
            raise self._bad(missing[0], f"is missing, found {found}")
        there = {name: one for name, one in wanted.items() if name in self._members}
        return {name: self._array(name, one) for name, one in there.items()}

    def _array(self, name: str, wanted: Wanted) -> np.ndarray:
        member = self._members[name]
        self._require_plain(name, member)
        with self._archive.open(member) as file:
            shape, dtype, header_bytes = self._header(name, file)
            problem = wanted.refuses(dtype, shape)
            if problem:
                raise self._bad(name, problem)
            data_bytes = shape[0] * dtype.itemsize
            if member.file_size != header_bytes + data_bytes:
                found = f"{member.file_size - header_bytes:,} are there"
                raise self._bad(name, f"has {shape[0]:,} rows in {data_bytes:,} bytes, {found}")
            array = np.empty(shape, dtype)
            self._fill(name, file, array.view(np.uint8) if data_bytes else array[:0])
        return array

    def _require_plain(self, name: str, member: zipfile.ZipInfo) -> None:
        if member.flag_bits & 1:
            raise self._bad(name, "is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._bad(name, f"is compressed by method {member.compress_type}, not by deflate")
        if member.file_size > (member.compress_size + 1) * _MOST_INFLATED:
            raise self._bad(name, "promises more bytes than it can hold")
        if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
            raise self._bad(name, "has two sizes")

    def _header(
        self, name: str, file: IO[bytes]
    ) -> tuple[tuple[int, ...], np.dtype[np.generic], int]:
        """Shape and type of an array, and where its rows begin."""
        try:
            version = np.lib.format.read_magic(file)
            readers = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            if version not in readers:
                raise ValueError(f"version {version[0]}.{version[1]} of .npy")
            shape, _, dtype = readers[version](file, max_header_size=MAX_HEADER_BYTES)
        except Exception as error:  # its parser is Python's own: it raises what that raises
            what = str(error).partition("\n")[0].partition(":")[0] or type(error).__name__
            raise self._bad(name, f"has no header that can be read ({what})") from error
        if dtype.hasobject:
            raise self._bad(name, "holds Python objects, never read")
        return tuple(map(int, shape)), dtype, file.tell()

    def _fill(self, name: str, file: IO[bytes], into: np.ndarray) -> None:
        """Read exactly ``into``, and the end after it, where the checksum is compared."""
        view, at = into.data.cast("B") if into.size else memoryview(b""), 0
        while at < len(view):
            part = file.read(min(_CHUNK_BYTES, len(view) - at))
            if not part:
                raise self._bad(name, f"ends after {at:,} of {len(view):,} bytes")
            view[at : at + len(part)] = part
            at += len(part)
        if file.read(1):
            raise self._bad(name, "goes on after its last row")

    def _bad(self, array: str, problem: str) -> MisuseError:
        return _unfit(self._name, f"array {_shown(array)} {problem}", self._cure)


def _shown(name: str) -> str:
    return repr(name[:40])


def _read_fully(file: IO[bytes], count: int) -> bytes:
    parts: list[bytes] = []
    while count > 0 and (part := file.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``arrays``, compressed. The file appears whole, or keeps what was in it.

    Only where a new file may not be made (``/dev/null``, or a directory that may not be written) it
    is written to directly. Raises what ``writing`` raises.
    """
    with writing(path):
        _write(Path(os.path.realpath(path)), arrays)


def _write(target: Path, arrays: Mapping[str, np.ndarray]) -> None:
    there = target.exists()
    if there and not (target.is_file() and os.access(target.parent, os.W_OK)):
        with target.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        return
    with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as made:
        try:
            np.savez_compressed(made, **arrays)  # type: ignore[arg-type]
            made.flush()
            os.fchmod(made.fileno(), stat.S_IMODE(target.stat().st_mode) if there else _new_mode())
            Path(made.name).replace(target)
        except BaseException:
            Path(made.name).unlink(missing_ok=True)
            raise


def _new_mode() -> int:
    """The permissions that a new file gets."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
