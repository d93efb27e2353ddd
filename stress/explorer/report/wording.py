"""How a failure is put into words: shared by the report in the terminal and the page.

Here is what a step, a wait and a count are called, what the source said at a place, and which
steps of a long trace may be left out. Nothing here knows about columns, colours or markup; what
it returns is text as it is, to be escaped by whoever puts it on a page.

Rules:
- the words are those of kernels: ``load [4] = 1`` read 1, ``store [4] <- 1`` wrote 1,
  ``fetch_add [4] found 1`` read 1 and wrote something else
- a step of the conflicting pair, the steps on both sides of a switch and the last steps of a CPU
  are never left out
- source lines are read from the files as they are now, by ``linecache``
"""

from __future__ import annotations

import linecache
from collections import defaultdict, deque
from pathlib import Path
from typing import NamedTuple

from shmalloc.engine import ops
from stress.machine.site import Site
from stress.explorer.address import again
from stress.explorer.loading import here
from stress.explorer.report.failure import Blocked, Failure, Step, Trace

LARGEST_DECIMAL = 10**9  # tagged and packed words are read in hexadecimal
LAST_STEPS = 2  # of each CPU, never left out
CONFLICT_MARKS = {"race": "race", "torn": "torn"}
CONFLICT_TITLES = {
    "race": "The two accesses that race",
    "torn": "The two steps of the torn read",
}
FAULT_REASONS = {"undefined": "never written", "stack": "stack overflow"}


class Words(NamedTuple):
    """A step in words: what it does, to which word, and with which value."""

    verb: str
    place: str
    rest: str

    def __str__(self) -> str:
        return " ".join(part for part in self if part)


class Gap(NamedTuple):
    """Consecutive steps of one CPU that are not shown."""

    first: int
    last: int
    cpu: int

    def __str__(self) -> str:
        return f"... {count_of(self.last - self.first + 1, 'step')}"


# --- one step ------------------------------------------------------------------------------------
def number(value: int) -> str:
    return str(value) if abs(value) < LARGEST_DECIMAL else hex(value)


def words_of(step: Step) -> Words:
    """``step`` in the words of kernels."""
    verb = ops.NAMES[step.op]
    if step.op > ops.LAST_ADDRESSED and step.op != ops.OP_FLUSH:
        return Words(verb, "", "")
    return Words(verb, place_of(step), _rest_of(step))


def place_of(step: Step) -> str:
    return f"[{step.address}, {step.address + 1}]" if is_pair(step) else f"[{step.address}]"


def is_pair(step: Step) -> bool:
    return step.op in (ops.OP_LOAD2, ops.OP_CAS2)


def addresses_of(step: Step) -> tuple[int, ...]:
    """The words that ``step`` accesses."""
    if step.op > ops.LAST_ADDRESSED and step.op != ops.OP_FLUSH:
        return ()
    return (step.address, step.address + 1) if is_pair(step) else (step.address,)


def _rest_of(step: Step) -> str:
    op, value = step.op, step.value
    if op == ops.OP_LOAD2:
        return f"= {number(value)}, {number(step.second)}"
    if op <= ops.LAST_READ or op == ops.OP_FIXED:
        return f"= {number(value)}"
    if op <= ops.LAST_STORE or op == ops.OP_FLUSH:
        return f"<- {number(value)}"
    if op in (ops.OP_CAS, ops.OP_CAS2):
        return "ok" if value else "failed"
    if op <= ops.LAST_WRITE:
        return f"found {number(value)}"
    if op == ops.OP_WAIT:
        return "slept" if value else "did not sleep"
    return f"woke {value}" if op == ops.OP_WAKE else ""


def fault_words(fault: Step) -> Words:
    """An access that was not performed: it has no value."""
    return words_of(fault)._replace(rest="")


def fault_reason(failure: Failure, fault: Step) -> str:
    """Why ``fault`` was not performed."""
    if failure.kind in FAULT_REASONS:
        return FAULT_REASONS[failure.kind]
    words = failure.program.words
    if is_pair(fault) and fault.address % 2 and 0 <= fault.address < words:
        return "odd address of a pair"
    return f"outside of memory, 0..{words - 1}"


def buffer_notes(failure: Failure) -> dict[int, str]:
    """What the store buffers did to a step, by its index; nothing under ``sc``."""
    if failure.memory_model == "sc":
        return {}
    trace = failure.trace
    notes: dict[int, str] = {}
    flushes = {stored.index: flush for flush, stored in flushed_stores(trace).items()}
    # the words that lie in the buffer of a CPU at this point
    buffered: defaultdict[int, list[int]] = defaultdict(list)
    for step in trace.steps:
        own = buffered[step.cpu]
        if is_store(step):
            own.append(step.address)
            flush = flushes.get(step.index)
            notes[step.index] = "not visible yet" if flush is None else f"visible at {flush}"
            if flush is not None:
                notes[flush] = f"of step {step.index}"
        elif step.op == ops.OP_FLUSH and step.address in own:
            own.remove(step.address)
        elif step.op <= ops.LAST_READ and any(a in own for a in addresses_of(step)):
            notes[step.index] = "from its own buffer"
    return notes


def is_store(step: Step) -> bool:
    """True for what goes through a store buffer."""
    return ops.FIRST_WRITE <= step.op <= ops.LAST_STORE


def flushed_stores(trace: Trace) -> dict[int, Step]:
    """The store that each flush made visible, by the index of the flush.

    Under tso and pso alike it is the oldest one of that CPU to that word.
    """
    waiting: defaultdict[tuple[int, int], deque[Step]] = defaultdict(deque)
    stores: dict[int, Step] = {}
    for step in trace.steps:
        entries = waiting[step.cpu, step.address]
        if is_store(step):
            entries.append(step)
        elif step.op == ops.OP_FLUSH and entries:
            stores[step.index] = entries.popleft()
    return stores


# --- places in the source ------------------------------------------------------------------------
def stacks_of(trace: Trace) -> dict[int, tuple[Site, ...]]:
    """The calls that led to each step, by its index. No line makes a flush: its store stands in."""
    stores = flushed_stores(trace)
    return {step.index: stores.get(step.index, step).stack for step in trace.steps}


def innermost(stack: tuple[Site, ...]) -> Site | None:
    return stack[0] if stack else None


def source_at(site: Site | None) -> str:
    """The line of text at ``site``; empty where there is no such file or line."""
    return linecache.getline(site.file, site.line).strip() if site else ""


def place_in_file(site: Site | None) -> str:
    """``file.py:12``: enough to recognise a place."""
    return f"{Path(site.file).name}:{site.line}" if site else ""


def path_at(site: Site) -> str:
    """``dir/file.py:12``: enough to open it from here."""
    path = Path(site.file)
    for folder in here():
        if path.is_relative_to(folder):
            path = path.relative_to(folder)
    return f"{path}:{site.line}"


# --- all steps -----------------------------------------------------------------------------------
def folded(trace: Trace, margin: int, shortest: int) -> list[Step | Gap]:
    """The steps, with every run of ``shortest`` or more that nobody needs to see made a ``Gap``.

    ``margin``: this many steps before and after an important one are shown as well.
    """
    steps = trace.steps
    kept = [False] * len(steps)
    for at in _important(trace):
        first, end = max(0, at - margin), min(len(steps), at + margin + 1)
        kept[first:end] = [True] * (end - first)
    shown: list[Step | Gap] = []
    at = 0
    while at < len(steps):
        end = at
        while end < len(steps) and not kept[end]:
            end += 1
        if end - at >= shortest:
            shown.append(Gap(steps[at].index, steps[end - 1].index, steps[at].cpu))
        else:
            end = max(end, at + 1)
            shown.extend(steps[at:end])
        at = end
    return shown


def _important(trace: Trace) -> set[int]:
    """Positions of the steps that are always shown. A run between two of them is of one CPU."""
    important = set()
    of_cpu: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=LAST_STEPS))
    for at, step in enumerate(trace.steps):
        of_cpu[step.cpu].append(at)
        if trace.conflict and step.index in trace.conflict:
            important.add(at)
        if at and step.cpu != trace.steps[at - 1].cpu:
            important.update((at - 1, at))
    return important.union(*of_cpu.values())


def conflicting(trace: Trace) -> tuple[Step, ...]:
    """The two steps of the conflict, the earlier first."""
    found = {step.index: step for step in trace.steps}
    return tuple(found[index] for index in trace.conflict) if trace.conflict else ()


def conflict_mark(failure: Failure) -> str:
    return CONFLICT_MARKS.get(failure.kind, "order")


def conflict_title(failure: Failure) -> str:
    return CONFLICT_TITLES.get(failure.kind, "The two steps whose order decides")


def touched(trace: Trace) -> list[tuple[int, int]]:
    """Every word of memory that was accessed, and its final value."""
    used = {address for step in trace.steps for address in addresses_of(step)}
    return [(a, trace.memory[a]) for a in sorted(used) if 0 <= a < len(trace.memory)]


def returned(trace: Trace) -> list[str]:
    return [f"cpu {cpu} = {number(value)}" for cpu, value in enumerate(trace.returns)]


# --- waiting, counts and how to see it again -----------------------------------------------------
def cycle_of(blocked: tuple[Blocked, ...]) -> tuple[Blocked, ...]:
    """The CPUs at the beginning of ``blocked`` that wait for each other in a circle, or none."""
    for length, last in enumerate(blocked, start=1):
        if last.holder == blocked[0].cpu:
            return blocked[:length]
        if length == len(blocked) or last.holder != blocked[length].cpu:
            break
    return ()


def wait_of(blocked: Blocked) -> str:
    """``spins on word 4 held by cpu 1``."""
    verb = "spins on" if blocked.spinning else "waits for"
    held = "" if blocked.holder is None else f" held by cpu {blocked.holder}"
    return f"{verb} word {blocked.address}{held}"


def wait_in_short(blocked: Blocked) -> str:
    """``spins on [4] of cpu 1``."""
    verb = "spins on" if blocked.spinning else "waits for"
    holder = "" if blocked.holder is None else f" of cpu {blocked.holder}"
    return f"{verb} [{blocked.address}]{holder}"


def waiting_stack(trace: Trace, blocked: Blocked) -> tuple[Site, ...]:
    """How ``blocked`` came to wait: the calls of its last look at the word, where that is known."""
    for step in reversed(trace.steps):
        if step.cpu == blocked.cpu and step.op not in (ops.OP_RELAX, ops.OP_FLUSH):
            if blocked.address in addresses_of(step):
                return step.stack
            break
    return (blocked.site,) if blocked.site else ()


def waiting_lines(blocked: tuple[Blocked, ...]) -> list[str]:
    """Who waits for whom: the cycle as one sentence, everybody else in one of their own."""
    cycle = cycle_of(blocked)
    lines = []
    if cycle:
        chain = " ".join(wait_of(waiting) for waiting in cycle)
        lines.append(f"cpu {cycle[0].cpu} {chain}")
    lines += [f"cpu {waiting.cpu} {wait_of(waiting)}" for waiting in blocked[len(cycle) :]]
    return lines


def count_of(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def history_of(failure: Failure) -> list[str]:
    """How it was found, how it was shrunk, how many preemptions it needs; a replay just ran it."""
    if failure.found_after == 0:
        return [count_of(failure.preemptions, "preemption")]
    replays = f"{count_of(failure.replays, 'replay')} ({failure.shrink_seconds:.2f} s)"
    if failure.shrunk:
        shrunk = f"shrunk in {replays}"
    elif failure.replays:
        shrunk = f"shrinking not finished after {replays}"
    else:
        shrunk = "not shrunk"
    return [
        f"found after {count_of(failure.found_after, 'schedule')}",
        shrunk,
        count_of(failure.preemptions, "preemption"),
    ]


def kernel_names(failure: Failure) -> list[str]:
    return [thread.__name__ for thread in failure.program.threads]


def replay_line(failure: Failure) -> str:
    """The one line for a shell that shows the failure again."""
    return again(failure.program, failure.schedule)
