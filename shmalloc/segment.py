"""``Segment``: one file of shared memory that plays physical RAM, and its header.

Data it owns: the header (``H_*`` of constants.py), the geometry's text, and the name in /dev/shm.
The words behind them belong to the kernels; ``kernels/boot.py`` makes their first image.

A segment is published by its last write, the magic word: before that an attach says "not ready". An
attach with other kernel sources is refused, because the two builds could disagree about every word.
Nothing of a segment outlives the run that made it (leftovers.py).

Rules for callers: the process that made a segment owns it; leaving its ``with`` block unmaps and
removes it. Others attach by name and only unmap. A forked child attaches anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import TracebackType

from shmalloc import constants as c
from shmalloc import leftovers, physical
from shmalloc.engine import get_engine
from shmalloc.errors import MisuseError, SegmentError
from shmalloc.image import write_image
from shmalloc.kernels.boot import boot
from shmalloc.kernels.slots import publish
from shmalloc.layout import Geometry, Layout
from shmalloc.memory import Ram
from shmalloc.processes import own_identity, pid_namespace
from shmalloc.sizes import format_bytes

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_DIGEST_BITS = 62
_SHARED_SOURCES = ("words.py", "constants.py", "constants_slab.py", "layout.py", "image.py")


class Segment:
    """A mapped segment: ``ram``, ``layout``, ``geometry``, ``name``, and whether we own it."""

    def __init__(self, mapping: physical.Mapping, layout: Layout, *, owner: bool) -> None:
        self._mapping = mapping
        self._owner_pid = os.getpid() if owner else None
        self.name = mapping.name
        self.layout = layout
        self.geometry = layout.geometry
        self.ram = Ram(mapping.part(0, layout.bytes))
        self.closed = False

    @property
    def owner(self) -> bool:
        """Whether this process made the segment and removes it."""
        return self._owner_pid == os.getpid()

    @property
    def id(self) -> int:
        """Random number of the segment, the same in every process."""
        return self.ram[c.H_SEGMENT_ID]

    @classmethod
    def create(
        cls,
        geometry: Geometry,
        name: str | None = None,
        prealloc: bool = False,
        engine: str = "native",
    ) -> Segment:
        """Make, boot and publish a segment; leftovers of dead owners are swept first.

        Raises ``EnvironmentUnfitError`` if memory is too small, before anything is made (with
        ``prealloc``: reserved page by page), ``SegmentError`` if ``name`` is taken.
        """
        run = get_engine(engine)
        segment_id = secrets.randbits(_DIGEST_BITS) | 1
        layout = Layout.of(geometry)
        chosen = _checked_name(name) or leftovers.generated_name(*own_identity(), segment_id)
        leftovers.sweep()
        physical.require_capacity(layout.bytes)
        mapping = _make(chosen, layout.bytes)
        leftovers.own(chosen)
        segment = cls(mapping, layout, owner=True)
        try:
            _write_owner(segment.ram, segment_id)
            if prealloc:
                physical.reserve(chosen, layout.bytes)
            write_image(segment.ram, layout, build_digest(geometry))
            run.call(boot, segment.ram)
            run.call(publish, segment.ram, c.H_MAGIC, c.MAGIC)
        except BaseException:
            segment.close()
            segment.unlink()
            raise
        return segment

    @classmethod
    def attach(cls, name: str) -> Segment:
        """Map the segment of that name, made by this or another process.

        Raises ``SegmentError`` for a segment that is missing, not ready, foreign, truncated, of
        another layout or of another build; each says which and what to do.
        """
        geometry = _checked_file(_checked_name(name) or "")
        try:
            mapping = physical.Mapping(name)
        except FileNotFoundError as error:
            raise _missing(name) from error
        return cls(mapping, Layout.of(geometry), owner=False)

    def view(self, word: int, size: int) -> memoryview:
        """``size`` bytes from ``word`` on, writable."""
        return self._mapping.part(word * 8, size)

    def discard(self, word: int, size: int) -> None:
        """Give whole system pages from ``word`` on back to the system; they then read as zero."""
        self._mapping.discard(word * 8, size)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes out of their ``exclusive`` blocks; ends with a process that dies.

        For rare work of Python, never for the allocator: a lock of the system on the file.
        """
        handle = self._mapping.fileno()
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)

    def close(self) -> None:
        """Unmap. Arrays and views that still refer to the memory keep it mapped until they go.

        Waits for other threads that are in a kernel; raises ``MisuseError`` if one stays there.
        """
        if not self.closed:
            self.ram.wait_until_idle()
            self.closed = True
            self.ram.release()
            self._mapping.close()

    def unlink(self) -> None:
        """Remove the name: no process can attach any more, the memory goes with its last user."""
        physical.remove(self.name)
        leftovers.disown(self.name)

    def __enter__(self) -> Segment:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if self.owner:
            self.unlink()

    def __repr__(self) -> str:
        state = "closed" if self.closed else ("owner" if self.owner else "attached")
        return f"<Segment {self.name} {format_bytes(self.layout.bytes)} {state}>"


def find_name(segment_id: int) -> str:
    """Name of the segment with that id. Raises ``SegmentError`` if it is gone."""
    paths = sorted(physical.SHM_DIRECTORY.glob(f"shm-*-*-{segment_id:016x}"))
    for path in paths or sorted(physical.SHM_DIRECTORY.iterdir()):
        header = leftovers.header_of(path)
        if header[c.H_MAGIC] == c.MAGIC and header[c.H_SEGMENT_ID] == segment_id:
            return path.name
    raise SegmentError(f"segment id {segment_id:#x}: no such segment; its owner has ended")


def build_digest(geometry: Geometry) -> int:
    """62-bit digest of everything that decides what a word of the segment means."""
    state = _sources_state().copy()
    state.update(geometry.to_json().encode())
    return int.from_bytes(state.digest()[:8]) >> (64 - _DIGEST_BITS)


@cache
def _sources_state() -> hashlib._Hash:
    here = Path(__file__).parent
    state = hashlib.sha256()
    paths = [here / name for name in _SHARED_SOURCES] + sorted((here / "kernel").glob("*.py"))
    for path in paths:
        text = path.read_bytes()
        state.update(f"{path.name} {len(text)}\n".encode() + text)
    return state


def _checked_name(name: str | None) -> str | None:
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise MisuseError(
            f"name: {name!r}; use 1 to 200 letters, digits, '_', '-' or '.', or None for a new name"
        )
    return name


def _make(name: str, size: int) -> physical.Mapping:
    try:
        return physical.Mapping(name, create=True, size=size)
    except FileExistsError as error:
        raise SegmentError(
            f"name: {name!r} exists in /dev/shm and its owner is alive, or it is not ours;"
            " attach to it, choose another name, or remove the file if no process uses it"
        ) from error


def _write_owner(ram: Ram, segment_id: int) -> None:
    """Write the first words: from here on a sweep can tell the owner of this half-made segment."""
    ram[c.H_OWNER_NAMESPACE] = pid_namespace()
    ram[c.H_OWNER_PID], ram[c.H_OWNER_START] = own_identity()
    ram[c.H_SEGMENT_ID] = segment_id


def _missing(name: str) -> SegmentError:
    return SegmentError(
        f"name: no segment {name!r}; its owner ended or never made it: check the name, or create it"
    )


def _checked_file(name: str) -> Geometry:
    """Check everything about a segment before it is mapped; its geometry."""
    try:
        handle = os.open(physical.path_of(name), os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise _missing(name) from error
    except OSError as error:
        reason = f"cannot be opened ({error.strerror}); it is another user's, or no file"
        raise SegmentError(f"name: {name!r} {reason}") from error
    with contextlib.closing(os.fdopen(handle, "rb")) as file:
        header, size = leftovers.read_header(handle), os.fstat(handle).st_size
        _check_header(name, header, size)
        geometry = _read_geometry(name, file.fileno(), header[c.H_GEOMETRY] * 8)
    if header[c.H_DIGEST] != build_digest(geometry):
        raise SegmentError(
            f"name: {name!r} was made by another build (digest {header[c.H_DIGEST]:#x}, here"
            f" {build_digest(geometry):#x}); use the same sources of shmalloc in all processes"
        )
    return geometry


def _check_header(name: str, header: tuple[int, ...], size: int) -> None:
    if header[c.H_MAGIC] == 0 and leftovers.GENERATED.fullmatch(name):
        raise SegmentError(f"name: {name!r} is not ready: its owner is still making it; try again")
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


def _read_geometry(name: str, handle: int, at: int) -> Geometry:
    length = int.from_bytes(os.pread(handle, 8, at), "little")
    try:
        return Geometry.from_json(os.pread(handle, length, at + 8).decode())
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise SegmentError(
            f"name: {name!r} has an unreadable geometry ({error}): it was made by another build,"
            " or overwritten; its owner must create it again"
        ) from error
