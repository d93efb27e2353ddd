"""What child processes of tests run: importable by name in a process that pytest did not set up."""

from __future__ import annotations

import sys
from multiprocessing import Queue
from multiprocessing.synchronize import Barrier

from shmalloc.dialect import kernel
from shmalloc.engine import get_engine
from shmalloc.memory import Ram
from shmalloc.physical import Mapping
from shmalloc.segment import Segment
from shmalloc.words import cas, load
from support import driver, slab_driver

INCREMENTS = 200_000
STORM_STEPS = 20_000
WAIT_ROUNDS = 200  # of 50 ms each


@kernel
def increment_many(mem, i, count):
    """``count`` increments of word ``i`` by compare-exchange."""
    for _ in range(count):
        old = load(mem, i)
        while not cas(mem, i, old, old + 1):
            old = load(mem, i)


def increment(name: str, start: Barrier) -> None:
    """Increment word 0 of a shared memory INCREMENTS times, beside another process."""
    attached = Mapping(name)
    ram = Ram(attached.buf)
    bound = get_engine("native").bind(increment_many)
    start.wait()
    bound(ram, 0, INCREMENTS)
    ram.release()
    attached.close()


def wait_for_page(name: str, results: Queue[object]) -> None:
    """Sleep for one page on CPU 1 of a small world; tells "ready", then the page."""
    attached = Mapping(name)
    ram = Ram(attached.buf)
    drive = get_engine("native").bind(driver.drive)
    results.put("ready")
    results.put(drive(ram, 1, driver.ALLOC_WAIT, 0, 1, WAIT_ROUNDS))
    ram.release()
    attached.close()


def storm(name: str, cpu: int, cache: int, shared: int) -> None:
    """Allocate, hand over and free objects; exit code 1 if something was broken."""
    segment = Segment.attach(name)
    try:
        drive = get_engine("native").bind(slab_driver.drive_slab)
        broken = drive(segment.ram, cpu, slab_driver.STORM, cache, STORM_STEPS, shared, 0)
    finally:
        segment.close()
    sys.exit(int(broken > 0))
