"""hotplug: unplugs and plugs CPU slots while their workers run, and allocates meanwhile.

Imitates CPU hotplug. Each worker unplugs random slots, its own included, and later plugs in those
that it unplugged (the word ``W_DATA + slot`` is then 1); sometimes one that another worker did.
Hunts: pages left on the lists of a CPU that is gone, a drain that races with the owner, an owner
that goes on using lists that are locked away.
Must reach: hotplug, remote drain, trylock misses.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.hotplug import plug_cpu, unplug_cpu
from shmalloc.units import Claim, Cpu, Memory, WordIndex
from shmalloc.words import fixed
from stress.workloads.area import (
    BLOCK_WORDS,
    W_DATA,
    draw,
    give_all,
    give_from,
    stopping,
    take_into,
    work_at,
)
from stress.workloads.latency import L_PLUG_CPU, L_UNPLUG_CPU, clock_of, note

HOTPLUG_TABLE = W_DATA + c.MAX_CPUS
HOTPLUG_SLOTS = 256
HOTPLUG_WORDS = HOTPLUG_TABLE + HOTPLUG_SLOTS * BLOCK_WORDS
HOTPLUG_ODDS = 64  # one step in this number changes a CPU
HOTPLUG_THEFT_ODDS = 8  # one change in this number plugs in any slot
HOTPLUG_ORDERS = 4


@kernel
def hotplug(mem: Memory, claim: Claim, steps: int) -> int:
    """Allocate, free, or change a CPU, ``steps`` times; returns the operations done."""
    at = work_at(mem, claim)
    done = 0
    for _ in range(steps):
        if stopping(mem):
            break
        if draw(mem, at, HOTPLUG_ODDS) == 0:
            hotplug_change(mem, claim, at, draw(mem, at, fixed(mem, c.H_CPUS)))
        else:
            hotplug_traffic(mem, claim, at)
        done += 1
    return done


@kernel
def hotplug_change(mem: Memory, claim: Claim, at: WordIndex, victim: Cpu) -> None:
    """Plug the slot in if this worker unplugged it; otherwise unplug it if it is online."""
    if draw(mem, at, HOTPLUG_THEFT_ODDS) == 0:
        hotplug_plug(mem, claim, victim)  # E_BUSY if it is not unplugged, or another is first
    elif mem[at + W_DATA + victim] != 0:
        hotplug_plug(mem, claim, victim)
        mem[at + W_DATA + victim] = 0
    else:
        began = clock_of(mem)
        code = unplug_cpu(mem, claim, victim)
        note(mem, claim, L_UNPLUG_CPU, began, code)
        if code >= 0:
            mem[at + W_DATA + victim] = 1


@kernel
def hotplug_plug(mem: Memory, claim: Claim, victim: Cpu) -> None:
    began = clock_of(mem)
    code = plug_cpu(mem, claim, victim)
    note(mem, claim, L_PLUG_CPU, began, code)


@kernel
def hotplug_traffic(mem: Memory, claim: Claim, at: WordIndex) -> None:
    """Fill or empty one random slot of the table."""
    entry = at + HOTPLUG_TABLE + draw(mem, at, HOTPLUG_SLOTS) * BLOCK_WORDS
    if mem[entry + 1] != 0:
        give_from(mem, claim, entry)
    else:
        order = min(draw(mem, at, HOTPLUG_ORDERS), fixed(mem, c.H_MAX_ORDER))
        take_into(mem, claim, at, entry, order, draw(mem, at, c.MT_PCP_TYPES))


@kernel
def hotplug_finish(mem: Memory, claim: Claim) -> int:
    """Plug in what this worker unplugged and free everything that the CPU holds."""
    at = work_at(mem, claim)
    for victim in range(fixed(mem, c.H_CPUS)):
        if mem[at + W_DATA + victim] != 0:
            plug_cpu(mem, claim, victim)
            mem[at + W_DATA + victim] = 0
    return give_all(mem, claim, at + HOTPLUG_TABLE, HOTPLUG_SLOTS)
