"""A ``Suite`` as SARIF 2.1.0 (OASIS): findings on lines of the source, for code scanning.

::

    Rule        reportingDescriptor: what must hold
    Finding     result: message, location, both accesses as relatedLocations, fingerprint
    its path    a codeFlow with a threadFlow for each CPU; executionOrder is the schedule

Files are named relative to the root of their repository (``%SRCROOT%``), with ``/`` and percent
signs as URIs want them; nothing of this machine's folders is in the log unless a file lies outside
of every repository. A finding without a line is a notification: viewers show results by their line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import shmalloc
from stress import __version__
from stress.explorer.address import root_of
from stress.explorer.loading import here
from stress.explorer.report.places import source_at
from stress.machine.site import Site
from stress.report.suite import Finding, Rule, Stop, Suite, printable
from stress.verdict import Verdict

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
ROOT = "%SRCROOT%"
FINGERPRINT = "shmstress/v1"
MOST_STOPS = 1_000  # of one flow: more are not shown by GitHub
_PACKAGES = Path(str(shmalloc.__file__)).parent.parent
Node = dict[str, Any]


def sarif(suite: Suite) -> str:
    """The log as JSON, ending with a newline."""
    rules = list(dict.fromkeys(finding.rule for finding in suite.findings))
    placed = [finding for finding in suite.findings if finding.place is not None]
    run = {
        "tool": {"driver": _driver(rules)},
        "automationDetails": {"id": f"shmstress/{suite.command}/"},
        "originalUriBaseIds": {ROOT: {"description": {"text": "The root of the repository."}}},
        "invocations": [_invocation(suite)],
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, rules.index(finding.rule)) for finding in placed],
        "properties": {"verdict": suite.verdict.name, **dict(suite.properties)},
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2) + "\n"


def _text(text: str) -> Node:
    return {"text": printable(text)}


# --- the tool and what it was asked ---------------------------------------------------------------
def _driver(rules: Sequence[Rule]) -> Node:
    return {"name": "shmstress", "version": __version__, "rules": [*map(_rule, rules)]}


def _rule(rule: Rule) -> Node:
    sentence = f"{rule.sentence[:1].upper()}{rule.sentence[1:]}."
    return {
        "id": rule.name,
        "shortDescription": _text(sentence),
        "fullDescription": _text(sentence),
        "help": _text(rule.help or sentence),
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": ["concurrency", "correctness"], "problem.severity": "error"},
    }


def _invocation(suite: Suite) -> Node:
    """How it was called and what no line can be shown for."""
    unplaced = [finding for finding in suite.findings if finding.place is None]
    notes = [_notification("error", f"{one.headline}\n{one.text}") for one in unplaced]
    notes += [
        _notification("error", f"{case.name}: {case.message}")
        for case in suite.cases
        if case.in_error
    ]
    if suite.verdict is Verdict.VACUOUS:
        notes.append(_notification("warning", suite.verdict.meaning))
    ran = (Verdict.PASSED, Verdict.FAILED, Verdict.VACUOUS)
    return {
        "commandLine": suite.again[0] if suite.again else suite.name,
        "startTimeUtc": _utc(suite.start.time_s),
        "endTimeUtc": _utc(suite.start.time_s + suite.seconds),
        "machine": suite.start.hostname,
        "exitCode": suite.verdict.exit_code,
        "exitCodeDescription": suite.verdict.meaning,
        "executionSuccessful": suite.verdict in ran,
        "toolExecutionNotifications": notes,
    }


def _notification(level: str, text: str) -> Node:
    return {"level": level, "message": _text(text)}


def _utc(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- findings ----------------------------------------------------------------------------------
def _result(finding: Finding, rule: int) -> Node:
    assert finding.place is not None
    said = f"{finding.headline}\n{finding.cause}" if finding.cause else finding.headline
    result: Node = {
        "ruleId": finding.rule.name,
        "ruleIndex": rule,
        "level": "error",
        "message": _text(said),
        "locations": [_location(finding.place)],
        "occurrenceCount": finding.count,
        "properties": {"report": printable(finding.text), "again": printable(finding.again)},
    }
    if finding.fingerprint:
        result["partialFingerprints"] = {FINGERPRINT: finding.fingerprint}
    related = list(dict.fromkeys((stop.site, stop.text) for stop in finding.related))
    if related:
        result["relatedLocations"] = [
            {"id": number, **_location(site, text)}
            for number, (site, text) in enumerate(related, 1)
        ]
    if finding.path:
        result["codeFlows"] = [_flow(finding.path)]
    return result


def _flow(path: Sequence[Stop]) -> Node:
    """The last steps of the schedule; the others led there."""
    shown = path[-MOST_STOPS:]
    cpus = sorted({stop.cpu for stop in shown})
    threads = [{"id": f"cpu {cpu}", "locations": [*map(_stop, _of(cpu, shown))]} for cpu in cpus]
    return {"message": _text("The failing schedule."), "threadFlows": threads}


def _of(cpu: int, path: Iterable[Stop]) -> list[Stop]:
    return [stop for stop in path if stop.cpu == cpu]


def _stop(stop: Stop) -> Node:
    return {
        "location": _location(stop.site, stop.text),
        "executionOrder": stop.step,
        "nestingLevel": stop.depth,
        "importance": "essential" if stop.decides else "important",
    }


# --- places ------------------------------------------------------------------------------------
def _location(site: Site, text: str = "") -> Node:
    uri, base = _uri(site.file)
    region: Node = {"startLine": max(1, site.line)}
    line = source_at(site)
    if line:
        region["snippet"] = _text(line)
    file: Node = {"uri": uri, **({"uriBaseId": ROOT} if base else {})}
    where: Node = {"physicalLocation": {"artifactLocation": file, "region": region}}
    if site.function:
        where["logicalLocations"] = [{"name": site.function, "kind": "function"}]
    return {**where, "message": _text(text)} if text else where


def _uri(file: str) -> tuple[str, bool]:
    """The URI of a file, and whether it is relative to the root of its repository.

    Of installed packages the same file in the checkout here is meant, if there is one.
    """
    path = Path(file)
    if path.is_relative_to(_PACKAGES):
        inside = path.relative_to(_PACKAGES)
        if any((_repository(folder / "-") / inside).is_file() for folder in here()):
            return _quoted(inside), True
    root = _repository(path)
    if (root / ".git").exists() or any(folder.is_relative_to(root) for folder in here()):
        return _quoted(path.relative_to(root)), True
    return _absolute(path), False


def _repository(path: Path) -> Path:
    """The folder of the checkout that a file is in; without one, that of its project."""
    tops = (folder for folder in path.parents if (folder / ".git").exists())
    return next(tops, root_of(path))


def _quoted(path: Path) -> str:
    return quote(path.as_posix().encode("utf-8", "surrogateescape"))


def _absolute(path: Path) -> str:
    return f"file://{_quoted(path)}" if path.is_absolute() else _quoted(path)
