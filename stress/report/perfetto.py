"""A failing schedule as a trace for ui.perfetto.dev: a track for each CPU, a step a microsecond.

On the track of a CPU stand its calls, the line of each step inside of them, and each access as an
instant. A line is shown only while its CPU makes steps: where another CPU runs, the calls go on
without one. Arrows lead from a write to the CPUs that read it, from a store to the flush that made
it visible, and between the two steps of a conflict. Under tso and pso the store buffer of a CPU is
a track with its flushes, and a counter of its stores.

Calls are told apart by the lines that they were made from, so two calls in a row that one line
makes are one slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from shmalloc.engine import ops
from stress.explorer.report import wording
from stress.explorer.report.account import Account
from stress.explorer.report.places import path_at, place_in_file, source_at
from stress.explorer.report.trace import Marker, Step, addresses_of, may_change
from stress.machine.models import MODELS
from stress.machine.site import Site
from stress.report.perfetto_events import Trace, Track

MIDDLE = 0.5  # of a step: instants and arrows are inside of its slice
Frame = tuple[object, ...]


def perfetto(account: Account) -> str:
    """The trace of ``account`` as JSON."""
    return _Schedule(account).document()


@dataclass
class _Cpu:
    """One track: which calls are open, and until when its last line is shown."""

    track: Track
    frames: list[Frame] = field(default_factory=list)
    line: Site | None = None
    until: float = 0.0
    buffer: Track | None = None
    stores: int = 0


class _Schedule:
    def __init__(self, account: Account) -> None:
        self._account = account
        facts = {
            "headline": account.headline,
            "cause": account.cause,
            "clock": "1 us is one step of the schedule",
            "to see it again": "\n".join(account.again),
        }
        self._trace = Trace(f"{account.program.name} ({account.memory_model})", facts)
        self._stacks = wording.stacks_of(account.trace)
        self._flushed = wording.flushed_stores(account.trace)
        self._writers: dict[int, Step] = {}  # of each word, as all CPUs see it
        tracks = [self._trace.track(name) for name in account.lanes[: account.trace.cpus]]
        self._cpus = [_Cpu(track) for track in tracks]
        if MODELS[account.memory_model].delays_stores:
            for number, cpu in enumerate(self._cpus):
                cpu.buffer = self._trace.track(f"cpu {number} store buffer")

    def document(self) -> str:
        steps = self._account.trace.steps
        markers = list(self._account.trace.markers)
        for step in steps:
            while markers and markers[0].before <= step.index:
                self._mark(markers.pop(0))
            self._step(step)
        for marker in markers:
            self._mark(marker)
        self._end(len(steps))
        return self._trace.document(len(steps) + 1)

    # --- one step ---
    def _step(self, step: Step) -> None:
        cpu = self._cpus[step.cpu]
        if step.op == ops.OP_FLUSH and cpu.buffer is not None:
            self._flush(step, cpu)
        else:
            self._enter(cpu, step.index, self._stacks[step.index])
            self._access(step, cpu.track)
        self._read_from(step, cpu)
        self._count(step, cpu)
        for word in addresses_of(step) if self._visible(step) else ():
            self._writers[word] = step

    def _visible(self, step: Step) -> bool:
        """Whether other CPUs see now what the step wrote."""
        delayed = MODELS[self._account.memory_model].delays_stores and wording.is_store(step)
        return may_change(step) and not delayed

    def _enter(self, cpu: _Cpu, at: int, stack: Sequence[Site]) -> None:
        """Close the calls that the CPU has left, open those that it is in, then show the line."""
        frames = _frames(stack)
        innermost = stack[0] if stack else None
        same = 0
        while frames[same : same + 1] == cpu.frames[same : same + 1] != []:
            same += 1
        goes_on = same == len(frames) == len(cpu.frames)
        if goes_on and cpu.until == at and innermost == cpu.line:
            cpu.until = at + 1
            return
        self._leave_line(cpu)
        for _ in cpu.frames[same:]:
            self._trace.end(cpu.track, cpu.until)
        for site in list(reversed(stack))[same:]:
            self._trace.begin(cpu.track, at, site.function)
        cpu.frames, cpu.line, cpu.until = frames, innermost, at + 1
        if innermost is not None:
            name = f"{place_in_file(innermost)} {source_at(innermost)}".strip()
            self._trace.begin(cpu.track, at, name, {"at": path_at(innermost)})

    def _leave_line(self, cpu: _Cpu) -> None:
        if cpu.line is not None:
            self._trace.end(cpu.track, cpu.until)
            cpu.line = None

    def _access(self, step: Step, track: Track) -> None:
        account = self._account
        switch = "preempt" if step.preempted else "switch" if step.switched else ""
        conflict = account.trace.conflict
        decides = conflict is not None and step.index in conflict
        args: dict[str, object] = {
            "step": step.index,
            "op": ops.NAMES[step.op],
            **({"words": list(addresses_of(step))} if addresses_of(step) else {}),
            **({"found": list(step.before), "left": list(step.after)} if step.before else {}),
            **({"switch": switch} if switch else {}),
            **({"mark": wording.conflict_mark(account)} if decides else {}),
        }
        name = str(wording.words_of(step, account.naming))
        self._trace.instant(track, step.index + MIDDLE, name, args)

    def _flush(self, step: Step, cpu: _Cpu) -> None:
        assert cpu.buffer is not None
        words = wording.words_of(step, self._account.naming)
        self._trace.begin(cpu.buffer, step.index, str(words), {"step": step.index})
        self._trace.end(cpu.buffer, step.index + 1)
        store = self._flushed.get(step.index)
        if store is not None:
            start = (cpu.track, store.index + MIDDLE)
            self._trace.arrow("becomes visible", start, (cpu.buffer, step.index + MIDDLE))

    def _read_from(self, step: Step, cpu: _Cpu) -> None:
        """Arrows from the writes of other CPUs that the step sees."""
        reads = step.op <= ops.LAST_READ or ops.OP_CAS <= step.op <= ops.LAST_WRITE
        if not reads:
            return
        writers = {w.index: w for a in addresses_of(step) if (w := self._writers.get(a))}
        for writer in writers.values():
            if writer.cpu != step.cpu:
                self._trace.arrow("reads from", self._place(writer), self._place(step))

    def _count(self, step: Step, cpu: _Cpu) -> None:
        """How many stores wait in the CPU's buffer."""
        if cpu.buffer is None or not (wording.is_store(step) or step.op == ops.OP_FLUSH):
            return
        cpu.stores += 1 if wording.is_store(step) else -1
        name = f"cpu {step.cpu} stores not visible yet"
        self._trace.counter(name, step.index + MIDDLE, stores=cpu.stores)

    def _place(self, step: Step) -> tuple[Track, float]:
        cpu = self._cpus[step.cpu]
        own = cpu.buffer if step.op == ops.OP_FLUSH else None
        return own or cpu.track, step.index + MIDDLE

    # --- what is no step ---
    def _mark(self, marker: Marker) -> None:
        cpu = self._cpus[marker.cpu]
        self._trace.instant(cpu.track, max(marker.before, cpu.until), marker.text)

    def _end(self, end: int) -> None:
        """The conflict, what was refused, who waits, and the failure across all tracks."""
        account, naming = self._account, self._account.naming
        blocked = {one.cpu: one for one in account.trace.blocked}
        for number, cpu in enumerate(self._cpus):
            self._leave_line(cpu)
            if number in blocked:
                waits = f"cpu {number} {wording.wait_of(blocked[number], naming)}"
                self._trace.begin(cpu.track, cpu.until, waits)
            elif account.trace.fault is None or account.trace.fault.cpu != number:
                while cpu.track.open:
                    self._trace.end(cpu.track, cpu.until)
        pair = wording.conflicting(account.trace)
        if pair:
            self._trace.arrow(wording.conflict_mark(account), *map(self._place, pair))
        fault = account.trace.fault
        last = self._cpus[0] if fault is None else self._cpus[fault.cpu]
        if fault is not None:
            self._enter(last, end, fault.stack)
            words = wording.fault_words(fault, naming)
            reason = wording.fault_reason(account, fault)
            self._trace.instant(last.track, end + MIDDLE, f"not performed: {words} ({reason})")
            self._leave_line(last)
        cause = {"cause": account.cause}
        self._trace.instant(last.track, end + 1, account.headline, cause, everywhere=True)


def _frames(stack: Sequence[Site]) -> list[Frame]:
    """The calls of a step, outermost first: each with the lines that led to it."""
    found: list[Frame] = []
    lines: Frame = ()
    for site in reversed(stack):
        found.append((*lines, site.file, site.function))
        lines = (*lines, site.file, site.line)
    return found
