"""Files in /dev/shm that another user made, or that shrink: refused, never waited for.

/dev/shm is open to all. What another user plants there is a copy of a segment of ours, as good as
they can make it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from shmalloc import physical
from shmalloc.arena import Arena, open_array
from shmalloc.arrays import HANDLE
from shmalloc.errors import SegmentError
from shmalloc.leftovers import sweep
from shmalloc.observed import ObservedSegment
from shmalloc.segment import Segment
from support.storing import OTHER_USER

SMALL = {"page_bytes": 256, "cpus": 2, "max_order": 3, "pageblock_order": 2}
SHM = Path("/dev/shm")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena.create(size=64 * 256, engine="interpreted", **SMALL) as made:
        yield made


@pytest.fixture
def place() -> Iterator[Path]:
    """A name in /dev/shm that comes before all others."""
    path = SHM / f"shm-0-{os.getpid()}-planted"
    yield path
    with suppress(FileNotFoundError):
        path.unlink()


def plant(arena: Arena, place: Path) -> str:
    """Another user's copy of a segment; its name."""
    shutil.copy(SHM / arena.name, place)
    place.chmod(0o666)
    os.chown(place, OTHER_USER, OTHER_USER)
    return place.name


@as_root
def test_another_users_segment_is_refused(arena: Arena, place: Path) -> None:
    with pytest.raises(SegmentError, match=f"belongs to user {OTHER_USER}, you are 0"):
        Segment.attach(plant(arena, place))


@as_root
def test_another_users_segment_can_be_watched(arena: Arena, place: Path) -> None:
    with ObservedSegment(plant(arena, place)) as seen:
        assert seen.geometry == arena.geometry


@as_root
def test_a_handle_never_leads_to_another_users_segment(arena: Arena, place: Path) -> None:
    handle = arena.array(np.arange(4)).handle()
    planted = SHM / f"shm-0-0-{HANDLE.unpack(handle)[0]:016x}"
    plant(arena, planted)
    arena.close()
    try:
        with pytest.raises(SegmentError, match="no such segment"):
            open_array(handle)
    finally:
        planted.unlink()


AS_ANOTHER = """
import os, sys
from shmalloc.errors import SegmentError
from shmalloc.segment import Segment
os.setgroups([])
os.setresgid(*[int(sys.argv[2])] * 3)
os.setresuid(*[int(sys.argv[2])] * 3)
try:
    Segment.attach(sys.argv[1])
except SegmentError as error:
    print(error)
"""


@as_root
@pytest.mark.parametrize(
    ("mode", "reason"), [(0o600, "Permission denied"), (0o666, "belongs to user 0, you are")]
)
def test_a_plain_user_cannot_attach_to_roots_segment(arena: Arena, mode: int, reason: str) -> None:
    (SHM / arena.name).chmod(mode)
    command = [sys.executable, "-c", AS_ANOTHER, arena.name, str(OTHER_USER)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert reason in ran.stdout and ran.stderr == ""


def test_a_segment_is_its_owners_whatever_the_umask(arena: Arena) -> None:
    before = os.umask(0)
    try:
        with Segment.create(arena.geometry, engine="interpreted") as made:
            assert (SHM / made.name).stat().st_mode & 0o7777 == 0o600
    finally:
        os.umask(before)


# --- what is no file ------------------------------------------------------------------------------


def make(kind: str, path: Path, target: str) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(SHM / target)
    elif kind == "device":
        os.mknod(path, 0o020666, os.makedev(1, 5))  # /dev/zero
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))


@pytest.mark.parametrize("kind", ["pipe", "link", "socket", pytest.param("device", marks=as_root)])
def test_what_is_no_file_is_refused_without_waiting(arena: Arena, place: Path, kind: str) -> None:
    make(kind, place, arena.name)
    with pytest.raises(SegmentError, match=r"is foreign|cannot be opened"):
        Segment.attach(place.name)
    with pytest.raises(SegmentError, match="no such segment"):
        open_array(HANDLE.pack(12345, 99, 1))  # which looks at every file
    assert place.name not in sweep()


# --- files that change ----------------------------------------------------------------------------


def test_a_file_that_is_exchanged_after_it_was_checked_is_refused(
    arena: Arena, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(SHM / arena.name, place)
    mapping = physical.Mapping

    def late(name: str) -> physical.Mapping:
        os.replace(shutil.copy(SHM / arena.name, f"{place}-2"), place)
        return mapping(name)

    monkeypatch.setattr(physical, "Mapping", late)
    with pytest.raises(SegmentError, match="no segment"):
        Segment.attach(place.name)


@pytest.mark.parametrize("left", [0, 4096])
def test_a_file_that_is_truncated_after_it_was_checked_is_refused(
    arena: Arena, place: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    shutil.copy(SHM / arena.name, place)
    mapping = physical.Mapping

    def late(name: str) -> physical.Mapping:
        os.truncate(place, left)
        return mapping(name)

    monkeypatch.setattr(physical, "Mapping", late)
    with pytest.raises(SegmentError, match="was truncated"):
        Segment.attach(place.name)


def test_an_array_of_a_file_that_was_truncated_is_refused(arena: Arena) -> None:
    handle = arena.array(np.arange(4)).handle()
    size = arena.segment.layout.bytes
    os.truncate(SHM / arena.name, size - 8)
    try:
        with pytest.raises(SegmentError, match="was truncated"):
            arena.open_array(handle)
    finally:
        os.truncate(SHM / arena.name, size)
