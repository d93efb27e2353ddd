"""Images in this process: mapped by dlopen, never unloaded, found again by address.

    image (bytes) --> sealed memfd --> dlopen --> Loaded: base, size, descriptor, library
                                                     |
    dlsym, table of pointers, name of an address  <--+

The given bytes are the bytes that run: no process can write to the sealed memfd, and no file system
that forbids execution is in the way. Its descriptor stays open, one for each image, and dlopen is
given ``/proc/PID/fd/N``: by that name gdb finds symbols and lines, in this process and in its forks
for as long as this process lives. perf knows a memfd by its name only. With

    SHMALLOC_DEBUG_IMAGES=DIR

images are written into DIR instead (made with mode 0700, refused if other users can write to it)
and loaded from there: perf then finds their symbols, also after the process has ended, and so does
gdb in core dumps. Such files stay until the user removes them.

A forked child keeps all images of its parent. Callers check what they load:
dlopen of damaged bytes can crash. This file imports neither numpy nor llvmlite.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import itertools
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shmalloc.compiler import elf
from shmalloc.compiler.directory import UntrustedError, trusted
from shmalloc.errors import EngineError

ENV_DEBUG_IMAGES: Final = "SHMALLOC_DEBUG_IMAGES"
_MODE: Final = os.RTLD_NOW | os.RTLD_LOCAL | os.RTLD_NODELETE
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_POINTER_BYTES: Final = 8
_SYMBOL_ENTRY, _LINK_MAP = 1, 2  # what dladdr1 and dlinfo are asked for
_loaded: list[Loaded] = []


class LoadError(EngineError):
    """An image that this process cannot map. Cause and cure are in the message."""


@dataclass(eq=False)
class Loaded:
    """One image of this process; ``base`` and ``size`` are its addresses, ``library`` calls it."""

    name: str
    path: str
    library: ctypes.CDLL
    base: int
    size: int
    descriptor: int
    _inode: tuple[int, int]
    _functions: list[tuple[int, int, str]] | None = field(default=None, repr=False)

    def address(self, symbol: str) -> int:
        """The address of an exported function or datum; LookupError, which names it, if absent."""
        try:
            return ctypes.addressof(ctypes.c_char.in_dll(self.library, symbol))
        except ValueError:
            raise LookupError(f"image {self.name} exports no {symbol}") from None

    def fill(self, table_symbol: str, addresses: Sequence[int]) -> None:
        """Store ``addresses`` as consecutive pointers at an exported datum.

        Raises LookupError if there is no such datum, ValueError if it is too small for them.
        """
        at = self.address(table_symbol)
        needed, held = _POINTER_BYTES * len(addresses), _datum_bytes(at)
        if held is not None and needed > held:
            raise ValueError(f"{table_symbol} holds {held} bytes, not {needed}")
        (ctypes.c_uint64 * len(addresses)).from_address(at)[:] = list(addresses)

    def symbol_at(self, address: int) -> tuple[str, int] | None:
        """(function, offset in bytes) of an address in this image; None between functions."""
        if self._functions is None:
            self._functions = self._read_functions()
        offset = address - self.base
        row = bisect_right(self._functions, offset, key=lambda function: function[0]) - 1
        if row < 0:
            return None
        start, size, name = self._functions[row]
        return (name, offset - start) if offset - start < size else None

    def _read_functions(self) -> list[tuple[int, int, str]]:
        """From the image's file; nothing if our descriptor was closed."""
        with contextlib.suppress(OSError):
            status = os.fstat(self.descriptor)
            if (status.st_dev, status.st_ino) == self._inode:
                data = os.pread(self.descriptor, status.st_size, 0)
                return elf.read_functions(data, self.name)
        return []


def load(image: bytes, name: str) -> Loaded:
    """Map ``image`` for the rest of this process's life; ``name`` appears in /proc and in messages.

    Loading the same bytes again maps them again, with data of their own. Raises LinkError if it is
    no image, LoadError if the system does not map it.
    """
    size = elf.mapped_bytes(image, name)
    directory = os.environ.get(ENV_DEBUG_IMAGES)
    try:
        if directory:
            library, path, descriptor = _opened(_in_directory(image, name, Path(directory)))
        else:
            library, path, descriptor = _opened(_sealed(image, name))
    except OSError as error:
        cure = "" if directory else f"; {ENV_DEBUG_IMAGES}=DIR loads from files instead"
        raise LoadError(f"image {name} cannot be loaded: {error}{cure}") from None
    status = os.fstat(descriptor)
    inode = status.st_dev, status.st_ino
    loaded = Loaded(name, path, library, _base_of(library), size, descriptor, inode)
    _loaded.append(loaded)
    return loaded


def symbol_at(address: int) -> tuple[str, int] | None:
    """(function, offset in bytes) of an address in any image of this process, else None."""
    for loaded in _loaded:
        if loaded.base <= address < loaded.base + loaded.size:
            return loaded.symbol_at(address)
    return None


def _opened(candidates: Iterator[tuple[int, str]]) -> tuple[ctypes.CDLL, str, int]:
    """dlopen the first candidate whose path dlopen does not take for a loaded library."""
    known = {loaded.library._handle for loaded in _loaded}
    for descriptor, path in candidates:
        library = ctypes.CDLL(path, mode=_MODE)
        if library._handle not in known:
            return library, path, descriptor
    raise LoadError("no file of the image could be opened")


def _sealed(image: bytes, name: str) -> Iterator[tuple[int, str]]:
    """A descriptor of the image in a memfd and its path; then the same under other numbers.

    A program that closes all its descriptors frees numbers that dlopen still takes for ours.
    """
    descriptor = os.memfd_create(name[:200], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    _write_all(descriptor, image)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    while True:
        yield descriptor, f"/proc/{os.getpid()}/fd/{descriptor}"
        descriptor, used = (
            fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, descriptor + 1),
            descriptor,
        )
        os.close(used)


def _in_directory(image: bytes, name: str, directory: Path) -> Iterator[tuple[int, str]]:
    """A descriptor of a file with the image and its path; then of further files."""
    try:  # we execute what lies there
        directory = Path(trusted(str(directory.absolute()), make=True))
    except UntrustedError as error:
        raise LoadError(f"{ENV_DEBUG_IMAGES}: {error}; use a directory of your own") from error
    stem = f"{name.replace('/', '_')[:200]}-{hashlib.sha256(image).hexdigest()[:16]}"
    for number in itertools.count():
        path = directory / (f"{stem}-{number}.so" if number else f"{stem}.so")
        if not (path.is_file() and path.read_bytes() == image):
            fresh = directory / f".{os.getpid()}-{path.name}"
            fresh.write_bytes(image)
            fresh.replace(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        yield descriptor, str(path)
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _base_of(library: ctypes.CDLL) -> int:
    """The address at which dlopen put the image's byte 0: the first word of struct link_map."""
    dlinfo = ctypes.CDLL(None).dlinfo
    link_map = ctypes.POINTER(ctypes.c_size_t)()
    dlinfo.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    if dlinfo(library._handle, _LINK_MAP, ctypes.byref(link_map)):
        raise LoadError("dlinfo does not know the image that dlopen loaded")
    return int(link_map[0])


class _SymbolEntry(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_uint32),
        ("info", ctypes.c_ubyte),
        ("other", ctypes.c_ubyte),
        ("section", ctypes.c_uint16),
        ("value", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
    )


def _datum_bytes(address: int) -> int | None:
    """Size of the exported datum at ``address``; None if libc cannot tell (musl)."""
    dladdr1 = getattr(ctypes.CDLL(None), "dladdr1", None)
    if dladdr1 is None:
        return None
    dladdr1.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
    names, entry = (ctypes.c_void_p * 4)(), ctypes.POINTER(_SymbolEntry)()
    if not dladdr1(address, names, ctypes.byref(entry), _SYMBOL_ENTRY) or not entry:
        return None
    return int(entry.contents.size)
