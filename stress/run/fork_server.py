"""The forkserver of this process: it loads the image of a run, and every worker is a fork of it.

multiprocessing has one forkserver a process. It stays between runs as long as they want the same
kernels; a run that wants others gets a new one, and the one before it ends with the last process
that it started. A process that was itself forked cannot use its parent's, and starts its own.

What it does not do: start workers (workers.py).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker, util
from typing import Any

from stress.run.kernels import ENV_PRELOAD, Plan, rows_of
from stress.run.user_code import description_of
from stress.signals import ENDING

_serves: tuple[int, bytes] | None = None  # our pid, and what the forkserver was started for
_document = -1  # descriptor of the file without a name that tells the forkserver what to load
_given_up: list[int] = []  # forkservers that may not have ended yet


def start_forkserver(plans: Iterable[Plan], workloads: Iterable[str] = ()) -> None:
    """Let the forkserver begin to load the kernels, while the controller does something else.

    ``workloads``: those of the run, by name; a user's is imported there as well.
    """
    global _serves
    told = {"plans": [rows_of(plan) for plan in plans], "users": description_of(workloads)}
    wanted = (os.getpid(), json.dumps(told).encode())
    if wanted != _serves:
        _give_up()
    _serves = wanted
    multiprocessing.get_context("forkserver").set_forkserver_preload(_preloaded())
    os.environ[ENV_PRELOAD] = _written(wanted[1])
    # A signal for the whole group would end them as they begin, before they can ignore it: blocked
    # here, it stays blocked there until preload.py ignores it. The tracker of resources unblocks
    # and ignores SIGINT and SIGTERM, here, too; SIGHUP it knows nothing of.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        del os.environ[ENV_PRELOAD]


def clean_up() -> None:
    """Do now what multiprocessing does at the exit of a process: for one that ends without it."""
    _give_up()
    util._run_finalizers()  # type: ignore[attr-defined]


def _written(document: bytes) -> str:
    """A path at which the forkserver reads ``document`` while this process lives."""
    global _document
    if _document >= 0:
        os.close(_document)
    _document = os.memfd_create("shmstress-preload")
    with open(_document, "wb", closefd=False) as file:
        file.write(document)
    return f"/proc/{os.getpid()}/fd/{_document}"


def helper_processes() -> Iterator[tuple[int, str]]:
    """Pid and role of what multiprocessing runs for us: no interface of it says so."""
    found = {
        "forkserver": forkserver._forkserver._forkserver_pid,  # type: ignore[attr-defined]
        "resource tracker": resource_tracker._resource_tracker._pid,  # type: ignore[attr-defined]
    }
    yield from ((pid, role) for role, pid in found.items() if pid is not None)


def _preloaded() -> list[str]:
    """What the forkserver imports, so that no worker has to: a worker imports the main module
    again, and that of pytest imports pytest."""
    main = sys.modules["__main__"]
    if "pytest" in sys.modules:
        return ["stress.run.preload", *(["pytest"] if hasattr(main, "__file__") else [])]
    return ["stress.run.preload", *(["stress.cli"] if main.__spec__ is None else [])]


def _give_up() -> None:
    """Part with the forkserver that runs, if one does, without waiting for its end."""
    for pid in list(_given_up):
        with suppress(ChildProcessError):  # it is our parent's
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                continue
        _given_up.remove(pid)
    server: Any = forkserver._forkserver
    if server._forkserver_pid is not None:
        _given_up.append(server._forkserver_pid)
        os.close(server._forkserver_alive_fd)
        server._forkserver_address = server._forkserver_alive_fd = server._forkserver_pid = None
