"""The process of one round: ``python -m stress.soak PIPE PARENT IGNORED COMMAND``. See child.py.

It performs the command line and writes messages into the pipe. It never outlives the soak: the
system kills it with the process PARENT, and its workers end with it. IGNORED are fingerprints,
separated by commas.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from dataclasses import replace
from multiprocessing.connection import Connection

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Be killed by the system when the process ``parent`` ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def main(pipe: str, parent: str, ignored: str, command: str) -> None:
    die_with(int(parent))
    os.set_inheritable(int(pipe), False)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the soak was started by &
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from stress.records.fingerprint import Ignored
    from stress.report.recording import kernels_digest
    from stress.soak.perform import perform  # numpy and all kernels: after the lines above

    names = Ignored(name for name in ignored.split(",") if name)
    told = Connection(int(pipe), readable=False)
    outcome = perform(command, names, told.send)
    told.send(replace(outcome, kernels=kernels_digest()))
    told.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
