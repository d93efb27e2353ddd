"""``SharedArray``: a numpy array whose memory lies in a segment.

It is a ``numpy.ndarray`` over the mapping, and behaves like one. What it computes are plain arrays
and scalars; what it shares (views, slices, transposes) are views that keep it alive. Its memory
goes when the last view of the last process is gone. The object that the arena made is the *holder*:
its ``_ref`` (references.py) is the process's reference, and its base is the mapping, or all of it
as items. A view finds it along its bases; a copy has none.

Copies are private, however they are made (``x.copy()``, ``copy``, ``deepcopy``, ``pickle``): the
data in memory of numpy's own, and of this class, as numpy keeps the class of what it copies. What
multiprocessing and loky send carries a ticket instead (transit.py).
"""

from __future__ import annotations

import mmap
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from shmalloc.errors import MisuseError

if TYPE_CHECKING:
    from shmalloc.references import Ref


class SegmentItems(np.ndarray[Any, Any]):
    """All of a segment as items of one dtype: arrays of one dimension are slices of it.

    A slice is made three times as fast as an array from a buffer. It becomes a ``SharedArray`` by
    its class, so both have the same slots; as they differ, numpy keeps the array as base of views.
    """

    __slots__ = ("_ref",)
    _ref: Ref


class SharedArray(np.ndarray[Any, Any]):
    """An array in a segment, or a view of one. Make it with ``Arena.array``, ``zeros``, ..."""

    __slots__ = ("_ref",)
    _ref: Ref

    def __new__(cls, *_: Any, **__: Any) -> Self:
        raise MisuseError("SharedArray: an arena makes it: arena.zeros(shape), arena.array(source)")

    def __repr__(self) -> str:
        """As numpy's; a private copy is shown as the plain array that it is."""
        return np.array_repr(self if holder_of(self) is not None else self.view(np.ndarray))

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """What an operator gives is private: a plain array, or a scalar. ``out=`` is kept."""
        if array is self:
            return array
        if return_scalar or (context is None and array.ndim == 0):
            return array[()]
        return array.view(np.ndarray)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A copy of the data with our methods; protocol 5 may keep the data out of band."""
        return private_copy, (np.asarray(self),)

    @property
    def array(self) -> NDArray[Any]:
        """The same memory as a plain numpy array, which keeps this one alive."""
        return self.view(np.ndarray)

    @property
    def references(self) -> int:
        """References to the array in all processes, those in transit among them."""
        ref = self._holder()
        return ref.arena._references_of(ref)

    def handle(self) -> bytes:
        """24 bytes by which any process can open the array; they hold no reference themselves."""
        ref = self._holder()
        return ref.arena._handle_of(ref)

    def close(self) -> int:
        """Say that the array is not needed here; how many references others have.

        Its memory is given back with the last view of it, not before.
        """
        try:
            return self.references - 1
        except MisuseError:
            return 0

    def __enter__(self) -> SharedArray:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing: the memory goes with the last view."""

    def _holder(self) -> Ref:
        ref = holder_of(self)
        if ref is None:
            raise MisuseError("array: it is a private copy; put it into an arena: arena.array(it)")
        return ref


def private_copy(array: NDArray[Any]) -> SharedArray:
    """What a pickle opens to: the data in private memory, with the methods of shared arrays.

    A program that closes what it is given, or uses it in ``with``, need not know which it got.
    """
    return array.view(SharedArray)


def holder_of(array: Any) -> Ref | None:
    """The reference of the array that this one is, or is a view of; None: it is in no arena."""
    at = array
    while at is not None:
        if type(at) is SharedArray and isinstance(at.base, mmap.mmap | SegmentItems):
            return at._ref
        at = at.obj if isinstance(at, memoryview) else getattr(at, "base", None)
    return None
