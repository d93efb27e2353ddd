"""The file of one compiled image: written as a whole, read once, and trusted only when checked.

::

    KEY.image                 offset  size
                                   0     8  magic
                                   8     4  version of this format
                                  12     4  zero
                                  16     8  n, the length of the payload
                                  24   128  key, filled up with zeros
                                 152    32  sha256 of the payload
                                 184     n  payload
    .KEY.PID-RANDOM.new       the same, while it is written; then it is renamed

The file is opened without following a link or waiting for a FIFO's writer, checked through the open
descriptor, and read into memory; the bytes that ``read_image`` returns are those that it checked,
whatever happens to the file meanwhile. Nothing in it is interpreted here. The file's time of change
is that of its last use, to the hour.

Rules for callers: the folder has passed ``directory.trusted``. ``write_image`` raises OSError for
all that can be wrong with a disk.

What it does not do: decide what happens to a damaged image, or which ones are removed (store.py).
"""

# ruff: noqa: PTH105, PTH108

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import time

from shmalloc.compiler.directory import OTHERS_WRITE, shown
from shmalloc.errors import EngineError

MAGIC, VERSION = b"shmimage", 1
HEADER = struct.Struct("<8sI4xQ128s32s")
KEY_LENGTHS = range(8, 129)
MOST_BYTES = 1 << 28  # of a payload; a file that claims more is not read
USE_IS_NOTED_S = 3600.0
ENDING, UNFINISHED = ".image", ".new"


class DamagedImageError(EngineError):
    """The file in an image's place is not that image; ``lasting``: nor can it be replaced."""

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting


def read_image(folder: str, key: str) -> bytes | None:
    """The payload of that image, checked; None if there is no such file."""
    path = path_of(folder, key)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        link = error.errno == errno.ELOOP
        what = "is a symbolic link" if link else f"cannot be read: {error.strerror}"
        raise DamagedImageError(f"{shown(path)} {what}") from error
    try:
        data = _content(descriptor)
        payload = _payload(data, key)
    except DamagedImageError as damage:
        raise DamagedImageError(f"{shown(path)} {damage}", lasting=damage.lasting) from None
    except OSError as error:
        raise DamagedImageError(f"{shown(path)} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return payload


def _content(descriptor: int) -> bytes:
    """All bytes of an open file that is fit to be an image."""
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        folder = stat.S_ISDIR(info.st_mode)
        raise DamagedImageError("is a directory" if folder else "is no file", lasting=folder)
    if info.st_uid not in (0, os.geteuid()):
        raise DamagedImageError(f"belongs to user {info.st_uid}")
    if info.st_mode & OTHERS_WRITE:
        raise DamagedImageError(f"may be written by others (mode {info.st_mode & 0o7777:04o})")
    if info.st_size > HEADER.size + MOST_BYTES:
        raise DamagedImageError(f"is too large ({info.st_size} bytes)")
    parts = []
    left = info.st_size
    while left > 0 and (part := os.read(descriptor, left)):
        parts.append(part)
        left -= len(part)
    if time.time() - info.st_mtime > USE_IS_NOTED_S:
        _note_use(descriptor)
    return b"".join(parts)


def _note_use(descriptor: int) -> None:
    try:
        os.utime(descriptor)
    except OSError:
        return  # root's, or on a read-only disk: a user that may write there may also remove it


def _payload(data: bytes, key: str) -> bytes:
    """What follows the header, if both belong together and to ``key``."""
    if len(data) < HEADER.size:
        raise DamagedImageError(f"is truncated ({len(data)} bytes)")
    magic, version, length, name, digest = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise DamagedImageError("is no image")
    if version != VERSION:
        raise DamagedImageError(f"has format {version}, not {VERSION}")
    if len(data) != HEADER.size + length:
        raise DamagedImageError(
            f"is truncated or damaged ({len(data)} bytes, not {HEADER.size + length})"
        )
    payload = data[HEADER.size :]
    # The whole header, so that its unused bytes count, too.
    if name != _padded(key) or data[: HEADER.size] != _header(key, payload):
        other = name != _padded(key) and digest == hashlib.sha256(payload).digest()
        raise DamagedImageError("is the image of another key" if other else "is damaged")
    return payload


def _header(key: str, payload: bytes) -> bytes:
    digest = hashlib.sha256(payload).digest()
    return HEADER.pack(MAGIC, VERSION, len(payload), key.encode(), digest)


def _padded(key: str) -> bytes:
    return key.encode().ljust(KEY_LENGTHS[-1], b"\0")


def path_of(folder: str, key: str) -> str:
    """Where the image with that key is; EngineError if it is no key."""
    if len(key) not in KEY_LENGTHS or not set(key) <= set("0123456789abcdef"):
        raise EngineError(
            f"an image's key is {KEY_LENGTHS[0]} to {KEY_LENGTHS[-1]} hexadecimal digits,"
            f" not {key!r}"
        )
    return f"{folder}/{key}{ENDING}"


def write_image(folder: str, key: str, payload: bytes) -> None:
    """Make or replace an image; a reader finds the old one or all of the new one."""
    if len(payload) > MOST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    unfinished = f"{folder}/.{key[:32]}.{os.getpid()}-{os.urandom(8).hex()}{UNFINISHED}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(unfinished, flags, 0o644)  # a shared directory is open to readers
        try:
            for part in (_header(key, payload), payload):
                view = memoryview(part)
                while view:
                    view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
        os.replace(unfinished, path_of(folder, key))
    except BaseException:  # also Ctrl-C: what is half-written must not stay
        remove(unfinished)
        raise


def remove(path: str) -> bool:
    """Remove a file; whether it is gone."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return True  # another process made room at the same time
    except OSError:
        return False  # a directory in an image's place
    return True
