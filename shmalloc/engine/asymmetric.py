"""Fences whose cost one side pays: is membarrier(2) there, and does this process answer it?

``heavy_fence`` (words.py) is MEMBARRIER_CMD_GLOBAL_EXPEDITED: the system interrupts each processor
that runs a process which has registered, and waits until all have run a full barrier. A process
registers once; its children of ``fork`` inherit that, programs that ``exec`` starts do not. Only
who executes light fences has to be registered; any process may make a heavy one.

Linux has it since 4.16, and sandboxes may refuse it (seccomp), so callers ask first, and do without
light fences where the answer is no.
"""

from __future__ import annotations

import ctypes
import os
import platform

from shmalloc.compiler.runtime import GLOBAL_EXPEDITED, MEMBARRIER
from shmalloc.errors import EnvironmentUnfitError

REGISTER_GLOBAL_EXPEDITED = 1 << 2  # a command of membarrier(2)

_libc = ctypes.CDLL(None, use_errno=True)
_registered: dict[int, bool] = {}  # by pid: a child of fork asks again, which costs a microsecond


def register() -> bool:
    """Let heavy fences of all processes reach this one; False: the system has none, or refuses."""
    pid = os.getpid()
    if pid not in _registered:
        _registered.clear()
        _registered[pid] = _membarrier(REGISTER_GLOBAL_EXPEDITED)
    return _registered[pid]


def is_possible() -> bool:
    """Whether this process can make heavy fences and answers those of others, from now on."""
    return can_make_heavy_fences() and register()


def require(what: str) -> None:
    """As ``is_possible``, for ``what`` relies on it. Raises ``EnvironmentUnfitError`` if not."""
    if not is_possible():
        raise EnvironmentUnfitError(
            f"{what} has biased locks, which need membarrier(2), and the system refuses it to this"
            " process (a sandbox?); make the segment with biased_locks=False"
        )


def can_make_heavy_fences() -> bool:
    """Whether a heavy fence of this process would be made. Makes one."""
    return _membarrier(GLOBAL_EXPEDITED)


def _membarrier(command: int) -> bool:
    number = MEMBARRIER.get({"AMD64": "x86_64"}.get(platform.machine(), platform.machine()))
    if number is None or platform.system() != "Linux":
        return False
    return bool(_libc.syscall(ctypes.c_long(number), command, 0, 0) == 0)
