"""A segment in the forms of Linux's ``/proc`` and debugfs: ``shmstress buddyinfo`` and the like."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from pathlib import Path

from shmalloc.errors import MisuseError, NotReadyError, SegmentError
from shmalloc.leak_report import leak_report
from shmalloc.observed import ObservedSegment
from shmalloc.page_owner import PageOwner
from shmalloc.page_owner_text import PageOwnerText
from shmalloc.physical import SHM_DIRECTORY
from shmalloc.proc_text import ProcText
from stress.top.segments import segments


def show(name: str, text: Callable[[ProcText], str]) -> int:
    """Print a text about the segment ``name``, or its path; nothing is written to it.

    Raises ``MisuseError`` for what is no segment that can be watched.
    """
    return _print(name, lambda seen: text(ProcText(seen.layout, seen.words)))


def show_owners(name: str, text: Callable[[PageOwnerText], str]) -> int:
    """The same of its sampled allocations; the rate goes to standard error, for it has no place in
    the formats."""

    def shown(seen: ObservedSegment) -> str:
        owner = PageOwner(seen.layout, seen.words)
        lost = f"; {owner.lost:,} samples found no room" if owner.lost else ""
        rate = f"one page, or object, in {owner.rate} is sampled"
        print(f"{rate if owner.rate > 1 else 'every allocation is sampled'}{lost}", file=sys.stderr)
        return text(PageOwnerText(owner, seen.__getitem__))

    return _print(name, shown)


def show_leaks(name: str) -> int:
    """The same of what is still allocated, by call site."""

    def shown(seen: ObservedSegment) -> str:
        owner = PageOwner(seen.layout, seen.words)
        return f"{leak_report(owner, seen.__getitem__, seen.claim_is_held)}\n"

    return _print(name, shown)


def _print(name: str, text: Callable[[ObservedSegment], str]) -> int:
    path = Path(name)
    try:
        with ObservedSegment(path.name if path.parent == SHM_DIRECTORY else name) as seen:
            sys.stdout.write(text(seen))
    except NotReadyError as error:
        names = [one.name for one in segments() if not one.note]
        close = difflib.get_close_matches(path.name, names, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise MisuseError(f"{error}; {hint}shmstress top lists those that there are") from error
    except SegmentError as error:
        raise MisuseError(str(error)) from error
    return 0
