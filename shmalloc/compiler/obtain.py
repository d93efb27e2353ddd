"""From entries to an image in this process: loaded already, on disk, or compiled now.

``obtain(entries)`` gives the image that holds all of them. A fault in compiled code, a wrong number
of arguments and an exception that a listener left (notice.py) all reach ``_handler``, which raises
the exception.

A process reports once what it compiles, in one line through the logger "shmalloc", if that takes a
second or more.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from shmalloc.compiler import digest, notice, prebuilt, store
from shmalloc.compiler.image import Image, Record, builtin
from shmalloc.compiler.instances import Instance, symbol_of
from shmalloc.compiler.runtime import (
    ALONE,
    ARGUMENTS,
    COUNT,
    CROWDED,
    FAULT,
    FAULTS,
    FRAME_WORDS,
    IMPORTS,
    INDEX,
    LISTENER,
    PLACE_WORDS,
    RUNNING,
    SITE,
    WANTED,
    WRONG_COUNT,
)
from shmalloc.dialect import Kernel, caller_index, closure_of, is_kernel
from shmalloc.errors import (
    ArithmeticFault,
    DialectError,
    EngineError,
    ExpectationFault,
    KernelFault,
    MisuseError,
    OutsideFault,
)

if TYPE_CHECKING:
    from shmalloc.compiler.image import Place
    from shmalloc.compiler.kinds import Kind

Tell = Callable[[str], None]
SHORTEST_NAP_S, LONGEST_NAP_S = 20e-6, 1e-3
NODES_A_SECOND = 9_000  # of syntax trees, compiled by one core
_log = logging.getLogger("shmalloc")
_images: list[Image] = []
_homes: dict[tuple[Kernel, str], Image] = {}  # instance -> the image that holds it
_names_crashes = False
_records: WeakValueDictionary[int, Record] = WeakValueDictionary()
_lock = threading.RLock()


_FORK_WAIT_S = 10.0
_held_for_fork: list[bool] = []


def _before_fork() -> None:
    """A child that is forked while another thread compiles would inherit the locks of LLVM."""
    _held_for_fork.append(_lock.acquire(timeout=_FORK_WAIT_S))


def _after_fork() -> None:
    if _held_for_fork.pop():
        _lock.release()


def _renew_lock() -> None:
    """In the child, where the thread that may hold it is gone."""
    global _lock
    _held_for_fork.clear()
    _lock = threading.RLock()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_renew_lock)


def warn(text: str) -> None:
    """The default of ``tell``: a line on standard error, unless logging is set up otherwise."""
    _log.warning("%s", text)


def find(function: Kernel, kind: Kind) -> Image | None:
    """The image of this process that holds a kernel as an entry."""
    return _homes.get((function, kind.name))


def obtain(entries: Sequence[Instance], tell: Tell = warn) -> Image:
    """The image of ``entries``, loaded. Entries that are not in the dialect are left out of it.

    Raises ``EngineError`` for anything that is no kernel.
    """
    for entry in entries:
        if not is_kernel(entry.function):
            name = getattr(entry.function, "__qualname__", repr(entry.function))
            raise EngineError(f"{name} is not a kernel; decorate it with @kernel")
    entries = _told_apart(entries)
    with _lock:
        key = digest.key_of(entries)
        image = next((image for image in _images if image.name == key), None)
        if image is None:
            if os.environ.get("SHMALLOC_DUMP"):
                _dump(entries, tell)
            data = prebuilt.find(entries)
            if data is None:
                data = store.fetch(key, lambda: _compiled(entries, tell), tell)
            image = _loaded(data, key)
        _settle(entries, image)
        return image


def _loaded(data: bytes, key: str) -> Image:
    image = Image(data, key, _imports)
    _images.append(image)
    if _names_crashes:
        image.name_crashes()
    return image


def _settle(entries: Sequence[Instance], image: Image) -> None:
    """Say that ``image`` holds ``entries``; a module imported again has functions of its own."""
    for entry in entries:
        if symbol_of(*entry) in image.entries:
            _homes.setdefault((entry.function, entry.kind.name), image)


def _made_anew(entries: Sequence[Instance], tell: Tell) -> None:
    """Compile an image again whose kept file leaves out a kernel that is in the dialect now.

    The reason for a refusal need not be in the bytecode: a default argument, a missing source.
    """
    entries = _told_apart(entries)
    with _lock:
        key = digest.key_of(entries)
        data = _compiled(entries, tell)
        store.default_store().put(key, data, tell)
        _images[:] = [image for image in _images if image.name != key]
        _settle(entries, _loaded(data, key))


def _told_apart(entries: Sequence[Instance]) -> list[Instance]:
    """``entries`` without those that have the name of an earlier one: a kernel may be redefined."""
    found: dict[str, Instance] = {}
    for entry in entries:
        found.setdefault(symbol_of(*entry), entry)
    return list(found.values())


def is_kept(entries: Sequence[Instance]) -> bool:
    """Whether the image of ``entries`` is in the store, whole."""
    return store.default_store().peek(digest.key_of(_told_apart(entries))) is not None


def require(entry: Instance, tell: Tell, along: Sequence[Instance] = ()) -> Image:
    """The image that holds ``entry``; if there is none yet, that of ``along`` and ``entry``.

    Raises ``DialectError`` if ``entry`` is not in the dialect.
    """
    image = find(entry.function, entry.kind)
    if image is None:
        obtain([entry, *along], tell)
        image = find(entry.function, entry.kind)
    if image is None:
        _ = entry.form  # raises its error
        _made_anew([entry, *along], tell)
        image = _homes[entry.function, entry.kind.name]
    return image


def name_crashes() -> None:
    """Let a crash in any image of this process name its kernel on standard error.

    Call it after ``faulthandler.enable()``; a forked child calls it for itself.
    """
    global _names_crashes
    _names_crashes = True
    for image in _images:
        image.name_crashes()


def _compiled(entries: Sequence[Instance], tell: Tell) -> bytes:
    from shmalloc.compiler import build  # llvmlite is imported only to compile
    from shmalloc.compiler.reach import reached

    entries = [entry for entry in entries if _is_in_the_dialect(entry)]
    known = reached(entries)
    expected_s = sum(instance.form.weight for instance in known) / NODES_A_SECOND
    if expected_s >= 1:
        work = f"about {expected_s:.0f} s of one idle core"
        tell(f"compiling {len(known)} kernels, on their first use only: {work}")
    started = time.monotonic()
    made = build.compile_image(entries)
    _log.debug("compiled %d kernels in %.1f s", len(known), time.monotonic() - started)
    return made


def _dump(entries: Sequence[Instance], tell: Tell) -> None:
    from shmalloc.compiler import dump

    dump.write([entry for entry in entries if _is_in_the_dialect(entry)], tell)


def _is_in_the_dialect(entry: Instance) -> bool:
    """Including all that it calls."""
    try:
        return entry.form is not None
    except DialectError:
        return False


def bound(
    function: Kernel, kind: Kind, memory: Place, releases: bool, alone: bool = False
) -> Callable[..., Any]:
    """A builtin that runs an entry of some image over ``memory``; it takes the kernel's ints.

    ``alone``: not while another such call is in a kernel over ``memory``.
    """
    image = _homes[function, kind.name]
    record = image.record(symbol_of(function, kind), function, memory, releases, alone)
    _records[record.address] = record
    return builtin(record)


# --- what an image needs from its process --------------------------------------------------------
@cache
def _imports() -> tuple[int, ...]:
    """The table of imports (runtime.py)."""
    libc, api = ctypes.CDLL(None), ctypes.pythonapi
    objects: dict[str, object] = {"notice": notice.notice, "kept": notice.exceptions}
    objects |= {"handler": _handler, "None": None}

    def address(name: str) -> int:
        if name in objects:
            return id(objects[name])
        home = api if name.startswith("Py") else libc
        return ctypes.cast(getattr(home, name), ctypes.c_void_p).value or 0

    return tuple(address(name) for name in IMPORTS)


def _handler(record_address: int, frame_address: int) -> Any:
    """Raise the exception of a call, or answer it once it may run. Called by wrappers."""
    record = _records[record_address]
    taken = record.function.__code__.co_argcount if record.function is not None else 0
    words = max(FRAME_WORDS, ARGUMENTS + taken)
    frame = (ctypes.c_int64 * words).from_address(frame_address)
    place = (ctypes.c_int64 * 8).from_address(record.memory.place_address)
    what, kept = frame[FAULT], notice.kept(frame_address)
    if what == WRONG_COUNT:
        raise TypeError(_miscounted(record, frame[COUNT]))
    if what == CROWDED:
        return _in_turn(record, frame[ARGUMENTS : ARGUMENTS + taken - 1])
    if what == LISTENER and kept is not None:
        raise kept
    fault = _fault(record, what, frame, place[PLACE_WORDS])
    if isinstance(fault, KernelFault) and record.memory.on_fault is not None:
        record.memory.on_fault()
    raise fault from kept


def _in_turn(record: Record, arguments: Sequence[int]) -> Any:
    """Make a call that runs alone when the one that is in a kernel now has left it.

    Raises ``MisuseError`` if that one is beneath, in this thread: it cannot leave before we do.
    """
    address = record.memory.place_address
    if notice.is_beneath(address):
        raise MisuseError(
            f"{record.symbol}: called from a signal handler or a finalizer that interrupted another"
            " call of this memory, which waits; let the handler set a flag, and call later"
        )
    running = ctypes.c_int64.from_address(address + 8 * RUNNING)
    wanted = ctypes.c_int64.from_address(address + 8 * WANTED)
    nap_s = SHORTEST_NAP_S
    with record.memory.turn:
        try:
            wanted.value = 1
            while running.value >= ALONE:
                time.sleep(nap_s)
                nap_s = min(2 * nap_s, LONGEST_NAP_S)
        finally:
            wanted.value = 0
        return builtin(record)(*arguments)


def _miscounted(record: Record, given: int) -> str:
    code = record.function.__code__ if record.function is not None else None
    names = code.co_varnames[1 : code.co_argcount] if code is not None else ()
    ints = "1 int" if len(names) == 1 else f"{len(names)} ints"
    said = f" ({', '.join(names)})" if names else ""
    return f"{record.symbol}() takes {ints}{said}, not {given}"


def _file_of(entry: Kernel, kernel: str) -> str:
    """The file of a kernel that ``entry`` reaches. An image does not know where it is installed."""
    reached = (f for f in closure_of(entry) if digest.name_of(f) == kernel)
    found = next(reached, entry)
    return found.__code__.co_filename


def _fault(record: Record, what: int, frame: Any, words: int) -> Exception:
    if words == 0:
        ended = record.memory.ended or "the memory is closed; attach to it again"
        return MisuseError(f"{record.symbol}: {ended}")
    function = record.function
    assert function is not None
    image = _homes[function, record.kind]
    kernel, line = image.place_of(frame[SITE])
    file = _file_of(function, kernel)
    varnames = function.__code__.co_varnames[1 : function.__code__.co_argcount]
    caller = caller_index(varnames)
    cpu = None if caller is None else frame[ARGUMENTS + caller]
    kind = FAULTS[what]
    made: type[KernelFault] = ArithmeticFault
    index = None
    if kind in ("outside", "odd pair"):
        made, index = OutsideFault, frame[INDEX]
    elif kind == "expectation":
        made, index = ExpectationFault, frame[INDEX]
    return made(kind, kernel, file, line, cpu, index, words)
