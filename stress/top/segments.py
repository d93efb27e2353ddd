"""Which segments there are: what ``shmstress top`` lists without a name."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from shmalloc import constants as c
from shmalloc import leftovers, physical
from shmalloc.processes import pid_namespace
from shmalloc.segment_file import checked_name
from shmalloc.sizes import format_bytes
from stress.quantities import rough_duration
from stress.tables import grid
from stress.top.document import HEAD
from stress.top.processes import Process, process_of, short_command

COMMAND_CELLS = 48


@dataclass(frozen=True)
class Listed:
    """A segment of /dev/shm. ``age_s``: None if it does not say when it was made.

    ``note``: why it cannot be watched; "" if it can.
    """

    name: str
    bytes: int
    age_s: float | None
    owner: Process
    note: str = ""


def segments() -> list[Listed]:
    """All of this machine, the newest first."""
    return sorted(_found(), key=lambda one: (one.age_s or 0.0, one.name))


def _found() -> Iterator[Listed]:
    for path in sorted(physical.SHM_DIRECTORY.iterdir()):
        if not _can_be_named(path.name):
            continue
        header, named = leftovers.header_of(path), leftovers.GENERATED.fullmatch(path.name)
        if header[c.H_MAGIC] == c.MAGIC:
            yield _listed(path.name, header)
        elif named and header[c.H_MAGIC] == 0:
            owner = process_of(int(named[1]), int(named[2]), ours=True)
            note = "still being made" if os.access(path, os.R_OK) else "another user's"
            yield Listed(path.name, _size(path), None, owner, note)


def _listed(name: str, header: tuple[int, ...]) -> Listed:
    made_s = header[c.H_MADE_S]
    ours = header[c.H_OWNER_NAMESPACE] == pid_namespace()
    return Listed(
        name=name,
        bytes=header[c.H_WORDS] * 8,
        age_s=max(0.0, time.time() - made_s) if made_s > 0 else None,
        owner=process_of(header[c.H_OWNER_PID], header[c.H_OWNER_START], ours),
    )


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:  # removed meanwhile
        return 0


def _can_be_named(name: str) -> bool:
    try:
        return bool(checked_name(name))
    except ValueError:  # a name that no segment of ours has
        return False


def table_of(found: list[Listed]) -> Table:
    """The list for people."""
    table = grid("segment", "size", "age", "owner", "state", "command", right=("size", "owner"))
    for one in found:
        age = "-" if one.age_s is None else rough_duration(round(one.age_s))
        state = ", ".join(filter(None, (one.owner.state, one.note)))
        command = short_command(one.owner.command)[:COMMAND_CELLS]
        table.add_row(one.name, format_bytes(one.bytes), age, str(one.owner.pid), state, command)
    return table


def json_of(found: list[Listed]) -> str:
    """The list as a JSON document."""
    return json.dumps({**HEAD, "segments": [asdict(one) for one in found]}, indent=2) + "\n"
