"""Crash mode: a CPU dies before each of its writes, others recover, nothing may be lost.

``crash`` for any program; the allocator's own cases are in allocator.py. docs/crash.md.
"""

from stress.crash.again import Rerun, rerun
from stress.crash.case import CrashCase
from stress.crash.result import CrashFailure, CrashResult
from stress.crash.search import Effort, crash

__all__ = ["CrashCase", "CrashFailure", "CrashResult", "Effort", "Rerun", "crash", "rerun"]
