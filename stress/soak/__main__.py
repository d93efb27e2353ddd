"""The process of one round: ``python -m stress.soak PIPE PARENT IGNORED COMMAND``. See child.py.

It performs the command line and writes messages into the pipe. It never outlives the soak: the
system kills it with the process PARENT, and its workers end with it. IGNORED are fingerprints,
separated by commas.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from shmalloc.parent import end_with_parent

if TYPE_CHECKING:
    from stress.soak.messages import Message


def main(pipe: str, parent: str, ignored: str, command: str) -> None:
    end_with_parent(int(parent))
    os.set_inheritable(int(pipe), False)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the soak was started by &
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from stress.records.fingerprint import Ignored
    from stress.report.recording import kernels_digest
    from stress.soak.perform import perform  # numpy and all kernels: after the lines above

    names = Ignored(name for name in ignored.split(",") if name)
    told = Connection(int(pipe), readable=False)

    def tell(message: Message) -> None:
        # Not Connection.send: a Ctrl-C inside it leaves a view of its BytesIO in a traceback, and
        # the collection at the end of CPython 3.12.1 crashes on that.
        told.send_bytes(pickle.dumps(message))

    outcome = perform(command, names, tell)
    tell(replace(outcome, kernels=kernels_digest()))
    told.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
