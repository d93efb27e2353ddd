"""Kernels compiled beside a search that goes on interpreted: one forked process at a time.

What it compiles goes to the disk, where the next native exploration of this process finds it.
"""

from __future__ import annotations

import multiprocessing
import warnings
from typing import Any

from shmalloc.dialect import Kernel
from shmalloc.parent import end_with_parent
from stress import signals
from stress.explorer.explore import explore
from stress.machine.program import Program


class Compiler:
    """Use in a ``with`` block: leaving it ends what still compiles."""

    def __init__(self) -> None:
        self.ready: set[tuple[Kernel, ...]] = set()
        self._failed: set[tuple[Kernel, ...]] = set()
        self._at_work: tuple[tuple[Kernel, ...], Any] | None = None

    def has(self, program: Program) -> bool:
        """Whether the kernels of ``program`` are compiled; if none are compiled now, begins."""
        key = tuple(dict.fromkeys(program.threads))
        if self._at_work is not None:
            what, process = self._at_work
            if process.is_alive():
                return key in self.ready
            (self.ready if process.exitcode == 0 else self._failed).add(what)
            process.close()
            self._at_work = None
        if key not in self.ready and key not in self._failed:
            self._at_work = key, _started(program)
        return key in self.ready

    def __enter__(self) -> Compiler:
        return self

    def __exit__(self, *error: object) -> None:
        if self._at_work is not None:
            process = self._at_work[1]
            process.kill()
            process.join()
            process.close()
            self._at_work = None


def _started(program: Program) -> Any:
    process = multiprocessing.get_context("fork").Process(target=_compile, args=(program,))
    process.daemon = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of numpy's OpenBLAS
        process.start()
    return process


def _compile(program: Program) -> None:
    """One schedule of it: all that an exploration needs is on the disk then."""
    import logging

    end_with_parent()
    signals.ignore()
    logging.getLogger("shmalloc").setLevel(logging.ERROR)
    logging.getLogger("stress").setLevel(logging.ERROR)
    explore(program, schedules=1, engine="native", races=False)
