"""A program whose initial state a broken kernel spoils: found before any schedule.

Programs run kernels, one after the other, to prepare their memory. If one of them fails there, no
schedule is needed to show it, and the changed lines that stand above it are all that have changed.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from shmalloc.errors import CorruptionError, MisuseError, ShmallocError
from stress.check.blame import blamed
from stress.check.changes import Changes
from stress.check.head import document_head
from stress.machine.site import Site
from stress.verdict import Verdict

T = TypeVar("T")
LEFT = "everything else: a kernel that fails alone fails in every schedule"


class UnpreparedError(ShmallocError):
    """``name``: the program. ``place``: the line that failed, if there is one.

    The message says what a kernel did.
    """

    def __init__(self, name: str, reason: str, place: Site | None = None) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.place = name, place


def prepared(name: str, build: Callable[[], T]) -> T:
    """What ``build`` makes. Raises ``UnpreparedError`` if a kernel fails in it."""
    try:
        return build()
    except MisuseError:
        raise
    except CorruptionError as error:
        raise UnpreparedError(name, str(error)) from error
    except Exception as error:  # whatever plain Python says of a kernel that is wrong
        frames = traceback.extract_tb(error.__traceback__)
        kernels = [one for one in frames if Path(one.filename).parent.name == "kernels"]
        at = (kernels or frames)[-1]  # not in the memory that a kernel reads
        reason = f"cannot be prepared: {type(error).__name__}: {error}"
        site = Site(at.filename, at.lineno or 1, at.name)
        raise UnpreparedError(name, f"{reason}\n  at {site}: {at.line}", site) from error


def text_of(error: UnpreparedError, changes: Changes | None) -> str:
    """The failure in words, below the changed lines."""
    lines = [] if changes is None else list(blamed(changes, None))
    return "\n".join([*lines, *[""] * bool(lines), str(error)])


def document_of(error: UnpreparedError, changes: Changes | None) -> dict[str, Any]:
    """As verdict.document: nothing was explored."""
    return {
        **document_head(Verdict.FAILED, changes),
        "changed": [] if changes is None else sorted(map(str, changes.names)),
        "programs": [],
        "outcomes": [],
        "not_checked": [LEFT],
        "failure": {"program": error.name, "text": text_of(error, changes)},
    }
