"""Where the evidence of a failure lies: the directory or document of a run, or a database.

A run that did not note what was in flight (a finding of a soak) is repeated from its seed, with the
flight recorder on. Processes do not repeat their interleavings: if it does not fail again in that
time, what is known must do.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from shmalloc.errors import MisuseError
from stress import shell
from stress.explain.evidence import Evidence, of_document, of_history, workloads_of
from stress.line import Line
from stress.records.reader import Reader
from stress.records.rows import FindingRow

DOCUMENT = "run.json"
FLIGHT = "256"


def evidence_of(source: str) -> Evidence:
    """The evidence in a directory of ``--out``, a document, or ``FILE.db:FINGERPRINT``.

    Raises ``MisuseError`` where there is none.
    """
    path = Path(source)
    if path.is_dir():
        return _in_directory(path)
    file, colon, fingerprint = source.rpartition(":")
    if colon and Path(file).is_file():
        with Reader(Path(file)) as reader:
            return of_finding(reader.finding(fingerprint))
    if path.is_file():
        return _in_document(path)
    raise MisuseError(
        f"failure: {source} is no directory of shmstress run --out, no document of --json, and no"
        " DATABASE:FINGERPRINT"
    )


def _in_directory(path: Path) -> Evidence:
    found = sorted(path.glob(DOCUMENT)) or sorted(path.glob(f"*/{DOCUMENT}"))
    if not found:
        raise MisuseError(f"failure: {path} has no {DOCUMENT}; name what shmstress run --out wrote")
    return _in_document(found[-1])


def _in_document(path: Path) -> Evidence:
    try:
        document: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
        found = of_document(document)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise MisuseError(f"failure: {path} is no document of shmstress run: {error}") from error
    if found is None:
        raise MisuseError(f"failure: the run of {path} found no violation")
    return found


def of_finding(row: FindingRow) -> Evidence:
    """The evidence of a finding: its report has the history of the violation."""
    if not row.command.startswith("shmstress run"):
        raise MisuseError(
            f"fingerprint: {row.fingerprint} was not found by real processes but by {row.command};"
            " it has a schedule already"
        )
    options = Line.parse(row.command).options
    did, orders = of_history(row.report.splitlines())
    return Evidence(
        row.invariant,
        row.site,
        did,
        tuple(orders),
        workloads=tuple(workloads_of(options)),
        options=options,
        kills="kill" in str(options.get("faults", "")),
        text=row.report.partition("\n")[0],
        again=row.command,
    )


def repeated(evidence: Evidence, seconds: float) -> Evidence:
    """The same with what was in flight, if the run fails again in that time."""
    if evidence.in_flight or not evidence.again.startswith("shmstress run"):
        return evidence
    line = Line.parse(evidence.again)
    options = {**line.options, "flight": FLIGHT, "progress": "never"}
    for name in ("no-flight", "db", "out", "json"):
        options.pop(name, None)
    with tempfile.TemporaryDirectory(prefix="shmstress-explain-") as folder:
        path = Path(folder) / DOCUMENT
        words = shell.split(str(Line("run", line.targets, {**options, "json": str(path)})))
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            left = seconds - (time.monotonic() - begin)
            if not _runs(words[1:], left):
                return evidence
            found = of_document(json.loads(path.read_text("utf-8")))
            if found is not None and found.invariant == evidence.invariant:
                return replace(found, again=evidence.again)
    return evidence


def _runs(words: list[str], seconds: float) -> bool:
    """Run ``shmstress`` with these words; False if it has no end in that time."""
    try:
        subprocess.run(
            [sys.executable, "-m", "stress", *words], capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return False
    return True
