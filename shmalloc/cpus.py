"""CPU slots of a segment: claim, share and release one, and decide which processes are alive.

Per-CPU lists belong to a virtual CPU, a slot. A process claims a slot: it locks the slot's byte of
the file, by which others know that it lives (liveness.py), and then names itself in the slot's
record, by pid and start time. A slot whose owner is alive (stopped counts as alive) can only be
shared, and its users then contend for its lists; a slot whose owner is dead is recovered first
(recovery.py), by a process with another slot. The swaps are kernels (kernels/slots.py).

``users`` is an upper bound: a process that dies while it only shares a slot stays counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import SupportsIndex

from shmalloc import constants as c
from shmalloc.engine import get_engine
from shmalloc.errors import MisuseError
from shmalloc.kernels.hotplug import plug_cpu, unplug_cpu
from shmalloc.kernels.slots import claim_slot, release_slot, share_slot
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
    """One CPU slot as it was read: its state, and its owner's identity (pid 0: no owner).

    ``alive``: a living process holds it, or is about to claim or has just released it.
    """

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
        """No process uses it, and it may be claimed."""
        used = self.pid or self.users or self.recovering or self.alive
        return self.state != "offline" and not used

    @property
    def dead(self) -> bool:
        """Its only user is dead, or its recovery was interrupted. A shared slot never is."""
        return self.recovering or (self.pid != 0 and not self.alive and self.users <= 1)


def slot(segment: Segment, cpu: int) -> Slot:
    """The slot as it is now. One that is dead is so for good: it was not just released.

    Who releases a slot clears its record before its lock. So the look at the lock lies between two
    looks at the record: one that is the same before and after a free lock is that of a dead.
    """
    check_cpu(segment, cpu)
    seen = slot_of(segment.ram, segment.layout, cpu, segment.claim_is_held)
    while seen.dead:
        again = slot_of(segment.ram, segment.layout, cpu, segment.claim_is_held)
        if again == seen:
            return seen
        seen = again
    return seen


def slot_of(words: Words, layout: Layout, cpu: int, is_held: Callable[[int], bool]) -> Slot:
    """Slot ``cpu`` of a segment that may be of any contents. ``is_held``: of a claim's number."""
    at = layout.cpu(cpu)
    epoch, dead = words[at + c.C_EPOCH], words[at + c.C_DEAD]
    pid, start = words[at + c.C_PID], words[at + c.C_START]
    return Slot(
        cpu=cpu,
        state=_STATES.get(words[at + c.C_STATE] & c.CPU_STATE_MASK, "corrupt"),
        pid=pid,
        start=start,
        alive=is_held(cpu),
        users=words[at + c.C_USERS],
        epoch=epoch,
        node=words[at + c.C_NODE],
        recovering=dead == epoch + 1,
        untold=dead != words[at + c.C_TOLD],
    )


def slots(segment: Segment) -> list[Slot]:
    """All slots, by number."""
    return [slot(segment, cpu) for cpu in range(segment.geometry.cpus)]


def check_cpu(segment: Segment, cpu: SupportsIndex) -> int:
    """``cpu`` as an int. Raises ``MisuseError`` unless it is the number of a slot."""
    number = as_int(cpu)
    if number is None or not 0 <= number < segment.geometry.cpus:
        last = segment.geometry.cpus - 1
        raise MisuseError(f"cpu: {cpu!r}; this segment has CPU slots 0 to {last}")
    return number


def claim(segment: Segment, cpu: int | None = None, engine: str = "native") -> int:
    """Use slot ``cpu``, or the best one: a free one, else the least shared.

    Returns its number. Raises ``MisuseError`` if the slot, or every slot, is unplugged or belongs
    to a dead process that is not recovered.
    """
    if cpu is not None:
        cpu = check_cpu(segment, cpu)
    while True:  # an attempt fails only because another process succeeded
        chosen = slot(segment, cpu) if cpu is not None else _best(slots(segment))
        if chosen.dead:
            raise MisuseError(
                f"cpu: the owner of slot {chosen.cpu} is dead; recover() it from another slot first"
            )
        result = _take(segment, chosen, engine)
        if result == c.E_STATE and cpu is not None:
            raise MisuseError(f"cpu: slot {cpu} is unplugged; plug it in, or leave cpu out")
        if result >= 0:
            return result


def claim_free(segment: Segment, seen: list[Slot], engine: str = "native") -> int | None:
    """Claim one of the slots that no process used when they were seen; its number, or None."""
    for chosen in sorted(seen, key=_preference):
        if chosen.free and _take(segment, chosen, engine) >= 0:
            return chosen.cpu
    return None


def release(segment: Segment, cpu: int, engine: str = "native") -> int:
    """Stop using slot ``cpu``; returns how many processes still use it.

    Also of a segment that is stopped: the last that is done with it.
    """
    check_cpu(segment, cpu)
    ram = Ram(segment.ram.array) if segment.closed else segment.ram
    left = get_engine(engine).call(release_slot, ram, cpu, *own_identity())
    segment.drop_claim(cpu)  # after the record: between the two, the slot is not taken for dead
    return left


def rename(segment: Segment, cpu: int) -> None:
    """Show this process as the owner of slot ``cpu``: a forked child, whose parent claimed it."""
    at = segment.layout.cpu(cpu)
    # Two plain writes: both words are only shown, and while the slot is held neither becomes 0.
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
    cpu, by = check_cpu(segment, cpu), check_cpu(segment, by)
    kernel = plug_cpu if plugged else unplug_cpu
    result = get_engine(engine).call(kernel, segment.ram, by, cpu)
    if result < 0:
        state, needed = slot(segment, cpu).state, "offline" if plugged else "online"
        raise MisuseError(f"cpu: slot {cpu} is {state}; use an {needed} slot")
    return result


def _take(segment: Segment, seen: Slot, engine: str) -> int:
    run = get_engine(engine)
    if seen.state == "offline":
        return c.E_STATE  # if plugged in just now, it must be claimed, not shared
    if not seen.free:
        return run.call(share_slot, segment.ram, seen.cpu)
    if not segment.hold_claim(seen.cpu):
        return c.E_AGAIN
    result = run.call(claim_slot, segment.ram, seen.cpu, *own_identity())
    if result < 0:
        segment.drop_claim(seen.cpu)
    return result


def _best(candidates: list[Slot]) -> Slot:
    plugged = [slot for slot in candidates if slot.state != "offline"]
    if not plugged:
        raise MisuseError("cpu: every CPU slot of this segment is unplugged; plug one in")
    return min(plugged, key=_preference)


def _preference(slot: Slot) -> tuple[int, ...]:
    """The smaller, the better. A new life in a slot may hide a death that has to be told."""
    return not slot.free, slot.dead, slot.users, slot.untold, slot.cpu
