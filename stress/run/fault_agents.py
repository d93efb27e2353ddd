"""The agents of faults: each acts on the workers or on the memory when it is due.

An agent acts in the controller's process, between two looks at the workers; none waits. Times and
victims are drawn from the run's seed by the agent's own name, so that adding one changes no other.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Protocol

from shmalloc.free_reporting import pageblocks, report_pageblock
from shmalloc.kernels.hotplug import plug_cpu, unplug_cpu
from stress.faults.grammar import Hotplug, Kill, Pressure, Report, Stop
from stress.run.fault_tally import FaultTally
from stress.run.holdings import HoldingsReader
from stress.run.memory import RunMemory
from stress.run.messages import Light
from stress.run.resume import Resumer
from stress.run.workers import Member, Workers
from stress.seeds import derive
from stress.workloads.pressure import pressure_give, pressure_take

BITE_BLOCKS = 64
BITE_S = 0.005  # between two bites of a wave


class Agent(Protocol):
    """``due_s`` on the monotonic clock: when to ``act`` next."""

    due_s: float

    def act(self) -> None: ...

    def rest(self) -> None:
        """The workers are about to park: undo what would keep them from it."""


class _PeriodicAgent:
    """When something is due: on average each ``every_s``, from half of it to one and a half."""

    def __init__(self, rng: random.Random, every_s: float) -> None:
        self.rng = rng
        self.every_s = every_s
        self.due_s = time.monotonic() + self._gap_s()

    def _gap_s(self) -> float:
        return self.every_s * self.rng.uniform(0.5, 1.5)

    def again(self) -> None:
        """From the time that was planned, so that the mean holds; never into the past."""
        self.due_s = max(self.due_s + self._gap_s(), time.monotonic())


class KillAgent(_PeriodicAgent):
    """SIGKILL from outside, or a fuse inside."""

    def __init__(self, fault: Kill, rng: random.Random, workers: Workers) -> None:
        super().__init__(rng, fault.every_s)
        self._fuse = fault.fuse
        self._workers = workers

    def act(self) -> None:
        victim = pick_worker(self.rng, self._workers)
        if victim is not None:
            if self._fuse is None:
                victim.pending_kill = "random"
                victim.process.kill()
            else:
                victim.pending_kill = "fuse"
                self._workers.tell(victim, Light(self.rng.choice(self._fuse)))
        self.again()

    def rest(self) -> None:
        """A worker puts its fuse out when it parks."""


class StopAgent(_PeriodicAgent):
    """SIGSTOP, and SIGCONT by the resumer."""

    def __init__(
        self,
        fault: Stop,
        rng: random.Random,
        workers: Workers,
        reader: HoldingsReader,
        resumer: Resumer,
        tally: FaultTally,
    ) -> None:
        super().__init__(rng, fault.every_s)
        self._for_s = fault.for_s
        self._workers = workers
        self._reader = reader
        self._resumer = resumer
        self._tally = tally

    def act(self) -> None:
        victim = pick_worker(self.rng, self._workers)
        if victim is not None:
            stopped = self._resumer.stop(victim.pid, self._for_s, self._looking_at(victim))
            self._tally.stops += stopped
        self.again()

    def _looking_at(self, victim: Member) -> Callable[[], None]:
        """Counts, at the end of the stop, whether it holds a lock: it has not moved since."""
        cpu, epoch = victim.cpu, victim.epoch

        def look() -> None:
            if self._reader.holds_lock(cpu, epoch):
                self._tally.stops_inside += 1

        return look

    def rest(self) -> None:
        self._resumer.resume_all()


class PressureAgent:
    """Memory taken and given back in waves, in bites, as the controller's CPU slot."""

    def __init__(self, fault: Pressure, memory: RunMemory, tally: FaultTally) -> None:
        self._memory = memory
        self._tally = tally
        self._most_pages = int(memory.snapshot().managed_pages * fault.pages)
        self._every_s = fault.every_s
        self._rising = True
        self.due_s = time.monotonic() + fault.every_s / 2

    def act(self) -> None:
        """One bite; at the top and at the bottom of a wave, rest for half of its time."""
        if self._rising:
            held = self._memory.call(pressure_take, BITE_BLOCKS, self._most_pages)
            self._tally.pressure_peak_pages = max(self._tally.pressure_peak_pages, held)
            at_end = held < 0 or held >= self._most_pages
            self._tally.pressure_waves += at_end
        else:
            at_end = self._memory.call(pressure_give, BITE_BLOCKS) == 0
        self._rising ^= at_end
        self.due_s = time.monotonic() + (self._every_s / 2 if at_end else BITE_S)

    def rest(self) -> None:
        while self._memory.call(pressure_give, BITE_BLOCKS) > 0:
            pass
        self._rising = True


class HotplugAgent(_PeriodicAgent):
    """Unplugs a worker's slot, or plugs one in again that it had unplugged."""

    def __init__(
        self,
        fault: Hotplug,
        rng: random.Random,
        workers: Workers,
        memory: RunMemory,
        tally: FaultTally,
    ) -> None:
        super().__init__(rng, fault.every_s)
        self._workers = workers
        self._memory = memory
        self._tally = tally
        self._unplugged: list[int] = []

    def act(self) -> None:
        if self._unplugged and self.rng.random() < 0.5:
            self._plug(self._unplugged.pop(self.rng.randrange(len(self._unplugged))))
        else:
            victim = pick_worker(self.rng, self._workers)
            if victim is not None and self._memory.call(unplug_cpu, victim.cpu) >= 0:
                self._unplugged.append(victim.cpu)
                self._tally.hotplug_changes += 1
        self.again()

    def rest(self) -> None:
        while self._unplugged:
            self._plug(self._unplugged.pop())

    def _plug(self, cpu: int) -> None:
        """E_BUSY if the workload hotplug or a new worker has done it."""
        self._tally.hotplug_changes += self._memory.call(plug_cpu, cpu) >= 0


class ReportAgent(_PeriodicAgent):
    """Gives the free memory of a random pageblock back, while workers allocate around it."""

    def __init__(
        self, fault: Report, rng: random.Random, memory: RunMemory, tally: FaultTally
    ) -> None:
        super().__init__(rng, fault.every_s)
        self._memory = memory
        self._tally = tally
        self._starts = pageblocks(memory.segment)

    def act(self) -> None:
        given = report_pageblock(
            self._memory.segment, self._memory.call, self.rng.choice(self._starts)
        )
        self._tally.reports += given > 0
        self._tally.reported_bytes += given
        self.again()

    def rest(self) -> None:
        """Nothing of it lasts."""


def pick_worker(rng: random.Random, workers: Workers) -> Member | None:
    """A worker that works and is not about to be killed; None if there is none."""
    able = [
        m for m in workers.members if m.settled and m.working and not (m.vacant or m.pending_kill)
    ]
    return rng.choice(able) if able else None


def agents_of(
    workers: Workers,
    memory: RunMemory,
    resumer: Resumer,
    reader: HoldingsReader,
    tally: FaultTally,
) -> list[Agent]:
    """One agent for each fault that has one (failing allocations need none)."""
    spec, agents = memory.spec, list[Agent]()
    for number, fault in enumerate(spec.faults):
        rng = random.Random(derive(spec.seed, f"fault {number} {fault.name}"))
        match fault:
            case Kill():
                agents.append(KillAgent(fault, rng, workers))
            case Stop():
                agents.append(StopAgent(fault, rng, workers, reader, resumer, tally))
            case Pressure():
                agents.append(PressureAgent(fault, memory, tally))
            case Hotplug():
                agents.append(HotplugAgent(fault, rng, workers, memory, tally))
            case Report():
                agents.append(ReportAgent(fault, rng, memory, tally))
    return agents
