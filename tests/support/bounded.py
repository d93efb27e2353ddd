"""``Bounded``: a child process that runs command lines of ``shmstress`` with little memory.

    with Bounded(extra_bytes=64 << 20) as child:
        code, output, error = child.run("trace", "show", "t.npz")

The child imports everything first and then may take ``extra_bytes`` more address space, so an
allocation beyond that is a MemoryError, which ends as exit code 7. It answers within PATIENCE_S or
is killed, and then ``run`` says which command hangs. ``peak_bytes`` is its largest resident size.
"""

from __future__ import annotations

import io
import json
import resource
import select
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import TracebackType

import psutil

from support.runs import environment

TESTS = Path(__file__).parents[1]
PATIENCE_S = 120.0


class Bounded:
    """The parent's side. Use in a ``with`` block."""

    def __init__(self, extra_bytes: int) -> None:
        self._extra_bytes = extra_bytes

    def __enter__(self) -> Bounded:
        path = f"{environment()['PYTHONPATH']}:{TESTS}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.bounded", str(self._extra_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(PYTHONPATH=path, OPENBLAS_NUM_THREADS="1"),
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of one command line."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments).encode() + b"\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE_S)
        if not ready:
            self._process.kill()
            raise AssertionError(f"waited {PATIENCE_S:g} s for shmstress {' '.join(arguments)}")
        answer = self._process.stdout.readline()
        if not answer:
            code = self._process.wait()
            raise AssertionError(f"shmstress {' '.join(arguments)} ended its process: {code}")
        code, output, error, self.peak_bytes = json.loads(answer)
        return code, output, error


def _serve(extra_bytes: int) -> None:
    from stress import cli
    from stress.trace import importing, summary

    assert importing and summary  # loaded before memory becomes scarce
    answers = sys.stdout
    limit = psutil.Process().memory_info().vms + extra_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin:
        output, error = io.StringIO(), io.StringIO()
        with redirect_stdout(output), redirect_stderr(error):
            code = cli.run(json.loads(line))
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        answer = json.dumps([code, output.getvalue(), error.getvalue(), peak_bytes])
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
