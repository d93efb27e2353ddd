"""The options of a cache, as a program says them, and the flags that kernels take."""

from __future__ import annotations

from shmalloc import constants_slab as cs
from shmalloc.checked import checked_bool, shown
from shmalloc.errors import MisuseError

DEBUG_FLAGS = {"F": cs.CF_CONSISTENCY, "Z": cs.CF_RED_ZONE, "P": cs.CF_POISON, "U": cs.CF_TRACK}


def cache_flags(debug: str, *, shuffle: bool, sheaves: bool) -> int:
    """The flags (``CF_*``). Raises ``MisuseError`` for what an option may not be."""
    if not isinstance(debug, str) or set(debug) - set(DEBUG_FLAGS):
        raise MisuseError(
            f"debug: {shown(debug)}; use a text of the letters {''.join(DEBUG_FLAGS)}, or none"
        )
    # A call from Python costs a microsecond: the exact check of double frees costs 4 ns of it.
    flags = 0 if debug else cs.CF_EXACT
    for letter in debug:
        flags |= DEBUG_FLAGS[letter]
    flags |= cs.CF_SHUFFLE * checked_bool("shuffle", shuffle)
    return flags | cs.CF_NO_SHEAVES * (not checked_bool("sheaves", sheaves))
