"""Images: the result of a compile, as bytes for the disk and as builtins for Python.

    b"shmimage"  | u32 bytes of the description | description, JSON | ELF shared object

The description says which kernels can be called (symbol -> ints taken, what comes back, kind) and
what the numbers in a fault stand for (kernel, first line). Nothing in it is executed.

``compile_image`` (build.py) makes the bytes. ``Image`` is one in this process: ``builtin`` gives a
function that takes a kernel's ints and runs it over one memory; ``address`` is that of its code.
"""

from __future__ import annotations

import ctypes
import json
import struct
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from shmalloc.compiler import load, symbols
from shmalloc.compiler.runtime import A_CALL, ALONE
from shmalloc.dialect import Kernel
from shmalloc.errors import EngineError

MAGIC = b"shmimage"
_HEAD = struct.Struct("<8sI")
_METH_FASTCALL = 0x80


class Place(Protocol):
    """A memory with a place (runtime.py)."""

    place_address: int
    on_fault: Callable[[], None] | None

    @property
    def ended(self) -> str: ...

    @property
    def turn(self) -> AbstractContextManager[Any]: ...  # of threads that want to run alone


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("code", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


class Record:
    """What a builtin points into. It keeps the memory alive; the builtin keeps the record."""

    __slots__ = ("__weakref__", "function", "kind", "memory", "method", "symbol", "words")

    def __init__(
        self,
        symbol: str,
        kind: str,
        function: Kernel | None,
        memory: Place,
        code: int,
        wrapper: int,
        adds: int,
    ) -> None:
        self.symbol, self.kind, self.function, self.memory = symbol, kind, function, memory
        self.words = (ctypes.c_int64 * 3)(memory.place_address, code, adds)
        name = symbol.rpartition(":")[2].encode()
        self.method = _MethodDef(name, wrapper, _METH_FASTCALL, None)

    @property
    def address(self) -> int:
        return ctypes.addressof(self.words)


def packed(description: dict[str, Any], shared_object: bytes) -> bytes:
    """An image as bytes."""
    text = json.dumps(description, separators=(",", ":")).encode()
    return _HEAD.pack(MAGIC, len(text)) + text + shared_object


def unpacked(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Description and shared object. Raises ``EngineError`` if it is no image."""
    if len(data) >= _HEAD.size:
        magic, size = _HEAD.unpack_from(data)
        if magic == MAGIC and _HEAD.size + size <= len(data):
            text = data[_HEAD.size : _HEAD.size + size]
            try:
                return json.loads(text), data[_HEAD.size + size :]
            except ValueError as error:
                raise EngineError(f"an image whose description is no JSON: {error}") from error
    raise EngineError("this is no image of compiled kernels")


class Image:
    """An image in this process. Stays for the life of the process: its addresses are in use."""

    def __init__(self, data: bytes, name: str, imports: Callable[[], Sequence[int]]) -> None:
        self.description, shared_object = unpacked(data)
        self.name = name
        self._loaded = load.load(shared_object, name)
        self._loaded.fill("shm.imports", imports())
        self.entries: dict[str, list[Any]] = self.description["entries"]
        self.table: dict[str, list[Any]] = self.description["table"]

    def address(self, symbol: str) -> int:
        """Address of the machine code of an entry."""
        return self._loaded.address(symbol)

    def name_crashes(self) -> None:
        """Let a signal that ends the process in this image say in which kernel (symbols.py)."""
        symbols.install(self._loaded)

    def record(
        self,
        symbol: str,
        function: Kernel | None,
        memory: Place,
        releases: bool,
        alone: bool = False,
    ) -> Record:
        """What ``builtin`` binds."""
        count, result, kind = self.entries[symbol]
        wrapper = f"py.{kind}.{count}.{result}.{'r' if releases else 'k'}"
        address = self._loaded.address
        adds = ALONE if alone else A_CALL
        return Record(symbol, kind, function, memory, address(symbol), address(wrapper), adds)

    def place_of(self, site: int) -> tuple[str, int]:
        """Kernel and line of the place that a fault names."""
        row = self.table.get(str(site >> 16))
        if row is None:
            return "?", 0
        kernel, first = row
        return kernel, first + (site & 0xFFFF)


def builtin(record: Record) -> Callable[..., Any]:
    """A builtin function over a record's memory; it takes the kernel's ints."""
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
    # The third argument is kept by the builtin like a module: it holds what the builtin points to.
    made: Callable[..., Any] = make(ctypes.addressof(record.method), record.address, record)
    return made
