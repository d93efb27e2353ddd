"""A finding of real processes, explained: ``shmstress explain`` in a process of its own.

It reads the database that the soak writes, and what it takes of memory goes with it. What it found
is kept with the finding: its text, and the test.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stress.records.finding import Attachment
from stress.verdict import Verdict

GRACE_S = 120.0  # beyond its time: start, compile, cut down
TEXT, TEST = "explanation.txt", "test_explained.py"
ENDED = (Verdict.FAILED.exit_code, Verdict.VACUOUS.exit_code)


class Explained(NamedTuple):
    """``sentence``: what came of it. ``token``: of the explorer; None if nothing was found."""

    sentence: str
    token: str | None
    files: Sequence[Attachment]


def explained(database: Path, fingerprint: str, seconds: float) -> Explained:
    """The explanation of a finding."""
    with tempfile.TemporaryDirectory(prefix="shmstress-explain-") as folder:
        document = Path(folder) / "explanation.json"
        options = ["--duration", f"{seconds:g}s", "--json", str(document), "--into", folder]
        arguments = ["-m", "stress", "explain", f"{database}:{fingerprint}", *options]
        try:
            done = subprocess.run(
                [sys.executable, *arguments],
                capture_output=True,
                text=True,
                timeout=seconds + GRACE_S,
            )
        except subprocess.TimeoutExpired:
            return Explained(f"not explained: no end after {seconds + GRACE_S:g} s", None, ())
        if done.returncode not in ENDED:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            return Explained(f"not explained: exit code {done.returncode}: {last}", None, ())
        return _read(json.loads(document.read_text("utf-8")), done.stdout)


def _read(document: dict[str, str | None], text: str) -> Explained:
    files = [Attachment.of_text(TEXT, text)]
    if document["file"] is not None:
        test = Path(document["file"]).read_text("utf-8")
        files.append(Attachment.of_text(TEST, test, "text/x-python"))
    return Explained(str(document["sentence"]), document["token"] or None, files)
