"""A page of the segment that the system cannot give: a verdict and a sentence in any process.

A file that is truncated has the same effect as a /dev/shm that is full, at a certain moment.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.runs import RunningRun, compile_once, environment

SHM = Path("/dev/shm")

# What the argument says is done to a segment that has lost its file, within ``handled``.
TOUCH = """
import os, signal, sys, threading
from shmalloc.kernels.audit import audit
from shmalloc.layout import Geometry, ZoneSpec
from shmalloc.engine import get_engine
from shmalloc.segment import Segment
from stress.run import bus_error
how = sys.argv[1]
geometry = Geometry((ZoneSpec(pages=64),), page_bytes=64, cpus=2, max_order=3, pageblock_order=2)
segment = Segment.create(geometry, engine="native" if how == "kernel" else "interpreted")
def end():
    print("ended:", bus_error.cause(segment), flush=True)
    segment.unlink()
    if how == "twice":
        segment.ram.array.sum()
def touch():
    if how == "sent":
        os.kill(os.getpid(), signal.SIGBUS)
    elif how == "kernel":
        get_engine("native").call(audit, segment.ram, 0)
    else:
        segment.ram.array.sum()
with bus_error.handled(end):
    os.truncate("/dev/shm/" + segment.name, 0)
    print(segment.name, flush=True)
    if how == "thread":
        thread = threading.Thread(target=touch)
        thread.start()
        thread.join()
    else:
        touch()
"""


def touched(how: str) -> tuple[int, str, str]:
    """Exit code, name of the segment, and what was said."""
    command = [sys.executable, "-c", TOUCH, how]
    ran = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    name, _, said = ran.stdout.partition("\n")
    return ran.returncode, name, said + ran.stderr


@pytest.mark.parametrize("how", ["numpy", "kernel", "thread", "twice"])
def test_a_page_that_is_missing_ends_the_process_as_unfit(how: str) -> None:
    code, name, said = touched(how)
    assert code == 7
    assert f"ended: another program truncated the segment {name}; find it, and run again\n" in said
    assert "Traceback" not in said
    assert not (SHM / name).exists()


def test_a_signal_that_was_sent_kills() -> None:
    code, name, said = touched("sent")
    (SHM / name).unlink()
    assert (code, said) == (-signal.SIGBUS, "")


def test_a_run_whose_segment_is_truncated_says_so() -> None:
    asked = ("--duration", "60s", "--workers", "1", "--workload", "churn", "--ram", "16MiB")
    with RunningRun(*asked) as run:
        os.truncate(SHM / run.segment_names[0], 4096)
        code, output = run.end()
    assert code == 7
    assert "died by SIGBUS" in output and "another program truncated the segment" in output


FILL = """
mount -t tmpfs -o size=24m none /dev/shm || exit 77
"$@" 2>&1 &
run=$!
while ! ls /dev/shm/shm-* >/dev/null 2>&1; do kill -0 $run || break; done
dd if=/dev/zero of=/dev/shm/rest bs=64k 2>/dev/null
dd if=/dev/zero of=/dev/shm/rest2 bs=1k 2>/dev/null
wait $run
code=$?
rm /dev/shm/rest /dev/shm/rest2
echo "code $code, left: $(ls /dev/shm)"
"""


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="needs a mount")
def test_a_shared_memory_that_fills_up_is_unfit_and_nothing_is_left(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    compile_once()
    output = tmp_path / "output"
    words = ("run", "--duration", "60s", "--ram", "16MiB", "--workers", "2", "--progress", "never")
    command = ["unshare", "-m", "sh", "-c", FILL, "sh", sys.executable, "-m", "stress", *words]
    with output.open("w") as file:
        subprocess.run(command, env=environment(), stdout=file, timeout=240)
    said = output.read_text()
    assert "code 7, left: \n" in said and "Traceback" not in said, said
    assert "could not back a page" in said or "/dev/shm has" in said, said
