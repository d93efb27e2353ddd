"""Lines of a text, a chunk at a time: plain or compressed, of any size and any bytes.

``Text(path)`` is used in a ``with`` block; ``chunks()`` gives lists of lines without their ends.
Memory is bounded by a few chunks: a line of more than MAX_LINE_CHARS is cut, and counted in
``cut_lines``. gzip, bzip2 and xz are known by their first bytes; an xz file says how much memory
reading it takes, and one that says more than MAX_XZ_BYTES is refused. Bytes that are no UTF-8
become the replacement character. Lines end with a line feed, a carriage return before it is
dropped; the name of a task may hold one, so it ends none. What follows a damaged place of a
compressed file cannot be read: ``damaged`` says so, and what came before is given.

Raises ``MisuseError`` for what is no text.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, cast

from shmalloc.errors import MisuseError
from stress.trace.opening import open_file, refusal

CURE = "give the text of a recorder"
MAX_LINE_CHARS = 1 << 13
MAX_XZ_BYTES = 96 << 20  # the largest preset, xz -9, needs 65 MiB
_CHUNK_BYTES = 1 << 20
_HEAD_BYTES = 4096


class _TooMuchMemory(lzma.LZMAError):
    """Reading this xz file takes more than MAX_XZ_BYTES."""


class _XzFile(io.RawIOBase):
    """What an xz file holds, in bounded memory: ``lzma.LZMAFile`` takes what the file asks for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoder: lzma.LZMADecompressor | None = None  # of the stream that is being read
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read1(self, size: int) -> bytes:
        return self.read(size)

    def readinto(self, into: Any) -> int:
        """Raises ``EOFError`` if the file is cut off, ``LZMAError`` if it is damaged."""
        room = memoryview(into).cast("B")
        found = b""
        while not found and (decoder := self._stream()) is not None:
            data, self._rest = self._rest, b""
            if not data and decoder.needs_input and not (data := self._file.read(_CHUNK_BYTES)):
                raise EOFError("it ends before the end of its stream")
            found = self._decoded(decoder, data, len(room))
        room[: len(found)] = found
        return len(found)

    def _stream(self) -> lzma.LZMADecompressor | None:
        """The decoder of the stream that goes on or begins; None at the end of the file."""
        if self._decoder is None:
            rest = self._rest.lstrip(b"\0")  # streams may be padded
            while not rest and (part := self._file.read(_CHUNK_BYTES)):
                rest = part.lstrip(b"\0")
            self._rest = rest
            if not rest:
                return None
            self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_BYTES)
        return self._decoder

    def _decoded(self, decoder: lzma.LZMADecompressor, data: bytes, most: int) -> bytes:
        try:
            found = decoder.decompress(data, most)
        except lzma.LZMAError as error:
            if "limit" in str(error):
                raise _TooMuchMemory(str(error)) from error
            raise
        if decoder.eof:
            self._decoder, self._rest = None, decoder.unused_data
        return found


class _Bytes(Protocol):
    """A file of bytes; ``read1`` reads once, so that an error loses nothing of what came before."""

    def read1(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


_COMPRESSIONS: dict[bytes, tuple[str, Callable[[IO[bytes]], _Bytes]]] = {
    b"\x1f\x8b": ("gzip", lambda file: cast(_Bytes, gzip.GzipFile(fileobj=file))),
    b"BZh": ("bzip2", bz2.BZ2File),
    b"\xfd7zXZ\0": ("xz", lambda file: cast(_Bytes, _XzFile(file))),
}
_BINARY = {
    b"\x17\x08Dtracing": "a trace.dat; make text of it: trace-cmd report FILE > t.txt",
    b"PERFILE2": "perf's data; make text of it: perf script -i FILE > t.txt",
    b"PK\x03\x04": "a zip or .npz archive, which needs no import: see shmstress trace show",
}


class Text:
    """One file; ``-`` is standard input. ``done``: the share that is read, if that is known."""

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        self.cut_lines = 0
        self.damaged = ""
        self.compression = ""
        self._raw = open_file(path, CURE, streams=True)
        try:
            self._size = os.fstat(self._raw.fileno()).st_size
            self._file = self._opened()
        except BaseException as error:
            self._raw.close()
            if isinstance(error, OSError):
                raise refusal(self.name, error, CURE) from error
            raise

    def __enter__(self) -> Text:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._raw.close()

    @property
    def done(self) -> float | None:
        try:
            return min(1.0, self._raw.tell() / self._size) if self._size else None
        except (OSError, ValueError):  # a pipe has no place
            return None

    def _opened(self) -> _Bytes:
        file = io.BufferedReader(self._raw, _CHUNK_BYTES)
        head = file.peek(_HEAD_BYTES)[:_HEAD_BYTES]
        for start, what in _BINARY.items():
            if head.startswith(start):
                raise MisuseError(f"trace: {self.name}: {what}")
        for start, (name, opener) in _COMPRESSIONS.items():
            if head.startswith(start):
                self.compression = name
                return opener(file)
        if b"\0" in head:
            raise MisuseError(f"trace: {self.name}: not text; {CURE}")
        return file

    def chunks(self) -> Iterator[list[str]]:
        """All lines, some thousands at a time; the last one may have had no end."""
        rest, mark = b"", codecs.BOM_UTF8
        while part := self._read():
            part, mark = part.removeprefix(mark), b""  # only at the very beginning
            whole, end, tail = (rest + part).rpartition(b"\n")
            if end:
                yield self._lines(whole)
                rest = tail
            else:
                rest = tail
            rest = self._shorter(rest)
        if rest:
            yield self._lines(rest)

    def _read(self) -> bytes:
        try:
            return self._file.read1(_CHUNK_BYTES)  # ``read`` loses what is before a damaged place
        except _TooMuchMemory as error:
            most = f"{MAX_XZ_BYTES >> 20} MiB"
            raise MisuseError(
                f"trace: {self.name}: reading this xz file takes more than {most};"
                " unpack it first: xz -dk FILE"
            ) from error
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            self.damaged = f"the {self.compression} file is damaged or cut off ({error})"
        except OSError as error:
            if not self.compression or error.errno is not None:
                raise refusal(self.name, error, CURE) from error
            self.damaged = f"the {self.compression} file is damaged ({error})"  # bz2 says it so
        return b""

    def _shorter(self, rest: bytes) -> bytes:
        """The beginning of a line that does not end, cut once and then kept as it is."""
        if len(rest) <= 2 * MAX_LINE_CHARS:
            return rest
        return rest[: MAX_LINE_CHARS + 1]

    def _lines(self, whole: bytes) -> list[str]:
        lines = whole.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
        if lines[-1].endswith("\r"):
            lines[-1] = lines[-1][:-1]
        if len(whole) > MAX_LINE_CHARS:
            long = [at for at, line in enumerate(lines) if len(line) > MAX_LINE_CHARS]
            self.cut_lines += len(long)
            for at in long:
                lines[at] = lines[at][:MAX_LINE_CHARS]
        return lines
