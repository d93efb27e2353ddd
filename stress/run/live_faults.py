"""``LiveFaults``: all faults of a run, and what follows from a death that was asked for.

::

    begin            a slice starts: allocation faults are armed, the agents' clocks run
    act              between two looks at the workers: agents act, vacant slots are filled
    handle_death     a worker died: recover, reap, compare with the owner map, call a spare
    handle_answer    a spare arrives: it takes the slot, and works while the slice lasts
    quiesce          the workers are about to park: none stays stopped, no memory is held back
    settled          whether every slot has a living worker again
    free_orphaned    stutter point: what has no owner is given back

Workers are not stopped while a death is handled. Only SIGKILL to a worker with a pending kill is
handled; any other death is trouble, as in a run without faults.

A difference between what the owner map and what the allocator says that the dead had is a
violation, and so is a living worker whose slot was taken away.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from shmalloc import constants as c
from shmalloc import recovery
from shmalloc.errors import Violation
from shmalloc.invariants import name_of
from shmalloc.kernels.cache_set import cache_destroy
from shmalloc.kernels.contig import online_range
from shmalloc.kernels.hotplug import plug_cpu
from shmalloc.processes import owner_alive
from stress.faults.allocation import ALL_KINDS, KINDS, AllocationFaults
from stress.faults.grammar import Fail
from stress.run.fault_agents import Agent, agents_of
from stress.run.fault_tally import FaultTally
from stress.run.holdings import Holdings, HoldingsReader
from stress.run.memory import RunMemory
from stress.run.messages import Answer, Go, Idle, Ready, Refused, Take
from stress.run.noise import Noise
from stress.run.resume import Resumer
from stress.run.worker import Task
from stress.run.workers import Member, Workers, cores
from stress.seeds import derive
from stress.workloads import WORKLOADS

SPARES = 4
SHOWN_PAGES = 8


class LiveFaults:
    """The faults of one run. What is found wrong after a death goes to ``violations``."""

    def __init__(
        self,
        memory: RunMemory,
        workers: Workers,
        tally: FaultTally,
        violations: list[Violation],
        log_of: Callable[[int], str | None],
    ) -> None:
        self.spec = memory.spec
        self._violations = violations
        self._memory = memory
        self._workers = workers
        self._tally = tally
        self._log_of = log_of
        self._reader = HoldingsReader(memory.ram, memory.layout)
        self._resumer = Resumer()
        self._agents: list[Agent] = []
        self._running = False
        self._slice = 0
        self._lives = dict.fromkeys(range(self.spec.workers), 0)
        self._recovered: set[Member] = set()  # dead, and their deaths not seen yet
        self._died_s: dict[int, float] = {}
        self._noise = Noise.of(self.spec, cores())
        self._identities: dict[int, tuple[int, int]] = {}

    # --- the slices ------------------------------------------------------------------------------

    def admit(self) -> None:
        """The first workers are in their slots."""
        for member in self._workers.members:
            self._note_identity(member)
        self._start_spare()

    def begin(self, slice_index: int) -> None:
        """The workers are about to start a slice."""
        self._slice = slice_index
        self._running = True
        if slice_index == 0:
            self._arm()
            self._agents = agents_of(
                self._workers,
                self._memory,
                self._resumer,
                self._reader,
                self._tally,
            )

    def act(self) -> float:
        """Let the agents act that are due; seconds until the next one is."""
        for agent in self._agents:
            if agent.due_s <= time.monotonic():
                agent.act()
        self.fill()
        now = time.monotonic()
        return min((max(0.0, agent.due_s - now) for agent in self._agents), default=1.0)

    def quiesce(self) -> None:
        """The end of a slice: the agents leave nothing behind that keeps a worker from parking."""
        self._running = False
        for agent in self._agents:
            agent.rest()

    @property
    def settled(self) -> bool:
        """Whether every slot has a living worker that has claimed it."""
        return all(member.settled and not member.vacant for member in self._workers.members)

    def parked(self) -> None:
        """All fuses are out: a worker that its fuse did not kill lives on."""
        for member in self._workers.members:
            member.pending_kill = ""

    def close(self) -> None:
        self._resumer.close()

    def _arm(self) -> None:
        fails = [fault for fault in self.spec.faults if isinstance(fault, Fail)]
        for fault in fails:
            faults = AllocationFaults(
                nth=fault.nth or 0,
                every=fault.every or 0,
                chance=fault.p or 0.0,
                kinds=ALL_KINDS if fault.kind is None else KINDS[fault.kind],
            )
            for cpu in range(self.spec.workers):
                seed = derive(self.spec.seed, f"failing allocations of worker {cpu}")
                faults.arm(self._memory.ram, self._memory.layout.cpu(cpu), seed)

    # --- deaths ----------------------------------------------------------------------------------

    def handle_death(self, member: Member, code: int) -> bool:
        """Handle the death of a worker with a pending kill; False if it was not asked for."""
        if code != -signal.SIGKILL or not member.pending_kill:
            return False
        self._tally.kills[member.pending_kill] += 1
        self._died_s[member.cpu] = time.monotonic()
        if member not in self._recovered:
            self._recover()
        if member not in self._recovered:
            self._reap_released(member)
        self._recovered.discard(member)
        self._lives[member.cpu] += 1
        self._prepare_next(member)
        member.vacant = True
        self.fill()
        return True

    def _recover(self) -> None:
        """Recover and reap every slot whose worker is dead by now: more than one, now and then."""
        for member in self._workers.members:
            known = member.vacant or member in self._recovered
            if member.pending_kill and member.settled and not known and not self._is_alive(member):
                inside = self._reader.is_inside(member.cpu, member.epoch)
                self._tally.inside[member.pending_kill] += inside
        began_s = time.perf_counter()
        memory = self._memory
        with memory.in_time("recovery"):
            dead = recovery.recover(memory.segment, memory.cpu, self.spec.engine)
        for recovered in dead:
            member = self._workers.members[recovered.cpu]
            if member.pending_kill and member.pid == recovered.pid:  # it may have died just now
                self._reap(member, recovered)
                self._recovered.add(member)
        self._tally.recovery_s.append(time.perf_counter() - began_s)
        self._check_the_living()

    def _reap_released(self, member: Member) -> None:
        """Reap a slot that a waiter marked after ``recover`` had looked for the dead.

        Its recovery is done, and ``recover`` does not name it.
        """
        found = self._identity_in(member.cpu)
        if found != (0, member.epoch + 1, member.epoch + 1):
            expected = "a recovered slot that no process has claimed since"
            self._report(member, expected, f"pid {found[0]}, epoch {found[1]}, dead {found[2]}")
        pid, start = self._identities[member.pid]
        self._reap(member, recovery.Recovered(member.cpu, pid, start, member.epoch, 0, 0.0))

    def _reap(self, member: Member, recovered: recovery.Recovered) -> None:
        """See whether the dead owned what the owner map says, then free it.

        In this order: as soon as a page is freed, another worker may own it.
        """
        memory, held = self._memory, self._reader.holdings(member.cpu, member.epoch)
        objects = self._reader.objects(member.cpu, member.epoch)
        self._compare_with_owner_map(member, held)
        self._reader.forget(member.cpu)
        with memory.in_time("reap"):
            freed = recovery.reap(memory.segment, memory.cpu, recovered, self.spec.engine)
        left = self._reader.holdings(member.cpu, member.epoch)
        left_objects = self._reader.objects(member.cpu, member.epoch)
        if left.blocks or left_objects or freed != held.blocks + objects:
            expected = f"{held.blocks} blocks and {objects} objects freed by reap()"
            found = f"{freed} freed, {left.blocks} blocks and {left_objects} objects left"
            self._report(member, expected, found)
        self._tally.reaped_blocks += held.blocks
        self._tally.reaped_pages += len(held.pages)
        self._tally.reaped_objects += objects

    def _compare_with_owner_map(self, member: Member, held: Holdings) -> None:
        """The owner map is the witness: it knows a page from after its allocation to its free."""
        if held.lost:
            shown = ", ".join(map(str, sorted(held.lost)[:SHOWN_PAGES]))
            found = f"{len(held.lost)} of them are not labelled so: pfn {shown}"
            self._report(member, f"{len(held.mapped)} pages of the dead", found)
        assert member.workload is not None
        in_flight = WORKLOADS[member.workload].most_in_flight(self.spec)
        if held.unknown_blocks > in_flight:
            expected = f"at most {in_flight} blocks between allocator and owner map"
            self._report(member, expected, f"{held.unknown_blocks} without an owner")

    def _identity_in(self, cpu: int) -> tuple[int, int, int]:
        """Of a slot: pid, epoch, and which life of it is marked dead."""
        slot, load = self._memory.layout.cpu(cpu), self._memory.ram.load
        return load(slot + c.C_PID), load(slot + c.C_EPOCH), load(slot + c.C_DEAD)

    def _is_alive(self, member: Member) -> bool:
        return owner_alive(*self._identities[member.pid])

    def _check_the_living(self) -> None:
        """No living worker, stopped or not, was taken for dead."""
        for member in self._workers.members:
            if member.settled and not member.vacant:
                found = self._identity_in(member.cpu)
                right = found[:2] == (member.pid, member.epoch) and found[2] <= member.epoch
                if not right and self._is_alive(member):
                    expected = f"pid {member.pid}, epoch {member.epoch}, not marked dead"
                    self._report(member, expected, str(found))

    def _report(self, member: Member, expected: str, found: str) -> None:
        history = self._memory.reports.history(member.cpu) + self._memory.call_sites(member.pid)
        where = f"death of {member}"
        self._violations.append(
            Violation(name_of(c.I_CONSERVATION), where, expected, found, history)
        )

    # --- replacements ----------------------------------------------------------------------------

    def _prepare_next(self, member: Member) -> None:
        """An empty work area for the next life. What had no label is found by ``free_orphaned``."""
        assert member.workload is not None
        life = self._lives[member.cpu]
        self._memory.prepare_area(member.cpu, member.workload, self._slice, life)
        self._memory.set_peer(member.cpu, member.cpu)

    def fill(self) -> None:
        """Send spares that are ready into vacant slots, and start another."""
        for member in self._workers.members:
            if member.vacant:
                self._open_slot(member.cpu)
                self._workers.replace(member, self._log_of(member.cpu))
        self._start_spare()

    def _start_spare(self) -> None:
        if self.spec.kills and len(self._workers.spares) < SPARES:
            segment = self._memory.segment.name
            self._workers.start_spare(
                Task(None, None, segment, self.spec.engine, None, self._noise)
            )

    def _open_slot(self, cpu: int) -> None:
        """An unplugged slot cannot be claimed."""
        if self._memory.ram.load(self._memory.layout.cpu(cpu) + c.C_STATE) == c.CPU_OFFLINE:
            self._memory.call(plug_cpu, cpu)

    def handle_answer(self, member: Member, answer: Answer) -> bool:
        """Help a spare into its slot; False if the answer came from a worker that has its slot."""
        match answer:
            case Idle():
                member.idle, member.working = True, False
                self.fill()
            case Refused():  # the slot was unplugged before it was claimed
                self._open_slot(member.cpu)
                self._workers.tell(member, Take(member.cpu, member.core, self._log_of(member.cpu)))
            case Ready() if not member.settled:
                self._arrive(member)
            case _:
                return False
        return True

    def _arrive(self, member: Member) -> None:
        member.settled = True
        self._note_identity(member)
        self._tally.vacancy_s.append(time.monotonic() - self._died_s[member.cpu])
        member.working = self._running
        if self._running:
            assert member.workload is not None
            self._workers.tell(member, Go(member.workload))

    def _note_identity(self, member: Member) -> None:
        """Record pid, slot and epoch of a worker, from the words of its claim."""
        slot = self._memory.layout.cpu(member.cpu)
        pid, start, epoch = (
            self._memory.ram.load(slot + word) for word in (c.C_PID, c.C_START, c.C_EPOCH)
        )
        self._identities[member.pid] = (pid, start)
        member.epoch = epoch
        if pid != member.pid:
            dead = self._memory.ram.load(slot + c.C_DEAD)
            alive = "alive" if member.process.is_alive() else "dead"
            found = f"pid {pid}, epoch {epoch}, dead {dead}; it is {alive}"
            self._report(member, f"a slot claimed by pid {member.pid}", found)

    # --- stutter points --------------------------------------------------------------------------

    def free_orphaned(self) -> None:
        """Give back what the dead left without a label: caches, offline ranges, unplugged slots.

        All workers are parked. A cache without an owner must be empty: its objects were reaped.
        """
        if not self.spec.kills:
            return
        books = {m.cpu: m.workload for m in self._workers.members if m.workload is not None}
        orphaned = self._reader.orphaned(books)
        for cache in orphaned.caches:
            result = self._memory.call(cache_destroy, cache)
            if result != 0:
                found = f"cache_destroy answered {result}"
                self._violations.append(
                    Violation(name_of(c.I_SLAB), f"cache {cache}", "no live object", found)
                )
        for start, end in orphaned.offline:
            self._memory.call(online_range, start, end)
        for cpu in orphaned.unplugged:
            self._memory.call(plug_cpu, cpu)
        self._tally.orphans += sum(
            map(len, (orphaned.caches, orphaned.offline, orphaned.unplugged))
        )
        self._check_the_living()
