"""A segment in the columns of Linux's ``/proc``: ``shmstress buddyinfo`` and the like."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from shmalloc.errors import MisuseError, SegmentError
from shmalloc.observed import ObservedSegment
from shmalloc.physical import SHM_DIRECTORY
from shmalloc.proc_text import ProcText


def show(name: str, text: Callable[[ProcText], str]) -> int:
    """Print a text about the segment ``name``, or its path; nothing is written to it.

    Raises ``MisuseError`` for what is no segment that can be watched.
    """
    path = Path(name)
    try:
        with ObservedSegment(path.name if path.parent == SHM_DIRECTORY else name) as seen:
            sys.stdout.write(text(ProcText(seen.layout, seen.words)))
    except SegmentError as error:
        raise MisuseError(str(error)) from error
    return 0
