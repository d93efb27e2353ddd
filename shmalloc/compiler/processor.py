"""The processor at hand, as the system describes it: asked without a compiler."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from pathlib import Path

_ROWS = frozenset({
    "vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU implementer",
    "CPU architecture", "CPU variant", "CPU part", "CPU revision",
})  # fmt: skip


@cache
def _described() -> dict[str, str]:
    """The rows of /proc/cpuinfo about the first processor; the others are the same."""
    found: dict[str, str] = {}
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.strip():
                    break
                name, _, value = line.partition(":")
                found[name.strip()] = value.strip()
    except OSError:
        pass  # not Linux, or hidden: it is only known by its machine
    return found


@cache
def digest() -> str:
    """What machine code for this processor depends on."""
    rows = [platform.machine(), *(f"{n}={v}" for n, v in _described().items() if n in _ROWS)]
    return hashlib.sha256("|".join(rows).encode()).hexdigest()


@cache
def features() -> frozenset[str]:
    """What the processor can do, in the words of /proc/cpuinfo."""
    rows = _described()
    return frozenset((rows.get("flags") or rows.get("Features") or "").split())
