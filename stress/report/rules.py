"""What a finding violates, as a ``Rule``: invariants of the table, and endings of schedules."""

from __future__ import annotations

from shmalloc.invariants import BY_NAME
from stress.report.suite import Rule

_KINDS = {
    "race": (
        "conflicting accesses to a word, one of them plain, are ordered by synchronization",
        "Make both accesses atomic (load, store, cas), or order them by a lock.",
    ),
    "torn": (
        "the two words of a pair are read in one access",
        "Read the pair with load2, or check its version after the second read.",
    ),
    "deadlock": (
        "a CPU that sleeps is woken",
        "Two CPUs may take two locks in different orders, or a wake-up is lost.",
    ),
    "livelock": (
        "a CPU that spins sees the word change that it waits for",
        "The CPU that is to change the word may have left before, or waits itself.",
    ),
    "memory": (
        "an access lies inside the memory, and a pair begins at an even word",
        "The word may come from a stale or a torn read.",
    ),
    "undefined": (
        "a word is written before it is read",
        "Initialize the word before it is published.",
    ),
    "stack": ("the calls of a kernel fit on its stack", "Look for a recursion without an end."),
    "arithmetic": (
        "a kernel divides by no zero and shifts by 0 to 63 bits",
        "The operand may come from a stale or a torn read.",
    ),
    "expectation": ("what expect() demands in a kernel holds there", ""),
    "check": ("what the check of a program demands holds when all CPUs are done", ""),
    "invariant": ("what the invariant of a program demands holds after every step", ""),
    "preparation": ("kernels prepare the memory of a program without a failure", ""),
    "worker": ("every worker process lives, answers and ends", "See the line of the worker."),
}


def of_invariant(name: str) -> Rule:
    """The rule of ``I_TAIL``; of a name that is in no table, without a sentence."""
    row = BY_NAME.get(name)
    if row is None:
        return Rule(name, name)
    by = ", ".join(row.checkers)
    shown = f" It is broken, for example, by {row.example}." if row.example else ""
    always = not row.unless or row.unless.startswith("never")
    unless = "" if always else f" It may be false while {row.unless}."
    help = f"It is checked by: {by}.{shown}{unless} docs/invariants.md has the whole table."
    return Rule(name, row.sentence, help)


def of_ending(kind: str, code: str = "") -> Rule:
    """The rule of a schedule that ended in ``kind``. ``code``: the text of a check's code.

    ``code`` is ``I_TAIL: every page is covered by exactly one head``, or empty.
    """
    name, _, sentence = code.partition(": ")
    if kind in ("check", "invariant") and name:
        return of_invariant(name) if name in BY_NAME else Rule(name, sentence or name)
    sentence, help = _KINDS.get(kind, (f"no schedule ends in {kind}", ""))
    return Rule(kind, sentence, help)
