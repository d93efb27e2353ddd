"""/dev/shm that is full, read-only or missing: an exception with the cure, and no SIGBUS.

Restated from PyTorch #5040, Ray #235 and #16164, and function services that have no /dev/shm.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from shmalloc import Arena, EnvironmentUnfitError, physical

LARGE = 1 << 17


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena.create(size="2MiB", engine="interpreted") as made:
        made.zeros(LARGE, "u1")  # its table is there
        made.collect()
        made.segment._plenty = 0  # the room is looked at again
        yield made
        assert made.validate() == []


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that are free in /dev/shm."""
    free = [0]
    monkeypatch.setattr(physical, "room", lambda: free[0])
    return free


def test_what_would_be_a_sigbus_is_a_memory_error(arena: Arena, room: list[int]) -> None:
    used = arena.statistics().used_pages
    for make in (
        lambda: arena.zeros(LARGE, "u1"),
        lambda: arena.lock(),
        lambda: arena.queue(4),
        lambda: arena.pool(2, LARGE, "u1"),
    ):
        with pytest.raises(MemoryError, match=r"/dev/shm is full.*--shm-size=8g.*prealloc=True"):
            make()
    assert arena.statistics().used_pages == used
    room[0] = 1 << 30
    assert arena.zeros(LARGE, "u1").sum() == 0


def test_memory_is_provided_at_once_when_little_is_left(
    arena: Arena, room: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An array, as a pool, whose memory the system does not provide is given back."""
    room[0] = arena._split_bytes
    assert arena.zeros(LARGE, "u1").sum() == 0
    arena.collect()
    used, asked = arena.statistics().used_pages, []

    def provide(word: int, size: int) -> None:
        asked.append(size)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(arena.segment, "provide", provide)
    with pytest.raises(MemoryError, match="/dev/shm is full"):
        arena.zeros(LARGE, "u1")
    arena.collect()
    assert asked[0] >= LARGE
    assert arena.statistics().used_pages == used
    with pytest.raises(MemoryError, match="/dev/shm is full"):
        arena.pool(2, LARGE, "u1")
    assert arena.statistics().used_pages == used


def test_an_arena_that_reserved_its_memory_has_it(room: list[int]) -> None:
    room[0] = 1 << 30
    with Arena.create(size="2MiB", engine="interpreted", prealloc=True) as arena:
        room[0] = 0
        assert arena.zeros(LARGE, "u1").sum() == 0
        arena.lock()


def test_a_missing_shm_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(physical, "SHM_DIRECTORY", Path("/dev/missing"))
    with pytest.raises(EnvironmentUnfitError, match="/dev/shm does not exist; mount a tmpfs"):
        Arena.create(size="1MiB", engine="interpreted")


def test_a_read_only_shm_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(physical, "Mapping", refuse)
    with pytest.raises(EnvironmentUnfitError, match="/dev/shm: Read-only file system; remount it"):
        Arena.create(size="1MiB", engine="interpreted")
