"""What SARIF 2.1.0 demands of a log: a JSON schema of our own, and rules that no schema can say.

Written from the text of the standard (OASIS) for the objects that a log of ours has. Nothing else
may be in it: ``additionalProperties`` is false everywhere but in property bags.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import jsonschema

TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}


def _object(required: dict, optional: dict | None = None) -> dict:
    return {
        "type": "object",
        "properties": {**required, **(optional or {}), "properties": {"type": "object"}},
        "required": [*required],
        "additionalProperties": False,
    }


def _list(item: dict, least: int = 0) -> dict:
    return {"type": "array", "items": item, "minItems": least}


MESSAGE = _object({"text": TEXT})
FILE = _object({"uri": {"type": "string", "format": "uri-reference"}}, {"uriBaseId": TEXT})
REGION = _object({"startLine": {"type": "integer", "minimum": 1}}, {"snippet": MESSAGE})
PLACE = _object({"artifactLocation": FILE, "region": REGION})
LOGICAL = _object({"name": TEXT, "kind": {"enum": ["function"]}})
LOCATION = _object(
    {"physicalLocation": PLACE},
    {"id": COUNT, "message": MESSAGE, "logicalLocations": _list(LOGICAL)},
)
STOP = _object(
    {"location": LOCATION},
    {
        "executionOrder": {"type": "integer", "minimum": -1},
        "nestingLevel": COUNT,
        "importance": {"enum": ["important", "essential", "unimportant"]},
    },
)
THREAD = _object({"locations": _list(STOP, 1)}, {"id": TEXT})
FLOW = _object({"threadFlows": _list(THREAD, 1)}, {"message": MESSAGE})
LEVEL = {"enum": ["none", "note", "warning", "error"]}
RESULT = _object(
    {"message": MESSAGE},
    {
        "ruleId": TEXT,
        "ruleIndex": COUNT,
        "level": LEVEL,
        "locations": _list(LOCATION),
        "relatedLocations": {**_list(LOCATION), "uniqueItems": True},
        "codeFlows": _list(FLOW),
        "partialFingerprints": {"type": "object", "additionalProperties": TEXT},
        "occurrenceCount": {"type": "integer", "minimum": 1},
    },
)
RULE = _object(
    {"id": TEXT},
    {
        "shortDescription": MESSAGE,
        "fullDescription": MESSAGE,
        "help": MESSAGE,
        "defaultConfiguration": _object({}, {"level": LEVEL}),
    },
)
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"}
INVOCATION = _object(
    {"executionSuccessful": {"type": "boolean"}},
    {
        "commandLine": TEXT,
        "startTimeUtc": TIME,
        "endTimeUtc": TIME,
        "machine": TEXT,
        "exitCode": {"type": "integer"},
        "exitCodeDescription": TEXT,
        "toolExecutionNotifications": _list(_object({"message": MESSAGE}, {"level": LEVEL})),
    },
)
DRIVER = _object({"name": TEXT}, {"version": TEXT, "rules": {**_list(RULE), "uniqueItems": True}})
RUN = _object(
    {"tool": _object({"driver": DRIVER})},
    {
        "results": _list(RESULT),
        "invocations": _list(INVOCATION),
        "automationDetails": _object({}, {"id": TEXT}),
        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
        "originalUriBaseIds": {
            "type": "object",
            "additionalProperties": _object({}, {"uri": TEXT, "description": MESSAGE}),
        },
    },
)
LOG = {
    **_object({"version": {"const": "2.1.0"}, "runs": _list(RUN)}, {"$schema": TEXT}),
    "$schema": "http://json-schema.org/draft-07/schema#",
}


def check(log: dict) -> dict:
    """The one run of ``log``. Raises ``jsonschema.ValidationError`` or ``AssertionError``."""
    jsonschema.validate(log, LOG)
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(rules) == len(set(rules)), "two rules of one id"
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"], "the index is of another rule"
        assert result["locations"], "GitHub shows no result without a location"
        for flow in result.get("codeFlows", ()):
            for thread in flow["threadFlows"]:
                order = [stop["executionOrder"] for stop in thread["locations"]]
                assert order == sorted(order), "a thread that runs backwards"
        ids = [one["id"] for one in result.get("relatedLocations", ())]
        assert ids == sorted(set(ids)), "two related locations of one id"
    for file in _files(run["results"]):
        parts = urlsplit(file["uri"])
        relative = "uriBaseId" in file
        assert relative == (not parts.scheme), "relative to what?"
        assert not (relative and parts.path.startswith(("/", "../"))), "outside of its base"
        assert not relative or file["uriBaseId"] in run["originalUriBaseIds"]
        assert file["uri"].isascii() and " " not in file["uri"], "not quoted"
    return run


def _files(node: object):
    """Every artifactLocation in ``node``."""
    if isinstance(node, dict):
        if "artifactLocation" in node:
            yield node["artifactLocation"]
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from _files(one)
