"""Names of caches: their place in a segment; only Python reads and writes them.

A name lies in the cache's descriptor, in 8 words that no kernel reads::

    [ length in bytes | up to 56 bytes of UTF-8 ]        length 0: no name (yet)

Nothing here keeps two processes from writing one name at once (caches.py does).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.errors import MisuseError
from shmalloc.segment import Segment

NAME_BYTES = 56


def checked_name(name: str) -> bytes:
    """The bytes of a name. Raises ``MisuseError`` for what cannot be one."""
    text = name.encode() if isinstance(name, str) else b""
    if not 0 < len(text) <= NAME_BYTES:
        raise MisuseError(f"name: {name!r}; use text of 1 to {NAME_BYTES} bytes")
    return text


def descriptor_of(segment: Segment, number: int) -> int:
    """Word of the descriptor of cache ``number``."""
    return segment.layout.at["caches"] + number * segment.ram[c.H_CACHE_STRIDE]


def name_of(segment: Segment, number: int) -> str:
    """The name of a live cache, "" if it has none."""
    ram, at = segment.ram, descriptor_of(segment, number)
    length = ram[at + cs.K_NAME]
    if ram[at + cs.K_STATE] != cs.CACHE_LIVE or not 0 < length <= NAME_BYTES:
        return ""
    text = ram.array[at + cs.K_NAME + 1 : at + cs.K_NAME + 1 + NAME_BYTES // 8].tobytes()
    return text[:length].decode("utf-8", "replace")


def write_name(segment: Segment, number: int, text: bytes) -> None:
    """Write a name, its length last: until then the cache has no name."""
    ram, at = segment.ram, descriptor_of(segment, number) + cs.K_NAME
    ram[at] = 0
    padded = text.ljust(NAME_BYTES, b"\0")
    for i in range(NAME_BYTES // 8):
        ram[at + 1 + i] = int.from_bytes(padded[i * 8 : i * 8 + 8], "little", signed=True)
    ram[at] = len(text)
