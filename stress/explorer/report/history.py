"""What happened to the words that a failure is about: a summary before all steps.

It has the suspects (steps that a changed line made) and the last steps that touch a word at stake,
each with the line that made it and, for a read, the line that its value decides (frames.py). A
reader who knows the allocator often needs no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stress.explorer.report import wording
from stress.explorer.report.account import Account
from stress.explorer.report.folding import at_stake
from stress.explorer.report.frames import caller_of, decided_by, shown_site
from stress.explorer.report.places import path_at, place_in_file, source_at
from stress.explorer.report.trace import Step, may_change
from stress.machine.site import Site
from stress.quantities import counted

MOST_LINES = 24
MOST_NAMES = 4


def history(account: Account) -> Iterator[str]:
    """Lines on the words at stake; none if no step touched them."""
    steps = at_stake(account.trace)
    if not steps:
        return
    stacks = wording.stacks_of(account.trace)
    told: dict[int, list[str]] = {}
    previous: Site | None = None
    for step in steps:
        stack = stacks[step.index]
        again = shown_site(stack) == previous and step.index not in account.trace.suspects
        told[step.index] = list(_told(account, step, stack, again))
        previous = shown_site(stack)
    kept = _kept(told, account.trace.suspects)
    left_out = len(told) - len(kept)
    more = "more step" if account.trace.suspects else "earlier step"
    others = f" (and {counted(left_out, more)})" if left_out else ""
    yield f"What happened to {_title(account)}{others}:"
    for index in sorted(kept):
        yield from told[index]
    yield ""


def _kept(told: dict[int, list[str]], suspects: frozenset[int]) -> set[int]:
    """The steps that fit: the suspects in at most half of the lines, then the newest."""
    kept: set[int] = set()
    lines = 0
    for index in sorted(suspects & told.keys()):
        if lines + len(told[index]) <= MOST_LINES // 2:
            kept.add(index)
            lines += len(told[index])
    for index in sorted(told.keys() - suspects, reverse=True):
        lines += len(told[index])
        if lines > MOST_LINES:
            break
        kept.add(index)
    return kept


def _title(account: Account) -> str:
    """The words at stake; the second word of a pair is implied."""
    naming = account.naming
    words = [w for w in account.trace.at_stake if not (w % 2 and w - 1 in account.trace.at_stake)]
    more = f" and {counted(len(words) - MOST_NAMES, 'more word')}"
    return ", ".join(map(naming.in_prose, words[:MOST_NAMES])) + more * (len(words) > MOST_NAMES)


def _told(account: Account, step: Step, stack: Sequence[Site], again: bool) -> Iterator[str]:
    yield f"  step {step.index}, cpu {step.cpu}: {wording.words_of(step, account.naming)}"
    site = shown_site(stack)
    if site is None or again:
        return
    caller = caller_of(stack)
    called = f" (called at {place_in_file(caller)})" if caller else ""
    yield f"      {path_at(site)} in {site.function}{called}: {source_at(site)}"
    decided = None if may_change(step) else decided_by(site)
    if decided:
        yield f"      {path_at(decided)} decides: {source_at(decided)}"
