"""Imported by the forkserver, and by nobody else, before it forks the first worker.

Loads the kernels once for all workers. Which ones stands in an environment variable, because a
preloaded module takes no argument: the engine's name, then the workloads.
"""

from __future__ import annotations

import os
import signal

from shmalloc.engine import get_engine
from stress.run.kernels import ENV_PRELOAD, worker_kernels


def _load() -> None:
    engine, *workloads = os.environ[ENV_PRELOAD].split(",")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: no worker ever sees a Ctrl-C
    get_engine(engine).warm(worker_kernels(workloads))


if ENV_PRELOAD in os.environ:  # importing it elsewhere (a documentation tool, a test) does nothing
    _load()
