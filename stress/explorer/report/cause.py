"""What went wrong, in sentences: the lines between the headline and the steps."""

from __future__ import annotations

from collections.abc import Sequence

from shmalloc.compiler.runtime import FAULTS
from shmalloc.engine import ops
from stress.explorer.report.explain import findings_of
from stress.explorer.report.naming import Naming
from stress.explorer.report.places import place_in_file, source_at
from stress.explorer.report.trace import Step, Trace
from stress.explorer.report.wording import cycle_of
from stress.machine.names import Finding
from stress.machine.program import Program
from stress.machine.read_only import WROTE

_NO_MEANING = {
    "division": "a division by zero",
    "shift": "a shift by less than 0 or more than 63 bits",
    "step": "a range with a step of 0",
    "choice": "a choice of fewer than 1 or more than 60 values",
}


def cause_of(program: Program, kind: str, code: int, trace: Trace) -> str:
    """One sentence or more on what went wrong."""
    naming = Naming(program)
    pair = _in_words(trace, naming)
    ring = _ring(trace, naming)
    if kind in ("check", "invariant"):
        return _refusal(program, kind, code, trace) + (f"\n{_sentence(pair)}" if pair else "")
    texts = {
        "race": "Two accesses to one word, one of them plain, could come in either order."
        + (f" Here{pair.removesuffix('.')}, but no synchronization orders them." if pair else ""),
        "torn": "A CPU read the two words of a pair one by one, and both were swapped in between:"
        f" it used a pair that never existed. {_sentence(pair)}".rstrip(),
        "deadlock": f"{_deadlock(program, trace)}{ring}",
        "livelock": f"Every CPU that has not finished spins on a word that none changes.{ring}",
        "memory": "An access is outside memory, or is to a pair at an odd word."
        + _refused(trace, naming),
        "undefined": f"A word was read before it was written.{_refused(trace, naming)}",
        "arithmetic": _arithmetic(code, trace),
        "expectation": _expectation(code, trace, naming),
        WROTE: f"{_sentence(trace.written)}.",
        "stack": "A kernel overflowed its stack: its calls nest too deeply."
        + (_refused(trace, naming) if trace.fault else ""),
    }
    return texts[kind]


def _refusal(program: Program, kind: str, code: int, trace: Trace) -> str:
    """What the check says: its findings, or the name of its code, or its line."""
    when = "when all CPUs were done" if kind == "check" else "after the last step shown"
    findings = findings_of(program, trace.memory)
    if findings:
        return f"The {kind} found {when}:\n" + "\n".join(grouped(findings))
    name = Naming(program).code(code)
    said = f"The {kind} returned {code} {when}{f': {name}' if name else ''}."
    return said + (f"\n  at {_origin(trace)}" if trace.origin else "")


def grouped(findings: Sequence[Finding]) -> list[str]:
    """One line for each violated invariant, with every place, in the order of the findings."""
    places: dict[str, list[str]] = {}
    for finding in findings:
        seen = places.setdefault(finding.name, [])
        seen += [] if finding.text in seen else [finding.text]
    return [f"  {name}: {'; '.join(seen)}" for name, seen in places.items()]


def _origin(trace: Trace) -> str:
    site = trace.origin[0]
    text = source_at(site)
    return f"{place_in_file(site)} in {site.function}" + (f": {text}" if text else "")


def _arithmetic(code: int, trace: Trace) -> str:
    what = _NO_MEANING.get(FAULTS.get(code, ""), "an operation without a meaning")
    return f"A kernel made {what}{_at_fault(trace)}."


def _at_fault(trace: Trace) -> str:
    site = trace.faulted
    if site is None:
        return ""
    text = source_at(site)
    return f" in {site.function}, {place_in_file(site)}" + (f": `{text}`" if text else "")


def _expectation(code: int, trace: Trace, naming: Naming) -> str:
    name = naming.code(code)
    return f"Expectation {code}{f' ({name})' if name else ''} was not met{_at_fault(trace)}."


def _name_of(step: Step, naming: Naming) -> str:
    verb = ops.NAMES[step.op]
    return f"cpu {step.cpu}'s {verb} of {naming.in_prose(step.address)}"


def _in_words(trace: Trace, naming: Naming) -> str:
    if trace.conflict is None:
        return ""
    earlier, later = (trace.steps[index] for index in trace.conflict)
    return f" {_name_of(later, naming)} came after {_name_of(earlier, naming)}."


def _sentence(text: str) -> str:
    text = text.lstrip()
    return text[:1].upper() + text[1:]


def _deadlock(program: Program, trace: Trace) -> str:
    """A cycle of locks is told when it closes, whatever the other CPUs do."""
    cycle = cycle_of(trace.blocked)
    if not cycle or any(one.address not in program.locks for one in cycle):
        return "Every CPU that has not finished sleeps, and none is left to wake it."
    if len(cycle) == 1:
        return "A CPU waits for a lock that it holds itself."
    return "CPUs wait for locks of each other, and none of them can release its own."


def _ring(trace: Trace, naming: Naming) -> str:
    parts = []
    for one in trace.blocked:
        how = "spins on" if one.spinning else "sleeps at"
        held = f", held by cpu {one.holder}" if one.holder is not None else ""
        parts.append(f"cpu {one.cpu} {how} {naming.in_prose(one.address)}{held}")
    return f" {_sentence('; '.join(parts))}." if parts else ""


def _refused(trace: Trace, naming: Naming) -> str:
    if trace.fault is None:
        return " The check or the invariant made it."
    return f" The access was {_name_of(trace.fault, naming)}."
