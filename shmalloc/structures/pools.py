"""``Pool`` and ``Frame``: arrays of one shape that processes take, fill, pass on and give back.

::

    pool = arena.pool(8, (480, 640, 3), "u1")
    frame = pool.take(timeout=1.0)          # TimeoutError: the readers are behind
    frame.array[:] = picture
    queue.put(frame)                        # the process that gets it holds it then

    with queue.get() as frame:              # in another process; given back at the end
        use(frame.array)

All memory is there from the start: too little is a ``MemoryError`` when the pool is made, never a
SIGBUS later. A frame has one holder. Its pickle names the sender, and the first process that loads
it becomes the holder; any other load is refused. A frame whose holder died is as good as free: the
next process that finds no other takes it, and what the dead had passed on is refused then.

``give`` ends the use: a view of ``array`` that is kept shows what the next holder writes.
"""

from __future__ import annotations

import ast
import operator
import struct
from collections.abc import Callable
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from shmalloc.errors import MisuseError
from shmalloc.structures.handles import Structure
from shmalloc.structures.held import others_in
from shmalloc.structures.kernels.entries import ST_PARAMETERS
from shmalloc.structures.kernels.frames import (
    F_COUNT,
    F_FRAMES,
    FR_LIFE,
    FRAME_WORDS,
    entry_frame,
    frame_adopt,
    frame_data,
    frame_give,
    frame_is_ours,
    frame_take_wait,
    frames_free,
    own_life,
)
from shmalloc.structures.kernels.ring import TOKEN_BITS, TOKEN_MASK
from shmalloc.structures.waiting import deadline_of, wait_for

if TYPE_CHECKING:
    from shmalloc.structures.operations import StructureOperations

_HANDLE = struct.Struct("<QQ")
KIND_BYTES = 512  # of the text that tells dtype and shape


class Frame:
    """One array of a pool, held by this process until ``give``. Made by ``Pool.take``."""

    open_handle: ClassVar[Callable[[bytes, bytes], Frame]]

    __slots__ = ("_given", "_token", "array", "pool")

    def __init__(self, pool: Pool, token: int) -> None:
        self.pool = pool
        self._token = token
        self._given = False
        number = token & TOKEN_MASK
        pool._known[number] = token
        self.array: NDArray[Any] = pool._arrays[number]

    def give(self) -> None:
        """Give the frame back to its pool. Raises ``MisuseError`` if this process does not hold it.

        It was given before, another process has taken it over, or this one was taken for dead.
        """
        pool = self.pool
        pool._check()
        if pool._do_give(pool._arena.claim, pool._p, self._token) < 0:
            raise MisuseError("frame: it is not ours: it was given back, or passed on and taken")
        self._given = True

    @property
    def held(self) -> bool:
        """Whether this process holds it."""
        self.pool._check()
        return bool(self.pool._arena.run(frame_is_ours, self.pool._p, self._token, reads=True))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """``array``, for functions of numpy that are given the frame itself."""
        if copy:
            return np.array(self.array, dtype)
        seen = np.asarray(self.array, dtype)
        if copy is False and seen is not self.array:
            raise ValueError(f"frame: {self.array.dtype} as {dtype} needs a copy")
        return seen

    def __reduce__(self) -> tuple[Any, tuple[bytes, bytes]]:
        self.pool._sent[self._token & TOKEN_MASK] = self._token
        handle = _HANDLE.pack(self._token, self.pool._arena.run(own_life))
        return _open_frame, (self.pool.handle, handle)

    def __enter__(self) -> Frame:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._leave()
        except BaseException:  # out of a signal handler, perhaps before anything was done
            self._leave()
            raise

    def _leave(self) -> None:
        if not self._given and not self.pool._segment.closed and self.held:
            self.give()

    def __repr__(self) -> str:
        return f"<Frame {self._token & TOKEN_MASK} of {self.pool!r}>"


class Pool(Structure):
    """Frames of one shape and dtype. Made by ``Arena.pool``."""

    kind: ClassVar[int] = 5
    kind_name: ClassVar[str] = "pool"

    __slots__ = (
        "_arrays",
        "_do_give",
        "_do_take",
        "_known",
        "_lost",
        "_p",
        "_sent",
        "dtype",
        "frames",
        "shape",
    )

    def __init__(self, arena: StructureOperations, at: int, state: int) -> None:
        super().__init__(arena, at, state)
        segment = self._segment
        self._p = segment.ram[at + ST_PARAMETERS]
        text = segment.view(segment.ram[at + ST_PARAMETERS + 1], KIND_BYTES)
        self.dtype, self.shape = described(bytes(text))
        self.frames = segment.ram[self._p + F_COUNT]
        size = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        words = [
            arena.engine.call(frame_data, segment.ram, self._p, number)
            for number in range(self.frames)
        ]
        self._arrays = [
            np.frombuffer(segment.view(word, size), np.uint8).view(self.dtype).reshape(self.shape)
            for word in words
        ]
        # Number of a frame -> its token; that of an earlier use is of no account.
        self._sent: dict[int, int] = {}  # it was pickled here
        self._known: dict[int, int] = {}  # this process holds it, or did
        self._lost = False  # whether an exception may have left a frame that it does not know of
        self._do_take = arena.builtin(entry_frame)
        self._do_give = arena.builtin(frame_give)

    def take(self, timeout: float | None = None) -> Frame:
        """A frame with any contents; wait for one. Raises ``TimeoutError`` after ``timeout`` s."""
        if self._segment.closed:
            self._check()
        inside, thread = self._inside, get_ident()
        try:
            inside.append(thread)
            token: int = self._do_take(self._arena.claim, self._at, self._state)
            if token < 0:
                token = self._wait(timeout)
            frame = Frame(self, token)
        except TimeoutError:
            raise
        except BaseException:
            self._give_back()
            raise
        finally:
            inside.remove(thread)
        return frame

    def _give_back(self) -> None:
        """Give back the frames that this process holds and does not know of: an exception out of a
        signal handler came between a kernel and its result. Not while other threads take one."""
        self._lost = self._is_usable()
        if self._lost and not others_in(self._inside):
            for token in self._ours() - set(self._known.values()):
                self._do_give(self._arena.claim, self._p, token)
            self._lost = False

    def _wait(self, timeout: float | None) -> int:
        self._check()
        if self._lost:
            self._give_back()
        arena, p = self._arena, self._p
        attempt = arena.builtin(frame_take_wait)
        token = wait_for(arena, lambda _: attempt(arena.claim, p), deadline_of(timeout))
        if token < 0:
            raise TimeoutError(f"pool: no frame of {self.frames} was given back in {timeout} s")
        return token

    def free(self) -> int:
        """Frames that had no holder a moment ago; those of dead holders are not counted."""
        self._check()
        return self._arena.engine.call(frames_free, self._segment.ram, self._p)

    def _told(self) -> str:
        return f"{self.free()} of {self.frames} frames free, {self.shape} of {self.dtype}"

    def _adopted(self, token: int, giver: int) -> Frame:
        self._check()
        known = 0 <= token & TOKEN_MASK < self.frames and 0 < giver < 1 << 62
        inside, thread = self._inside, get_ident()
        try:
            inside.append(thread)
            if not known or self._arena.run(frame_adopt, self._p, token, giver) < 0:
                raise MisuseError(
                    "frame: it has another holder by now: it was loaded before, given back, or its"
                    " sender died and the pool needed it"
                )
            frame = Frame(self, token)
        finally:
            inside.remove(thread)
        return frame

    def _close(self) -> None:
        """Give back what we hold, but for frames that are on their way to another process."""
        for token in self._ours() - set(self._sent.values()):
            self._do_give(self._arena.claim, self._p, token)

    def _ours(self) -> set[int]:
        """The tokens of the frames that this process holds."""
        ram, life = self._segment.ram, self._arena.run(own_life, reads=True)
        pairs = {n: self._p + F_FRAMES + n * FRAME_WORDS for n in range(self.frames)}
        return {ram[at] << TOKEN_BITS | n for n, at in pairs.items() if ram[at + FR_LIFE] == life}


def _open_frame(pool: bytes, handle: bytes) -> Frame:
    """The frame that another process passes on: it is ours from here on."""
    opened: Pool = Structure.open_handle(pool)
    token, giver = _HANDLE.unpack(handle)
    return opened._adopted(token, giver)


def description(shape: Any, dtype: DTypeLike) -> tuple[bytes, int]:
    """The text that ``described`` reads, and the bytes of a frame. Raises ``MisuseError``."""
    try:
        kind = np.dtype(dtype)
    except TypeError as error:
        raise MisuseError(f"dtype: {dtype!r}: {error}") from error
    try:
        lengths = tuple(map(operator.index, np.atleast_1d(shape).tolist()))
    except TypeError:
        lengths = (0,)
    if kind.hasobject or kind.itemsize == 0:
        raise MisuseError(f"dtype: {kind}; use numbers, bytes or structures of them")
    if not all(length > 0 for length in lengths):
        raise MisuseError(f"shape: {shape!r}; use lengths of at least 1")
    text = repr((np.lib.format.dtype_to_descr(kind), lengths)).encode()
    if len(text) > KIND_BYTES:
        raise MisuseError(f"dtype: its text takes {len(text)} bytes; use fewer fields")
    size = kind.itemsize
    for length in lengths:
        size *= length
    return text.ljust(KIND_BYTES), size


def described(text: bytes) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """What ``description`` wrote. Raises ``MisuseError`` for anything that it does not write."""
    try:
        descr, shape = ast.literal_eval(text.decode().strip())
        kind = np.lib.format.descr_to_dtype(descr)
        written, _ = description(shape, kind)
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise MisuseError(f"pool: its memory was overwritten: {text[:40]!r}") from error
    if written != text:
        raise MisuseError(f"pool: its memory was overwritten: {text[:40]!r}")
    return kind, shape
