"""``items()`` and ``values()`` of a dict: what an iteration meets while other processes change it.

Keys and bytes of a bucket are of one moment. An array is opened when its turn has come, so it may
be a later one of the same key.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from typing import TYPE_CHECKING

from shmalloc.structures.dict_keys import Key, decoded

if TYPE_CHECKING:
    from shmalloc.shared_array import SharedArray
    from shmalloc.structures.dicts import Dict

    Value = bytes | SharedArray


class DictItems(ItemsView["Key", "Value"]):
    """A key that goes during the iteration comes with its value, or not at all."""

    _mapping: Dict

    def __iter__(self) -> Iterator[tuple[Key, Value]]:
        for found in self._mapping._walk():
            key = decoded(found.key)
            if found.array is None:
                yield key, found.value
            else:
                again, value = self._mapping._read(found.key)
                if again.there:
                    yield key, value


class DictValues(ValuesView["Value"]):
    _mapping: Dict

    def __iter__(self) -> Iterator[Value]:
        for _, value in self._mapping.items():
            yield value
