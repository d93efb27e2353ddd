"""How an account is put into words: shared by the text, the page and the JSON.

This module words steps and waits. It knows nothing of columns, colours or markup; it
returns plain text, which the page escapes.

Rules:
- the words are those of kernels: ``load [4] = 1`` read 1, ``store [4] <- 1`` wrote 1, ``cas [4]
  0 -> 1`` changed the word, ``fetch_add [4] found 1`` read 1 and wrote an unknown value
- names of words and values come from the program (naming.py)
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import NamedTuple

from shmalloc.engine import ops
from stress.explorer.report.account import Account
from stress.explorer.report.naming import NO_NAMES, Naming
from stress.explorer.report.naming import number as number
from stress.explorer.report.places import path_at as path_at
from stress.explorer.report.places import place_in_file as place_in_file
from stress.explorer.report.places import source_at as source_at
from stress.explorer.report.trace import Blocked, Step, Trace, addresses_of, is_pair
from stress.machine.models import MODELS
from stress.machine.site import Site

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
        return " ".join(
            part for part in (self.verb, f"{self.place}{self.colon}", self.rest) if part
        )

    @property
    def colon(self) -> str:
        """What separates a name from its change: ``cas zone 0 lock: free -> held by claim 1``."""
        plain = self.place.startswith("[") or self.rest.startswith(("= ", "<- "))
        return ":" if self.place and self.rest and not plain else ""


# --- one step ------------------------------------------------------------------------------------
def words_of(step: Step, naming: Naming = NO_NAMES) -> Words:
    """``step`` in the words of kernels."""
    verb = ops.NAMES[step.op]
    if step.op == ops.OP_CHOOSE:
        return Words(verb, "", f"= {step.value}")
    if not addresses_of(step):
        return Words(verb, "", "")
    return Words(verb, naming.place(step.address, is_pair(step)), _rest_of(step, naming))


def _rest_of(step: Step, naming: Naming) -> str:
    op, at = step.op, step.address
    if op == ops.OP_LOAD2:
        return f"= {naming.value(at, step.value, step.second)}"
    if op <= ops.LAST_READ or op == ops.OP_FIXED:
        return f"= {naming.value(at, step.value)}"
    if op <= ops.LAST_STORE or op == ops.OP_FLUSH:
        return _stored(step, naming)
    if op in (ops.OP_CAS, ops.OP_CAS2):
        return _compared(step, naming)
    if op <= ops.LAST_WRITE:
        return _changed(step, naming) or f"found {naming.value(at, step.value)}"
    if op == ops.OP_WAIT:
        early = step.value == ops.RETURNED_EARLY
        return "woke by itself" if early else "slept" if step.value else "did not sleep"
    return f"woke {step.value}" if op == ops.OP_WAKE else ""


def _stored(step: Step, naming: Naming) -> str:
    """The value written; if values have a meaning, the old and the new one."""
    if step.before and naming.meaning(step.address, step.value):
        return naming.change(step.address, step.before, step.after)
    return f"<- {naming.value(step.address, step.value)}"


def _compared(step: Step, naming: Naming) -> str:
    if step.value:
        return _changed(step, naming) or "ok"
    found = f", found {naming.value(step.address, *step.before)}" if step.before else ""
    return f"failed{found}"


def _changed(step: Step, naming: Naming) -> str:
    return naming.change(step.address, step.before, step.after) if step.before else ""


def fault_words(fault: Step, naming: Naming = NO_NAMES) -> Words:
    """An access that was not performed has no value."""
    return words_of(fault, naming)._replace(rest="")


def fault_reason(account: Account, fault: Step) -> str:
    """Why ``fault`` was not performed."""
    if account.kind in FAULT_REASONS:
        return FAULT_REASONS[account.kind]
    words = account.program.words
    if is_pair(fault) and fault.address % 2 and 0 <= fault.address < words:
        return "odd address of a pair"
    return f"outside memory, 0..{words - 1}"


def buffer_notes(account: Account) -> dict[int, str]:
    """What the store buffers did to each step, by its index; empty under ``sc``."""
    if not MODELS[account.memory_model].delays_stores:
        return {}
    trace = account.trace
    notes: dict[int, str] = {}
    flushes = {stored.index: flush for flush, stored in flushed_stores(trace).items()}
    # the words in the buffer of a CPU at this point
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
    """Whether the step goes through a store buffer."""
    return ops.FIRST_WRITE <= step.op <= ops.LAST_STORE


def flushed_stores(trace: Trace) -> dict[int, Step]:
    """The store that each flush made visible, by the index of the flush.

    Under both tso and pso it is the CPU's oldest store to that word.
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


# --- all steps -----------------------------------------------------------------------------------
def stacks_of(trace: Trace) -> dict[int, tuple[Site, ...]]:
    """The calls that led to each step, by its index. A flush has those of its store."""
    stores = flushed_stores(trace)
    return {step.index: stores.get(step.index, step).stack for step in trace.steps}


def conflicting(trace: Trace) -> tuple[Step, ...]:
    """The two steps of the conflict, the earlier first."""
    found = {step.index: step for step in trace.steps}
    return tuple(found[index] for index in trace.conflict) if trace.conflict else ()


def conflict_mark(account: Account) -> str:
    return CONFLICT_MARKS.get(account.kind, "order")


def conflict_title(account: Account) -> str:
    return CONFLICT_TITLES.get(account.kind, "The two steps whose order decides")


def touched(trace: Trace) -> list[tuple[int, int]]:
    """Every word of memory that was accessed, and its final value."""
    used = {address for step in trace.steps for address in addresses_of(step)}
    return [(a, trace.memory[a]) for a in sorted(used) if 0 <= a < len(trace.memory)]


def left_behind(account: Account) -> list[tuple[str, str]]:
    """Words and their final values, those at stake first."""
    naming, stake = account.naming, account.trace.at_stake
    ordered = sorted(touched(account.trace), key=lambda word: word[0] not in stake)
    return [(naming.place(at), naming.value(at, value)) for at, value in ordered]


def returned(trace: Trace) -> list[str]:
    return [f"cpu {cpu} = {number(value)}" for cpu, value in enumerate(trace.returns)]


# --- waiting -------------------------------------------------------------------------------------
def cycle_of(blocked: tuple[Blocked, ...]) -> tuple[Blocked, ...]:
    """The CPUs at the beginning of ``blocked`` that wait for each other in a cycle, or none."""
    for length, last in enumerate(blocked, start=1):
        if last.holder == blocked[0].cpu:
            return blocked[:length]
        if length == len(blocked) or last.holder != blocked[length].cpu:
            break
    return ()


def wait_of(blocked: Blocked, naming: Naming = NO_NAMES) -> str:
    """``spins on word 4 held by cpu 1``."""
    verb = "spins on" if blocked.spinning else "waits for"
    held = "" if blocked.holder is None else f" held by cpu {blocked.holder}"
    return f"{verb} {naming.in_prose(blocked.address)}{held}"


def wait_words(blocked: Blocked, naming: Naming = NO_NAMES) -> Words:
    """``spins on``, ``[4]``, ``of cpu 1``."""
    verb = "spins on" if blocked.spinning else "waits for"
    holder = "" if blocked.holder is None else f"of cpu {blocked.holder}"
    return Words(verb, naming.place(blocked.address), holder)


def wait_in_short(blocked: Blocked, naming: Naming = NO_NAMES) -> str:
    """``spins on [4] of cpu 1``."""
    return " ".join(part for part in wait_words(blocked, naming) if part)


def waiting_stack(trace: Trace, blocked: Blocked) -> tuple[Site, ...]:
    """How ``blocked`` came to wait: the calls of its last read of the word, if known."""
    for step in reversed(trace.steps):
        if step.cpu == blocked.cpu and step.op not in (ops.OP_RELAX, ops.OP_FLUSH):
            if blocked.address in addresses_of(step):
                return step.stack
            break
    return (blocked.site,) if blocked.site else ()


def waiting_lines(blocked: tuple[Blocked, ...], naming: Naming = NO_NAMES) -> list[str]:
    """Which CPU waits for which: the cycle as one sentence, every other CPU as its own."""
    cycle = cycle_of(blocked)
    lines = []
    if cycle:
        chain = ", which ".join(wait_of(waiting, naming) for waiting in cycle)
        lines.append(f"cpu {cycle[0].cpu} {chain}")
    lines += [f"cpu {waiting.cpu} {wait_of(waiting, naming)}" for waiting in blocked[len(cycle) :]]
    return lines
