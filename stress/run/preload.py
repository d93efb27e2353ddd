"""Imported by the forkserver only, before it forks the first worker.

Loads the run's images once for all workers, from the disk, where the controller has just put them.
An environment variable names the file with the plans, because a preloaded module takes no argument.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import stress.run.worker  # noqa: F401 - what a worker imports is not imported again in each fork
from shmalloc.engine.native import warm_together
from shmalloc.segment_file import sources_state
from stress import signals
from stress.run import user_code
from stress.run.kernels import ENV_PRELOAD, plan_from


def _load() -> None:
    signals.ignore()  # inherited: the controller alone decides when a worker ends
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.ENDING)  # fork_server.py blocked them
    try:
        document = json.loads(Path(os.environ[ENV_PRELOAD]).read_bytes())
    except FileNotFoundError:  # the controller has ended before it needed us: so do we
        sys.exit(0)
    if document["users"] is not None:
        user_code.receive(document["users"])
    if user_code.problem is None:
        for rows in document["plans"]:
            warm_together(plan_from(rows))
    sources_state()  # of these kernels: a worker that starts after an edit belongs to this run


if ENV_PRELOAD in os.environ:  # importing it elsewhere (a documentation tool, a test) does nothing
    _load()
