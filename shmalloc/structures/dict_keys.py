"""Keys of a dict as bytes: one text for each key, so that every process finds it.

A letter tells the type: a str and the bytes of its text are different keys, as they are in Python.
"""

from __future__ import annotations

from shmalloc.errors import MisuseError
from shmalloc.sizes import as_int

Key = str | bytes | int


def encoded(key: object) -> bytes:
    """A key as bytes that no other key has. Raises ``MisuseError`` for what is no key."""
    if isinstance(key, str):
        return b"s" + key.encode("utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return b"b" + key
    number = as_int(key)
    if number is None:
        raise MisuseError(f"key: {key!r}; use a str, bytes or an int (and no bool)")
    return b"i" + number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)


def decoded(data: bytes) -> Key:
    """The key that ``encoded`` wrote."""
    if data[:1] == b"s":
        return data[1:].decode("utf-8", "surrogatepass")
    return data[1:] if data[:1] == b"b" else int.from_bytes(data[1:], "little", signed=True)
