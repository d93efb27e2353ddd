"""Which segments there are: what ``shmstress top`` lists without a name."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from rich.table import Table

from shmalloc import constants as c
from shmalloc import leftovers, physical
from shmalloc.processes import pid_namespace
from shmalloc.segment_file import checked_name
from shmalloc.sizes import format_bytes
from stress.tables import grid
from stress.top.document import HEAD
from stress.top.fitting import time_text
from stress.top.processes import Process, process_of

COMMAND_CELLS = 48


@dataclass(frozen=True)
class Listed:
    """A segment of /dev/shm. ``age_s``: None if it does not say when it was made."""

    name: str
    bytes: int
    age_s: float | None
    owner: Process
    ready: bool


def segments() -> list[Listed]:
    """All of this machine that this user may read, the newest first."""
    found = sorted(_found(), key=lambda one: (one.age_s or 0.0, one.name))
    return list(found)


def _found() -> Iterator[Listed]:
    for path in sorted(physical.SHM_DIRECTORY.iterdir()):
        header = leftovers.header_of(path)
        half_made = header[c.H_MAGIC] == 0 and leftovers.GENERATED.fullmatch(path.name)
        if header[c.H_MAGIC] != c.MAGIC and not half_made:
            continue
        if not _can_be_named(path.name):
            continue
        made_s = header[c.H_MADE_S]
        yield Listed(
            name=path.name,
            bytes=header[c.H_WORDS] * 8,
            age_s=max(0.0, time.time() - made_s) if made_s > 0 else None,
            owner=process_of(
                header[c.H_OWNER_PID],
                header[c.H_OWNER_START],
                header[c.H_OWNER_NAMESPACE] == pid_namespace(),
            ),
            ready=not half_made,
        )


def _can_be_named(name: str) -> bool:
    try:
        return checked_name(name) is not None
    except ValueError:  # a name that no segment of ours has
        return False


def table_of(found: list[Listed]) -> Table:
    """The list for people."""
    table = grid("segment", "size", "age", "owner", "state", "command", right=("size", "owner"))
    for one in found:
        age = "-" if one.age_s is None else time_text(one.age_s)
        state = one.owner.state if one.ready else f"{one.owner.state}, still making it"
        command = one.owner.command[:COMMAND_CELLS]
        table.add_row(one.name, format_bytes(one.bytes), age, str(one.owner.pid), state, command)
    return table


def json_of(found: list[Listed]) -> str:
    """The list as a JSON document."""
    return json.dumps({**HEAD, "segments": [asdict(one) for one in found]}, indent=2) + "\n"
