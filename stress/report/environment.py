"""Where a run ran: versions, processor, memory. Part of every report, printed by ``doctor``."""

from __future__ import annotations

import os
import platform

import psutil

from shmalloc import __version__
from shmalloc.compiler.directory import cache_root

_PACKAGES = ("numpy", "llvmlite", "psutil", "rich", "click", "greenlet")


def environment() -> dict[str, object]:
    """Facts about this machine and its software, ready for JSON."""
    shm = os.statvfs("/dev/shm")
    return {
        "shmstress": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": len(psutil.Process().cpu_affinity()),
        "memory_bytes": psutil.virtual_memory().total,
        "shm_free_bytes": shm.f_bavail * shm.f_frsize,
        "kernel_cache": str(cache_root()),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # 20 ms: most runs need none

    try:
        return version(package)
    except PackageNotFoundError:
        return None
