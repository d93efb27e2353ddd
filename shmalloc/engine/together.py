"""Compiling in several processes at once, each taking what no other one is at.

A unit is compiled alone (units.py) and kept on disk (cache.py), so whoever comes second only loads
it. Two processes that start with a cold cache would compile the same units in the same order, each
for itself. A lock file beside each entry prevents that::

    claim       a digest is ours to compile or load; else another process is at it, and its owner's
                death releases it
    warm        all kernels of a plan; with helpers on other cores, once this is no mere loading

A helper is a process that warms the same plan from its other end and then goes. It can do nothing
but fill the cache: what it cannot import, or fails with, is left to the process that it helps.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FunctionType
from typing import Any

from shmalloc.engine import cache, get_engine

Plan = Sequence[tuple[str, FunctionType]]  # engine, kernel
Tell = Callable[[int, FunctionType], None]

ENV_COMPILERS = "SHMALLOC_COMPILERS"
MOST_COMPILERS = 4  # by default; each takes up to 1 GiB
COLD_S = 3.0  # loading everything takes less
_HELPER = (
    "import json, sys; job = json.load(sys.stdin); sys.path[:] = job['path'];"
    " from shmalloc.engine.together import help_with; help_with(**job)"
)
_claimed: set[str] = set()


@contextmanager
def claim(digest: str, wait: bool) -> Iterator[bool]:
    """Whether the entry is ours meanwhile; with ``wait`` it is, sooner or later.

    What we have claimed already is ours. Where files cannot be locked, everything is.
    """
    if digest in _claimed:
        yield True
        return
    folder = cache.folder_of(digest)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "compiling").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            yield True
            return
        _claimed.add(digest)
        try:
            yield True
        finally:
            _claimed.remove(digest)


def claimed() -> frozenset[str]:
    """What this process has claimed this moment."""
    return frozenset(_claimed)


def compilers() -> int:
    """How many processes may compile at once: $SHMALLOC_COMPILERS, or one a core, up to four."""
    wanted = os.environ.get(ENV_COMPILERS, "")
    return int(wanted) if wanted.isdigit() else min(len(os.sched_getaffinity(0)), MOST_COMPILERS)


def warm(plan: Plan, tell: Tell | None = None) -> None:
    """Compile or load all kernels of a plan; ``tell`` hears of each before its turn."""
    helpers: list[subprocess.Popen[str]] = []
    start_s = time.monotonic()
    try:
        for index, (engine, function) in enumerate(plan):
            if tell is not None:
                tell(index, function)
            if not helpers and time.monotonic() - start_s > COLD_S:
                helpers = [helper(plan[index:], k) for k in range(1, compilers())]
            get_engine(engine).bind(function)
    finally:
        for process in helpers:
            process.kill()  # it holds nothing but claims, which end with it
            process.wait()


def helper(plan: Plan, number: int) -> subprocess.Popen[str]:
    """A process that warms ``plan`` from behind; each further one begins elsewhere."""
    start = len(plan) * number // compilers()
    names = [(engine, f.__module__, f.__qualname__) for engine, f in plan]
    job = {"path": sys.path, "parent": os.getpid(), "names": [*names[start:], *names[:start]]}
    process = subprocess.Popen(
        [sys.executable, "-c", _HELPER], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin:
        json.dump(job, process.stdin)
    return process


def help_with(path: list[str], parent: int, names: list[tuple[str, str, str]]) -> None:
    """What a helper does; ends early when the process that it helps is gone."""
    for engine, module, qualname in names:
        if os.getppid() != parent:
            return
        get_engine(engine).bind(_found(module, qualname))


def _found(module: str, qualname: str) -> Any:
    value: Any = import_module(module)
    for name in qualname.split("."):
        value = getattr(value, name)
    return value
