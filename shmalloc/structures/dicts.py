"""``Dict``: keys and values that every process may read and change at once.

::

    shared = arena.dict(capacity=1_000, item_bytes=256)
    shared["step"] = b"17"                  # keys: str, bytes, int; values: bytes
    shared["frame"] = arena.zeros((480, 640))     # or an array of the arena
    shared.get(b"other"), "step" in shared, len(shared)
    for key, value in shared.items(): ...

Readers and writers never wait for each other, nor for one that is stopped or dead. What is read is
what some write wrote, whole. Reading the same key again may give the next value; an iteration gives
each bucket as it was at one moment, so a key that is there all the time comes exactly once.

All memory is taken when the dict is made: it has room for ``capacity`` keys, each with its value of
at most ``item_bytes`` together, and then says so (``OutOfMemoryError``). An array takes no such
room. The dict has a reference of its own to it, until the key gets another value or goes.

A process that dies leaves the old value or the new one. What it had not freed yet is freed when the
dict is full, when memory is wanted, and by ``Arena.recover`` (kernels/hashtable.py).
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, MutableMapping, ValuesView
from contextlib import suppress
from hashlib import blake2b
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, overload

import numpy as np

from shmalloc import constants as c
from shmalloc.errors import MisuseError, ShmallocError
from shmalloc.structures.dict_entries import TRIES, DictEntries
from shmalloc.structures.dict_keys import Key, decoded, encoded
from shmalloc.structures.dict_views import DictItems, DictValues
from shmalloc.structures.kernels.array_values import hold_array
from shmalloc.structures.kernels.dicts import structure_begin, structure_find
from shmalloc.structures.kernels.entries import ST_PARAMETERS
from shmalloc.structures.kernels.hashtable import (
    BUCKET_WORDS,
    D_BUCKETS,
    D_EACH,
    D_ENTRIES,
    D_MASK,
    D_ROOM,
    D_SPARE,
    D_STRIDE,
    E_ARRAY,
    E_DATA,
    E_RECORD,
    NUMBER_MASK,
    dict_is_at,
    dict_length,
    dict_next_bucket,
    dict_nth,
)
from shmalloc.structures.kernels.hashtable_writes import dict_drop, dict_exchange
from shmalloc.transit import TransitOperations

if TYPE_CHECKING:
    from shmalloc.references import Ref
    from shmalloc.shared_array import SharedArray
    from shmalloc.structures.operations import StructureOperations

    Value = bytes | SharedArray
    T = TypeVar("T")

KEY_SHIFT = 34  # of a key's length in an entry's lengths; that of its value from bit 1
IS_ARRAY = 1  # in the lowest bit
_SIZE_MASK = (1 << KEY_SHIFT - 1) - 1
_MISSING: Any = object()
_new = tuple.__new__


class Found(NamedTuple):
    """An entry as it was at one version of its bucket. ``there``: whether there was one."""

    there: bool
    place: int
    version: int
    key: bytes
    value: bytes
    array: tuple[int, int] | None  # first pfn and generation


class Dict(DictEntries, MutableMapping["Key", "Value"]):
    """A dict for several processes. Made by ``Arena.dict``."""

    kind: ClassVar[int] = 6
    kind_name: ClassVar[str] = "dict"

    __slots__ = (
        "_bytes",
        "_do_exchange",
        "_do_find",
        "_do_is_at",
        "_salt",
        "item_bytes",
    )

    def __init__(self, arena: StructureOperations, at: int, state: int) -> None:
        super().__init__(arena, at, state)
        ram = self._segment.ram
        self._d = d = ram[at + ST_PARAMETERS]
        self.capacity = ram[d + D_ENTRIES] - ram[d + D_SPARE]
        self.item_bytes = ram[d + D_ROOM]
        self._each, self._stride = ram[d + D_EACH], ram[d + D_STRIDE]
        blocks = d + D_BUCKETS + (ram[d + D_MASK] + 1) * BUCKET_WORDS
        count = -(-ram[d + D_ENTRIES] // self._each)
        self._blocks = [ram[blocks + block] for block in range(count)]
        self._bytes = self._segment.view(0, self._segment.layout.words * 8)
        self._salt = (self._segment.id ^ state << 16 ^ at).to_bytes(16, "little")
        self._lost = False  # whether an exception may have left an entry of ours
        self._do_find = arena.builtin(structure_find, reads=True)
        self._do_begin = arena.builtin(structure_begin)
        self._do_is_at = arena.builtin(dict_is_at, reads=True)
        self._do_exchange = arena.builtin(dict_exchange)

    # --- the mapping ----------------------------------------------------------------------------
    def __getitem__(self, key: Key) -> Value:
        """The value of ``key``: bytes, or the array. Raises ``KeyError``."""
        value: Value
        found, value = self._read(encoded(key))
        if not found.there:
            raise KeyError(key)
        return value

    @overload
    def get(self, key: Key, default: None = None) -> Value | None: ...
    @overload
    def get(self, key: Key, default: T) -> Value | T: ...
    def get(self, key: Key, default: Any = None) -> Any:
        """The value of ``key``, or ``default``."""
        found, value = self._read(encoded(key))
        return value if found.there else default

    def __contains__(self, key: object) -> bool:
        data = encoded(key)
        return self._find(data, self._hash(data)).there

    def __setitem__(self, key: Key, value: Value) -> None:
        """Give ``key`` this value. Raises ``OutOfMemoryError`` if the dict is full, ``MisuseError``
        for what it does not keep."""
        self._put(key, value, False)

    def setdefault(self, key: Key, default: Any = None) -> Value:
        """The value of ``key``, which is ``default`` from now on if it had none."""
        value: Value
        found, value = self._read(encoded(key))
        while not found.there and not self._put(key, default, True):
            found, value = self._read(encoded(key))
        return value if found.there else default

    def __delitem__(self, key: Key) -> None:
        """Remove ``key``. Raises ``KeyError`` if it is not there."""
        data = encoded(key)
        hashed = self._hash(data)
        while True:
            found = self._find(data, hashed)
            if not found.there:
                raise KeyError(key)
            if self._remove(found):
                return

    @overload
    def pop(self, key: Key) -> Value: ...
    @overload
    def pop(self, key: Key, default: T) -> Value | T: ...
    def pop(self, key: Key, default: Any = _MISSING) -> Any:
        """Remove ``key``; its value, or ``default``. Of all processes one gets each value."""
        data = encoded(key)
        while True:
            found, value = self._read(data)
            if not found.there:
                if default is _MISSING:
                    raise KeyError(key)
                return default
            if self._remove(found):
                return value

    def popitem(self) -> tuple[Key, Value]:
        """Remove some key; it and its value. Raises ``KeyError`` if there is none."""
        for key in self:
            with suppress(KeyError):
                return key, self.pop(key)
        raise KeyError("popitem: the dict is empty")

    def clear(self) -> None:
        """Remove every key that is there now."""
        for key in self:
            with suppress(KeyError):
                del self[key]

    def __len__(self) -> int:
        """How many keys it has: each bucket is counted at a moment of its own."""
        self._check()
        return self._arena.engine.call(dict_length, self._segment.ram, self._d)

    def _told(self) -> str:
        return f"{len(self)} of {self.capacity} keys"

    def __iter__(self) -> Iterator[Key]:
        for found in self._walk():
            yield decoded(found.key)

    def items(self) -> ItemsView[Key, Value]:
        return DictItems(self)

    def values(self) -> ValuesView[Value]:
        return DictValues(self)

    # --- finding --------------------------------------------------------------------------------
    def _hash(self, data: bytes) -> int:
        """The same in every process; of 62 bits, and not to be foreseen by who chooses keys."""
        return int.from_bytes(blake2b(data, digest_size=8, salt=self._salt).digest(), "little") >> 2

    def _find(self, data: bytes, hashed: int) -> Found:
        """The entry of a key at one version of its bucket."""
        if self._segment.closed:
            self._check()
        skip, before = 0, -1
        while True:
            place, version, lengths, at = self._do_find(self._at, self._state, hashed, skip)
            if place < 0:
                raise self._gone()
            if skip and version != before:  # another key of this hash was skipped, at a version
                skip = 0
                continue
            if at == 0:
                return Found(False, place, version, b"", b"", None)
            found = self._entry(place, version, lengths, at)
            if found is None:
                skip = 0
            elif found.key == data:
                return found
            else:
                skip, before = skip + 1, version

    def _entry(self, place: int, version: int, lengths: int, at: int) -> Found | None:
        """What the entry at word ``at`` has; None: its bucket has changed meanwhile."""
        of_key, of_value = lengths >> KEY_SHIFT, lengths >> 1 & _SIZE_MASK
        if of_key + of_value > self.item_bytes + 1:
            return None
        first = (at + E_DATA) << 3
        text = self._bytes[first : first + of_key + of_value].tobytes()
        array = None
        if lengths & IS_ARRAY:
            ram = self._segment.ram
            array = ram.load(at + E_ARRAY) - 1, ram.load(at + E_RECORD + c.RE_GENERATION)
        if not self._do_is_at(self._d, place, version):
            return None
        return _new(Found, (True, place, version, text[:of_key], text[of_key:], array))

    def _read(self, data: bytes) -> tuple[Found, Any]:
        """The entry of a key, and its value."""
        hashed = self._hash(data)
        while True:
            found = self._find(data, hashed)
            if found.array is None:
                return found, found.value
            array = self._opened(found)
            if array is not None:
                return found, array

    def _opened(self, found: Found) -> SharedArray | None:
        """The array of an entry; None: the key got another value before we had a reference."""
        assert found.array is not None
        pfn, generation = found.array
        try:
            return self._transit().open_described(pfn, generation, found.value)
        except MisuseError:
            if self._do_is_at(self._d, found.place, found.version):
                raise
            return None

    def _walk(self) -> Iterator[Found]:
        """Every entry, each bucket at one version."""
        self._check()
        call, ram = self._arena.engine.call, self._segment.ram
        index = call(dict_next_bucket, ram, self._d, 0)
        while index >= 0:
            yield from self._bucket(index)
            self._check()
            index = call(dict_next_bucket, ram, self._d, index + 1)

    def _bucket(self, index: int) -> list[Found]:
        """All entries of a bucket."""
        call: Callable[..., Any] = self._arena.engine.call
        ram = self._segment.ram
        while True:
            found: list[Found] = []
            versions = set()
            more = True
            while more:
                place, version, lengths = call(dict_nth, ram, self._d, index, len(found))
                versions.add(version)
                more = place & NUMBER_MASK != 0
                at = self._word_of(place & NUMBER_MASK) if more else 0
                entry = self._entry(place, version, lengths, at) if more else None
                if entry is not None:
                    found.append(entry)
                elif more:
                    versions.add(-1)
                    more = False
            if len(versions) == 1:
                return found

    # --- changing -------------------------------------------------------------------------------
    def _put(self, key: Key, value: Value, only_new: bool) -> bool:
        """Give ``key`` this value; False: it had one, and ``only_new``."""
        data = encoded(key)
        ref, text = self._said(value)
        size = len(data) + len(text)
        if size > self.item_bytes + 1:
            raise self._too_large(size - 1)
        hashed = self._hash(data)
        lengths = len(data) << KEY_SHIFT | len(text) << 1 | (0 if ref is None else IS_ARRAY)
        token, inside, thread = 0, self._inside, get_ident()
        try:
            inside.append(thread)
            token = self._begin(hashed, lengths)
            at = self._word_of(token & NUMBER_MASK)
            first = (at + E_DATA) << 3
            self._bytes[first : first + size] = data + text
            if ref is not None:
                held = self._arena.run(hold_array, self._d, token, ref.slot)
                if held < 0:
                    raise self._arena.refused(held, "a reference to the array")
            published = self._publish(data, hashed, token, only_new)
        except ShmallocError:
            self._drop(token)
            raise
        except BaseException:  # out of a signal handler, perhaps before we know what we took
            self._drop(token)
            self._lost = True
            self._give_back(0)
            raise
        finally:
            inside.remove(thread)
        return published

    def _remove(self, found: Found) -> bool:
        """Let an entry go; False: another change came first."""
        inside, thread = self._inside, get_ident()
        try:
            inside.append(thread)
            return self._exchange(found, 0) >= 0
        except BaseException:
            self._lost = True
            self._give_back(0)
            raise
        finally:
            inside.remove(thread)

    def _publish(self, data: bytes, hashed: int, token: int, only_new: bool) -> bool:
        tries = 0
        while True:
            found = self._find(data, hashed)
            if found.there and only_new:
                self._end(self._arena.run(dict_drop, self._d, token))
                return False
            result = self._exchange(found, token)
            if result >= 0:
                return True
            if result == c.E_NOMEM:
                tries += 1
                if tries == TRIES:
                    raise self._is_full()
                self._make_room(token)

    def _exchange(self, found: Found, token: int) -> int:
        """Let our entry take the place of the one that we found. Negative: it did not."""
        left: int = self._do_exchange(self._arena.cpu, self._d, found.place, found.version, token)
        if left > 0:
            self._end(left)
        return left

    def _transit(self) -> TransitOperations:
        assert isinstance(self._arena, TransitOperations)
        return self._arena

    def _said(self, value: Any) -> tuple[Ref | None, bytes]:
        """What is written for a value; of an array also our reference to it."""
        if isinstance(value, bytes):
            return None, value
        if isinstance(value, np.ndarray):
            return self._transit().describe_view(value)
        raise MisuseError(
            f"value: a {type(value).__name__}; a dict keeps bytes and arrays of its arena:"
            " pickle.dumps(it), or arena.array(it)"
        )

    def _too_large(self, size: int) -> MisuseError:
        return MisuseError(
            f"item: key and value take {size:,} bytes; this dict takes {self.item_bytes:,}: make it"
            f" with item_bytes={size}, or put the value into an array"
        )
