"""CPU hotplug: unplug a CPU while others and its own processes run, and plug it in again.

The sheaves and per-CPU lists of an unplugged CPU are empty, and their locks say LOCK_OFFLINE, which
no process owns: every trylock fails, so a process that still runs there works on slabs and zones
directly. That costs the hot path nothing, since it handles a failed trylock anyway. A cache created
meanwhile gives the unplugged CPU ordinary sheaves.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.cache_set import plug_sheaves, unplug_sheaves
from shmalloc.kernels.cpu_lock import spin_or_skip
from shmalloc.kernels.pcp import drain_everything
from shmalloc.kernels.reporting import cpu_at, event, report
from shmalloc.kernels.waiters import wake_waiters
from shmalloc.kernels.zone import pcp_at
from shmalloc.units import Claim, Cpu, Memory
from shmalloc.words import cas, fixed, load, store


@unit
def unplug_cpu(mem: Memory, claim: Claim, victim: Cpu) -> int:
    """Drain and lock the per-CPU structures of ``victim``. Returns pages given back, or E_BUSY: it
    is not online, or a process that does not run holds one of its locks."""
    state = cpu_at(mem, victim) + c.C_STATE
    if not cas(mem, state, c.CPU_ONLINE, c.CPU_CHANGING | (claim + 1) << c.CPU_CHANGER_SHIFT):
        return c.E_BUSY  # not online, or another CPU is changing it
    held = unplug_sheaves(mem, claim, victim)  # first: their slabs give pages back
    given = 0
    for zone_id in range(fixed(mem, c.H_ZONES)):
        pcp = pcp_at(mem, victim, zone_id)
        if held >= 0:
            held = spin_or_skip(mem, pcp + c.P_LOCK, claim, victim)
        if held > 0:
            given += drain_everything(mem, claim, zone_id, pcp)
            store(mem, pcp + c.P_LOCK, c.LOCK_OFFLINE)
            wake_waiters(mem, claim)
    if held < 0:
        finish_plug(mem, claim, victim)
        return c.E_BUSY
    event(mem, claim, c.EV_HOTPLUG)
    store(mem, state, c.CPU_OFFLINE)
    return given


@unit
def plug_cpu(mem: Memory, claim: Claim, victim: Cpu) -> int:
    """Let ``victim`` use its per-CPU lists and sheaves again. Returns 0 or E_BUSY."""
    state = cpu_at(mem, victim) + c.C_STATE
    if not cas(mem, state, c.CPU_OFFLINE, c.CPU_CHANGING | (claim + 1) << c.CPU_CHANGER_SHIFT):
        return c.E_BUSY
    check_unplugged(mem, claim, victim)
    finish_plug(mem, claim, victim)
    return 0


@kernel
def check_unplugged(mem: Memory, claim: Claim, victim: Cpu) -> None:
    """Report a list that is not locked or not empty: it was used while the CPU was unplugged."""
    for zone_id in range(fixed(mem, c.H_ZONES)):
        pcp = pcp_at(mem, victim, zone_id)
        held = load(mem, pcp + c.P_LOCK)
        if held != c.LOCK_OFFLINE:
            report(mem, claim, c.I_PCP_COUNT, c.AT_WORD | (pcp + c.P_LOCK), c.LOCK_OFFLINE, held)
        elif mem[pcp + c.P_COUNT] != 0:
            report(
                mem,
                claim,
                c.I_PCP_COUNT,
                c.AT_PCP | victim << 16 | zone_id << 8,
                0,
                mem[pcp + c.P_COUNT],
            )


@kernel
def finish_plug(mem: Memory, claim: Claim, victim: Cpu) -> None:
    """Open whatever is locked as unplugged; the CPU is CHANGING, and the caller is its changer.

    Recovery calls this too if the changer died: no other CPU touches these locks meanwhile.
    """
    for zone_id in range(fixed(mem, c.H_ZONES)):
        cas(mem, pcp_at(mem, victim, zone_id) + c.P_LOCK, c.LOCK_OFFLINE, 0)
    plug_sheaves(mem, claim, victim)
    store(mem, cpu_at(mem, victim) + c.C_STATE, c.CPU_ONLINE)
