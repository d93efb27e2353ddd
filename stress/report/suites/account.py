"""A failing schedule (``Account``) as a ``Finding``: its words, its line, and its path.

The line to look at first is, in this order: the changed line that it ran, if a check knows one; the
access that was refused, or the operation without a meaning; the plain access of a race, the first
read of a torn pair, the access that was overtaken; where a CPU waits; the last change of a word
at stake; the line that reported it.
"""

from __future__ import annotations

from collections.abc import Iterator

from shmalloc.engine import ops
from stress.explorer.report import wording
from stress.explorer.report.account import Account
from stress.explorer.report.explain import findings_of
from stress.explorer.report.failure import Failure
from stress.explorer.report.folding import Gap, folded
from stress.explorer.report.frames import caller_of, shown_site
from stress.explorer.report.text import MARGIN_STEPS, SHORTEST_GAP, render
from stress.explorer.report.trace import Step, Trace, addresses_of, may_change
from stress.machine.site import Site
from stress.records.failures import identity_of
from stress.report.reporters import place_in_kernel
from stress.report.rules import of_ending
from stress.report.suite import Finding, Rule, Stop


def finding_of(account: Account, text: str = "") -> Finding:
    """``text``: the failure in words, if it is more than the account's own."""
    return Finding(
        rule=rule_of(account),
        headline=account.headline,
        text=text or render(account),
        again="\n".join(account.again),
        place=place_of(account),
        related=tuple(_related(account)),
        path=tuple(_path(account)),
        cause=account.cause,
        fingerprint=identity_of(account).fingerprint if isinstance(account, Failure) else "",
    )


def rule_of(account: Account) -> Rule:
    """The invariant that the check names first, else the way in which the schedule ended."""
    code = account.naming.code(account.code)
    findings = findings_of(account.program, account.trace.memory)
    return of_ending(account.kind, code or (findings[0].name if findings else ""))


def place_of(account: Account) -> Site | None:
    """The line to look at first."""
    trace = account.trace
    places = [
        _suspected(trace),
        _refused(trace),
        _accused(account),
        _waiting(trace),
        _changed(trace),
        _judged(account),
    ]
    return next((place for place in places if place is not None), _last(trace))


def _suspected(trace: Trace) -> Site | None:
    marked = [step for step in trace.steps if step.index in trace.suspects]
    return shown_site(marked[0].stack) if marked else None


def _refused(trace: Trace) -> Site | None:
    return shown_site(trace.fault.stack) if trace.fault else trace.faulted


def _accused(account: Account) -> Site | None:
    pair = wording.conflicting(account.trace)
    if not pair:
        return None
    earlier, later = pair
    plain = later.op in (ops.OP_READ, ops.OP_WRITE)
    chosen = later if account.kind == "race" and plain else earlier
    return shown_site(wording.stacks_of(account.trace)[chosen.index])


def _waiting(trace: Trace) -> Site | None:
    stacks = (wording.waiting_stack(trace, blocked) for blocked in trace.blocked)
    return next((shown_site(stack) for stack in stacks if stack), None)


def _changed(trace: Trace) -> Site | None:
    """The last line that changed a word at stake."""
    stake = set(trace.at_stake)
    for step in reversed(trace.steps):
        if may_change(step) and stake & set(addresses_of(step)):
            return shown_site(wording.stacks_of(trace)[step.index])
    return None


def _judged(account: Account) -> Site | None:
    """The line of the kernel that reported it, else the line of the check."""
    for finding in findings_of(account.program, account.trace.memory)[:1]:
        place = place_in_kernel(finding.kernel, finding.name.partition(":")[0])
        if place is not None:
            return place
    return account.trace.origin[0] if account.trace.origin else None


def _last(trace: Trace) -> Site | None:
    sites = (shown_site(step.stack) for step in reversed(trace.steps))
    return next((site for site in sites if site is not None), None)


def _related(account: Account) -> Iterator[Stop]:
    """Both accesses of the conflict with who called them, who waits where, and the check."""
    trace, naming = account.trace, account.naming
    stacks = wording.stacks_of(trace)
    for step in wording.conflicting(trace):
        stack = stacks[step.index]
        site = shown_site(stack)
        if site is not None:
            said = f"step {step.index}, cpu {step.cpu}: {wording.words_of(step, naming)}"
            yield Stop(site, said, step.cpu, step.index)
        caller = caller_of(stack)
        if caller is not None:
            yield Stop(caller, f"called from here by cpu {step.cpu}", step.cpu, step.index)
    for blocked in trace.blocked:
        stack = wording.waiting_stack(trace, blocked)
        site = shown_site(stack)
        if site is not None:
            said = f"cpu {blocked.cpu} {wording.wait_of(blocked, naming)}"
            yield Stop(site, said, blocked.cpu, len(trace.steps))
    judged = _judged(account)
    if judged is not None:
        yield Stop(judged, "here it was noticed", 0, len(trace.steps))


def _path(account: Account) -> Iterator[Stop]:
    """The steps that the report shows, in order; those without a line are left out."""
    trace, naming = account.trace, account.naming
    stacks = wording.stacks_of(trace)
    notes = wording.buffer_notes(account)
    for shown in folded(trace, MARGIN_STEPS, SHORTEST_GAP):
        if isinstance(shown, Gap):
            continue
        stack = stacks[shown.index]
        site = shown_site(stack)
        if site is not None:
            note = f" ({notes[shown.index]})" if shown.index in notes else ""
            said = f"cpu {shown.cpu}: {wording.words_of(shown, naming)}{note}"
            decides = trace.conflict is not None and shown.index in trace.conflict
            depth = len(stack) - 1 - stack.index(site)
            yield Stop(site, said, shown.cpu, shown.index, depth, decides)
    if trace.fault is not None:
        yield from _fault(account, trace.fault)


def _fault(account: Account, fault: Step) -> Iterator[Stop]:
    site = shown_site(fault.stack)
    if site is not None:
        said = f"cpu {fault.cpu}: {wording.fault_words(fault, account.naming)}"
        reason = wording.fault_reason(account, fault)
        depth = len(fault.stack) - 1 - fault.stack.index(site)
        yield Stop(site, f"{said} ({reason})", fault.cpu, fault.index, depth, True)
