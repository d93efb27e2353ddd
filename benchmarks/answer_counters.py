"""Counters of the processor for this thread, by perf_event_open, where the system has them.

A virtual machine often has none (ENOENT), a container may forbid them (EPERM, EACCES): then only
time says anything about the TLB, and the document says so.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Callable
from typing import NamedTuple

CALLS = {"x86_64": 298, "aarch64": 241}
ATTRIBUTE_BYTES = 112  # PERF_ATTR_SIZE_VER5
HARDWARE_CACHE, SOFTWARE = 3, 1
USER_ONLY = 1 << 5 | 1 << 6  # exclude_kernel, exclude_hv


class Event(NamedTuple):
    """What is counted: the kind and the number that the system calls it by."""

    kind: int
    config: int


DTLB_MISSES = Event(HARDWARE_CACHE, 3 | 0 << 8 | 1 << 16)  # PERF_COUNT_HW_CACHE_DTLB, read, miss
PAGE_FAULTS = Event(SOFTWARE, 2)


def opened(event: Event) -> int:
    """A file that counts ``event`` in this thread. Raises ``OSError`` if the system has none."""
    number = CALLS.get(platform.machine())
    if number is None:
        raise OSError(0, f"no number of perf_event_open for {platform.machine()}")
    head = struct.pack("=IIQQQQQ", event.kind, ATTRIBUTE_BYTES, event.config, 0, 0, 0, USER_ONLY)
    attribute = ctypes.create_string_buffer(head, ATTRIBUTE_BYTES)
    libc = ctypes.CDLL(None, use_errno=True)
    found = int(libc.syscall(number, attribute, 0, -1, -1, 0))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def counted(event: Event, run: Callable[[], object]) -> int:
    """How often ``event`` happens in ``run``, in this thread. Raises ``OSError``."""
    file = opened(event)
    try:
        before = int.from_bytes(os.read(file, 8), "little")
        run()
        return int.from_bytes(os.read(file, 8), "little") - before
    finally:
        os.close(file)


def refusal(event: Event) -> str:
    """Why the system does not count it; "" if it does."""
    try:
        os.close(opened(event))
    except OSError as error:
        return error.strerror or str(error)
    return ""
