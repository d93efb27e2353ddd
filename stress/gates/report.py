"""What a replay in real processes showed, in lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from stress.explorer.report.naming import Naming
from stress.explorer.report.places import place_in_file
from stress.explorer.report.wording import words_of
from stress.gates.plan import Gate
from stress.gates.verdict import Realized
from stress.quantities import counted

_ORDINALS = {1: "st", 2: "nd", 3: "rd"}


def ordinal(number: int) -> str:
    """``1st``, ``2nd``, ``11th``."""
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else _ORDINALS.get(number % 10, 'th')}"


def lines_of(made: Realized) -> Iterator[str]:
    """The gates, what was seen, and the outcome in one sentence."""
    program = made.program
    processes = counted(len(program.threads), "process", "processes")
    gates = counted(len(made.plan.gates), "gate")
    yield f"{program.name}: {processes} over one segment, {gates}, {made.seconds:.2f} s"
    for gate in made.plan.gates:
        yield f"  {gate_line(gate, Naming(program))}"
    yield made.text
    if made.happened:
        yield f"it happened in real processes: {made.said}"
    else:
        yield f"it did not happen in real processes{f': {made.note}' if made.note else ''}"


def gate_line(gate: Gate, named: Naming) -> str:
    """``cpu 0 is held before write count <- 1, the 2nd time at lost_update.py:7``."""
    where = (
        f", the {ordinal(gate.nth)} time at {place_in_file(gate.step.site)}"
        if gate.step.site
        else ""
    )
    return f"cpu {gate.cpu} is held before {words_of(gate.step, named)}{where}"
