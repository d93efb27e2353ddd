"""Findings of the explorer and of crash mode: which parts of a failure make its fingerprint.

The site of a failure is the place that it is about, in functions rather than lines, so that a line
that moves changes nothing:

    race, torn           the functions of its two accesses
    deadlock, livelock   the functions that wait, in which program
    check, invariant     the kernel that reported it (one of the audit's, say), else the function
                         and the text of the line that returned the code, in which program
    memory, stack, ...   the function and the text of the line of that access or operation
    a death              the operation and the line before which the CPU died, likewise

Schedules, CPUs, addresses and seeds take no part. Two defects of one program that one check finds
under one code are one finding: to look for the second, mend the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shmalloc.invariants import BY_NAME
from stress.crash.account import account_of
from stress.crash.document import failure_document
from stress.crash.result import AT_END, CrashFailure
from stress.explorer.report import text
from stress.explorer.report.account import Account
from stress.explorer.report.document import described
from stress.explorer.report.explain import findings_of
from stress.explorer.report.failure import Failure
from stress.explorer.report.frames import shown_site
from stress.explorer.report.naming import Naming
from stress.explorer.report.places import source_at
from stress.explorer.report.trace import kind_of
from stress.machine.site import Site
from stress.records.finding import CRASH, SCHEDULE, Attachment, Finding
from stress.records.fingerprint import fingerprint

WIDTH = 120
PAIRS, WAITS, CHECKS = ("race", "torn"), ("deadlock", "livelock"), ("check", "invariant")
CODES = (*CHECKS, "expectation")


@dataclass(frozen=True)
class Identity:
    """What makes a fingerprint."""

    invariant: str
    site: str
    shape: str = ""

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.invariant, self.site, self.shape)


# --- the explorer --------------------------------------------------------------------------------
def identity_of(failure: Failure) -> Identity:
    """The parts of a failure that are the same whatever schedule shows it."""
    kind, trace, program = failure.kind, failure.trace, failure.program
    if kind in PAIRS and trace.conflict is not None:
        stacks = (trace.steps[index].stack for index in trace.conflict)
        return Identity(kind, _functions(shown_site(stack) for stack in stacks))
    if kind in WAITS:
        return Identity(kind, _functions(one.site for one in trace.blocked), program.name)
    if kind in CHECKS:
        site = _reporter(failure) or _line(trace.origin[0] if trace.origin else None)
        return Identity(_named(failure.naming, kind, failure.code), site, program.name)
    return Identity(
        _named(failure.naming, kind, failure.code),
        _line(trace.faulted or _place_of_fault(failure)),
        program.name,
    )


def finding_of_failure(failure: Failure) -> Finding:
    """The failure of an exploration, with its page and its document."""
    identity = identity_of(failure)
    name = failure.program.name
    return Finding(
        kind=SCHEDULE,
        invariant=identity.invariant,
        site=identity.site,
        shape=identity.shape,
        sentence=_sentence(identity.invariant),
        report=failure.report(WIDTH),
        command="\n".join(failure.again),
        token=failure.schedule,
        details={"program": name, "memory": failure.memory_model, "shrunk": failure.shrunk},
        attachments=[
            Attachment.of_text(f"{name}.html", failure.html(), "text/html"),
            _document(name, described(failure)),
        ],
    )


def _reporter(account: Account) -> str:
    """The kernel of the first report in a segment; empty where there is none."""
    found = findings_of(account.program, account.trace.memory)
    return found[0].kernel if found else ""


def _place_of_fault(failure: Failure) -> Site | None:
    """Where the access that was refused stands, else the last step."""
    trace = failure.trace
    step = trace.fault or (trace.steps[-1] if trace.steps else None)
    return None if step is None else shown_site(step.stack)


# --- crash mode ----------------------------------------------------------------------------------
def identity_of_crash(failure: CrashFailure) -> Identity:
    """The parts of a failed recovery that are the same whatever schedule shows it."""
    kind, key = kind_of(failure.kind), failure.key
    where = "at its end" if key.site == AT_END else _line(key.site)
    shape = "and the supervisor" if failure.then else ""
    naming = Naming(failure.case.program)
    return Identity(_named(naming, kind, failure.code), f"{key.operation}, {where}", shape)


def finding_of_crash(failure: CrashFailure) -> Finding:
    """A recovery that failed, with its page and its document."""
    from stress.explorer.report import html  # jinja2: only where a page is wanted

    identity = identity_of_crash(failure)
    account = account_of(failure)
    name = failure.case.name
    return Finding(
        kind=CRASH,
        invariant=identity.invariant,
        site=identity.site,
        shape=identity.shape,
        sentence=_sentence(identity.invariant),
        report=text.render(account, WIDTH),
        command=failure.command,
        details={"program": name, **failure_document(failure)},
        attachments=[
            Attachment.of_text(f"{name}.html", html.render(account), "text/html"),
            _document(name, described(account)),
        ],
    )


# --- parts ---------------------------------------------------------------------------------------
def _functions(sites: Iterable[Site | None]) -> str:
    """``stack.pop / stack.push``: each once, in an order that no schedule changes."""
    return " / ".join(sorted({_function(site) for site in sites if site is not None}))


def _function(site: Site) -> str:
    """``stack.push``: the file and the function, as in the report of a kernel (caller.py)."""
    return f"{Path(site.file).stem}.{site.function}"


def _line(site: Site | None) -> str:
    """``seqlock.whole: return abs(mem[TORN])``: a line by its text, without a comment."""
    if site is None:
        return ""
    line = " ".join(source_at(site).partition("  #")[0].split())
    return f"{_function(site)}: {line}" if line else _function(site)


def _named(naming: Naming, kind: str, code: int) -> str:
    """``I_TAIL``, ``check 7``, ``deadlock``."""
    name = naming.short_code(code) if kind in CODES else ""
    return name or (f"{kind} {code}" if code and kind in CODES else kind)


def _sentence(invariant: str) -> str:
    row = BY_NAME.get(invariant)
    return row.sentence if row else ""


def _document(name: str, described: object) -> Attachment:
    whole = json.dumps(described, indent=2) + "\n"
    return Attachment.of_text(f"{name}.json", whole, "application/json")
