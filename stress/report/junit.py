"""A ``Suite`` as JUnit XML, as Jenkins and the actions of GitHub read it. Written by junitparser.

Of the many dialects this is the one of the Jenkins xUnit plugin (its junit-10.xsd), which the
others read as well: one ``testsuite``, its properties first, then a ``testcase`` for each case.
``classname`` is ``shmstress.COMMAND.GROUP``, which Jenkins shows as a package and a class. A case
that tested nothing is ``skipped``; one that neither passed nor failed is an ``error``. Test cases
have no properties in that dialect, so seeds and tokens are properties of the suite, and the line
that repeats a case is its ``system-out``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable

from junitparser import Error, Failure, JUnitXml, Skipped, SystemOut, TestCase, TestSuite

from stress.report.suite import Case, Suite

_NOT_IN_XML = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MESSAGE = 500  # characters of an attribute, which viewers show in one line


def junit(suite: Suite) -> str:
    """The document, ending with a newline."""
    written = TestSuite(clean(suite.name))
    written.timestamp = suite.start.timestamp
    written.hostname = clean(suite.start.hostname)
    for name, value in suite.properties.items():
        written.add_property(clean(name), clean(value))
    written.add_testcases([_case(case, suite.command) for case in suite.cases])
    said = SystemOut(clean("\n".join([suite.headline, *_again(suite.again)])))
    written.append(said)  # type: ignore[no-untyped-call]
    root = JUnitXml(clean(suite.name))
    root.add_testsuite(written)
    _count(suite, root, written)
    out = io.BytesIO()
    root.write(out, pretty=True)
    return out.getvalue().decode("utf-8")


def _count(suite: Suite, root: JUnitXml, written: TestSuite) -> None:
    """The attributes that count. ``testsuites`` has no ``skipped`` in this dialect."""
    for element in (root, written):
        element.tests = len(suite.cases)
        element.failures = sum(case.failed for case in suite.cases)
        element.errors = sum(case.in_error for case in suite.cases)
        element.time = round(suite.seconds, 3)
    written.skipped = sum(case.skipped for case in suite.cases)


def _case(case: Case, command: str) -> TestCase:
    group = case.group.replace(".", "-")
    written = TestCase(clean(case.name), clean(f"shmstress.{command}.{group}"))
    written.time = round(case.seconds, 3)
    result = _result(case)
    if result is not None:
        written.result = result
    if case.again:
        written.system_out = clean("\n".join(_again([case.again])))
    return written


def _result(case: Case) -> Failure | Error | Skipped | None:
    """The child that says why a case did not pass."""
    message = clean(" ".join((case.message or case.verdict.meaning).split()))[:_MESSAGE]
    if case.skipped:
        return Skipped(message, case.verdict.name)
    if not (case.failed or case.in_error):
        return None
    found = (Failure if case.failed else Error)(message, case.verdict.name)
    found.text = clean(case.text or message)
    return found


def _again(lines: Iterable[str]) -> list[str]:
    return [f"to try again, run: {line}" for line in lines]


def clean(text: str) -> str:
    """Without the characters that XML 1.0 cannot carry: control characters, lone surrogates."""
    return _NOT_IN_XML.sub("", text)
