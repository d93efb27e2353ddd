"""Imported by the forkserver, and by nobody else, before it forks the first worker.

Loads the kernels once for all workers. Which ones stands in an environment variable, because a
preloaded module takes no argument: the engine, that of the workloads, 1 where workers are killed,
the workloads.
"""

from __future__ import annotations

import os
import signal

import stress.run.worker  # noqa: F401 - what a worker imports is not imported again in each fork
from shmalloc.engine import get_engine
from stress.run.kernels import ENV_PRELOAD, worker_kernels, workload_kernels


def _load() -> None:
    engine, work_engine, kills, *workloads = os.environ[ENV_PRELOAD].split(",")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: no worker ever sees a Ctrl-C
    get_engine(engine).warm(worker_kernels())
    get_engine(work_engine).warm(workload_kernels(workloads, kills == "1"))


if ENV_PRELOAD in os.environ:  # importing it elsewhere (a documentation tool, a test) does nothing
    _load()
