"""Recovery of claims whose processes died: which are dead, how that is noticed, what is done.

Kernels do the work (kernels/recover.py, kernels/reap.py). This file decides which processes are
dead, by the locks of their claims (liveness.py), so neither a stopped process nor one of another
pid namespace is taken for a dead one, nor a new process with an old pid for its owner.

    dead_slots   claims whose process is dead
    recover      recover them all, from a living claim
    untold       who died, was recovered by any process, and was not given to a supervisor yet
    reap         free what one of them owned and had not handed over
    Rescuer      a waiter's check of the owner of the lock that it waits for
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.cpus import Slot, check_claim, dead_slots, slot, slots
from shmalloc.engine import get_engine
from shmalloc.errors import MisuseError
from shmalloc.kernels import recover as recover_kernels
from shmalloc.kernels.reap import reap as reap_kernel
from shmalloc.kernels.slots import mark_dead
from shmalloc.layout import Layout, cache_stride, first_node_part, pcp_stride
from shmalloc.memory import Ram
from shmalloc.segment import Segment

PATIENCE_S = 1.0  # with a process that holds a lock and does not run
SKIPPED = (c.H_RECOVERY, c.H_CACHES_LOCK)  # locks that not every caller must have


@dataclass(frozen=True)
class Recovered:
    """A recovered claim: its number, its former owner, how many pages returned to the zones.

    ``pages`` and ``seconds`` are those of the whole recovery, which may have covered several.
    """

    claim: int
    pid: int
    start: int
    epoch: int
    pages: int
    seconds: float

    @property
    def cpu(self) -> int:
        """``claim``, by its older name."""
        return self.claim


def recover(segment: Segment, by: int, engine: str = "native") -> list[Recovered]:
    """Recover every dead claim, as claim ``by`` of this process; what was recovered.

    May be called at any time, in any process that is not inside the allocator; concurrent
    recoveries wait for each other. A process that has stopped in the middle of a recovery, or with
    the lock of the set of caches, is waited for a second: a ``RuntimeWarning`` names it, and the
    dead that were left are found by the next recovery. Raises ``MisuseError`` if ``by`` is itself a
    dead one.
    """
    check_claim(segment, by)
    if slot(segment, by).dead:
        raise MisuseError(f"by: claim {by} is one of those to recover; use one of this process")
    dead = dead_slots(segment)
    if not dead:
        return []
    before = slots(segment)
    run = get_engine(engine)
    started = time.perf_counter()
    for found in dead:
        mark(segment.ram, segment.layout, by, found, engine)
    pages = run.call_alone(recover_kernels.recover, segment.ram, by)
    if not all(_is_over(segment, found) for found in dead):
        warnings.warn(_left(segment), RuntimeWarning, stacklevel=2)
    seconds = time.perf_counter() - started
    # A process waiting for a lock may have marked others meanwhile: these were recovered, too.
    done = [found for found in before if _is_over(segment, found)]
    return [Recovered(f.claim, f.pid, f.start, f.epoch, max(pages, 0), seconds) for f in done]


def _left(segment: Segment) -> str:
    """What is said of a recovery that went on without some of the dead."""
    held = (segment.ram.load(at) & c.LOCK_HOLDER_MASK for at in SKIPPED)
    pids = ", ".join(str(slot(segment, holder - 1).pid) for holder in held if holder)
    by = f"process {pids}" if pids else "a process that runs again"
    return (
        f"recover: some of the dead are left, as {by} holds a lock and does not run; they are"
        " recovered when it continues, or has ended"
    )


def mark(ram: Ram, layout: Layout, by: int, dead: Slot, engine: str) -> None:
    """Mark the life that was seen dead, and keep who it was. A late mark means nothing."""
    if dead.pid:
        at = layout.cpu(dead.claim)
        ram[at + c.C_DEAD_PID], ram[at + c.C_DEAD_START] = dead.pid, dead.start
    get_engine(engine).call(mark_dead, ram, by, dead.claim, dead.epoch)


def untold(segment: Segment) -> list[Recovered]:
    """The deaths that were recovered, by any process, since the last call in any process.

    The last one of each claim: one with a death to tell is taken again only if all have one.
    """
    found = []
    for number in range(min(segment.ram.load(c.H_CLAIMS_USED), segment.geometry.claims)):
        at = segment.layout.cpu(number)
        dead, epoch = segment.ram[at + c.C_DEAD], segment.ram[at + c.C_EPOCH]
        if dead not in (segment.ram[at + c.C_TOLD], epoch + 1):
            segment.ram[at + c.C_TOLD] = dead
            pid, start = segment.ram[at + c.C_DEAD_PID], segment.ram[at + c.C_DEAD_START]
            found.append(Recovered(number, pid, start, dead - 1, 0, 0.0))
    return found


def _is_over(segment: Segment, seen: Slot) -> bool:
    """Whether the life that was seen ended in death and was recovered."""
    at = segment.layout.cpu(seen.claim)
    return segment.ram[at + c.C_DEAD] == seen.epoch + 1 != segment.ram[at + c.C_EPOCH] + 1


def reap(segment: Segment, by: int, recovered: Recovered, engine: str = "native") -> int:
    """Free all blocks of pages and objects that a recovered process owned; returns how many."""
    check_claim(segment, by)
    run = get_engine(engine).call_alone
    return run(reap_kernel, segment.ram, by, recovered.claim, recovered.epoch)


def may_skip(layout: Layout, index: int) -> bool:
    """Whether a word is a lock that a caller can do without: of a CPU's page lists or sheaves, or
    one of ``SKIPPED``. The lists of nodes and barns lie between them, and are waited for."""
    geometry, at = layout.geometry, layout.at
    if _biased(layout, index, -1) >= 0:
        return True
    if at["pcp"] <= index < at["caches"]:
        return (index - at["pcp"]) % pcp_stride(geometry) == c.P_LOCK
    if at["caches"] <= index < at["seats"]:
        offset = (index - at["caches"]) % cache_stride(geometry)
        of_cpu = cs.K_CPUS <= offset < first_node_part(geometry)
        return of_cpu and (offset - cs.K_CPUS) % cs.KC_STRIDE == cs.KC_LOCK
    return index in SKIPPED


def _biased(layout: Layout, index: int, other: int) -> int:
    """The claim in whose record word ``index`` says what it holds by a bias; or ``other``."""
    number, word = divmod(index - layout.at["cpus"], c.C_STRIDE)
    return number if word == c.C_HOLDS and 0 <= number < layout.geometry.claims else other


class Rescuer:
    """What a process does when one of its kernels has waited long: see ``engine/notice.py``.

    If the lock's owner is dead, its locks are taken over and what they protect is repaired (the
    kernel ``unblock``), beneath the waiting kernel. The rest of the recovery must run outside the
    allocator: ``found`` says that it is due.
    """

    def __init__(self, segment: Segment, claim: int, engine: str, ram: Ram | None = None) -> None:
        self.found = False
        self.skipped: set[int] = set()  # pids whose per-CPU lists were left out, as they do not run
        self._waits_for = (0, 0, 0.0)  # a lock, what it held, since when
        self._at_work: set[tuple[int, int]] = set()  # lives, by claim and epoch
        self._helped: set[tuple[int, int]] = set()
        self._segment, self._claim, self._engine = segment, claim, engine
        self._ram = segment.ram if ram is None else ram

    def __call__(self, index: int) -> None:
        holder = self._holder(index)
        if 0 <= holder < self._segment.geometry.claims and holder != self._claim:
            owner = slot(self._segment, holder)
            if owner.dead:
                self.found = True
                self._mark(owner)
                self._unblock()
                return
            if self._waits_in_vain(index):
                self.skipped.add(owner.pid)
                self._ram[self._segment.layout.cpu(self._claim) + c.C_GIVE_UP] = index
        # The process that we wait for may itself wait for one that died after our phase 1.
        if self._holder(c.H_RECOVERY) == self._claim:
            for found in dead_slots(self._segment):
                self._mark(found)
            self._unblock()

    def _waits_in_vain(self, index: int) -> bool:
        """Whether a lock has had one living owner for long that a caller can do without: a per-CPU
        lock for drains, and those of ``SKIPPED``."""
        lock, held, since = self._waits_for
        now, word = time.monotonic(), self._ram.load(index)
        if (lock, held) != (index, word):
            self._waits_for = (index, word, now)
            return False
        return now - since > PATIENCE_S and may_skip(self._segment.layout, index)

    def _mark(self, dead: Slot) -> None:
        mark(self._ram, self._segment.layout, self._claim, dead, self._engine)

    def _unblock(self) -> None:
        """Repair after all claims marked dead, once for each death.

        Only once: a repair wakes all sleepers, and a sleeper that is woken all the time never finds
        that it has slept long (docs/bugs.md 12). And not recursively, while it waits for live
        processes: the calls would pile up while one of them is stopped.
        """
        marked = {(found.claim, found.epoch) for found in slots(self._segment) if found.recovering}
        self._helped &= marked
        fresh = marked - self._helped - self._at_work
        if not fresh:
            return
        self._at_work |= fresh
        try:
            if get_engine(self._engine).call(recover_kernels.unblock, self._ram, self._claim):
                self._helped |= fresh
        finally:
            self._at_work -= fresh

    def _holder(self, index: int) -> int:
        """The claim that holds the lock at a word; -1 or beyond: none, or not a lock.

        What a claim holds by its bias is in a word of its record.
        """
        return _biased(
            self._segment.layout, index, (self._ram.load(index) & c.LOCK_HOLDER_MASK) - 1
        )


__all__ = ["Recovered", "Rescuer", "dead_slots", "mark", "reap", "recover", "untold"]
