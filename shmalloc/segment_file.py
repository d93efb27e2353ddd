"""The file of a segment, checked before any process trusts a word of it.

It owns no file: ``opened`` gives a handle that its caller closes, and the layout that the file's
own geometry describes. What is not a segment of this build is refused by a sentence: missing,
foreign, not ready, truncated, of another layout or build, overwritten. The file may be anything
that a user can put into /dev/shm, a pipe or a file of zeros too, so nothing here waits, and what
the file says of sizes is bounded before memory is taken for it.

What it does not do: map the file (physical.py), or write to it.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from functools import cache
from pathlib import Path

from shmalloc import constants as c
from shmalloc import leftovers, limits, physical
from shmalloc.checked import shown
from shmalloc.errors import MisuseError, NotReadyError, SegmentError
from shmalloc.layout import Geometry, Layout

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_LETTERS = "1 to 200 letters, digits, '_', '-' or '.'"
_SIZE = re.compile(r"[0-9.]+ ?[KMGT]i?B?", re.IGNORECASE)
_DIGEST_BITS = 62
_SHARED_SOURCES = (
    "words.py",
    "constants.py",
    "constants_slab.py",
    "geometry_rules.py",
    "layout.py",
    "image.py",
)
MAX_GEOMETRY_BYTES = 16 << 20


def checked_name(name: str) -> str:
    """``name`` itself. Raises ``MisuseError`` for what cannot name a segment that there is."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise MisuseError(
        f"name: {shown(name)}; use the name of an arena that there is (Arena.name): {_LETTERS}"
    )


def new_name(name: str | None) -> str | None:
    """The name of a segment to be made: a size by position is taken for no name."""
    if isinstance(name, str) and _SIZE.fullmatch(name):
        raise MisuseError(f"name: {name!r} is a size; use size={name!r}, or another name")
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise MisuseError(f"name: {shown(name)}; use {_LETTERS}, or None for a new name")
    return name


def missing(name: str) -> NotReadyError:
    return NotReadyError(
        f"name: no segment {name!r}; its owner ended or never made it: check the name, or create it"
    )


def opened(name: str, any_build: bool = False) -> tuple[int, Layout]:
    """An open, read-only handle of the segment's file, and its layout; the caller closes it.

    ``any_build``: one of other kernels will do, if its layout is the same; enough to look at it.
    Raises ``SegmentError`` for what is no such segment; it says which and what to do.
    """
    known = checked_name(name)
    try:
        path = physical.path_of(known)
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise missing(name) from error
    except OSError as error:
        if error.errno in limits.CURES:
            raise
        reason = f"cannot be opened ({error.strerror}); it is another user's, or no file"
        raise SegmentError(f"name: {name!r} {reason}") from error
    try:
        return handle, _layout_of(name, handle, any_build)
    except BaseException:
        os.close(handle)
        raise


def check_owner(name: str, handle: int) -> None:
    """Raise ``SegmentError`` for another user's file, which its owner may change at any time.

    A process that attaches follows what the words say, and is ended by the system if it shrinks.
    """
    owner = os.fstat(handle).st_uid
    if owner != os.geteuid():
        raise SegmentError(
            f"name: {name!r} belongs to user {owner}, you are {os.geteuid()}: attach only to"
            " segments of your own processes"
        )


def _layout_of(name: str, handle: int, any_build: bool) -> Layout:
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        raise SegmentError(f"name: {name!r} is foreign (no regular file): check the name")
    header = leftovers.read_header(handle)
    _check_header(name, header, status.st_size, time.time() - status.st_mtime)
    geometry = _geometry_of(name, handle, header[c.H_GEOMETRY] * 8)
    digest = build_digest(geometry)
    if header[c.H_DIGEST] != digest and not any_build:
        raise SegmentError(
            f"name: {name!r} was made by another build (digest {header[c.H_DIGEST]:#x}, here"
            f" {digest:#x}); use the same sources of shmalloc in all processes"
        )
    try:
        layout = Layout.of(geometry)
    except (ValueError, TypeError, AssertionError) as error:  # of a text that fits the digest, too
        raise _unreadable(name, error) from error
    if layout.words != header[c.H_WORDS]:
        raise _unreadable(name, f"{header[c.H_WORDS]} words, by its geometry {layout.words}")
    return layout


def _check_header(name: str, header: tuple[int, ...], size: int, age_s: float) -> None:
    """Refuse what is no ready segment. ``age_s``: seconds since the file was last written."""
    if leftovers.is_half_made(name, header, age_s):
        if leftovers.maker_is_dead(name, header):
            raise SegmentError(
                f"name: {name!r} will never be ready: its owner died while making it; create it"
                " anew, the next creation of any segment or sweep() removes this file"
            )
        raise NotReadyError(
            f"name: {name!r} is not ready: its owner is still making it; try again, or attach with"
            " a timeout"
        )
    if header[c.H_MAGIC] != c.MAGIC:
        raise SegmentError(
            f"name: {name!r} is foreign (no magic word, found {header[c.H_MAGIC]:#x}): another"
            " program made it, or its owner is still making it; check the name"
        )
    if header[c.H_VERSION] != c.LAYOUT_VERSION:
        raise SegmentError(
            f"name: {name!r} has layout version {header[c.H_VERSION]}, this build reads"
            f" {c.LAYOUT_VERSION}; use the same version of shmalloc in all processes"
        )
    if size < header[c.H_WORDS] * 8:
        raise SegmentError(
            f"name: {name!r} is truncated: {size} bytes of {header[c.H_WORDS] * 8};"
            " its owner must create it again"
        )


def _geometry_of(name: str, handle: int, at: int) -> Geometry:
    try:
        length = int.from_bytes(os.pread(handle, 8, at), "little")
        if length > MAX_GEOMETRY_BYTES:
            raise ValueError(f"a text of {length} bytes")
        return Geometry.from_json(os.pread(handle, length, at + 8).decode())
    except (ValueError, KeyError, TypeError, OSError, OverflowError, RecursionError) as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, reason: object) -> SegmentError:
    return SegmentError(
        f"name: {name!r} has an unreadable geometry ({reason}): it was made by another build,"
        " or overwritten; its owner must create it again"
    )


def build_digest(geometry: Geometry) -> int:
    """62-bit digest of everything that decides what a word of the segment means."""
    state = sources_state().copy()
    state.update(geometry.to_json().encode())
    return int.from_bytes(state.digest()[:8]) >> (64 - _DIGEST_BITS)


@cache
def sources_state() -> hashlib._Hash:
    """The digest of the shared sources; read once, so that later edits of them change nothing."""
    here = Path(__file__).parent
    state = hashlib.sha256()
    for path in shared_sources(here):
        text = path.read_bytes()
        state.update(f"{path.name} {len(text)}\n".encode() + text)
    return state


def shared_sources(package: Path) -> list[Path]:
    """The files that two processes must have alike to share a segment."""
    kernels = [*package.glob("kernels/*.py"), *package.glob("structures/kernels/*.py")]
    return [package / name for name in _SHARED_SOURCES] + sorted(kernels)
