"""A child that attaches to a segment, takes a CPU slot, and ends or stops inside an operation.

    python dying.py NAME CPU OPERATION WRITES SIGNAL

Interpreted, so that a write can be named: it sends itself SIGNAL instead of write WRITES + 1 of the
operation (its list of things prepared before). Prints "ready" first; continues after SIGCONT.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from shmalloc import constants as c
from shmalloc import cpus
from shmalloc.kernels.cache import cache_alloc, cache_free
from shmalloc.kernels.cache_set import cache_create
from shmalloc.kernels.pages import alloc_pages, free_pages
from shmalloc.kernels.recover import recover
from shmalloc.kernels.slots import mark_dead
from shmalloc.segment import Segment
from support.mortal import MortalRam

ROOT = Path(__file__).parents[2]
TOP_ORDER = 4


class SignallingRam(MortalRam):
    """Sends its process a signal where ``MortalRam`` raises; continues if it returns."""

    signal_number = signal.SIGKILL

    def _write(self) -> None:
        if self.writes == self.last:
            os.kill(os.getpid(), self.signal_number)
        self.writes += 1


def take_block(mem: MortalRam, cpu: int) -> None:
    """One block straight from the zone."""
    alloc_pages(mem, cpu, TOP_ORDER, c.MT_MOVABLE, 7)


def own_and_free(mem: MortalRam, cpu: int) -> None:
    """Owns two blocks and three objects; frees one of each, and is mortal only then."""
    mem.last, last = -1, mem.last
    owned = [alloc_pages(mem, cpu, 1, c.MT_MOVABLE, 7) for _ in range(3)]
    objects = [cache_alloc(mem, cpu, 0) for _ in range(4)]
    mem.last, mem.writes = last, 0
    free_pages(mem, cpu, owned[0], 1)
    cache_free(mem, cpu, 0, objects[0])
    os.kill(os.getpid(), signal.SIGKILL)


def free_page(mem: MortalRam, cpu: int) -> None:
    """Free a page to the list of the CPU, whose lock is open; mortal only then.

    Its first two writes take the lock by its bias, and the third is the first one inside."""
    mem.last, last = -1, mem.last
    for _ in range(2):
        free_pages(mem, cpu, alloc_pages(mem, cpu, 0, c.MT_MOVABLE, 7), 0)
    page = alloc_pages(mem, cpu, 0, c.MT_MOVABLE, 7)
    mem.last, mem.writes = last, 0
    free_pages(mem, cpu, page, 0)


def take_object(mem: MortalRam, cpu: int) -> None:
    """One object of the first cache; its third write locks the sheaves of the CPU, the first two
    having found that they are not open for it yet."""
    cache_alloc(mem, cpu, 0)


def make_cache(mem: MortalRam, cpu: int) -> None:
    """One more cache; its first write locks the set of caches."""
    cache_create(mem, cpu, 64, 0, 0, 0)


def recover_first(mem: MortalRam, cpu: int) -> None:
    """Recover claim 1, whose process is dead; it is mortal from the recovery on."""
    mem.last, last = -1, mem.last
    mark_dead(mem, cpu, 1, mem[c.CPUS_AT + c.C_STRIDE + c.C_EPOCH])
    mem.last, mem.writes = last, 0
    recover(mem, cpu)


OPERATIONS = {
    "take_block": take_block,
    "own_and_free": own_and_free,
    "take_object": take_object,
    "free_page": free_page,
    "make_cache": make_cache,
    "recover_first": recover_first,
}


def start(segment: Segment, cpu: int, operation: str, writes: int, how: int) -> subprocess.Popen:
    """Start the child; returns when it has its slot and begins."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    child = subprocess.Popen(
        [sys.executable, __file__, segment.name, str(cpu), operation, str(writes), str(int(how))],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def main(name: str, cpu: int, operation: str, writes: int, how: int) -> None:
    with Segment.attach(name) as segment:
        cpus.claim(segment, cpu, "interpreted")
        mem = SignallingRam.over(segment.ram, writes)
        mem.signal_number = signal.Signals(how)
        print("ready", flush=True)
        OPERATIONS[operation](mem, cpu)
        mem.release()
        cpus.release(segment, cpu, "interpreted")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
