"""``Segment``: one file of shared memory that plays physical RAM, and its header.

Data it owns: the header (``H_*`` of constants.py), the geometry's text, and the name in /dev/shm.
The words behind them belong to the kernels; ``kernels/boot.py`` makes their first image.

A segment is published by its last write, the magic word: before that an attach says "not ready". An
attach with other kernel sources is refused, because the two builds could disagree about every word.
Nothing of a segment outlives the run that made it (leftovers.py).

Rules for callers: the process that made a segment owns it; leaving its ``with`` block unmaps and
removes it. Others attach by name and only unmap.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import secrets
import time
from collections.abc import Iterator
from types import TracebackType

import numpy as np

from shmalloc import constants as c
from shmalloc import file_lock, leftovers, liveness, main_guard, physical, segment_file
from shmalloc.checked import checked_bool, shown
from shmalloc.engine import get_engine
from shmalloc.errors import EnvironmentUnfitError, MisuseError, SegmentError, Violation
from shmalloc.fixed_words import FixedWords, identity_of
from shmalloc.image import require_room, write_image
from shmalloc.kernels.boot import boot
from shmalloc.kernels.page_owner import set_clocks
from shmalloc.kernels.slots import publish
from shmalloc.layout import Geometry, Layout
from shmalloc.memory import Ram
from shmalloc.processes import own_identity, pid_namespace
from shmalloc.sizes import format_bytes

_ID_BITS = 62
_PLENTY_BYTES = 1 << 30
_PLENTY_S = 0.05


class Segment:
    """A mapped segment: ``ram``, ``layout``, ``geometry``, ``name``, and whether we own it.

    ``closed``: no new requests; ``released``: and it is unmapped, but for arrays and views.
    """

    def __init__(self, mapping: physical.Mapping, layout: Layout, *, owner: bool) -> None:
        self._mapping = mapping
        self._owner_pid = os.getpid() if owner else None
        self.name = mapping.name
        self.layout = layout
        self.geometry = layout.geometry
        self.ram = Ram(mapping.part(0, layout.bytes), wiped_by_fork=True)
        self._file = mapping.status()
        self.closed = False
        self.released = self._stopped = False
        self._claims: dict[int, int] = {}  # number -> descriptor that holds its lock
        self._identity = identity_of(self.ram)
        self._fixed: FixedWords | None = None
        self._plenty, self._plenty_until = 0, 0.0  # room of /dev/shm that is left for arrays

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
        run, prealloc = get_engine(engine), checked_bool("prealloc", prealloc)
        if not isinstance(geometry, Geometry):
            raise MisuseError(f"geometry: {shown(geometry)}; use a shmalloc.Geometry")
        segment_id = secrets.randbits(_ID_BITS) | 1
        layout = Layout.of(geometry)
        require_room(layout)
        chosen = segment_file.new_name(name)
        chosen = chosen or leftovers.generated_name(*own_identity(), segment_id)
        physical.room()
        leftovers.sweep()
        physical.require_capacity(layout.bytes)
        mapping = _make(chosen, layout.bytes)
        leftovers.own(chosen, mapping.status())
        segment = cls(mapping, layout, owner=True)
        try:
            _write_owner(segment.ram, segment_id)
            if prealloc:
                physical.reserve(chosen, layout.bytes)
            write_image(segment.ram, layout, segment_file.build_digest(geometry))
            run.call(boot, segment.ram)
            if geometry.page_owner:
                run.call(set_clocks, segment.ram, 0, c.PO_CLOCKS, time.monotonic_ns())
            run.call(publish, segment.ram, c.H_MAGIC, c.MAGIC)
            segment._identity = identity_of(segment.ram)
        except BaseException:
            segment.close()
            segment.unlink()
            raise
        return segment

    @classmethod
    def attach(cls, name: str) -> Segment:
        """Map the segment of that name, made by this or another process of this user.

        Raises ``SegmentError`` for a segment that is missing, not ready, foreign, another user's,
        truncated, of another layout or of another build; each says which and what to do.
        """
        handle, layout = segment_file.opened(name)
        try:
            segment_file.check_owner(name, handle)
            mapping = physical.mapping_of(name, handle, layout.bytes)
        except FileNotFoundError as error:
            raise segment_file.missing(name) from error
        finally:
            os.close(handle)
        return cls(mapping, layout, owner=False)

    @property
    def mapped(self) -> mmap.mmap:
        """The mapping: the base of arrays in it. They keep it mapped after ``close``."""
        return self._mapping.mapped

    @property
    def mapped_read_only(self) -> mmap.mmap:
        """The base of read-only arrays: a second mapping of the same memory."""
        return self._mapping.read_only

    def byte_at(self, address: int) -> int:
        """The byte of the segment that lies at an address, in whichever of our two mappings."""
        offset = address - self.ram.base
        if 0 <= offset < self.layout.bytes:
            return offset
        return address - np.frombuffer(self.mapped_read_only, np.uint8).ctypes.data

    def refuse(self) -> None:
        """Refuse new requests from now on (``closed``), and stay mapped until ``close``."""
        self.closed = True

    def view(self, word: int, size: int, readonly: bool = False) -> memoryview:
        """``size`` bytes from ``word`` on, writable; ``readonly``: by the mapping that is not."""
        if readonly:
            return memoryview(self.mapped_read_only)[word * 8 : word * 8 + size]
        return self._mapping.part(word * 8, size)

    def discard(self, word: int, size: int) -> None:
        """Give whole system pages from ``word`` on back to the system; they then read as zero."""
        self._mapping.discard(word * 8, size)

    def hold_claim(self, number: int) -> bool:
        """Say that this process lives, on claim ``number`` (liveness.py). False: another has it."""
        descriptor = liveness.take(self._mapping.fileno(), number)
        if descriptor is not None:
            self._claims[number] = descriptor
        return descriptor is not None

    def drop_claims(self) -> None:
        """No longer say so for any claim: the others take them for dead, and recover them."""
        for number in list(self._claims):
            self.drop_claim(number)

    def drop_claim(self, number: int) -> None:
        """No longer say so; nothing if this process never did."""
        descriptor = self._claims.pop(number, None)
        if descriptor is not None:
            liveness.release(descriptor)

    def give_claim_to_child(self, number: int) -> None:
        """Let the child of the fork that comes hold claim ``number`` in place of this process."""
        if number in self._claims:
            liveness.give_to_child(self._claims[number])

    def leave_claim(self, number: int) -> None:
        """After that fork, in the parent: claim ``number`` is the child's."""
        self._claims.pop(number, None)

    def keep_claim(self, number: int | None) -> None:
        """After a fork: this process holds its claim ``number`` and no other one."""
        self._claims = {n: fd for n, fd in self._claims.items() if n == number}

    def claim_is_held(self, number: int) -> bool:
        """Whether a process lives that holds claim ``number``."""
        return liveness.is_held(self._mapping.fileno(), number)

    def provide(self, word: int, size: int) -> None:
        """Let the system provide the memory from ``word`` on now. Raises ``OSError`` for a lack.

        Without it memory is provided when it is first touched, and the lack is a SIGBUS.
        """
        os.posix_fallocate(self._mapping.fileno(), word * 8, size)

    def may_lack(self, size: int) -> bool:
        """Whether touching ``size`` bytes more may be a SIGBUS: /dev/shm has less room than that.

        It need not be: memory that was touched before is there. Never with ``prealloc``. Plenty of
        room, a gigabyte more than asked, is not looked at again for 50 ms: that takes longer to
        fill, and the look takes longer than to make an array.
        """
        now = time.monotonic()
        if now < self._plenty_until and size < self._plenty:
            return False
        room = physical.room()
        self._plenty, self._plenty_until = room - _PLENTY_BYTES, now + _PLENTY_S
        return room < size and not physical.is_backed(self._mapping)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes out of their ``exclusive`` blocks; ends with a process that dies.

        For rare work of Python, never for the allocator: a lock of the system on the file.
        """
        own_file = f"/proc/self/fd/{self._mapping.fileno()}"  # also once its name is removed
        with file_lock.exclusive(own_file, f"segment {self.name!r}"):
            yield

    def changed_words(self) -> list[Violation]:
        """One violation for each word that was overwritten and never changes while the segment
        lives. If there is one, kernels may be led anywhere; call none."""
        if self._fixed is None:
            self._fixed = FixedWords.of(self.layout, self._identity)
        return self._fixed.violations(self.ram)

    def is_truncated(self) -> bool:
        """Whether the file lost bytes while it was mapped."""
        return physical.file_size(self._mapping) < self.layout.bytes

    def check_file(self) -> None:
        """Raise ``SegmentError`` if the file was truncated: touching what it lost is fatal."""
        if self.is_truncated():
            raise physical.truncated(self.name)

    @property
    def stopped(self) -> bool:
        """Whether it is past ``stop``: no kernel runs here any more."""
        return self._stopped

    def stop(self) -> None:
        """Refuse all calls from now on, and wait for other threads that are in a kernel.

        Raises ``MisuseError`` if one stays there; then the segment is as open as before.
        """
        if not self._stopped:
            before, self.closed = self.closed, True
            try:
                self.ram.stop()
            except BaseException:
                self.closed = before
                raise
            self._stopped = True

    def close(self) -> None:
        """Unmap, after ``stop``. Arrays and views of the memory keep it mapped until they go."""
        self.stop()
        if not self.released:
            self.released = True
            self.ram.release()
            self.drop_claims()
            self._mapping.close()

    def unlink(self) -> None:
        """Remove the name: no process can attach any more, the memory goes with its last user.

        Raises ``MisuseError`` in a forked child of the process that made the segment.
        """
        if self._owner_pid not in (None, os.getpid()):
            raise MisuseError(
                f"unlink: process {self._owner_pid} made {self.name!r}, and we are a fork of it;"
                " the segment is removed by that process, or when it ends"
            )
        physical.remove(self.name, self._file)
        leftovers.disown(self.name, self._file)

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
        header = leftovers.header_of(path, own=True)  # another user's may claim any id
        if header[c.H_MAGIC] == c.MAGIC and header[c.H_SEGMENT_ID] == segment_id:
            return path.name
    raise SegmentError(f"segment id {segment_id:#x}: no such segment; its owner has ended")


def _make(name: str, size: int) -> physical.Mapping:
    try:
        return physical.Mapping(name, create=True, size=size)
    except FileExistsError as error:
        raise SegmentError(
            f"name: {name!r} exists in /dev/shm and its owner is alive, or it is not ours;"
            " attach to it, choose another name, or remove the file if no process uses it"
            + main_guard.cure()
        ) from error
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise EnvironmentUnfitError(
            f"/dev/shm: {error.strerror}; remount it writable, or change its permissions"
        ) from error


def _write_owner(ram: Ram, segment_id: int) -> None:
    """Write the first words: from here on a sweep can tell the owner of this half-made segment."""
    ram[c.H_OWNER_NAMESPACE] = pid_namespace()
    ram[c.H_OWNER_PID], ram[c.H_OWNER_START] = own_identity()
    ram[c.H_SEGMENT_ID] = segment_id
    ram[c.H_MADE_S] = int(time.time())
