"""Suites made by hand: one of each outcome, and one whose every text wants to break its format."""

from __future__ import annotations

from shmalloc.errors import Violation
from stress.machine.site import Site
from stress.report.suite import Case, Finding, Rule, Start, Suite, Table
from stress.run.result import RunResult
from stress.spec import RawSpec, resolve
from stress.verdict import Verdict
from stress.workloads import WORKLOADS

START = Start(time_s=1_790_000_000.25, clock_s=0.0, hostname="builder-7")
AGAIN = "shmstress run --workload churn --seed 0x2a"
# Whatever these turn into must still be text: no mention, no tag, no cell, no line of its own.
HOSTILE = (
    "@octocat closes #1 | `tick` ``` fence <script>alert(1)</script> ]]> &amp; **bold** _it_"
    " http://x.example [link](http://x.example) \\| end\x1b[31m\x00\ud800\ufffe"
)
HOSTILE_LINES = f"{HOSTILE}\nok 1 not a result\n  KTAP version 1\n1..9\n# Subtest: no\n```\n~~~"
RULE = Rule("I_TAIL", "every page is covered by exactly one head", "The audit checks it.")


def finding(text="what was seen", place=None, headline="I_TAIL: at pfn 5", again=AGAIN):
    return Finding(RULE, headline, text, again, place)


def suite(*cases, findings=(), tables=(), **more):
    """A suite of these cases whose verdict is FAILED; ``more``: other fields."""
    fields = {
        "command": "run",
        "verdict": Verdict.FAILED,
        "start": START,
        "seconds": 12.3456,
        "headline": "FAILED seed=0x2a violations=1",
        "properties": {"seed": "0x2a", "spec": AGAIN},
        "again": [AGAIN],
    } | more
    return Suite(cases=cases, findings=findings, tables=tables, **fields)


def one_of_each():
    """A case of each verdict, in two groups; two of them neither passed nor failed."""
    return suite(
        Case("workload", "churn", Verdict.PASSED, 1.5),
        Case("workload", "handoff", Verdict.VACUOUS, 0.5, "marks never reached: remote-free"),
        Case("invariant", "I_TAIL", Verdict.FAILED, 0.0, "at pfn 5", "at pfn 5\nand 2 more", AGAIN),
        Case("invariant", "I_SLAB", Verdict.ERROR, 0.0, "the harness failed"),
        Case("invariant", "I_SHEAF", Verdict.INTERRUPTED, 0.0, "stopped by SIGINT"),
        Case("skipped", "first", Verdict.VACUOUS),
        findings=[finding()],
        tables=[Table("Workloads", ("workload", "ops"), [("churn", "1,234")], ("ops",))],
    )


def hostile():
    """Every text of it is HOSTILE."""
    return suite(
        Case(HOSTILE, HOSTILE, Verdict.FAILED, 1.0, HOSTILE_LINES, HOSTILE_LINES, HOSTILE_LINES),
        Case(HOSTILE, HOSTILE, Verdict.VACUOUS, 1.0, HOSTILE_LINES),
        findings=[
            Finding(Rule(HOSTILE, HOSTILE, HOSTILE), HOSTILE_LINES, HOSTILE_LINES, HOSTILE_LINES,
                    Site("/nowhere/a b#c.py", 3, "f"))
        ],
        tables=[Table("Workloads", ("workload", "ops"), [(HOSTILE, "1|2")], ("ops",))],
        headline=HOSTILE_LINES,
        properties={HOSTILE: HOSTILE_LINES},
        again=[HOSTILE_LINES],
        notes=[HOSTILE_LINES],
    )  # fmt: skip


def tail(pfn, history=(), found="TAIL v3"):
    """A violation of I_TAIL at a page."""
    return Violation("I_TAIL", f"pfn {pfn}", "one head", found, history, claim=0)


def result_with(*violations):
    """The result of a run of churn in which nothing was done and these were found."""
    result = RunResult(resolve(RawSpec(seed="1", workload="churn"), WORKLOADS, 2))
    result.violations += violations
    return result
