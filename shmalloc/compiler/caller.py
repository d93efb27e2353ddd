"""The number of a kernel, for a callee that is told who calls it.

A kernel marked ``@told_its_caller`` (dialect.py) has a last parameter that no call gives: both
engines fill in the number of the kernel that the call stands in, a constant. The report of a
violation carries it, so that it says which kernel saw the violation.

The number is made of names only: the file without its folder, and the function. So it is the same
in every process and on every machine, compiled or interpreted, and when lines move.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from shmalloc.dialect import KERNELS, Kernel

BITS = 62  # of a word that has no sign
_names: dict[int, str] = {}


def short_name(function: Kernel) -> str:
    """``buddy.take_block``: the file and the kernel."""
    return f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}"


def number_of(function: Kernel) -> int:
    """The number of a kernel, never 0."""
    digest = hashlib.sha256(short_name(function).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - BITS) or 1


def name_of(number: int) -> str:
    """The kernel of this number, as ``short_name``; empty if this process does not know it."""
    if number not in _names:
        _names.update((number_of(function), short_name(function)) for function in KERNELS.values())
    return _names.get(number, "")
