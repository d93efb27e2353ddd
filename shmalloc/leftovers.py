"""A segment never outlives its run: what removes it, for each way in which a run can end.

========================  =====================================================================
normal end, exception,    ``atexit`` of the owner
Ctrl-C, ``sys.exit``
SIGTERM, SIGHUP           a handler of the owner, installed only in the main thread and only over
                          ``SIG_DFL``: it removes, restores ``SIG_DFL`` and sends the signal again,
                          so the exit status stays what the sender expects. A handler of the
                          program's own is left alone; if it ends the process normally, ``atexit``
                          does the work.
SIGKILL, ``os._exit``     the next ``Segment.create`` on the machine, or ``sweep()``
========================  =====================================================================

The owner is the process that made the segment, not a fork of it. ``sweep`` removes a file only if
it belongs to this user, its header carries our magic (or, half-made, its name and header agree),
and its owner, by pid *and* start time, in this pid namespace, is dead. Everything else is foreign.

What it does not do: unmap (segment.py), or end processes that still use a swept segment; they keep
their mapping, as with every removed file.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import stat
import struct
import threading
import time
from pathlib import Path
from types import FrameType

from shmalloc import constants as c
from shmalloc import file_lock, physical
from shmalloc.processes import owner_alive, pid_namespace

GENERATED = re.compile(r"shm-(\d+)-(\d+)-([0-9a-f]{16})")
UNTOUCHED_S = 60.0  # a file whose owner words are still missing is half-made, not a leftover
_HEADER = struct.Struct(f"{c.HEADER_WORDS}q")
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)

_owned: dict[str, os.stat_result] = {}  # the files of this process by name
_chained: set[int] = set()


def generated_name(pid: int, start: int, segment_id: int) -> str:
    return f"shm-{pid}-{start}-{segment_id:016x}"


def own(name: str, file: os.stat_result) -> None:
    """From now on this process removes ``file``, which has that name, however it ends."""
    _owned[name] = file
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _end_by_signal)
                _chained.add(number)


def disown(name: str, file: os.stat_result) -> None:
    """``file`` is removed; with the last one, the signals get their default action back."""
    if name in _owned and os.path.samestat(_owned[name], file):
        del _owned[name]
    if not _owned and threading.current_thread() is threading.main_thread():
        for number in list(_chained):
            if signal.getsignal(number) is _end_by_signal:
                signal.signal(number, signal.SIG_DFL)
            _chained.discard(number)


def remove_owned() -> None:
    """Remove what this process owns now, before it ends in a way that skips ``atexit``."""
    for name, file in list(_owned.items()):
        physical.remove(name, file)
        _owned.pop(name, None)


def _end_by_signal(number: int, frame: FrameType | None) -> None:
    remove_owned()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


atexit.register(remove_owned)
os.register_at_fork(after_in_child=_owned.clear)


def sweep() -> list[str]:
    """Remove the segments that a dead owner left behind; their names."""
    return [path.name for path in sorted(physical.SHM_DIRECTORY.iterdir()) if _sweep_one(path)]


def _sweep_one(path: Path) -> bool:
    """Remove ``path`` if it is a leftover.

    The file is locked from the check to the removal: otherwise a second sweeper could remove it
    first, a third process make a new segment of that name, and this process remove that one.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # gone meanwhile, a link or a socket, or another user's
        return False
    try:
        with file_lock.lock_of(handle) as locked:
            opened, named = os.fstat(handle), path.lstat()
            same = locked and os.path.samestat(opened, named)
            return same and _is_leftover(path.name, handle, opened) and physical.remove(path.name)
    except FileNotFoundError:  # another sweeper was faster
        return False
    finally:
        os.close(handle)


def read_header(handle: int) -> tuple[int, ...]:
    """The header's words of an open file, zeros if it ends early."""
    return _HEADER.unpack(os.pread(handle, _HEADER.size, 0).ljust(_HEADER.size, b"\0"))


def header_of(path: Path, own: bool = False) -> tuple[int, ...]:
    """The header's words of the file at ``path``; zeros if there is none that we may read.

    ``own``: zeros also for another user's file.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # never waits: a pipe
    except OSError:  # gone meanwhile, or another user's
        return (0,) * c.HEADER_WORDS
    try:
        if own and os.fstat(handle).st_uid != os.geteuid():
            return (0,) * c.HEADER_WORDS
        return read_header(handle)
    except OSError:  # a pipe, a directory
        return (0,) * c.HEADER_WORDS
    finally:
        os.close(handle)


def is_half_made(file_name: str, header: tuple[int, ...], age_s: float) -> bool:
    """Whether a segment is being made here, or was when its owner died: it has no magic word yet.

    By its name, or by its owner's words. With neither, an empty file was made a moment ago.
    """
    if header[c.H_MAGIC] != 0:
        return False
    if GENERATED.fullmatch(file_name) or header[c.H_OWNER_NAMESPACE] == pid_namespace():
        return True
    return not any(header) and age_s < UNTOUCHED_S


def maker_is_dead(file_name: str, header: tuple[int, ...]) -> bool:
    """Whether the owner of a half-made segment, that its words or a generated name tell of, in our
    pid namespace, is dead."""
    name = GENERATED.fullmatch(file_name)
    if header[c.H_OWNER_NAMESPACE] not in (0, pid_namespace()):  # 0: it is not written yet
        return False
    if name is not None:
        return not owner_alive(int(name[1]), int(name[2]))
    pid, start = header[c.H_OWNER_PID], header[c.H_OWNER_START]
    return pid != 0 and start != 0 and not owner_alive(pid, start)


def _is_leftover(file_name: str, handle: int, status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        return False
    header = read_header(handle)
    pid, start = header[c.H_OWNER_PID], header[c.H_OWNER_START]
    if header[c.H_MAGIC] != c.MAGIC:
        name = GENERATED.fullmatch(file_name)
        if name is None or header[c.H_MAGIC] != 0:
            return False
        if not any(header):  # killed before its first word: writing it never takes a minute
            pid, start = int(name[1]), int(name[2])
            return time.time() - status.st_mtime > UNTOUCHED_S and not owner_alive(pid, start)
        if (pid, start) != (int(name[1]), int(name[2])):
            return False
    return header[c.H_OWNER_NAMESPACE] == pid_namespace() and not owner_alive(pid, start)
