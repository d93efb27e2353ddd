"""``Structure``: what all structures share: a handle that travels, and the end of one.

A handle is 24 bytes, three little-endian uint64::

    [ segment id | word index of the entry | state of the entry, with its generation ]

It opens in any process, and pickles to little more than that. It holds no reference: a structure
lives until ``destroy`` or as long as its segment. A handle of a structure that was destroyed is
refused, also when another one has its entry by now, and so is one that names no entry.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from shmalloc import constants as c
from shmalloc.errors import MisuseError
from shmalloc.structures.kernels.entries import (
    KIND_MASK,
    KIND_SHIFT,
    LIVE,
    PHASE_MASK,
    end_structure,
)
from shmalloc.structures.names import name_at

if TYPE_CHECKING:
    from shmalloc.structures.operations import StructureOperations

HANDLE = struct.Struct("<QQQ")


class Structure:
    """One structure, as this process uses it."""

    open_handle: ClassVar[Callable[[bytes], Any]]  # arena.py: attaches if need be
    kind: ClassVar[int] = 0
    kind_name: ClassVar[str] = "structure"

    __slots__ = ("_arena", "_at", "_inside", "_segment", "_state")

    def __init__(self, arena: StructureOperations, at: int, state: int) -> None:
        self._arena = arena
        self._segment = arena.segment
        self._at = at
        self._state = state
        self._inside: list[int] = []  # held.py

    @property
    def handle(self) -> bytes:
        """24 bytes that ``open_structure`` takes in any process."""
        return HANDLE.pack(self._segment.id, self._at, self._state)

    @property
    def name(self) -> str | None:
        """By which ``Arena.find`` finds it, None: it was made without."""
        self._check()
        return name_at(self._segment, self._at)

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return Structure.open_handle, (self.handle,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self.handle == other.handle

    def __hash__(self) -> int:
        return hash((self._at, self._state))

    def destroy(self) -> None:
        """End the structure and free its memory. Later use, in any process, is refused.

        Only when no process is inside one of its operations. Raises ``MisuseError`` if it is gone.
        """
        self._before_destroy()
        result = self._arena.run(end_structure, self._at, self._state)
        if (
            result < 0 and result != c.E_NOMEM
        ):  # that one: who makes a structure later does the rest
            raise self._gone()
        self._arena._forget(self)

    def _before_destroy(self) -> None:
        """Refuse if this process is in the middle of something."""

    def _recover(self) -> None:
        """Free what dead processes left in it: memory is wanted, or ``Arena.recover`` asks."""

    def _close(self) -> None:
        """Give back what this process has of it: its arena closes."""

    def _check(self) -> None:
        """Raise ``MisuseError`` if the arena is closed or the structure is gone."""
        self._arena.check_open()
        if self._segment.ram[self._at] != self._state:
            raise self._gone()

    def _is_usable(self) -> bool:
        """Whether this process may change it: it is there, and the arena open for that."""
        usable = not self._segment.closed and not self._arena.readonly
        return usable and self._segment.ram[self._at] == self._state

    def _gone(self) -> MisuseError:
        return MisuseError(
            f"{self.kind_name}: it was destroyed, and its entry may be another's; make a new one"
        )

    def _told(self) -> str:
        """What it is at this moment, in a few words, for people; it is live."""
        return "live"

    def __repr__(self) -> str:
        name, told = None, "closed" if self._segment.closed else "destroyed"
        if not self._segment.closed and self._segment.ram[self._at] == self._state:
            name, told = name_at(self._segment, self._at), self._told()
        return f"<{type(self).__name__} {name or hex(self._at)} of {self._arena.name}: {told}>"


def unpack_handle(handle: bytes) -> tuple[int, int, int]:
    """(segment id, word of the entry, state) of a handle. Raises ``MisuseError`` if it is none."""
    if not isinstance(handle, bytes) or len(handle) != HANDLE.size:
        raise MisuseError(f"handle: {handle!r} is no handle of a structure: use its .handle")
    segment_id, at, state = HANDLE.unpack(handle)
    if state & PHASE_MASK != LIVE or max(segment_id, at, state) >= 1 << 63:
        raise MisuseError(f"handle: {handle!r} names no structure: use its .handle")
    return segment_id, at, state


def kind_of(state: int) -> int:
    return state >> KIND_SHIFT & KIND_MASK


def is_entry(at: int, first: int, count: int) -> bool:
    """Whether word ``at`` is the first of an entry of the region at ``first``."""
    place, rest = divmod(at - first, c.ST_STRIDE)
    return rest == 0 and 0 <= place < count
