"""A copy of the two packages with one mutant planted, and a Python that runs there.

The copy lies in one place in the compile cache's directory, because images are kept by the paths of
their kernels' files, too: from one mutant to the next only those are made again that the patch
reaches. Where another run has that place, a directory of its own must do, which costs time.
"""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import shmalloc
import stress
from shmalloc.compiler.directory import cache_root
from stress.mutants.mutant import Mutant

PACKAGES = (shmalloc, stress)
PATIENCE = Mutant(
    "patience",
    "shmalloc/memory.py",
    (("self._place[3] = FUTEX_SLEEP_NS\n", "self._place[2] = 3600\n"),),
    "a native sleep ends after 50 ms whether or not a wake-up came; here it does not",
    "I_PROGRESS",
    (),
)
LEAVE_S = 10.0  # for a child that was asked to leave, before it is made to


def copy_packages(root: Path) -> None:
    """Copy both packages, as they are imported here, into ``root``, in place of what is there.

    Their bytecode comes with them, which is valid while a source is as it was: compiling 300 files
    of Python would take each child seconds. Use ``rewrite`` to change one of them.
    """
    for package in PACKAGES:
        assert package.__file__ is not None
        source = Path(package.__file__).parent
        target = root / source.name
        if target.exists():
            shutil.rmtree(target)
        # Not what another Python writes just now, which is gone before it is copied.
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.pyc.*", "*-pytest-*.pyc"))


def build(root: Path, mutant: Mutant | None, patient: bool = False) -> None:
    """Make ``root`` a copy of the packages, with ``mutant`` in it (None: the original).

    ``patient``: who sleeps natively sleeps until he is woken, an hour at most.
    """
    root.mkdir(parents=True, exist_ok=True)
    copy_packages(root)
    if patient:
        PATIENCE.plant(root)
    if mutant is not None:
        mutant.plant(root)


@contextmanager
def place() -> Iterator[Path]:
    """A directory for copies, in the cache unless another process uses it; removed at the end."""
    home = cache_root() / "mutants"
    with ExitStack() as stack:
        try:
            cache_root().mkdir(mode=0o700, parents=True, exist_ok=True)
            home.mkdir(mode=0o700, exist_ok=True)
            lock = stack.enter_context((home / "lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another process has it, or we may not write there
            own = tempfile.TemporaryDirectory(prefix="shmstress-mutants-")
            yield Path(stack.enter_context(own))
            return
        stack.callback(shutil.rmtree, home / "tree", ignore_errors=True)
        yield home / "tree"


class ChildError(Exception):
    """The process that hunted did not come to its end by itself."""


def run_python(
    root: Path, arguments: Sequence[str], timeout_s: float, cpu_s: int = resource.RLIM_INFINITY
) -> tuple[int, str, str]:
    """Run Python on the packages in ``root``: exit code, standard output, standard error.

    ``cpu_s``: of the processor, which no other one's load takes away; then SIGXCPU ends it. Raises
    ``ChildError`` where it is not done in time; it is ended then, or when we are.
    """
    variables = {name: v for name, v in os.environ.items() if not name.startswith("SHMSTRESS_")}
    variables |= {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    child = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=root,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    resource.prlimit(child.pid, resource.RLIMIT_CPU, (cpu_s, resource.RLIM_INFINITY))
    try:
        output, errors = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"no end after {timeout_s:g} s") from error
    finally:
        _end(child)
    return child.returncode, output, errors


def _end(child: subprocess.Popen[str]) -> None:
    """See the child off: a run has workers and a segment of its own to take care of."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()
