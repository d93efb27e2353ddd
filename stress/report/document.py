"""The JSON document and the JUnit XML of a run: views of one ``RunResult``."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree

from shmalloc import __version__
from stress.report.environment import environment
from stress.report.text import HONEST, last_line
from stress.report.violations import grouped, violation_lines
from stress.run.result import SCHEMA, RunResult
from stress.verdict import Verdict

_NOT_IN_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def json_document(result: RunResult) -> str:
    """One JSON document, ``schema`` 1, ending with a newline."""
    document = {
        "schema": SCHEMA,
        "tool": {"name": "shmstress", "version": __version__, "command": "run"},
        "environment": environment(),
        "spec": result.spec.as_dict(),
        "verdict": result.verdict.name,
        "exit_code": result.verdict.exit_code,
        "results": [_result(result)],
        "reproduce": {"command": result.spec.command_line(), "exact": False, "note": HONEST},
    }
    return json.dumps(document, indent=2) + "\n"


def _result(result: RunResult) -> dict[str, object]:
    groups = [group.as_dict() for group in grouped(result.violations)]
    return {**result.as_dict(), "violation_groups": groups}


def junit_document(result: RunResult) -> str:
    """JUnit XML with one test case a workload, and one for the run as a whole."""
    suite = ElementTree.Element("testsuite", name="shmstress run")
    _add_properties(suite, result)
    _add_case(suite, "run", result.seconds, result)
    for workload in result.workloads.values():
        ElementTree.SubElement(
            suite,
            "testcase",
            classname="shmstress.workload",
            name=workload.name,
            time=f"{workload.seconds:.3f}",
        )
    failed = result.verdict is Verdict.FAILED
    errors = result.verdict not in (Verdict.FAILED, Verdict.PASSED)
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(int(failed)))
    suite.set("errors", str(int(errors)))
    suite.set("time", f"{result.seconds:.3f}")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode", xml_declaration=True)
    return text + "\n"


def _add_properties(suite: ElementTree.Element, result: RunResult) -> None:
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (("seed", hex(result.spec.seed)), ("engine", result.spec.engine)):
        ElementTree.SubElement(properties, "property", name=name, value=value)
    for line in result.tally.lines(result.spec.faults):
        name, _, value = line.partition(": ")
        ElementTree.SubElement(properties, "property", name=name, value=value)


def _add_case(suite: ElementTree.Element, name: str, seconds: float, result: RunResult) -> None:
    """The case of the run itself carries the verdict: no violation belongs to one workload."""
    case = ElementTree.SubElement(
        suite, "testcase", classname="shmstress", name=name, time=f"{seconds:.3f}"
    )
    if result.verdict is not Verdict.PASSED:
        kind = "failure" if result.verdict is Verdict.FAILED else "error"
        child = ElementTree.SubElement(case, kind, message=_message(result))
        child.set("type", result.verdict.name)
        child.text = "\n".join(_clean(line) for line in _details(result))
    output = ElementTree.SubElement(case, "system-out")
    again = f"to try again, run: {result.spec.command_line()}"
    output.text = _clean(f"{last_line(result)}\n{again}")


def _message(result: RunResult) -> str:
    details = _details(result)
    return _clean(details[0].removeprefix("!!! ")) if details else result.verdict.meaning


def _details(result: RunResult) -> list[str]:
    lines = list(violation_lines(result.violations, result.violations_total))
    lines += [text for _, text in result.troubles]
    missed = result.missed_marks()
    return lines + ([f"marks never reached: {', '.join(missed)}"] if missed else [])


def _clean(text: str) -> str:
    """Without the characters that XML 1.0 cannot carry: control characters, lone surrogates."""
    return _NOT_IN_XML.sub("", text)
