"""Claims and CPUs of a segment: take a claim, give it back, and decide which processes are alive.

A process takes a claim, its identity in the segment (kernels/slots.py): it locks the claim's byte
of the file, by which others know that it lives (liveness.py), and then takes the claim's record. It
works on a CPU, whose per-CPU lists and sheaves it uses: one that no claim is on, or the least used
one. The claim has the number of its CPU, unless that one is taken. A claim whose process is dead
(stopped is not dead) is recovered (recovery.py), whatever else is on its CPU, and is free then.

The swaps are kernels (kernels/slots.py); this file decides liveness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np

from shmalloc import constants as c
from shmalloc.engine import asymmetric, get_engine
from shmalloc.errors import MisuseError
from shmalloc.kernels.hotplug import plug_cpu, unplug_cpu
from shmalloc.kernels.slots import claim_slot, release_slot
from shmalloc.layout import Layout
from shmalloc.memory import Ram
from shmalloc.processes import own_identity
from shmalloc.report_text import Words
from shmalloc.segment import Segment
from shmalloc.sizes import as_int

_STATES = {
    c.CPU_EMPTY: "empty",
    c.CPU_ONLINE: "online",
    c.CPU_OFFLINE: "offline",
    c.CPU_CHANGING: "changing",
}


@dataclass(frozen=True)
class Slot:
    """One claim as it was read, and the CPU that it is or was on; pid 0: no process has it.

    ``claim`` is the number that kernels take. ``alive``: a living process holds it, or is about to
    claim or has just released it. ``state``, ``node``: of the CPU. ``users``: 1 while it is taken.
    """

    claim: int
    cpu: int
    state: str
    pid: int
    start: int
    alive: bool
    users: int
    epoch: int
    node: int
    recovering: bool  # marked dead, and its recovery is not complete
    untold: bool  # a life of it ended in death, and no supervisor was given it (recovery.py)

    @property
    def free(self) -> bool:
        """No process has it, and it may be claimed."""
        return self.state != "offline" and not (self.users or self.recovering or self.alive)

    @property
    def dead(self) -> bool:
        """Its process is dead, or its recovery was interrupted."""
        return self.recovering or (self.users != 0 and not self.alive)


def slot(segment: Segment, number: int) -> Slot:
    """Claim ``number`` as it is now. One that is dead is so for good: it was not just released.

    Who releases a claim clears its record before its lock. So the look at the lock lies between two
    looks at the record: one that is the same before and after a free lock is that of a dead.
    """
    check_claim(segment, number)
    seen = slot_of(segment.ram, segment.layout, number, segment.claim_is_held)
    while seen.dead:
        again = slot_of(segment.ram, segment.layout, number, segment.claim_is_held)
        if again == seen:
            return seen
        seen = again
    return seen


def slot_of(words: Words, layout: Layout, number: int, is_held: Callable[[int], bool]) -> Slot:
    """Claim ``number`` of a segment that may be of any contents. ``is_held``: of its number."""
    at = layout.cpu(number)
    epoch, dead = words[at + c.C_EPOCH], words[at + c.C_DEAD]
    pid, start = (words[at + c.C_PID], words[at + c.C_START]) if epoch & 1 else (0, 0)
    cpu = words[at + c.C_CPU] if number >= layout.geometry.cpus or epoch & 1 else number
    known = 0 <= cpu < layout.geometry.cpus
    cpu = cpu if known else min(number, layout.geometry.cpus - 1)
    on = layout.cpu(cpu)
    state = words[on + c.C_STATE] & c.CPU_STATE_MASK
    return Slot(
        claim=number,
        cpu=cpu,
        state=_STATES.get(state, "corrupt") if known else "corrupt",
        pid=pid,
        start=start,
        alive=is_held(number),
        users=epoch & 1,
        epoch=epoch,
        node=words[on + c.C_NODE],
        recovering=dead == epoch + 1,
        untold=dead != words[at + c.C_TOLD],
    )


def slots(segment: Segment) -> list[Slot]:
    """By number, the claims that were ever taken, and all that have the number of a CPU."""
    return [slot(segment, number) for number in range(_used(segment))]


def dead_slots(segment: Segment) -> list[Slot]:
    """Claims that need recovery: their process is dead, or their recovery was interrupted."""
    records = _records(segment)
    epochs, marks = records[:, c.C_EPOCH], records[:, c.C_DEAD]
    recovering = marks == epochs + 1
    suspects = np.flatnonzero((epochs & 1 != 0) | recovering).tolist()
    seen = [
        slot(segment, number)
        for number in suspects
        if recovering[number] or not segment.claim_is_held(number)
    ]
    return [found for found in seen if found.dead]


def taken(segment: Segment) -> int:
    """Claims that a process has or had when it died."""
    return int(np.count_nonzero(_records(segment)[:, c.C_EPOCH] & 1))


def _used(segment: Segment) -> int:
    return min(segment.ram.load(c.H_CLAIMS_USED), segment.geometry.claims)


def check_cpu(segment: Segment, cpu: SupportsIndex) -> int:
    """``cpu`` as an int. Raises ``MisuseError`` unless it is the number of a CPU."""
    number = as_int(cpu)
    if number is None or not 0 <= number < segment.geometry.cpus:
        last = segment.geometry.cpus - 1
        raise MisuseError(f"cpu: {cpu!r}; this segment has CPU slots 0 to {last}")
    return number


def check_claim(segment: Segment, number: SupportsIndex) -> int:
    """``number`` as an int. Raises ``MisuseError`` unless it is that of a claim."""
    claim = as_int(number)
    if claim is None or not 0 <= claim < segment.geometry.claims:
        last = segment.geometry.claims - 1
        raise MisuseError(f"claim: {number!r}; this segment has claims 0 to {last}")
    return claim


def claim(segment: Segment, cpu: int | None = None, engine: str = "native") -> int:
    """Take a claim on CPU ``cpu``, or on the least used one; its number, that of the CPU if free.

    Raises ``MisuseError`` if the CPU, or every CPU, is unplugged, or no claim is left.
    """
    if cpu is not None:
        cpu = check_cpu(segment, cpu)
    number = _claim_on(segment, cpu, engine)
    if number == c.E_STATE:
        raise MisuseError(f"cpu: slot {cpu} is unplugged; plug it in, or leave cpu out")
    if number < 0:
        raise MisuseError(
            f"claims: all {segment.geometry.claims} of this segment are taken; recover() those of"
            " dead processes, or create it with more (claims=)"
        )
    return number


def take(segment: Segment, number: int, cpu: int, engine: str = "native") -> None:
    """Take claim ``number`` and no other one, on CPU ``cpu``.

    Raises ``MisuseError`` if it is taken, or its last life is not recovered; or if the CPU is
    unplugged.
    """
    result = _take(segment, check_claim(segment, number), check_cpu(segment, cpu), engine)
    if result == c.E_STATE:
        raise MisuseError(f"cpu: {cpu} is unplugged; plug it in, or take another one")
    if result < 0:
        raise MisuseError(f"claim: {number} is taken, or its last life is not recovered")


def claim_free(segment: Segment, engine: str = "native") -> int | None:
    """``claim`` on the least used CPU; None if no claim is left."""
    number = _claim_on(segment, None, engine)
    return number if number >= 0 else None


def release(segment: Segment, number: int, engine: str = "native") -> int:
    """Give claim ``number`` back; 0, or E_AGAIN if it was marked dead: it is recovered then.

    Also of a segment that is stopped: the last that is done with it.
    """
    number = check_claim(segment, number)
    ram = Ram(segment.ram.array) if segment.closed else segment.ram
    epoch = int(ram.array[segment.layout.cpu(number) + c.C_EPOCH])
    result = get_engine(engine).call(release_slot, ram, number, epoch)
    segment.drop_claim(number)  # after the record: between the two, it is not taken for dead
    return result


def rename(segment: Segment, number: int) -> None:
    """Show this process as the owner of a claim: a forked child, whose parent claimed it."""
    at = segment.layout.cpu(number)
    # Two plain writes: both words are only shown.
    segment.ram[at + c.C_PID], segment.ram[at + c.C_START] = own_identity()


def unplug(segment: Segment, cpu: int, by: int, engine: str = "native") -> int:
    """Take slot ``cpu`` out of use, draining its lists from slot ``by``; the pages given back.

    A process on the slot continues without per-CPU lists; no process can claim the slot.
    """
    return _change(segment, cpu, by, engine, plugged=False)


def plug(segment: Segment, cpu: int, by: int, engine: str = "native") -> int:
    """Put an unplugged slot back in use."""
    return _change(segment, cpu, by, engine, plugged=True)


def _change(segment: Segment, cpu: int, by: int, engine: str, *, plugged: bool) -> int:
    cpu, by = check_cpu(segment, cpu), check_claim(segment, by)
    kernel = plug_cpu if plugged else unplug_cpu
    result = get_engine(engine).call(kernel, segment.ram, by, cpu)
    if result < 0:
        word = segment.ram.load(segment.layout.cpu(cpu) + c.C_STATE)
        state, needed = _STATES[word & c.CPU_STATE_MASK], "offline" if plugged else "online"
        raise MisuseError(f"cpu: slot {cpu} is {state}; use an {needed} slot")
    return result


def _records(segment: Segment) -> np.ndarray:
    """The records of the claims that were ever taken, one a row."""
    at, used = segment.layout.cpu(0), _used(segment)
    return segment.ram.array[at : at + used * c.C_STRIDE].reshape(used, c.C_STRIDE)


def _claim_on(segment: Segment, cpu: int | None, engine: str) -> int:
    """Take some claim: its number, E_AGAIN if none is left, E_STATE if CPU ``cpu`` is unplugged."""
    while True:
        on, unused = _least_used(segment) if cpu is None else (cpu, False)
        for number in _free_numbers(segment, on, cpu is not None):
            result = _take(segment, number, on, engine)
            if result >= 0 or (result == c.E_STATE and cpu is not None):
                return result
            if result == c.E_STATE or (result == c.E_BUSY and unused):
                break  # it was unplugged, or another process comes to it: look for another one
        else:
            return c.E_AGAIN


def _take(segment: Segment, number: int, cpu: int, engine: str) -> int:
    """Take claim ``number`` on a CPU: ``number``, E_BUSY, E_AGAIN or E_STATE."""
    if segment.geometry.biased_locks:
        asymmetric.require(f"segment {segment.name}")
    if not segment.hold_claim(number):
        return c.E_BUSY
    run = get_engine(engine)
    result = run.call(claim_slot, segment.ram, number, cpu, *own_identity())
    if result < 0:
        segment.drop_claim(number)
    return result


def _free_numbers(segment: Segment, cpu: int, asked: bool) -> list[int]:
    """Claims that no process has, the best one first.

    The number of the CPU, if it was ``asked`` for; those without a death that is still to be told,
    since a new life hides it: the number of the CPU, those of no CPU, new ones; then the rest.
    """
    records, geometry = _records(segment), segment.geometry
    epochs, dead = records[:, c.C_EPOCH], records[:, c.C_DEAD]
    free = np.flatnonzero((epochs & 1 == 0) & (dead != epochs + 1)).tolist()
    told = dead == records[:, c.C_TOLD]
    own = [cpu] if cpu in free and (asked or told[cpu]) else []
    used = [number for number in free if number >= geometry.cpus and told[number]]
    first = [*own, *used, *range(len(records), geometry.claims)]
    rest = sorted(set(free) - set(first), key=lambda number: (not told[number], number))
    return [*first, *rest]


def _least_used(segment: Segment) -> tuple[int, bool]:
    """A CPU that no claim is on, and True; or the one with the fewest; of equal ones the first."""
    records, cpus = _records(segment), segment.geometry.cpus
    taken = records[records[:, c.C_EPOCH] & 1 != 0, c.C_CPU]
    claims = np.bincount(taken[(taken >= 0) & (taken < cpus)], minlength=cpus)
    plugged = np.flatnonzero(records[:cpus, c.C_STATE] != c.CPU_OFFLINE).tolist()
    if not plugged:
        raise MisuseError("cpu: every CPU slot of this segment is unplugged; plug one in")
    told = records[:cpus, c.C_DEAD] == records[:cpus, c.C_TOLD]
    for cpu in sorted(plugged, key=lambda cpu: not told[cpu]):
        if not claims[cpu] and not segment.claim_is_held(cpu):
            return cpu, True
    return min(plugged, key=lambda cpu: int(claims[cpu])), False
