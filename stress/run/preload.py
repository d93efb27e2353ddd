"""Imported by the forkserver only, before it forks the first worker.

Loads the run's image once for all workers, from the disk, where the controller has just put it.
Its plan stands in an environment variable, because a preloaded module takes no argument.
"""

from __future__ import annotations

import os
import signal

import stress.run.worker  # noqa: F401 - what a worker imports is not imported again in each fork
from shmalloc.engine.native import warm_together
from shmalloc.segment_file import sources_state
from stress.run.kernels import ENV_PRELOAD, plan_from


def _load() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: no worker ever sees a Ctrl-C
    warm_together(plan_from(os.environ[ENV_PRELOAD]))
    sources_state()  # of these kernels: a worker that starts after an edit belongs to this run


if ENV_PRELOAD in os.environ:  # importing it elsewhere (a documentation tool, a test) does nothing
    _load()
